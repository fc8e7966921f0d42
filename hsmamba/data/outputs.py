"""Writing an image row by row in the format that its name asks for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from hsmamba.data.envi_output import envi_rows
from hsmamba.data.image import VALUE_ATTRIBUTES, Array, result_attributes
from hsmamba.data.writers import RASTERS, WriteRows, array_rows, raster_rows
from hsmamba.data.zarr_output import Plan, zarr_rows

IMAGES = (*RASTERS, ".hdr", ".zarr", ".npy")


@contextmanager
def image_rows(
    path: str | os.PathLike[str],
    shape: tuple[int, int, int],
    dtype: np.dtype[Any],
    *,
    grid: Array,
    values: Array | None = None,
    nodata: float | None = None,
    cog: bool = False,
) -> Iterator[WriteRows]:
    """Write an image row by row; it is whole or not there.

    Args:
        path: The file, by its suffix in any case:
            `.tif`: a GeoTIFF, see `hsmamba.data.writers.raster_rows`.
            `.hdr`: an ENVI image, its numbers in the file with `.img`, see `hsmamba.data.envi_output.envi_rows`.
            `.zarr`: a Zarr group with the variable `image`, which must not be there yet.
            `.npy`: the numbers alone.
        shape: Rows H, columns W, bands C.
        dtype: Of the numbers.
        grid: An image on the same grid, whose place the file gets if it is a DataArray.
        values: An image of the same quantity in the same bands, of which the file tells the same.
        nodata: The value that stands for "no data".
        cog: Write a GeoTIFF as Cloud-Optimised GeoTIFF, in tiles and with overviews.

    Yields:
        A function of the first row and finished rows (n, W, C), from top to bottom.

    Raises:
        MissingExtraError: The format needs a package that is not installed.
        OSError: The file cannot be written, or the disk is full.
        ValueError: Another suffix.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix in RASTERS:
        with raster_rows(path, shape, dtype, grid=grid, values=values, nodata=nodata, cog=cog) as write:
            yield write
    elif suffix == ".hdr":
        with envi_rows(path, shape, dtype, grid=grid, values=values, nodata=nodata) as write:
            yield write
    elif suffix == ".zarr":
        attrs = {key: value for key, value in result_attributes(grid, values).items() if key in VALUE_ATTRIBUTES}
        kept = {key: value for key, value in attrs.items() if isinstance(value, (str, int, float, list, tuple))}
        plan = Plan(shape, dtype, nodata, {key: value for key, value in kept.items() if key != "_FillValue"})
        with zarr_rows(path, {"image": plan}, grid=grid, bands=values) as write_parts:
            yield write_parts
    elif suffix == ".npy":
        with array_rows(path, shape, dtype) as write:
            yield write
    else:
        raise ValueError(f"cannot write {suffix or 'a file without suffix'}; choose {', '.join(IMAGES)}")
