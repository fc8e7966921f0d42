"""Lazy rasters (y, x, band): windows read when they are asked for, with NaN in place of "no data"."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from hsmamba._optional import optional_import
from hsmamba.data.files.content import reading
from hsmamba.data.image import FILL_TOLERANCE, FILLS, Array, check_array, is_dataarray
from hsmamba.errors import SceneError

if TYPE_CHECKING:
    import xarray as xr

DIMS = ("y", "x", "band")


class Source(Protocol):
    """What gives the values of a raster."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Rows, columns, bands."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of what `window` returns."""

    def window(self, rows: slice, columns: slice, bands: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Read (h, w, n)."""


def lazy_raster(source: Source, path: Path) -> xr.DataArray:
    """Wrap a source as a DataArray (y, x, band) that holds nothing; damage that a read meets becomes SceneError."""
    xarray = optional_import("xarray", 'to read rasters with a place or a value for "no data"')
    array = xarray.core.indexing.LazilyIndexedArray(_backend()(source, path))
    result: xr.DataArray = xarray.DataArray(
        xarray.Variable(DIMS, array), coords={"band": np.arange(1, source.shape[2] + 1)}
    )
    return result


@cache
def _backend() -> Any:
    xarray = optional_import("xarray", 'to read rasters with a place or a value for "no data"')
    indexing = xarray.core.indexing

    class Lazy(xarray.backends.BackendArray):  # type: ignore[misc, name-defined]
        def __init__(self, source: Source, path: Path) -> None:
            self.source, self.path = source, path
            self.shape, self.dtype = source.shape, source.dtype

        def __getitem__(self, key: Any) -> Any:
            return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self.read)

        def read(self, key: tuple[Any, ...]) -> npt.NDArray[Any]:
            picks = [_positions(part, size) for part, size in zip(key, self.shape, strict=True)]
            with reading(self.path):
                block = _read(self.source, *picks)
            return block[
                tuple(0 if np.ndim(part) == 0 and not isinstance(part, slice) else slice(None) for part in key)
            ]

    return Lazy


def _positions(key: Any, size: int) -> npt.NDArray[np.int64]:
    """Spell out which indices of an axis a key means."""
    if isinstance(key, slice):
        return np.arange(*key.indices(size))
    positions = np.atleast_1d(np.asarray(key, dtype=np.int64))
    if positions.size and not -size <= positions.min() <= positions.max() < size:
        raise IndexError(f"indices run from {positions.min()} to {positions.max()}; the axis has 0..{size - 1}")
    return np.where(positions < 0, positions + size, positions)


def _read(
    source: Source, rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64], bands: npt.NDArray[np.int64]
) -> npt.NDArray[Any]:
    """Read some rows, columns and bands; rows between them are not read."""
    if not (rows.size and columns.size and bands.size):
        return np.zeros((rows.size, columns.size, bands.size), source.dtype)
    across = slice(int(columns.min()), int(columns.max()) + 1)
    lines, back = np.unique(rows, return_inverse=True)
    runs = np.split(lines, np.flatnonzero(np.diff(lines) > 1) + 1)
    parts = [source.window(slice(int(run[0]), int(run[-1]) + 1), across, bands) for run in runs]
    block = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return _take(_take(block, 0, back.reshape(-1)), 1, columns - across.start)


def _take(block: npt.NDArray[Any], axis: int, indices: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    if np.array_equal(indices, np.arange(block.shape[axis])):
        return block
    return np.take(block, indices, axis=axis)


def float_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Floating point type that holds every number of `dtype`, and NaN."""
    wide = dtype.itemsize > (4 if dtype.kind == "f" else 2)
    return np.dtype(np.float64 if wide else np.float32)


def usable_fill(fill: float | None, dtype: np.dtype[Any]) -> float | None:
    """Return the value for "no data" as a number that the type can hold, None where it cannot occur or is NaN."""
    if fill is None or np.isnan(fill):
        return None
    if dtype.kind == "f":
        return float(fill)
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    if isinstance(fill, float) and fill == float(high):
        return int(high)  # the largest 64-bit integers are not floating point numbers
    return int(fill) if np.isfinite(fill) and int(fill) == fill and low <= fill <= high else None


def is_fill(values: npt.NDArray[Any], fill: float) -> npt.NDArray[np.bool_]:
    """Mark where values are that of "no data", a result of `usable_fill`; floating point ones but nearly."""
    if values.dtype.kind != "f" or np.isinf(fill):
        return np.asarray(values == fill)
    with np.errstate(over="ignore"):
        low, high = (values.dtype.type(fill + sign * FILL_TOLERANCE * abs(fill)) for sign in (-1, 1))
    return np.asarray((values >= low) & (values <= high))


def blank(values: npt.NDArray[Any], fills: Sequence[float | None], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Bring a window (h, w, n) to a floating point type with NaN where each band has its value for "no data"."""
    result = values.astype(dtype)
    if len(set(fills)) == 1 and fills[0] is not None:
        result[is_fill(values, fills[0])] = np.nan
        return result
    for band, fill in enumerate(fills):
        if fill is not None:
            result[..., band][is_fill(values[..., band], fill)] = np.nan
    return result


def rows_first(array: Any) -> Any:
    """Bring a DataArray (band, y, x), as rioxarray opens it, to (y, x, band) without reading it; others stay."""
    if getattr(array, "dims", None) != ("band", "y", "x"):
        return array
    if array.chunks is not None:  # dask turns it when it reads it
        return array.transpose(*DIMS)
    turned = lazy_raster(_BandsFirst(array), Path(array.encoding.get("source", "array")))
    kept = turned.drop_vars("band").assign_coords(array.coords).assign_attrs(array.attrs)
    kept.encoding.update({key: value for key, value in array.encoding.items() if key in FILLS or key == "dtype"})
    return kept.rename(array.name)


def as_image(name: str, array: Array) -> Array:
    """Check an image of a fusion and give it its third axis; bands come last.

    Args:
        name: What to call it.
        array: (y, x, band), (y, x), or a DataArray (band, y, x).

    Returns:
        (H, W, C), not read.

    Raises:
        SceneError: It is no array of real numbers, has no pixel, or axes of other names.
    """
    array = rows_first(array)
    two = getattr(array, "ndim", 0) == 2
    check_array(array, name, ("y", "x") if two else ("y", "x", "band"))
    if 0 in array.shape or array.dtype.kind == "b":
        raise SceneError(f"{name} has shape {tuple(array.shape)} and dtype {array.dtype}; expected numbers in it")
    if not two:
        return array
    return array.expand_dims("band", axis=2) if is_dataarray(array) else array[:, :, None]


class _BandsFirst:
    """Windows of a DataArray (band, y, x)."""

    def __init__(self, array: xr.DataArray) -> None:
        self.array, self.dtype = array, np.dtype(array.dtype)
        self.shape = (int(array.shape[1]), int(array.shape[2]), int(array.shape[0]))

    def window(self, rows: slice, columns: slice, bands: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        return np.moveaxis(np.asarray(self.array.variable[bands, rows, columns]), 0, 2)
