"""Writing results: rasters on the grid they came from."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsmamba._files import atomic_path
from hsmamba._optional import optional_import
from hsmamba.data.image import Array, is_dataarray


def write_raster(path: str | os.PathLike[str], array: Array, *, nodata: float | None = None) -> None:
    """Write a GeoTIFF, whole or not at all.

    Args:
        path: The file.
        array: (H, W) or (H, W, C); a DataArray with dims (y, x) or (y, x, band) keeps its grid and CRS, numpy has none.
        nodata: The value that stands for "no data".

    Raises:
        MissingExtraError: rioxarray is not installed.
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


@contextmanager
def raster_rows(
    path: str | os.PathLike[str],
    shape: tuple[int, int, int],
    dtype: np.dtype[Any],
    *,
    grid: Array,
    values: Array,
    nodata: float | None = None,
) -> Iterator[Callable[[int, NDArray[Any]], None]]:
    """Write a GeoTIFF row by row, so that it never is in memory as a whole; the file is whole or not there.

    Args:
        path: The file.
        shape: Rows H, columns W, bands C.
        dtype: Of the numbers.
        grid: An image on the same grid, whose CRS and transform the file gets if it is a DataArray.
        values: An image of the same quantity, whose names of bands, scale and offset it gets if it is a DataArray.
        nodata: The value that stands for "no data".

    Yields:
        A function of the first row and finished rows (n, W, C).

    Raises:
        MissingExtraError: rasterio or rioxarray is not installed.
    """
    rasterio = optional_import("rasterio", "to write GeoTIFF files")
    optional_import("rioxarray", "to write GeoTIFF files")
    optional_import("rasterio.windows", "to write GeoTIFF files")
    height, width, bands = shape
    place = {"crs": grid.rio.crs, "transform": grid.rio.transform()} if is_dataarray(grid) else {}
    profile = {"driver": "GTiff", "compress": "deflate", "predictor": 3 if dtype.kind == "f" else 2, **place}
    profile |= {"height": height, "width": width, "count": bands, "dtype": dtype, "nodata": nodata}
    attrs = values.attrs if is_dataarray(values) else {}
    names = attrs.get("long_name")
    with warnings.catch_warnings(), atomic_path(path) as temporary:
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(temporary, "w", BIGTIFF="IF_SAFER", **profile) as file:
            if isinstance(names, (tuple, list)) and len(names) == bands:
                file.descriptions = tuple(names)
            if {"scale_factor", "add_offset"} <= attrs.keys() and np.ndim(attrs["scale_factor"]) == 0:
                file.scales = (float(attrs["scale_factor"]),) * bands
                file.offsets = (float(attrs["add_offset"]),) * bands

            def write(top: int, rows: NDArray[Any]) -> None:
                window = rasterio.windows.Window(0, top, width, len(rows))
                file.write(np.moveaxis(rows, 2, 0), window=window)

            yield write
