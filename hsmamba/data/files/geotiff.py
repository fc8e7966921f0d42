"""GeoTIFF as lazy DataArrays (y, x, band), read by rasterio."""

from __future__ import annotations

import glob
import warnings
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

from hsmamba._optional import optional_import
from hsmamba.data.files.content import Content, Variable
from hsmamba.data.files.guard import check_crs, check_kind, check_sidecars, check_size, tiff_text
from hsmamba.data.files.lazy import blank, float_dtype, is_fill, lazy_raster, usable_fill
from hsmamba.data.files.place import describe, lay, place_of
from hsmamba.data.files.tags import Told, attributes, band_facts
from hsmamba.data.image import STRIP_BYTES
from hsmamba.errors import HsmambaWarning, SceneError

if TYPE_CHECKING:
    import xarray as xr

_SAMPLED_ROWS = 32  # of a band that is called alpha
_STORES = {"s3": "/vsis3/", "gs": "/vsigs/", "az": "/vsiaz/"}
_RATIO = 2000  # of the values to the file; no compression of images comes near


def read_geotiff(path: Path, masked: bool) -> Content:
    """Open a raster lazily.

    `masked` gives NaN where a band has its "no data" value and where a mask or an alpha band says that a pixel is not
    valid. Else the numbers stay as they are; the attribute `_FillValue` and the coordinate `valid` tell it.
    """
    check_kind(path, "a TIFF file")
    for package in ("rasterio", "rioxarray", "xarray"):
        optional_import(package, "to read GeoTIFF files")
    check_sidecars(path)
    check_crs(path, tiff_text(path))
    return _content(path, str(path.absolute()), masked)


def read_remote(address: str, masked: bool) -> Content:
    """Open a raster on object storage or a web server lazily: its windows are fetched when they are read.

    Args:
        address: What GDAL's virtual file systems take (`/vsicurl/`, `/vsis3/`, `/vsigs/`, `/vsiaz/`), or `http://`,
            `https://`, `s3://`, `gs://` or `az://`; see `gdal_name`.
        masked: See `read_geotiff`.

    Raises:
        SceneError: It is no GeoTIFF, or cannot be fetched.
    """
    for package in ("rasterio", "rioxarray", "xarray"):
        optional_import(package, "to read GeoTIFF files")
    named = cast("Path", address)  # what is called a path below is written in messages alone
    if not urlsplit(address).path.lower().endswith((".tif", ".tiff")):
        raise SceneError(f"{address!r} is no address of a GeoTIFF (.tif); fetch the file, and open it here")
    errors = optional_import("rasterio.errors", "to read GeoTIFF files")
    try:
        return _content(named, gdal_name(address), masked)
    except (errors.RasterioError, errors.RasterioIOError) as error:  # the second was none of the first
        raise SceneError(
            f"{address!r} could not be read ({error}); check the address, and what GDAL is told of the network and of "
            "credentials"
        ) from error


def gdal_name(address: str) -> str:
    """The name by which GDAL fetches an address; as it is, unless it begins as an address does."""
    scheme, colon, rest = address.partition("://")
    kind = {"http": "/vsicurl/http://", "https": "/vsicurl/https://", **_STORES}.get(scheme.lower() if colon else "")
    return address if kind is None else f"{kind}{rest}"


def is_remote(path: object) -> bool:
    """Tell whether a path is an address that `read_remote` takes."""
    known = ("http://", "https://", *(f"{scheme}://" for scheme in _STORES), "/vsicurl/", *_STORES.values())
    return isinstance(path, str) and path.lower().startswith(known)


def _content(path: Path, name: str, masked: bool) -> Content:
    with _open(name) as file:
        _check(path, file)
        source = _source(path, name, file, masked)
        told = Told(path, file, source.indexes)
        facts = band_facts(told)
        cube = describe(lay(lazy_raster(source, path), place_of(file)), facts.wavelengths, facts.fwhm)
        cube = cube.assign_coords(band=list(source.indexes))
        cube.attrs.update(attributes(told))
        tall, wide = file.block_shapes[0]
        cube.encoding["preferred_chunks"] = {"y": int(tall), "x": int(wide)}  # as xarray's readers tell it
        if not masked:
            cube = _tell_validity(cube, file, source)
    cube.set_close(source.manager.close)
    fills = set(source.fills)
    return Content(
        {"": Variable(cube.shape, str(cube.dtype), lambda: cube)},
        facts.wavelengths,
        facts.bad_bands,
        nodata=source.fills[0] if len(fills) == 1 else None,
        fwhm=facts.fwhm,
        band_names=facts.names,
    )


def _open(path: str, mode: str = "r") -> Any:
    """Open a file as a TIFF and as nothing else that GDAL knows: a virtual raster would read other files."""
    rasterio = optional_import("rasterio", "to read GeoTIFF files")
    with warnings.catch_warnings():
        # Plain TIFF crops are welcome; whoever needs a place sees that there is none.
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with _fetching(path):
            return rasterio.open(path, mode, driver="GTiff", sharing=False)


def _fetching(path: str) -> AbstractContextManager[Any]:
    """Tell GDAL to look for nothing beside a remote file, and to ask again where a server stumbles."""
    if not path.startswith("/vsi"):
        return nullcontext()
    options = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_HTTP_MAX_RETRY": "3", "GDAL_HTTP_RETRY_DELAY": "1"}
    return cast("AbstractContextManager[Any]", optional_import("rasterio", "to read GeoTIFF files").Env(**options))


def _check(path: Path, file: Any) -> None:
    if len(file.subdatasets) > 1:
        raise SceneError(
            f"{str(path)!r} has {len(file.subdatasets)} images (pages), expected one with all bands; write them, which "
            f"rasterio opens as {file.subdatasets[0]!r} and so on, as the bands of one image"
        )
    if len(set(file.dtypes)) > 1 or np.dtype(_numpy_name(file.dtypes[0])).kind not in "biuf":
        raise SceneError(f"{str(path)!r} has values of {', '.join(sorted(set(file.dtypes)))}; expected real numbers")
    if not isinstance(path, Path):
        return
    itemsize = np.dtype(file.dtypes[0]).itemsize
    shapes = [(file.height, file.width, file.count), *((*shape, file.count) for shape in set(file.block_shapes))]
    check_size(path, max(shapes, key=lambda shape: int(np.prod(shape, dtype=object))), itemsize, ratio=_RATIO)


def _numpy_name(dtype: str) -> str:
    return "complex64" if dtype.startswith("complex") else dtype


@dataclass(frozen=True)
class _Tiff:
    """The values of a file, read window by window under a lock: GDAL's datasets are not for several threads."""

    name: str  # GDAL's
    manager: Any
    lock: Any
    size: tuple[int, int]
    stored: np.dtype[Any]
    indexes: tuple[int, ...]  # of the bands that are the cube's, from 1
    fills: tuple[float | None, ...]  # for "no data", one a band
    mask: str = ""  # "dataset" or "bands" where GDAL has a mask beside the values
    alpha: int = 0  # index of the alpha band
    masked: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        return (*self.size, len(self.indexes))

    @property
    def dtype(self) -> np.dtype[Any]:
        changes = self.masked and (self.mask or self.alpha or any(fill is not None for fill in self.fills))
        return float_dtype(self.stored) if changes else self.stored

    def window(self, rows: slice, columns: slice, bands: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        indexes = [self.indexes[band] for band in bands]
        window = ((rows.start, rows.stop), (columns.start, columns.stop))
        with self.lock, _fetching(self.name):
            file = self.manager.acquire()
            values = file.read(indexes, window=window).transpose(1, 2, 0)
            if self.dtype == self.stored and not self.masked:
                return np.asarray(values)
            invalid = self._invalid(file, indexes, window)
        result = blank(values, [self.fills[band] for band in bands], self.dtype)
        if invalid is not None:
            result[invalid] = np.nan
        return result

    def _invalid(self, file: Any, indexes: list[int], window: Any) -> npt.NDArray[np.bool_] | None:
        """Read where the mask or the alpha band has 0, (h, w) or (h, w, n); None where there is neither."""
        found = None
        if self.mask == "dataset":
            found = file.read_masks(1, window=window) == 0
        elif self.mask == "bands":
            found = file.read_masks(indexes, window=window).transpose(1, 2, 0) == 0
        if self.alpha:
            clear = file.read(self.alpha, window=window) == 0
            found = clear if found is None else (found.T | clear.T).T
        return found

    def invalid_rows(self, file: Any, top: int, stop: int) -> npt.NDArray[np.bool_]:
        """Mark pixels (h, W) that the mask or the alpha band makes invalid in any band."""
        found = self._invalid(file, list(self.indexes), ((top, stop), (0, self.size[1])))
        if found is None:
            return np.zeros((stop - top, self.size[1]), bool)
        return np.asarray(found.any(axis=-1)) if found.ndim == 3 else found

    def strips(self, values: int) -> list[tuple[int, int]]:
        """Cut the rows into strips whose pixels of so many bytes fit into memory."""
        step = max(1, STRIP_BYTES // (self.size[1] * values))
        return [(top, min(top + step, self.size[0])) for top in range(0, self.size[0], step)]


def _source(path: Path, name: str, file: Any, masked: bool) -> _Tiff:
    xarray = optional_import("xarray", "to read GeoTIFF files")
    alpha = _alpha(path, file)
    indexes = tuple(i for i in file.indexes if i != alpha)
    stored = np.dtype(file.dtypes[0])
    source = _Tiff(
        name,
        xarray.backends.CachingFileManager(_open, name, mode="r"),
        xarray.backends.locks.SerializableLock(),
        (file.height, file.width),
        stored,
        indexes,
        tuple(usable_fill(file.nodatavals[i - 1], stored) for i in indexes),
        _mask(file),
        alpha,
        masked,
    )
    if source.mask and isinstance(path, Path):
        _check_mask(path, file)
    if (source.mask or alpha) and not any(source.invalid_rows(file, *s).any() for s in source.strips(len(indexes) + 1)):
        return replace(source, mask="", alpha=0)
    return source


def _mask(file: Any) -> str:
    """Tell whether there is a mask beside the values: GDAL's flags also speak of nodata, alpha and no mask at all."""
    flags = [{flag.name for flag in band} for band in file.mask_flag_enums]
    if all(names & {"all_valid", "alpha"} or names == {"nodata"} for names in flags):
        return ""
    return "dataset" if all("per_dataset" in names for names in flags) else "bands"


def _check_mask(path: Path, file: Any) -> None:
    """Raise SceneError where a mask beside the file is of another size: GDAL would take a corner of a larger one."""
    for beside in path.absolute().parent.glob(f"{glob.escape(path.name)}.[mM][sS][kK]"):
        with _open(str(beside)) as mask:
            if mask.shape != file.shape:
                raise SceneError(
                    f"the mask {str(beside)!r} has {mask.shape[0]} x {mask.shape[1]} pixels, its image "
                    f"{file.shape[0]} x {file.shape[1]}; make the mask anew, or move it away"
                )


def _alpha(path: Path, file: Any) -> int:
    """Return the index of the alpha band, 0 where there is none.

    Writers call the fourth band of four 8-bit ones alpha without being told to, an infrared one too: alpha is what
    mostly has its lowest or highest value.
    """
    found = [i for i, colour in zip(file.indexes, file.colorinterp, strict=True) if colour.name == "alpha"]
    if len(found) != 1 or file.count == 1:
        return 0
    rows = np.unique(np.linspace(0, file.height - 1, _SAMPLED_ROWS).astype(int))
    values = np.concatenate([file.read(found[0], window=((row, row + 1), (0, file.width))) for row in rows])
    if np.isin(values, (0, _opaque(values))).mean() >= 0.5:
        return int(found[0])
    warnings.warn(
        f"band {found[0]} of {str(path)!r} is marked as alpha but has the values of a measured band; it is taken as "
        "one",
        HsmambaWarning,
        stacklevel=2,
    )
    return 0


def _opaque(values: npt.NDArray[Any]) -> float:
    """Highest value of an alpha band: that of the type, or what floating point numbers and wider types have."""
    return float(np.iinfo(values.dtype).max) if values.dtype == np.uint8 else float(values.max())


def _tell_validity(cube: xr.DataArray, file: Any, source: _Tiff) -> xr.DataArray:
    """Attach `_FillValue`, or the coordinate `valid` (y, x) where validity is no single value."""
    fills = set(source.fills)
    if len(fills) == 1 and source.fills[0] is not None:
        cube.attrs["_FillValue"] = source.stored.type(source.fills[0])
    differ = len(fills) > 1
    if not (differ or source.mask or source.alpha):
        return cube
    valid = np.ones(source.size, bool)
    for top, stop in source.strips(len(source.indexes) * (source.stored.itemsize if differ else 1)):
        valid[top:stop] &= ~source.invalid_rows(file, top, stop)
        for index, fill in zip(source.indexes, source.fills, strict=True):
            if differ and fill is not None:
                valid[top:stop] &= ~is_fill(file.read(index, window=((top, stop), (0, source.size[1]))), fill)
    return cube if valid.all() else cube.assign_coords(valid=(("y", "x"), valid))
