"""Make the small golden of the overlap tiling: the oracle's blend of the toy network's windows, stored as float32.

Run from the repository's root: python -m tests.goldens.make_tiling
"""

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from tests.oracles.tiling import tiled, toy_answer

SCALE, HEIGHT, WIDTH = 2, 21, 18  # remainders 1 and 2, so that the strips at both ends have their own windows

rng = np.random.default_rng(0)
ms = rng.normal(size=(HEIGHT, WIDTH, 2))
lms = rng.normal(size=(HEIGHT * SCALE, WIDTH * SCALE, 2))
pan = rng.normal(size=(HEIGHT * SCALE, WIDTH * SCALE, 1))
out = tiled(lambda a, b: toy_answer(ms, lms, pan, SCALE, a, b), HEIGHT, WIDTH, SCALE)
tensors = {"ms": ms, "lms": lms, "pan": pan, "out": out}
save_file(
    {key: np.ascontiguousarray(x.transpose(2, 0, 1)[None], np.float32) for key, x in tensors.items()},
    Path(__file__).parent / "le_mamba_tiling__tiny.safetensors",
)
