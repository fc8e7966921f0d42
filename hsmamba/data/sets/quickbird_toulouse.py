"""The QuickBird image of Toulouse that comes with the Orfeo ToolBox, out of the folder of data."""

from __future__ import annotations

from typing import Any

import numpy as np

from hsmamba.data.pairs import FusionPairs
from hsmamba.data.scene import PathLike, open_image
from hsmamba.data.sets.catalog import find_data
from hsmamba.data.wald import wald_pairs
from hsmamba.errors import DataNotFoundError, SceneError


def load_quickbird(root: PathLike | None = None, **options: Any) -> FusionPairs:
    """Load the QuickBird image: 4 bands and PAN, ratio 4.

    The bands come resampled to the grid of PAN; means of 4 x 4 pixels bring them near to what the sensor measured.

    Args:
        root: Folder of data, default the environment variable HSMAMBA_DATA.
        **options: As for `wald_pairs`, but for sensor and ratio.

    Raises:
        DataNotFoundError: Files are not there.
        SceneError: They have other sizes.
    """
    folder = find_data("quickbird", root)
    paths = [folder / f"QB_Toulouse_Ortho_{part}.tif" for part in ("XS", "PAN")]
    if missing := [repr(str(path)) for path in paths if not path.is_file()]:
        raise DataNotFoundError(f"there is no {' and no '.join(missing)}; fetch the data anew")
    bands, pan = (np.asarray(open_image(path), dtype=np.float32) for path in paths)
    rows, columns = (length // 4 for length in pan.shape[:2])
    if bands.shape[:2] != pan.shape[:2] or pan.shape[2] != 1:
        raise SceneError(f"{str(folder)!r} has bands of {bands.shape} and PAN of {pan.shape}; expected the same grid")
    ms = bands[: 4 * rows, : 4 * columns].reshape(rows, 4, columns, 4, -1).mean(axis=(1, 3))
    return wald_pairs(ms, pan[: 4 * rows, : 4 * columns], sensor="QB", ratio=4, name="QuickBird", **options)
