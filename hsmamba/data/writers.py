"""Writing results: rasters on the grid they came from, arrays, and maps of classes; row by row, whole or not there."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hsmamba._files import atomic_path, flush
from hsmamba._optional import optional_import
from hsmamba.data.bands import wavelengths_of
from hsmamba.data.files.lazy import rows_first
from hsmamba.data.georeference import Georeference, crs_variable
from hsmamba.data.image import FILLS, Array, is_dataarray, iter_strips, result_attributes

WriteRows: TypeAlias = Callable[[int, NDArray[Any]], None]

RASTERS = (".tif", ".tiff")
BESIDE = (".aux.xml", ".ovr", ".msk")  # what GDAL keeps beside a raster, under its name with these

_WIDER = {"float16": "float32", "longdouble": "float64", "bool": "uint8"}  # types that GeoTIFF lacks
_OWN_PLACE = {*FILLS, "scale_factor", "add_offset", "scales", "offsets", "long_name", "units", "grid_mapping"}


def write_raster(path: str | os.PathLike[str], array: Array, *, nodata: float | None = None) -> None:
    """Write a GeoTIFF, whole or not at all, strip by strip.

    Args:
        path: The file.
        array: (H, W) or (H, W, C); a DataArray with dims (y, x), (y, x, band) or (band, y, x) keeps its place and what
            it tells of its bands, numpy has neither.
        nodata: The value that stands for "no data"; default that of a DataArray.

    Raises:
        MissingExtraError: rasterio is not installed.
    """
    array = rows_first(array)
    if array.ndim == 2:
        array = array.expand_dims("band", axis=2) if is_dataarray(array) else array[:, :, None]
    if nodata is None and is_dataarray(array):
        nodata = next((array.attrs[name] for name in FILLS if array.attrs.get(name) is not None), None)
    shape = (int(array.shape[0]), int(array.shape[1]), int(array.shape[2]))
    with raster_rows(path, shape, np.dtype(array.dtype), grid=array, values=array, nodata=nodata) as write:
        for top, strip in iter_strips(array):
            write(top, strip)


@contextmanager
def raster_rows(
    path: str | os.PathLike[str],
    shape: tuple[int, int, int],
    dtype: np.dtype[Any],
    *,
    grid: Array,
    values: Array | None = None,
    nodata: float | None = None,
    tags: Mapping[str, str] | None = None,
    cog: bool = False,
) -> Iterator[WriteRows]:
    """Write a GeoTIFF row by row, so that it never is in memory as a whole; the file is whole or not there.

    Args:
        path: The file. What GDAL has kept beside an older one of this name is removed.
        shape: Rows H, columns W, bands C.
        dtype: Of the numbers; half precision is written as single, bool as 0 and 1.
        grid: An image on the same grid, whose place the file gets if it is a DataArray: CRS, affine transform of any
            kind, ground control points, RPCs.
        values: An image of the same quantity in the same bands. If it is a DataArray, the file gets its names of bands,
            scales and offsets, units, wavelengths and widths, and further attributes that have a value a band.
        nodata: The value that stands for "no data".
        tags: Further tags of the file.
        cog: Write a Cloud-Optimised GeoTIFF, in tiles and with overviews, which takes the room of two files meanwhile.

    Yields:
        A function of the first row and finished rows (n, W, C).

    Raises:
        MissingExtraError: rasterio is not installed.
        OSError: The file cannot be written, or the disk is full.
    """
    with atomic_path(path) as temporary:
        told: dict[str, Any] = {"grid": grid, "values": values, "nodata": nodata, "tags": tags}
        with raster_file(temporary, shape, dtype, cog=cog, **told) as write:
            yield write
        remove_beside(path)


@contextmanager
def raster_file(
    path: Path,
    shape: tuple[int, int, int],
    dtype: np.dtype[Any],
    *,
    grid: Array,
    values: Array | None = None,
    nodata: float | None = None,
    tags: Mapping[str, str] | None = None,
    colours: NDArray[np.float64] | None = None,
    cog: bool = False,
) -> Iterator[WriteRows]:
    """Do what `raster_rows` does in a place that is temporary, and have the file on the disk at the end.

    Args:
        path: See `raster_rows`, as the others.
        shape: See `raster_rows`.
        dtype: See `raster_rows`.
        grid: See `raster_rows`.
        values: See `raster_rows`.
        nodata: See `raster_rows`.
        tags: See `raster_rows`.
        colours: (K, 3) RGB in 0..1 of the numbers 0..K - 1, for a single band of uint8 or uint16.
        cog: See `raster_rows`.
    """
    plain = path.with_name(f"plain-{path.name}") if cog else path
    window = optional_import("rasterio.windows", "to write GeoTIFF files").Window
    dtype = np.dtype(_WIDER.get(dtype.name, dtype.newbyteorder("=")))
    height, width, bands = shape
    # Without these words GDAL takes three or four bands of 8 bits for colours and an alpha band.
    profile: dict[str, Any] = {"photometric": "MINISBLACK" if colours is None else "PALETTE", "alpha": "NO"}
    profile |= {
        "BIGTIFF": "IF_SAFER",
        "compress": "deflate",
        "predictor": 3 if dtype.kind == "f" else 1 + (dtype.itemsize < 8),  # of 64-bit integers not every libtiff knows
        "nodata": nodata,
        **place_profile(grid),
    }
    with _told(path):
        with _open(plain, "w", height=height, width=width, count=bands, dtype=dtype, **profile) as file:
            place_points(file, grid)
            _describe(file, grid, values)
            file.update_tags(**(tags or {}))
            if colours is not None:
                rgb = np.rint(colours * 255).astype(int).tolist()
                file.write_colormap(1, {k: (*tone, 255) for k, tone in enumerate(rgb)})

            def write(top: int, rows: NDArray[Any]) -> None:
                file.write(np.moveaxis(rows.astype(dtype, copy=False), 2, 0), window=window(0, top, width, len(rows)))

            yield write
        if cog:
            _optimise(plain, path, dtype, nearest=colours is not None)
        # GDAL tells of a disk that is full when the file is closed in its log alone.
        with _open(path, "r") as file:
            file.read(window=((height - 1, height), (width - 1, width)))
    flush(path)


def _open(path: Path, mode: str, **profile: Any) -> Any:
    rasterio = optional_import("rasterio", "to write GeoTIFF files")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        return rasterio.open(path, mode, driver="GTiff", **profile)


def _optimise(plain: Path, path: Path, dtype: np.dtype[Any], *, nearest: bool) -> None:
    """Copy a GeoTIFF into a Cloud-Optimised one, with overviews; https://gdal.org/drivers/raster/cog.html."""
    copy = optional_import("rasterio.shutil", "to write GeoTIFF files").copy
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optional_import("rasterio.errors", "").NotGeoreferencedWarning)
        copy(
            plain, path, driver="COG", compress="DEFLATE", predictor="YES" if dtype.itemsize < 8 else "NO",
            bigtiff="IF_SAFER", overview_resampling="NEAREST" if nearest else "AVERAGE",
        )  # fmt: skip
    plain.unlink()


@contextmanager
def _told(path: Path) -> Iterator[None]:
    errors = optional_import("rasterio.errors", "to write GeoTIFF files")
    try:
        yield
    except errors.RasterioError as error:
        raise OSError(f"cannot write {path.name!r} ({error}); see that there is space on the disk") from error


def remove_beside(path: str | os.PathLike[str]) -> None:
    """Remove statistics, masks and overviews of a raster that is about to be replaced: they are not the new one's."""
    for suffix in BESIDE:
        Path(f"{os.fspath(path)}{suffix}").unlink(missing_ok=True)


def place_profile(grid: Array) -> dict[str, Any]:
    """CRS and affine transform of a new file, in rasterio's words."""
    if not is_dataarray(grid):
        return {}
    place, attrs = Georeference.of(grid), crs_variable(grid)
    crs = attrs.get("crs_wkt") or attrs.get("spatial_ref")
    if place is None or place.affine is None:
        return {"crs": crs} if crs and (place is None or not place.gcps) else {}
    affine = optional_import("rasterio", "to write GeoTIFF files").Affine
    return {"crs": crs, "transform": affine(*place.affine)}


def place_points(file: Any, grid: Array) -> None:
    """Write what else tells a place: control points and polynomials."""
    place = Georeference.of(grid)
    if place is None:
        return
    if place.gcps:
        point = optional_import("rasterio.control", "to write GeoTIFF files").GroundControlPoint
        file.gcps = [point(row, column, x, y, z) for row, column, x, y, z in place.gcps], place.crs
    if place.rpcs:
        file.rpcs = optional_import("rasterio.rpc", "to write GeoTIFF files").RPC(**json.loads(place.rpcs))


def _describe(file: Any, grid: Array, values: Array | None) -> None:
    """Write what attributes and coordinates tell, where GDAL and `open_scene` look for it."""
    attrs = result_attributes(grid, values)
    count = file.count
    if names := each_band(attrs.get("long_name"), count):
        file.descriptions = tuple(map(str, names))
    if units := each_band(attrs.get("units"), count):
        file.units = tuple(map(str, units))
    for plural, numbers in scaling(attrs, count).items():
        if numbers:
            setattr(file, plural, tuple(map(float, numbers)))
    file.update_tags(**{key: str(value) for key, value in attrs.items() if _is_tag(key, value)})
    each = {key: value for key, value in attrs.items() if _is_listed(value, count) and key not in _OWN_PLACE}
    for band, (own, imagery) in enumerate(_spectrum(values, count)):
        file.update_tags(band + 1, **{key: str(value[band]) for key, value in each.items()} | own)
        if imagery:
            file.update_tags(band + 1, ns="IMAGERY", **imagery)


def _is_listed(value: Any, count: int) -> bool:
    return isinstance(value, (tuple, list, np.ndarray)) and len(value) == count


def each_band(value: Any, count: int) -> list[Any]:
    """One value a band, of a list of them or of one for all; empty where there is none."""
    if _is_listed(value, count):
        return list(value)
    return [value] * count if isinstance(value, (str, int, float, np.number)) else []


def scaling(attrs: Mapping[str, Any], count: int) -> dict[str, list[Any]]:
    """Scales and offsets of each band, under rioxarray's names; empty where attributes tell none."""
    names = (("scales", "scale_factor"), ("offsets", "add_offset"))
    return {each: each_band(attrs.get(each), count) or each_band(attrs.get(one), count) for each, one in names}


def _is_tag(key: str, value: Any) -> bool:
    return isinstance(value, (str, int, float, np.number)) and key not in _OWN_PLACE


def _spectrum(values: Array | None, count: int) -> list[tuple[dict[str, str], dict[str, str]]]:
    """Tags of each band for its centre and width, as ENVI and as GDAL (domain IMAGERY) name them."""
    centres, widths = wavelengths_of(values)
    if centres is None or len(centres) != count:
        return [({}, {})] * count
    result = []
    for band in range(count):
        nm = {"wavelength": centres[band]} | ({} if widths is None else {"fwhm": widths[band]})
        own = {key: f"{value:.10g}" for key, value in nm.items() if math.isfinite(value)}
        names = {"wavelength": "CENTRAL_WAVELENGTH_UM", "fwhm": "FWHM_UM"}
        imagery = {names[key]: f"{value / 1e3:.10g}" for key, value in nm.items() if math.isfinite(value)}
        result.append((own | {"wavelength_units": "Nanometers"}, imagery))
    return result


@contextmanager
def array_rows(path: str | os.PathLike[str], shape: Sequence[int], dtype: np.dtype[Any]) -> Iterator[WriteRows]:
    """Write a `.npy` file row by row; the file is whole or not there.

    Args:
        path: The file.
        shape: Rows first.
        dtype: Of the numbers.

    Yields:
        A function of the first row and finished rows.

    Raises:
        OSError: The file cannot be written, or the disk has no room for it.
    """
    with atomic_path(path) as temporary:
        array = reserved(temporary, shape, dtype)

        def write(top: int, rows: NDArray[Any]) -> None:
            array[top : top + len(rows)] = rows

        yield write
        array.flush()


def reserved(path: Path, shape: Sequence[int], dtype: np.dtype[Any]) -> Any:
    """Make a `.npy` file with all its space and map it."""
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=tuple(shape))
    if hasattr(os, "posix_fallocate"):  # on a full disk, writing to the map would kill the process
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array
