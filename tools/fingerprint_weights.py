"""Print a SHA-256 of what every weight makes of a fixed input, to compare before and after a change of the code.

Run from the repository's root: python tools/fingerprint_weights.py [NAME ...]

Two digests a weight: of the network's own output, and of what a user gets of it (`classify` or `fuse`, transform and
units included). They are those of one machine and one torch: another processor rounds otherwise.
"""

from __future__ import annotations

import argparse
import hashlib
import warnings
from typing import Any

import numpy as np
import torch

import hsmamba
from hsmamba.models import example_inputs


def digest(*arrays: Any) -> str:
    """SHA-256 of shapes, dtypes and bytes, its first 16 digits."""
    state = hashlib.sha256()
    for array in map(np.asarray, arrays):
        state.update(f"{array.shape}{array.dtype}".encode())
        state.update(np.ascontiguousarray(array).tobytes())
    return state.hexdigest()[:16]


def classified(model: Any, bands: int) -> str:
    """Classify a made-up scene, as large as two patches."""
    rng = np.random.default_rng(0)
    side = 2 * model.patch_size
    hsi = rng.uniform(500, 4000, (side, side, bands)).astype(np.float32)
    aux = rng.uniform(0, 30, (side, side, model.aux_chans)).astype(np.float32) if model.aux_chans else None
    return digest(*hsmamba.classify(model, hsmamba.Scene(hsi, aux=aux), progress=False))


def fused(model: Any, maximum: float) -> str:
    """Fuse a made-up pair, larger than a window."""
    rng = np.random.default_rng(0)
    ms = rng.uniform(0, maximum, (20, 24, model.in_chans))
    guide = rng.uniform(0, maximum, (20 * model.scale, 24 * model.scale, model.guide_chans))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return digest(hsmamba.fuse(model, ms, guide, progress=False))


def main() -> None:
    """Print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="weights; default all of the manifest")
    torch.set_num_threads(1)
    for name in parser.parse_args().names or hsmamba.list_pretrained():
        info = hsmamba.model_info(name)
        model: Any = hsmamba.create_model(name, pretrained=True)
        with torch.inference_mode():
            own = digest(model(*example_inputs(model, 2)))
        if info.task == "classification":
            users = classified(model, info.bands or model.in_chans)
        else:
            users = fused(model, 1.0 if model.any_sizes else 1 / model.transform.steps[0].scale)
        print(f"{name:<34} {own} {users}", flush=True)


if __name__ == "__main__":
    main()
