"""A Landsat-8 image, out of the folder of data: the bands of 30 m beside the panchromatic one of 15 m."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from hsmamba.data.pairs import FusionPairs
from hsmamba.data.scene import PathLike, open_image
from hsmamba.data.sets.catalog import find_data
from hsmamba.data.wald import wald_pairs
from hsmamba.errors import DataNotFoundError

# Centres of the bands 1 to 7 of OLI in nm, by its mission.
CENTRES = {1: 442.96, 2: 482.04, 3: 561.41, 4: 654.59, 5: 864.67, 6: 1608.86, 7: 2200.73}
_PAN = 8


def load_landsat8(root: PathLike | None = None, **options: Any) -> FusionPairs:
    """Load the Landsat-8 image: the bands 1 to 7 and PAN, ratio 2.

    The panchromatic grid of Landsat starts half of its pixels up and left of the bands' own. At reduced resolution,
    where PAN becomes an image on the bands' grid, it is moved by that half pixel first (cubic spline); at full
    resolution it stays as it is, since the up-sampling of the protocol has exactly Landsat's phase.

    Args:
        root: Folder of data, default the environment variable HSMAMBA_DATA.
        **options: As for `wald_pairs`, but for sensor and ratio.

    Raises:
        DataNotFoundError: Files are not there.
    """
    folder = find_data("landsat8", root)
    ms = np.stack([_read(folder, band) for band in CENTRES], axis=-1)
    pan = _read(folder, _PAN)[: 2 * ms.shape[0], : 2 * ms.shape[1]]
    between = ndimage.shift(pan, -0.5, order=3, mode="nearest")
    common: dict[str, Any] = {"sensor": "generic", "ratio": 2, "name": "Landsat-8"}
    pairs = wald_pairs(ms, between, **common, **options)
    full = wald_pairs(ms, pan, **common, **{**options, "maximum": pairs.maxima}).full
    return replace(pairs, full=full, wavelengths=tuple(CENTRES.values()))


def _read(folder: Path, band: int) -> npt.NDArray[np.float32]:
    path = folder / f"l8_B{band}.tif"
    if not path.is_file():
        raise DataNotFoundError(f"there is no {str(path)!r}; fetch the data anew")
    return np.asarray(open_image(path), dtype=np.float32)[..., 0]
