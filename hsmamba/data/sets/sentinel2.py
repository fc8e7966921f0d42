"""A Sentinel-2 image, out of the folder of data: the six bands of 20 m beside the four of 10 m."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hsmamba.data.pairs import FusionPairs
from hsmamba.data.scene import PathLike, open_image
from hsmamba.data.sets.catalog import find_data
from hsmamba.data.wald import wald_pairs
from hsmamba.errors import DataNotFoundError, SceneError

# Centres of the bands in nm, of Sentinel-2A.
_COARSE = {"B05": 704.1, "B06": 740.5, "B07": 782.8, "B8A": 864.7, "B11": 1613.7, "B12": 2202.4}
_SHARP = ("B02", "B03", "B04", "B08")


def load_sentinel2(root: PathLike | None = None, **options: Any) -> FusionPairs:
    """Load the Sentinel-2 image: six bands of 20 m, guided by the four of 10 m; ratio 2.

    The crop of 10 m begins a pixel of its own later than that of 20 m: both are cut to the ground that they share.

    Args:
        root: Folder of data, default the environment variable HSMAMBA_DATA.
        **options: As for `wald_pairs`, but for sensor and ratio.

    Raises:
        DataNotFoundError: Files are not there.
        SceneError: They have other sizes.
    """
    folder = find_data("sentinel2", root)
    ms, guide = (np.concatenate([_read(folder, band) for band in bands], axis=-1) for bands in (_COARSE, _SHARP))
    if guide.shape[:2] != (2 * ms.shape[0], 2 * ms.shape[1]):
        raise SceneError(
            f"the bands in {str(folder)!r} have {ms.shape[:2]} pixels of 20 m and {guide.shape[:2]} of 10 m; expected "
            "twice as many of 10 m: fetch the data anew"
        )
    pairs = wald_pairs(ms[:, 1:], guide[:, 1:-1], sensor="generic", ratio=2, name="Sentinel-2", **options)
    return replace(pairs, wavelengths=tuple(_COARSE.values()))


def _read(folder: Path, band: str) -> npt.NDArray[np.float32]:
    path = folder / f"s2_{band}.tif"
    if not path.is_file():
        raise DataNotFoundError(f"there is no {str(path)!r}; fetch the data anew")
    return np.asarray(open_image(path), dtype=np.float32)
