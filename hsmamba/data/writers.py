"""Writing results: rasters on the grid they came from."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from hsmamba._files import atomic_path
from hsmamba._optional import optional_import
from hsmamba.data.scene import Array


def write_raster(path: str | os.PathLike[str], array: Array, *, nodata: float | None = None) -> None:
    """Write a GeoTIFF, whole or not at all.

    Args:
        path: The file.
        array: (H, W) or (H, W, C); a DataArray with dims (y, x) or (y, x, band) keeps its grid and CRS, numpy has none.
        nodata: The value that stands for "no data".

    Raises:
        MissingExtraError: rioxarray is not installed.
        OSError: The file cannot be written.
    """
    optional_import("rioxarray", "to write GeoTIFF files")
    xarray = optional_import("xarray", "to write GeoTIFF files")
    raster: Any = array
    if isinstance(array, np.ndarray):
        raster = xarray.DataArray(array, dims=("y", "x", "band")[: array.ndim])
    if raster.ndim == 3:
        raster = raster.transpose("band", "y", "x")
    if nodata is not None:
        raster = raster.rio.write_nodata(nodata)
    with atomic_path(path) as temporary:
        raster.rio.to_raster(temporary, driver="GTiff", compress="deflate")
