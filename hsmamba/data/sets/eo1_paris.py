"""An EO-1 image of Paris, out of the folder of data: Hyperion beside the panchromatic band of ALI."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hsmamba.data.files.readers import open_file
from hsmamba.data.pairs import FusionPairs
from hsmamba.data.scene import PathLike
from hsmamba.data.sets.catalog import find_data
from hsmamba.data.wald import wald_pairs
from hsmamba.errors import SceneError

_SHAPES = {"HSim": (72, 58, 128), "PCim": (216, 174), "non_del_bands": (1, 128)}


def load_eo1(root: PathLike | None = None, **options: Any) -> FusionPairs:
    """Load the EO-1 image: 128 bands of 30 m and PAN of 10 m, ratio 3.

    Args:
        root: Folder of data, default the environment variable HSMAMBA_DATA.
        **options: As for `wald_pairs`, but for sensor and ratio.

    Raises:
        DataNotFoundError: The file is not there.
        SceneError: It has another content.
    """
    path = find_data("eo1", root)
    variables = open_file(path, masked=False).variables
    found = {key: variables[key].shape for key in _SHAPES if key in variables}
    if found != _SHAPES:
        raise SceneError(f"{str(path)!r} has {found}; expected {_SHAPES}: fetch the file anew")
    ms, pan, numbers = (np.asarray(variables[key].read()) for key in _SHAPES)
    pairs = wald_pairs(ms, pan, sensor="generic", ratio=3, name="EO-1 Paris", **options)
    return replace(pairs, wavelengths=tuple(_centres(numbers.ravel()).tolist()))


def _centres(numbers: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return the centres of Hyperion's bands in nm, by their numbers from 1: two spectrometers, each evenly spaced."""
    number = numbers.astype(np.float64)
    return np.where(number <= 70, 355.59 + 10.1756 * (number - 1), 851.92 + 10.0885 * (number - 71))
