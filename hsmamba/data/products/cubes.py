"""Cubes of products: lazy arrays (y, x, band) with their place, their scale and their bands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hsmamba._optional import optional_import
from hsmamba.data.files.content import Content, Variable
from hsmamba.errors import SceneError

# Reads rows, columns and bands, indices into the cube's, as float32 (h, w, b) with NaN where a value is invalid.
Read: TypeAlias = "Callable[[slice, slice, npt.NDArray[np.int64]], npt.NDArray[np.float32]]"


_LARGEST = (10**5, 10**5, 10**4)  # rows, columns, bands; Sentinel-2 has 5490 rows, EMIT 285 bands


@dataclass(frozen=True)
class Place:
    """Where a north-up grid lies: the CRS in any form that rasterio takes, and GDAL's six numbers."""

    crs: Any
    geotransform: tuple[float, ...]  # x of the outer corner, dx, 0, y of it, 0, dy


@dataclass(frozen=True)
class Bands:
    """The bands of a cube in its order; physical value = stored value x scale + offset."""

    names: Sequence[str]
    wavelengths: npt.NDArray[np.float64]  # (B,) centres in nm
    fwhm: npt.NDArray[np.float64] | None  # (B,) in nm
    scale: npt.NDArray[np.float64]  # (B,)
    offset: npt.NDArray[np.float64]  # (B,)
    bad: npt.NDArray[np.bool_] | None = None


def check_size(shape: Sequence[int]) -> None:
    """Refuse rows, columns or bands beyond those of any product, before memory is asked for by what a file declares."""
    if any(not 0 < size <= most for size, most in zip(shape, _LARGEST, strict=True)):
        raise SceneError(
            f"the product declares a cube of {tuple(shape)} (rows, columns, bands); expected at least one and at most "
            f"{_LARGEST} of each: it is damaged, fetch it again"
        )


def product_content(name: str, shape: tuple[int, int], place: Place, bands: Bands, read: Read) -> Content:
    """Put a product together: its cube stays unread, and is called by the product's name."""
    whole = (*shape, len(bands.names))
    check_size(whole)
    cube = _lazy_cube(name, whole, place, bands, read)
    return Content(
        {"": Variable(whole, "float32", lambda: cube)},
        wavelengths=bands.wavelengths,
        fwhm=bands.fwhm,
        bad_bands=bands.bad,
        band_names=tuple(bands.names),
    )


def _lazy_cube(name: str, shape: tuple[int, int, int], place: Place, bands: Bands, read: Read) -> Any:
    xarray = optional_import("xarray", "to read satellite products")
    optional_import("rioxarray", "to read satellite products")
    indexing = xarray.core.indexing

    class WindowedCube(xarray.backends.BackendArray):  # type: ignore[misc, name-defined]
        dtype = np.dtype(np.float32)

        def __init__(self) -> None:
            self.shape = shape

        def __deepcopy__(self, memo: object) -> Any:
            return self  # nothing in it changes, and open files cannot be copied

        def __getitem__(self, key: Any) -> Any:
            return indexing.explicit_indexing_adapter(key, shape, indexing.IndexingSupport.OUTER, self.take)

        def take(self, key: tuple[Any, ...]) -> npt.NDArray[np.float32]:
            return take_window(read, shape, key)

    scaling = _per_band("scale_factor", "scales", bands.scale) | _per_band("add_offset", "offsets", bands.offset)
    attrs = {**scaling, "long_name": tuple(bands.names)}
    variable = xarray.Variable(("y", "x", "band"), indexing.LazilyIndexedArray(WindowedCube()), attrs=attrs)
    cube = xarray.DataArray(variable, coords=_coordinates(shape, place, bands), name=name)
    # Not in place, both would copy the cube.
    cube.rio.write_crs(place.crs, inplace=True)
    affine = optional_import("rasterio", "to read satellite products").Affine
    cube.rio.write_transform(affine.from_gdal(*place.geotransform), inplace=True)
    return cube


def take_window(read: Read, shape: tuple[int, int, int], key: tuple[Any, ...]) -> npt.NDArray[np.float32]:
    """Read the window around what is asked for, then pick from it."""
    rows, columns, bands = (np.arange(size)[part] for size, part in zip(shape, key, strict=True))
    if 0 in (rows.size, columns.size, bands.size):
        return np.empty([index.size for index in (rows, columns, bands) if index.ndim], dtype=np.float32)
    window = [slice(int(index.min()), int(index.max()) + 1) for index in (rows, columns)]
    block = read(window[0], window[1], np.atleast_1d(bands))
    picked = np.ix_(np.atleast_1d(rows) - window[0].start, np.atleast_1d(columns) - window[1].start)
    return np.asarray(block[picked]).reshape([index.size for index in (rows, columns, bands) if index.ndim])


def _coordinates(shape: tuple[int, int, int], place: Place, bands: Bands) -> dict[str, Any]:
    x0, dx, row_turn, y0, column_turn, dy = place.geotransform
    if row_turn or column_turn or not dx or not dy:
        raise SceneError(
            f"the grid of the product has the geotransform {place.geotransform}; expected one along its axes: fetch "
            "the product in map projection"
        )
    coords: dict[str, Any] = {
        "y": y0 + dy * (np.arange(shape[0]) + 0.5),
        "x": x0 + dx * (np.arange(shape[1]) + 0.5),
        "band": np.arange(1, shape[2] + 1),
        "wavelength": ("band", bands.wavelengths, {"units": "nm"}),
    }
    if bands.fwhm is not None:
        coords["fwhm"] = ("band", bands.fwhm, {"units": "nm"})
    return coords


def _per_band(one: str, all_: str, values: npt.NDArray[np.float64]) -> dict[str, float | tuple[float, ...]]:
    """Name a number as rioxarray does where all bands have the same, and where they have not."""
    same = bool((values == values[0]).all())
    return {one: float(values[0])} if same else {all_: tuple(float(value) for value in values)}
