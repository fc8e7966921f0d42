"""Several rasters of one grid as one: the windows of a mosaic are read out of its tiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hsmamba._optional import optional_import
from hsmamba.data.files.content import Content, Variable
from hsmamba.data.files.lazy import blank, float_dtype, is_fill, lazy_raster
from hsmamba.data.files.place import Place, lay
from hsmamba.data.georeference import Affine, Georeference, same_crs
from hsmamba.data.image import FILLS, VALID, is_dataarray
from hsmamba.errors import SceneError

if TYPE_CHECKING:
    import xarray as xr

_OFF = 0.1  # of a pixel that a tile may lie beside the grid of the first


@dataclass(frozen=True)
class _Tiles:
    """The values of a mosaic; where tiles overlap, the last one that has data there counts."""

    arrays: tuple[xr.DataArray, ...]
    corners: npt.NDArray[np.int64]  # (N, 4): first row, first column, and those after the last
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    fill: float | None  # of pixels without data; None where every pixel has some
    masked: bool

    def window(self, rows: slice, columns: slice, bands: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        shape = rows.stop - rows.start, columns.stop - columns.start, len(bands)
        result = np.full(shape, 0 if self.fill is None else self.fill, self.dtype)
        top, left, bottom, right = self.corners.T
        near = (top < rows.stop) & (bottom > rows.start) & (left < columns.stop) & (right > columns.start)
        for i in np.flatnonzero(near):
            y = slice(max(int(top[i]), rows.start), min(int(bottom[i]), rows.stop))
            x = slice(max(int(left[i]), columns.start), min(int(right[i]), columns.stop))
            inside = self.arrays[i][y.start - top[i] : y.stop - top[i], x.start - left[i] : x.stop - left[i]]
            values = np.asarray(inside[..., bands])
            here = result[y.start - rows.start : y.stop - rows.start, x.start - columns.start : x.stop - columns.start]
            here[...] = self._over(here, values)
        return result

    def _over(self, below: npt.NDArray[Any], values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Lay a tile over what is there, where the tile has data."""
        if self.fill is None:
            return values
        if self.masked:
            return np.where(np.isnan(values), below, values)
        return np.where(is_fill(values, self.fill), below, values)


def join_tiles(
    tiles: Sequence[tuple[Path, Content]], *, masked: bool, nodata: float | None = None, name: str = ""
) -> Content:
    """Lay tiles beside each other.

    Args:
        tiles: Rasters with a place, of one CRS, one size of pixels and the same bands, with their paths; whatever their
            order, but where they overlap the last one that has data counts.
        masked: Whether pixels without data are NaN; else they have the tiles' value for "no data".
        nodata: That value, of tiles that tell none.
        name: What to call the mosaic in errors; default by its first tile.

    Returns:
        The mosaic as one lazy variable, with what the first tile tells of its bands.

    Raises:
        SceneError: Tiles do not fit each other or have no place, or they leave gaps and nothing stands for "no data".
    """
    path, first = tiles[0]
    arrays = tuple(_image(*tile) for tile in tiles)
    places = [_place(*pair) for pair in zip((path for path, _ in tiles), arrays, strict=True)]
    for (other, _), array, place in zip(tiles[1:], arrays[1:], places[1:], strict=True):
        _check_alike(path, arrays[0], places[0], other, array, place)
    corners, affine = _corners(tiles, arrays, places)
    height, width = corners[:, 2:].max(axis=0)
    fill = _fill(arrays, nodata)
    dtype = np.result_type(*(array.dtype for array in arrays))
    gaps = _has_gaps(corners, (int(height), int(width)))
    if masked:
        if fill is not None or gaps:
            dtype = float_dtype(dtype)
        fill = np.nan if dtype.kind == "f" else None
        arrays = arrays if nodata is None else tuple(_blanked(array, nodata, dtype) for array in arrays)
    elif gaps and fill is None:
        raise SceneError(
            f'the tiles from {str(path)!r} on leave gaps, and no value stands for "no data" in them; write them with '
            "one (nodata), or give tiles without gaps"
        )
    source = _Tiles(arrays, corners, (int(height), int(width), int(arrays[0].shape[2])), dtype, fill, masked)
    crs = optional_import("rasterio.crs", "to read mosaics").CRS.from_user_input(places[0].crs)
    affine_type = optional_import("rasterio", "to read mosaics").Affine
    raster = lay(lazy_raster(source, Path(name or path)), Place(crs, affine_type(*affine)))
    kept = {key: one for key, one in arrays[0].coords.items() if set(one.dims) == {"band"}}
    raster = raster.assign_coords(kept).assign_attrs({k: v for k, v in arrays[0].attrs.items() if k not in FILLS})
    if not masked and fill is not None:
        raster.attrs["_FillValue"] = dtype.type(fill)
    if "preferred_chunks" in arrays[0].encoding:
        raster.encoding["preferred_chunks"] = arrays[0].encoding["preferred_chunks"]
    variable = Variable(raster.shape, str(raster.dtype), lambda: raster)
    return replace(first, variables={"": variable}, nodata=None if masked else fill, class_names=())


def _image(path: Path, content: Content) -> xr.DataArray:
    """The only image of a tile."""
    images = [one for one in content.variables.values() if len(one.shape) == 3]
    array = images[0].read() if len(images) == 1 else None
    if array is None or not is_dataarray(array):
        raise SceneError(
            f"{str(path)!r} is no raster with a place; give as tiles GeoTIFFs, or ENVI files with map info"
        )
    if VALID in array.coords:
        raise SceneError(
            f"{str(path)!r} has a mask or an alpha band, which tiles of a mosaic do not have; write it with "
            'a value that stands for "no data" instead'
        )
    return array


def _place(path: Path, array: xr.DataArray) -> Georeference:
    place = Georeference.of(array)
    if place is None or place.crs is None or place.affine is None or place.affine[1] or place.affine[3]:
        raise SceneError(
            f"{str(path)!r} has no CRS or no transform along its axes, so that it is no tile of a mosaic; reproject it "
            "to the grid of the others"
        )
    return place


def _check_alike(
    path: Path, one: xr.DataArray, place: Georeference, other_path: Path, other: xr.DataArray, there: Georeference
) -> None:
    """Raise SceneError unless a tile has the bands, the CRS and the pixels of the first."""
    differ = []
    if one.shape[2] != other.shape[2]:
        differ.append(f"{other.shape[2]} bands, not {one.shape[2]}")
    if place.crs and there.crs and not same_crs(place.crs, there.crs):
        differ.append("another CRS")
    sizes = [(abs(here.affine[0]), abs(here.affine[4])) for here in (place, there) if here.affine is not None]
    if not np.allclose(sizes[0], sizes[1], rtol=1e-6):
        differ.append(f"pixels of {sizes[1][0]:g} x {sizes[1][1]:g}, not {sizes[0][0]:g} x {sizes[0][1]:g}")
    if differ:
        raise SceneError(
            f"{str(other_path)!r} has {' and '.join(differ)} as {str(path)!r}; give tiles of one grid, or reproject "
            f"{str(other_path)!r} to that of the other"
        )


def _corners(
    tiles: Sequence[tuple[Path, Content]], arrays: Sequence[xr.DataArray], places: Sequence[Georeference]
) -> tuple[npt.NDArray[np.int64], Affine]:
    """Place tiles on their common grid: (N, 4) rows and columns, and its affine."""
    a, _, left, _, e, top = places[0].affine or (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    offsets = np.array([((p.affine[5] - top) / e, (p.affine[2] - left) / a) for p in places if p.affine is not None])
    whole = np.rint(offsets).astype(np.int64)
    if (off := np.abs(offsets - whole).max(axis=1)).max() > _OFF:
        path = tiles[int(off.argmax())][0]
        raise SceneError(
            f"{str(path)!r} lies {off.max():.2f} pixels beside the grid of {str(tiles[0][0])!r}; reproject it to that "
            "grid"
        )
    first = whole.min(axis=0)
    starts = whole - first
    shapes = np.array([array.shape[:2] for array in arrays])
    return np.concatenate([starts, starts + shapes], axis=1), (a, 0.0, left + a * first[1], 0.0, e, top + e * first[0])


def _fill(arrays: Sequence[xr.DataArray], nodata: float | None) -> float | None:
    """What stands for "no data" in tiles; NaN where they are floating point numbers."""
    told = {float(array.attrs[name]) for array in arrays for name in FILLS if array.attrs.get(name) is not None}
    if len(told) > 1:
        raise SceneError(
            f'the tiles have other values for "no data", {", ".join(f"{one:g}" for one in sorted(told))}; write them '
            "with one"
        )
    if told or nodata is not None:
        return told.pop() if told else nodata
    return np.nan if arrays[0].dtype.kind == "f" else None


def _has_gaps(corners: npt.NDArray[np.int64], shape: tuple[int, int]) -> bool:
    """Whether a pixel is in no tile; looked at on the lattice of the tiles' edges."""
    rows, columns = (np.unique(np.concatenate([corners[:, axis], corners[:, axis + 2]])) for axis in (0, 1))
    covered = np.zeros((len(rows) - 1, len(columns) - 1), bool)
    for top, left, bottom, right in corners:
        y, x = np.searchsorted(rows, (top, bottom)), np.searchsorted(columns, (left, right))
        covered[y[0] : y[1], x[0] : x[1]] = True
    return not covered.all() or (int(rows[-1]), int(columns[-1])) != shape


class _Blanked:
    """A tile with NaN in place of a value for "no data" that itself does not tell."""

    def __init__(self, array: xr.DataArray, nodata: float, dtype: np.dtype[Any]) -> None:
        self.array, self.nodata, self.dtype = array, nodata, dtype
        self.shape = (int(array.shape[0]), int(array.shape[1]), int(array.shape[2]))

    def window(self, rows: slice, columns: slice, bands: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        return blank(np.asarray(self.array[rows, columns][..., bands]), [self.nodata] * len(bands), self.dtype)


def _blanked(array: xr.DataArray, nodata: float, dtype: np.dtype[Any]) -> xr.DataArray:
    if array.dtype.kind == "f":  # which has NaN where its own value stood
        dtype = array.dtype
    bare = lazy_raster(_Blanked(array, nodata, dtype), Path("tile"))
    made: xr.DataArray = bare.assign_coords({key: one for key, one in array.coords.items() if key != "band"})
    made.attrs.update(array.attrs)
    return made
