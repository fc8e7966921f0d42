"""GeoTIFF as lazy DataArrays (y, x, band), read by rasterio."""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hsmamba._optional import optional_import
from hsmamba.data.files.content import Content, Variable, band_numbers, left_out, nanometres, unit_length
from hsmamba.data.files.guard import check_sidecars, check_size, check_tiff
from hsmamba.data.files.lazy import blank, float_dtype, is_fill, lazy_raster, usable_fill
from hsmamba.data.files.place import describe, lay, per_band, place_of
from hsmamba.data.image import STRIP_BYTES
from hsmamba.errors import HsmambaWarning, SceneError

if TYPE_CHECKING:
    import xarray as xr

_IN_TEXT = re.compile(
    r"(\d+(?:\.\d+)?)\s*(nm|nanomet(?:er|re)s?|um|\u03bcm|micromet(?:er|re)s?|microns?)\b", re.IGNORECASE
)
_SAMPLED_ROWS = 32  # of a band that is called alpha
_RATIO = 2000  # of the values to the file; no compression of images comes near


def read_geotiff(path: Path, masked: bool) -> Content:
    """Open a raster lazily.

    `masked` gives NaN where a band has its "no data" value and where a mask or an alpha band says that a pixel is not
    valid. Else the numbers stay as they are; the attribute `_FillValue` and the coordinate `valid` tell it.
    """
    for package in ("rasterio", "rioxarray", "xarray"):
        optional_import(package, "to read GeoTIFF files")
    check_tiff(path)
    check_sidecars(path)
    with _open(str(path.absolute())) as file:
        _check(path, file)
        source = _source(path, file, masked)
        tags = [{key.lower(): text for key, text in file.tags(i).items()} for i in source.indexes]
        imagery = [file.tags(i, ns="IMAGERY") for i in source.indexes]
        texts = [file.descriptions[i - 1] or "" for i in source.indexes]
        wavelengths = _wavelengths(path, tags, imagery, texts)
        fwhm = _fwhm(path, tags, imagery, wavelengths)
        cube = describe(lay(lazy_raster(source, path), place_of(file)), wavelengths, fwhm)
        cube = cube.assign_coords(band=list(source.indexes))
        cube.attrs.update(_attributes(file, source.indexes))
        if not masked:
            cube = _tell_validity(cube, file, source)
    cube.set_close(source.manager.close)
    fills = set(source.fills)
    return Content(
        {"": Variable(cube.shape, str(cube.dtype), lambda: cube)},
        wavelengths,
        _bad_bands(path, tags),
        nodata=source.fills[0] if len(fills) == 1 else None,
        fwhm=fwhm,
        band_names=tuple(texts) if any(texts) else (),
    )


def _open(path: str, mode: str = "r") -> Any:
    """Open a file as a TIFF and as nothing else that GDAL knows: a virtual raster would read other files."""
    rasterio = optional_import("rasterio", "to read GeoTIFF files")
    with warnings.catch_warnings():
        # Plain TIFF crops are welcome; whoever needs a place sees that there is none.
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        return rasterio.open(path, mode, driver="GTiff", sharing=False)


def _check(path: Path, file: Any) -> None:
    if len(file.subdatasets) > 1:
        raise SceneError(
            f"{str(path)!r} has {len(file.subdatasets)} images (pages), expected one with all bands; write them as the "
            "bands of one image, for example with gdal_merge.py -separate"
        )
    if len(set(file.dtypes)) > 1 or np.dtype(_numpy_name(file.dtypes[0])).kind not in "biuf":
        raise SceneError(f"{str(path)!r} has values of {', '.join(sorted(set(file.dtypes)))}; expected real numbers")
    itemsize = np.dtype(file.dtypes[0]).itemsize
    shapes = [(file.height, file.width, file.count), *((*shape, file.count) for shape in set(file.block_shapes))]
    check_size(path, max(shapes, key=lambda shape: int(np.prod(shape, dtype=object))), itemsize, ratio=_RATIO)


def _numpy_name(dtype: str) -> str:
    return "complex64" if dtype.startswith("complex") else dtype


@dataclass(frozen=True)
class _Tiff:
    """The values of a file, read window by window under a lock: GDAL's datasets are not for several threads."""

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
        with self.lock:
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


def _source(path: Path, file: Any, masked: bool) -> _Tiff:
    xarray = optional_import("xarray", "to read GeoTIFF files")
    alpha = _alpha(path, file)
    indexes = tuple(i for i in file.indexes if i != alpha)
    stored = np.dtype(file.dtypes[0])
    source = _Tiff(
        xarray.backends.CachingFileManager(_open, str(path.absolute()), mode="r"),
        xarray.backends.locks.SerializableLock(),
        (file.height, file.width),
        stored,
        indexes,
        tuple(usable_fill(file.nodatavals[i - 1], stored) for i in indexes),
        _mask(file),
        alpha,
        masked,
    )
    if (source.mask or alpha) and not any(source.invalid_rows(file, *s).any() for s in source.strips(len(indexes) + 1)):
        return replace(source, mask="", alpha=0)
    return source


def _mask(file: Any) -> str:
    """Tell whether there is a mask beside the values: GDAL's flags also speak of nodata, alpha and no mask at all."""
    flags = [{flag.name for flag in band} for band in file.mask_flag_enums]
    if all(names & {"all_valid", "alpha"} or names == {"nodata"} for names in flags):
        return ""
    return "dataset" if all("per_dataset" in names for names in flags) else "bands"


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


def _attributes(file: Any, indexes: Sequence[int]) -> dict[str, Any]:
    """Attributes as rioxarray names them; what a file tells of each band is a tuple."""
    attrs: dict[str, Any] = {key: _parsed(text) for key, text in file.tags().items()}
    tags = [file.tags(i) for i in indexes]
    attrs |= {key: tuple(_parsed(tag[key]) for tag in tags) for key in tags[0] if all(key in tag for tag in tags)}
    attrs |= per_band("scale_factor", "scales", [file.scales[i - 1] for i in indexes])
    attrs |= per_band("add_offset", "offsets", [file.offsets[i - 1] for i in indexes])
    for key, texts in (("long_name", file.descriptions), ("units", file.units)):
        each = tuple(texts[i - 1] or "" for i in indexes)
        if any(each):
            attrs[key] = each
    return attrs


def _parsed(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _wavelengths(
    path: Path, tags: list[dict[str, str]], imagery: list[dict[str, str]], texts: list[str]
) -> npt.NDArray[np.float64] | None:
    """Look for the wavelength of every band in its tags, GDAL's IMAGERY domain or its description."""
    if all("wavelength" in tag for tag in tags):
        numbers = band_numbers(path, "wavelength", [tag["wavelength"] for tag in tags], len(tags))
        return None if numbers is None else _in_nm(path, numbers, _unit(tags[0]))
    if all("CENTRAL_WAVELENGTH_UM" in domain for domain in imagery):
        centres = [domain["CENTRAL_WAVELENGTH_UM"] for domain in imagery]
        numbers = band_numbers(path, "CENTRAL_WAVELENGTH_UM", centres, len(tags))
        return None if numbers is None else numbers * 1e3
    found = [_IN_TEXT.search(unicodedata.normalize("NFKC", text)) for text in texts]
    if None in found:
        return None
    each = [nanometres([float(match[1])], match[2]) for match in found if match is not None]
    return np.concatenate([one for one in each if one is not None])


def _in_nm(path: Path, numbers: npt.NDArray[np.float64], unit: str) -> npt.NDArray[np.float64] | None:
    result = nanometres(numbers, unit)
    if result is None:
        left_out(path, "wavelength", f"its unit {unit!r} is no length")
    return result


def _unit(tag: dict[str, str]) -> str:
    return tag.get("wavelength_units", tag.get("wavelength_unit", ""))


def _fwhm(
    path: Path, tags: list[dict[str, str]], imagery: list[dict[str, str]], wavelengths: npt.NDArray[np.float64] | None
) -> npt.NDArray[np.float64] | None:
    """Look for the width of every band, in the unit of its wavelength."""
    if wavelengths is not None and all("fwhm" in tag for tag in tags):
        numbers = band_numbers(path, "fwhm", [tag["fwhm"] for tag in tags], len(tags))
        centres = np.array([float(tag.get("wavelength", 1e3)) for tag in tags])
        factor = unit_length(_unit(tags[0]), centres)
        return None if numbers is None or factor is None else numbers * factor
    if all("FWHM_UM" in domain for domain in imagery):
        numbers = band_numbers(path, "FWHM_UM", [domain["FWHM_UM"] for domain in imagery], len(tags))
        return None if numbers is None else numbers * 1e3
    return None


def _bad_bands(path: Path, tags: list[dict[str, str]]) -> npt.NDArray[np.bool_] | None:
    if not all("bbl" in tag for tag in tags):
        return None
    numbers = band_numbers(path, "bbl", [tag["bbl"] for tag in tags], len(tags))
    return None if numbers is None else numbers == 0
