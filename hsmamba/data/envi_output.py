"""Writing ENVI images row by row: a flat file of numbers and its text header, whole or not there."""

from __future__ import annotations

import math
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsmamba._files import atomic_path
from hsmamba._optional import optional_import
from hsmamba.data.bands import wavelengths_of
from hsmamba.data.files.envi import CODES, PLACE
from hsmamba.data.georeference import Georeference, crs_variable
from hsmamba.data.image import Array, is_dataarray, result_attributes
from hsmamba.data.writers import WriteRows, each_band, place_points, place_profile, scaling

_WIDER = {"float16": "float32", "longdouble": "float64", "bool": "uint8", "int8": "int16"}  # types that ENVI lacks


@contextmanager
def envi_rows(
    path: Path,
    shape: tuple[int, int, int],
    dtype: np.dtype[Any],
    *,
    grid: Array,
    values: Array | None = None,
    nodata: float | None = None,
    classes: Sequence[str] = (),
    colours: NDArray[np.float64] | None = None,
) -> Iterator[WriteRows]:
    """Write an ENVI image, interleaved by line, row by row.

    The older header is removed before the numbers are replaced, and the new one comes last: at no moment does a header
    speak of other numbers than its own.

    Args:
        path: The header, `.hdr`; the numbers are in the file of the same stem with `.img`.
        shape: Rows H, columns W, bands C.
        dtype: Of the numbers; types that ENVI lacks are written as wider ones.
        grid: An image on the same grid, whose place the header gets if it is a DataArray.
        values: An image of the same quantity in the same bands, see `hsmamba.data.writers.raster_rows`.
        nodata: The value that stands for "no data".
        classes: Names of the numbers 1..K, for a map of classes; 0 is unclassified.
        colours: (K + 1, 3) RGB in 0..1 of the numbers 0..K.

    Yields:
        A function of the first row and finished rows (n, W, C), from top to bottom.

    Raises:
        MissingExtraError: `grid` has a place, and rasterio is not installed.
        OSError: The files cannot be written, or the disk is full.
    """
    dtype = np.dtype(_WIDER.get(dtype.name, dtype.newbyteorder("=")))
    with atomic_path(path) as header, atomic_path(path.with_suffix(".img")) as numbers:
        lines = _lines(shape, dtype, nodata)
        lines += _of_place(header.with_name("place.img"), grid)
        lines += _of_bands(grid, values, shape[2]) + _of_classes(classes, colours)
        header.write_text("\n".join([*lines, ""]), encoding="utf-8")
        with numbers.open("wb") as file:

            def write(top: int, rows: NDArray[Any]) -> None:
                file.write(np.ascontiguousarray(rows.transpose(0, 2, 1), dtype).data)

            yield write
        path.unlink(missing_ok=True)


def _lines(shape: tuple[int, int, int], dtype: np.dtype[Any], nodata: float | None) -> list[str]:
    height, width, bands = shape
    code = next(code for code, kind in CODES.items() if np.dtype(kind) == dtype)
    lines = ["ENVI", f"samples = {width}", f"lines = {height}", f"bands = {bands}", "header offset = 0"]
    lines += [f"data type = {code}", "interleave = bil", f"byte order = {int(sys.byteorder == 'big')}"]
    if nodata is not None and math.isfinite(nodata):
        lines.append(f"data ignore value = {nodata:.17g}")
    return lines


def _of_place(pixel: Path, grid: Array) -> list[str]:
    """Have GDAL write the place into the header of a pixel, and take its fields."""
    place = Georeference.of(grid)
    if place is None and not (is_dataarray(grid) and crs_variable(grid)):
        return []
    rasterio = optional_import("rasterio", "to write the place of ENVI images")
    one = {"height": 1, "width": 1, "count": 1, "dtype": "uint8", **place_profile(grid)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(pixel, "w", driver="ENVI", **one) as file:
            place_points(file, grid)
    text = pixel.with_suffix(".hdr").read_text(encoding="utf-8")
    found = re.findall(r"^(\w[\w ]*?)\s*=\s*(\{.*?\}|[^\n]*)", text, re.MULTILINE | re.DOTALL)
    return [f"{key} = {' '.join(value.split())}" for key, value in found if key in PLACE]


def _of_bands(grid: Array, values: Array | None, count: int) -> list[str]:
    """Fields for what an image tells of its bands."""
    attrs = result_attributes(grid, values)
    centres, widths = wavelengths_of(values)
    scaled = scaling(attrs, count)
    fields: dict[str, list[Any]] = {
        "band names": [re.sub(r"[,{}]", " ", str(name)) for name in each_band(attrs.get("long_name"), count)],
        "data gain values": scaled["scales"],
        "data offset values": scaled["offsets"],
    }
    lines = []
    if centres is not None and len(centres) == count and np.isfinite(centres).all():
        lines.append("wavelength units = Nanometers")
        fields |= {"wavelength": [f"{nm:.10g}" for nm in centres]}
        if widths is not None and np.isfinite(widths).all():
            fields |= {"fwhm": [f"{nm:.10g}" for nm in widths]}
    return lines + [f"{key} = {{{', '.join(map(str, each))}}}" for key, each in fields.items() if each]


def _of_classes(names: Sequence[str], colours: NDArray[np.float64] | None) -> list[str]:
    if not names:
        return []
    listed = ", ".join(re.sub(r"[,{}\n]", " ", name) for name in ("unclassified", *names))
    lines = ["file type = ENVI Classification", f"classes = {len(names) + 1}", f"class names = {{{listed}}}"]
    if colours is not None:
        lines.append(f"class lookup = {{{', '.join(map(str, np.rint(colours * 255).astype(int).ravel()))}}}")
    return lines
