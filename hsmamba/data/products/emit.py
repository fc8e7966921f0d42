"""EMIT L2A reflectance: one netCDF4 file `EMIT_L2A_RFL_*.nc` in the geometry of the sensor, with a lookup table.

Layout after the "EMIT L2A Estimated Surface Reflectance User Guide" (LP DAAC, doi:10.5067/EMIT/EMITL2ARFL.001) and the
examples that NASA gives with it:

- `reflectance`: float32 (downtrack, crosstrack, bands), `_FillValue` -9999;
- `sensor_band_parameters/wavelengths` and `.../fwhm` in nm, `.../good_wavelengths`: 0 where water vapour absorbs, and
  the reflectance is a constant;
- `location/glt_x` and `location/glt_y`: int32 on the map's grid, the crosstrack and the downtrack of the pixel that
  lies there, counted from 1; 0 where none does;
- attributes of the file: `geotransform` (GDAL's six numbers) and `spatial_ref` (WKT) of the map's grid.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hsmamba.data.files.content import Content, reading
from hsmamba.data.products.cubes import Bands, Place, check_size, product_content
from hsmamba.data.products.hdf5 import attribute, dataset, item_at, open_hdf5
from hsmamba.data.products.metadata import find_main
from hsmamba.errors import SceneError

_FILL = -9999.0
_BLOCK = (16, 128)  # lines and samples of the sensor that are read at once, where the file has no chunks of its own


def find(path: Path) -> Path | None:
    """Find the file, whatever its name where it is given itself."""
    named = find_main(path, [r"EMIT_L2A_RFL_.*\.nc"])
    return named or (path if path.suffix.lower() == ".nc" and not path.is_dir() else None)


def read(path: Path) -> Content:
    """Open a product by its file.

    The cube lies on the map's grid, each pixel as the lookup table gives it, without interpolation. NaN is where the
    table has no pixel, and the fill value. Bands that are not among the good wavelengths are bad.

    Raises:
        SceneError: Damaged, or another product.
    """
    with open_hdf5(path) as file:
        if item_at(file, "reflectance") is None:
            raise SceneError(
                f"{str(path)!r} holds no EMIT L2A reflectance: it has no array 'reflectance'; no other netCDF file is "
                "read: fetch EMIT_L2A_RFL_*.nc, or convert the file to GeoTIFF"
            )
        shape = _grid(file)
        bands, place = _bands(file), _place(file)
    return product_content(path.stem, shape, place, bands, partial(_window, path))


def _grid(file: Any) -> tuple[int, int]:
    x, y = (dataset(file, f"location/{name}", 2).shape for name in ("glt_x", "glt_y"))
    if x != y:
        raise SceneError(
            f"{file.filename!r} has lookup tables of shapes {x} and {y}; expected one shape: fetch it again"
        )
    return int(x[0]), int(x[1])


def _bands(file: Any) -> Bands:
    names = ("wavelengths", "fwhm", "good_wavelengths")
    wavelengths, fwhm, good = (dataset(file, f"sensor_band_parameters/{name}", 1) for name in names)
    count = dataset(file, "reflectance", 3).shape[2]
    check_size((*_grid(file), count))
    fitting = wavelengths.size == fwhm.size == good.size == count
    if not fitting or not np.isfinite([wavelengths[()], fwhm[()]]).all():
        raise SceneError(
            f"{file.filename!r} has {wavelengths.size} wavelengths, {fwhm.size} widths and {good.size} flags for "
            f"{count} bands; expected a finite one a band: fetch the product again"
        )
    return Bands(
        names=[f"Band {number}" for number in range(1, count + 1)],
        wavelengths=wavelengths[()].astype(np.float64),
        fwhm=fwhm[()].astype(np.float64),
        scale=np.ones(count),
        offset=np.zeros(count),
        bad=good[()] == 0,
    )


def _place(file: Any) -> Place:
    numbers = attribute(file, "geotransform").astype(np.float64).ravel()
    if numbers.size != 6 or not np.isfinite(numbers).all():
        raise SceneError(f"{file.filename!r} has the geotransform {numbers}; expected six finite numbers")
    crs = attribute(file, "spatial_ref").item()
    return Place(crs.decode() if isinstance(crs, bytes) else crs, tuple(float(number) for number in numbers))


def _window(path: Path, rows: slice, columns: slice, which: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Gather the pixels of a window of the map from the blocks of the sensor's image that hold them."""
    values = np.full((rows.stop - rows.start, columns.stop - columns.start, which.size), np.nan, dtype=np.float32)
    first = int(which.min())
    bands = slice(first, int(which.max()) + 1)
    with reading(path), open_hdf5(path) as file:
        image = dataset(file, "reflectance", 3)
        samples, lines = (dataset(file, f"location/{name}", 2)[rows, columns] for name in ("glt_x", "glt_y"))
        row, column = np.nonzero((samples > 0) & (lines > 0))
        line, sample = lines[row, column].astype(np.int64) - 1, samples[row, column].astype(np.int64) - 1
        if row.size and (line.max() >= image.shape[0] or sample.max() >= image.shape[1]):
            raise SceneError(
                f"{str(path)!r} has a lookup table up to line {line.max() + 1} and sample {sample.max() + 1}; its "
                f"image has {image.shape[0]} lines of {image.shape[1]} samples: fetch the product again"
            )
        for here in _by_block(line, sample, image.chunks or _BLOCK):
            top, left = line[here].min(), sample[here].min()
            block = image[top : line[here].max() + 1, left : sample[here].max() + 1, bands]
            values[row[here], column[here]] = block[line[here] - top, sample[here] - left][:, which - first]
    values[values == _FILL] = np.nan
    return values


def _by_block(
    line: npt.NDArray[np.int64], sample: npt.NDArray[np.int64], block: tuple[int, ...]
) -> Iterator[npt.NDArray[np.int64]]:
    """Group pixels by the block of the file that they lie in, so that none is read or unpacked twice."""
    if not line.size:
        return
    key = (line // block[0]) * (sample.max() // block[1] + 1) + sample // block[1]
    order = np.argsort(key, kind="stable")
    yield from np.split(order, np.flatnonzero(np.diff(key[order])) + 1)
