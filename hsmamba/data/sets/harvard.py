"""The Harvard images, out of the folder of data: one MATLAB file an image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from hsmamba.data.pairs import FusionPairs, simulated_pair, training_image
from hsmamba.data.scene import PathLike
from hsmamba.data.sensors import get_sensor
from hsmamba.data.sets.catalog import find_data
from hsmamba.data.sets.pair_table import HARVARD
from hsmamba.data.sets.scene_files import read_stored
from hsmamba.data.srf import nikon_d700, simulate_bands
from hsmamba.errors import DataNotFoundError, SceneError

_BANDS = 31  # 420, 430, ..., 720 nm
_SIDE = 1000  # of the upper left corner that papers take
_FIRST = 2  # of the camera's response, which begins at 400 nm


def load_harvard(root: PathLike | None = None, *, ratio: int = 8, val: int = 1, side: int = _SIDE) -> FusionPairs:
    """Load the Harvard images: 31 bands and an RGB guide by the response of a Nikon D700.

    The sorted files are halved: the first half trains, the second tests. The coarse image is simulated by the protocol.

    Args:
        root: Folder of data, default the environment variable HSMAMBA_DATA; its `harvard/` holds `*.mat` files with
            `ref` (H, W, 31), however deep.
        ratio: Scale ratio, usually 4 or 8.
        val: Training images that are set aside for validation, the last ones.
        side: Rows and columns of the upper left corner that is taken.

    Returns:
        The pairs; every image is divided by its own largest number.

    Raises:
        DataNotFoundError: There are no such files.
        SceneError: A file is something else.
    """
    folder = find_data("harvard", root)
    paths = [path for path in sorted(folder.rglob("*.mat")) if path.name != "calib.mat"]
    if not paths:
        raise DataNotFoundError(
            f"there is no file *.mat in {str(folder)!r}; fetch the images from {HARVARD.page} and unpack them there"
        )
    half = (len(paths) + 1) // 2
    train, held, test = paths[: half - val], paths[half - val : half], paths[half:]
    response = _response()

    def image(path: Path) -> tuple[str, torch.Tensor, torch.Tensor]:
        cube = read_stored(path, ("ref",))
        if cube.ndim != 3 or cube.shape[2] != _BANDS or not cube.max() > 0:
            raise SceneError(
                f"{str(path)!r} has 'ref' of {cube.shape}; expected (rows, columns, 31): fetch the file anew"
            )
        rows, columns = (min(length, side) // ratio * ratio for length in cube.shape[:2])
        values = np.ascontiguousarray(cube[:rows, :columns].transpose(2, 0, 1), dtype=np.float32)
        gt = torch.from_numpy(values / values.max())
        return path.stem, gt, simulate_bands(gt[None], response)[0]

    options: dict[str, Any] = {"ratio": ratio, "sensor": "generic"}
    return FusionPairs(
        name=f"Harvard x{ratio}",
        ratio=ratio,
        sensor=get_sensor("generic"),
        maximum=1.0,
        train=tuple(training_image(*image(path), **options) for path in train),
        val=tuple(simulated_pair(*image(path), **options) for path in held),
        test=tuple(simulated_pair(*image(path), **options) for path in test),
    )


def _response() -> torch.Tensor:
    """Shift the response of the camera, 400 to 700 nm, to the bands of these images; it is 0 beyond its end."""
    response = torch.as_tensor(nikon_d700())
    shifted = torch.zeros_like(response)
    shifted[:, : _BANDS - _FIRST] = response[:, _FIRST:]
    return shifted / shifted.sum(dim=1, keepdim=True)
