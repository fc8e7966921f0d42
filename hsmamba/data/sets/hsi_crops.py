"""Four crops of airborne hyperspectral images, out of the folder of data, with a simulated panchromatic band."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from hsmamba.data.pairs import FusionPair, FusionPairs, simulated_pair, training_image
from hsmamba.data.scene import PathLike, open_image
from hsmamba.data.sensors import get_sensor
from hsmamba.data.sets.catalog import find_data
from hsmamba.data.strips import cut_strips
from hsmamba.errors import SceneError

_SIDE = 48
_GUARD = 4  # rows between the parts, at least


def load_chikusei(root: PathLike | None = None, **options: Any) -> FusionPairs:
    """Load the crop of Chikusei, Headwall Hyperspec, 128 bands; arguments and errors as for `load_beltsville`."""
    return _pairs("hsi_chikusei", root, slice(17, 105), **options)


def load_dc_mall(root: PathLike | None = None, **options: Any) -> FusionPairs:
    """Load the crop of the Washington DC Mall, HYDICE, 191 bands; arguments and errors as for `load_beltsville`."""
    return _pairs("hsi_dc_mall", root, slice(12, 70), **options)


def load_beltsville(root: PathLike | None = None, **options: Any) -> FusionPairs:
    """Load the crop of Beltsville, SpecTIR, 360 bands, cut into rows to train on and rows to test.

    The crops have 48 x 48 pixels and name no wavelengths. PAN is the plain mean of the bands of about 450 to 900 nm,
    which were found by the red edge of plants, the absorption of water vapour and the sensor's first band. The coarse
    image is simulated by the protocol.

    Args:
        root: Folder of data, default the environment variable HSMAMBA_DATA.
        root: Folder of data, default the environment variable HSMAMBA_DATA.
        **options: `ratio` (default 4), `val` (share of the rows for validation, default 0) and `test` (the lowest
            rows, default 0.3).

    Raises:
        DataNotFoundError: The file is not there.
        SceneError: It is something else.
        SplitError: Parts too small to train on or to judge.
        ValueError: A ratio that does not divide the sides.
    """
    return _pairs("hsi_beltsville", root, slice(11, 109), **options)


def load_cuprite(root: PathLike | None = None, **options: Any) -> FusionPairs:
    """Load the crop of Cuprite, SpecTIR, 357 bands; arguments and errors as for `load_beltsville`."""
    return _pairs("hsi_cuprite", root, slice(11, 109), **options)


def _pairs(
    name: str, root: PathLike | None, visible: slice, *, ratio: int = 4, val: float = 0.0, test: float = 0.3
) -> FusionPairs:
    path = find_data(name, root)
    cube = np.asarray(open_image(path), dtype=np.float32)
    if cube.ndim != 3 or cube.shape[:2] != (_SIDE, _SIDE) or cube.shape[2] < visible.stop:
        raise SceneError(f"{str(path)!r} has the shape {cube.shape}; expected {_SIDE} x {_SIDE} pixels of many bands")
    if _SIDE % ratio:
        raise ValueError(f"ratio is {ratio}; it must divide the {_SIDE} pixels of a side")
    sensor = get_sensor("generic")
    spans = cut_strips(_SIDE // ratio, val, test, _GUARD, ratio)
    maximum = float(cube[slice(*spans["train"])].max())
    gt = torch.from_numpy(cube.transpose(2, 0, 1) / maximum)

    def part(which: str) -> tuple[str, torch.Tensor, torch.Tensor]:
        rows = gt[:, slice(*spans[which])].contiguous()
        return f"{name}, {which}", rows, rows[visible].mean(0, keepdim=True)

    def judged(which: str) -> tuple[FusionPair, ...]:
        return (simulated_pair(*part(which), ratio=ratio, sensor=sensor),) if which in spans else ()

    train = (training_image(*part("train"), ratio=ratio, sensor=sensor),)
    return FusionPairs(name, ratio, sensor, maximum, train, judged("val"), judged("test"))
