"""What an image array is, numpy or xarray: its check, strips of it, its pixels, its valid ones, results in its form."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeGuard, overload

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from hsmamba.errors import SceneError

if TYPE_CHECKING:
    import xarray as xr

Array: TypeAlias = "npt.NDArray[Any] | xr.DataArray"
NanPolicy: TypeAlias = Literal["raise", "mask"]

STRIP_BYTES = 2**26
VALID = "valid"  # the coordinate (y, x) of a DataArray that says where a mask or an alpha band has data
FILL_TOLERANCE = 2e-6  # relative: headers write float32's lowest number, -3.4028235e38, with as few as six digits
FILLS = ("_FillValue", "missing_value", "nodata")  # attributes that hold a value for "no data"
_RASTER_DIMS = ("y", "x", "band")
# Attributes that describe the values of one raster, so that they would be wrong on another raster of the same grid.
VALUE_ATTRIBUTES = frozenset(
    {*FILLS, "scale_factor", "add_offset", "long_name", "standard_name", "units"}
    | {"scales", "offsets"}  # rioxarray's names where bands differ
    | {"valid_min", "valid_max", "valid_range", "wavelength", "wavelength_units", "fwhm", "bbl"}
    | {"STATISTICS_MINIMUM", "STATISTICS_MAXIMUM", "STATISTICS_MEAN", "STATISTICS_STDDEV", "STATISTICS_VALID_PERCENT"}
)


def is_dataarray(array: object) -> TypeGuard[xr.DataArray]:
    """Tell whether an object is an `xarray.DataArray`, without importing xarray."""
    xarray = sys.modules.get("xarray")  # whoever holds a DataArray has imported it
    return xarray is not None and isinstance(array, xarray.DataArray)


def check_array(array: Array, what: str, dims: tuple[str, ...]) -> None:
    """Raise SceneError unless `array` is numpy or a DataArray of real numbers with these dimensions."""
    shape = getattr(array, "shape", None)
    if not (isinstance(array, np.ndarray) or is_dataarray(array)):
        raise SceneError(f"{what} is a {type(array).__name__}; expected a numpy array or an xarray.DataArray")
    if shape is None or len(shape) != len(dims):
        raise SceneError(f"{what} has shape {tuple(shape or ())}; expected {len(dims)} dimensions {dims}")
    if is_dataarray(array) and array.dims[:2] != ("y", "x"):
        order = ", ".join(f'"{dim}"' for dim in dims)
        raise SceneError(
            f"{what} has the dimensions {array.dims}; expected {dims}: rename them if need be and give "
            f"{what}.transpose({order})"
        )
    if array.dtype.kind not in "biuf":
        raise SceneError(f"{what} has dtype {array.dtype}; expected real numbers")


def iter_strips(array: Array, max_bytes: int = STRIP_BYTES) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """Read an array in strips of whole rows, so that a lazy or mapped array never sits in memory as a whole.

    Args:
        array: (H, ...), read along its first axis.
        max_bytes: Size of a strip in bytes as stored; a strip has one row at least.

    Yields:
        First row of the strip, and the strip (h, ...) as numpy.
    """
    row_bytes = max(1, array.dtype.itemsize * int(np.prod(array.shape[1:], dtype=np.int64)))
    step = max(1, max_bytes // row_bytes)
    for start in range(0, array.shape[0], step):
        yield start, np.asarray(array[start : start + step])


def gather_pixels(array: Array, pixels: npt.ArrayLike) -> npt.NDArray[Any]:
    """Take the spectra (N, B) of pixels (N,), flat indices row * W + column, out of (H, W, B), with bounded memory.

    Raises:
        SceneError: An index lies outside the grid.
    """
    flat = check_pixels(pixels, (int(array.shape[0]), int(array.shape[1])))
    rows, columns = np.divmod(flat, array.shape[1])
    if isinstance(array, np.ndarray):
        return np.asarray(array[rows, columns])
    result = np.empty((flat.size, array.shape[2]), dtype=array.dtype)
    for start, strip in iter_strips(array):
        here = np.flatnonzero((rows >= start) & (rows < start + strip.shape[0]))
        result[here] = strip[rows[here] - start, columns[here]]
    return result


def neighbour_pairs(array: Array, pixels: npt.ArrayLike, window: int) -> npt.NDArray[Any]:
    """Take the spectra of pixels that lie side by side within windows around some pixels.

    Args:
        array: (H, W, B).
        pixels: int (N,) flat indices row * W + column.
        window: Side of the square windows in pixels, odd.

    Returns:
        (M, 2, B): every pair of horizontal or vertical neighbours that lie both within windows, once.

    Raises:
        SceneError: An index lies outside the grid.
    """
    height, width = int(array.shape[0]), int(array.shape[1])
    inside = windows_around(pixel_mask(check_pixels(pixels, (height, width)), (height, width)), window)
    # Flat indices of the left and of the upper one of each pair.
    left, upper = (
        rows * width + columns
        for rows, columns in (np.nonzero(inside[:, 1:] & inside[:, :-1]), np.nonzero(inside[1:] & inside[:-1]))
    )
    first, second = np.concatenate([left, upper]), np.concatenate([left + 1, upper + width])
    return np.stack([gather_pixels(array, first), gather_pixels(array, second)], axis=1)


def pixel_mask(pixels: npt.NDArray[np.int64], shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Mark flat indices on a grid (H, W)."""
    mask = np.zeros(shape, dtype=bool)
    mask.ravel()[pixels] = True
    return mask


def windows_around(centres: npt.NDArray[np.bool_], side: int) -> npt.NDArray[np.bool_]:
    """Mark on a grid (H, W) what lies in the windows of marked pixels, each at index side // 2 of its window."""
    origin = -1 if side % 2 == 0 else 0  # an even window reaches one pixel further up and left
    grown: npt.NDArray[np.bool_] = ndimage.maximum_filter(centres, side, mode="constant", cval=0, origin=origin)
    return grown


def check_pixels(pixels: npt.ArrayLike, shape: tuple[int, int]) -> npt.NDArray[np.int64]:
    """Return flat pixel indices as int64 (N,), or raise SceneError where one is outside a grid of `shape`."""
    flat = np.asarray(pixels)
    if flat.ndim != 1 or (flat.size and flat.dtype.kind not in "iu"):
        raise SceneError(
            f"pixels have shape {flat.shape} and dtype {flat.dtype}; expected integers (N,): flat indices "
            "row * W + column"
        )
    flat = flat.astype(np.int64)
    if flat.size and (flat.min() < 0 or flat.max() >= shape[0] * shape[1]):
        raise SceneError(
            f"pixel indices run from {flat.min()} to {flat.max()}; a grid of {shape[0]} x {shape[1]} pixels has "
            f"0..{shape[0] * shape[1] - 1}"
        )
    return flat


def take_bands(array: Array, indices: npt.NDArray[np.int64]) -> Array:
    """Select bands of (H, W, B) by their indices; attributes of a DataArray that have a value a band follow."""
    if not is_dataarray(array):
        return np.asarray(array[..., indices])
    count = array.sizes["band"]
    attrs = {
        key: tuple(value[i] for i in indices) if isinstance(value, (tuple, list)) and len(value) == count else value
        for key, value in array.attrs.items()
    }
    chosen: xr.DataArray = array.isel(band=indices).assign_attrs(attrs)
    return chosen


@overload
def like(template: npt.NDArray[Any], array: npt.NDArray[Any], *, name: str | None = None) -> npt.NDArray[Any]: ...
@overload
def like(template: xr.DataArray, array: npt.NDArray[Any], *, name: str | None = None) -> xr.DataArray: ...
def like(template: Array, array: npt.NDArray[Any], *, name: str | None = None) -> Array:
    """Give a result back as the caller gave the input: numpy for numpy, DataArray for DataArray.

    Args:
        template: The input (H, W) or (H, W, B).
        array: The result (H, W) or (H, W, C) on the same grid.
        name: Name of the DataArray.

    Returns:
        `array` itself for a numpy template. Else a DataArray with dims (y, x) or (y, x, band), every coordinate
        of the template that lies on y and x (`spatial_ref`, the CRS, among them), the band coordinates too where
        the number of bands is the same, and the attributes of the template that do not describe its values.

    Raises:
        SceneError: The grids differ.
    """
    if not is_dataarray(template):
        return array
    if array.ndim not in (2, 3) or array.shape[:2] != tuple(template.sizes[dim] for dim in ("y", "x")):
        raise SceneError(f"a result of shape {array.shape} does not lie on the grid of {dict(template.sizes)}")
    dims = _RASTER_DIMS[: array.ndim]
    kept = {"y", "x"}
    if array.ndim == 3 and template.sizes.get("band") == array.shape[2]:
        kept.add("band")
    coords = {key: value for key, value in template.coords.items() if set(value.dims) <= kept and key != VALID}
    attrs = {key: value for key, value in template.attrs.items() if key not in VALUE_ATTRIBUTES}
    result = type(template)(array, dims=dims, coords=coords, attrs=attrs, name=name)
    return keep_crs(template, result)


def keep_crs(template: xr.DataArray, result: xr.DataArray) -> xr.DataArray:
    """Have a result name the coordinate of its CRS as the template does, where that has a name of its own."""
    if "grid_mapping" in template.encoding:
        result.encoding["grid_mapping"] = template.encoding["grid_mapping"]
    return result


def result_attributes(grid: Array, values: Array | None) -> dict[str, Any]:
    """Attributes of a result on one image's grid whose bands are another's.

    Args:
        grid: Gives what does not describe its values or single bands.
        values: Gives what describes its values, and what it tells of each band; None for a result of another quantity.

    Returns:
        The attributes, without statistics of numbers that are no longer these.
    """
    attrs = {}
    if is_dataarray(grid):
        attrs = {k: v for k, v in grid.attrs.items() if k not in VALUE_ATTRIBUTES and not isinstance(v, (tuple, list))}
    if values is not None and is_dataarray(values):
        count = values.sizes.get("band", 1)
        of_bands = {k for k, v in values.attrs.items() if isinstance(v, (tuple, list)) and len(v) == count}
        attrs |= {k: v for k, v in values.attrs.items() if k in VALUE_ATTRIBUTES or k in of_bands}
    return {key: value for key, value in attrs.items() if not str(key).upper().startswith("STATISTICS_")}
