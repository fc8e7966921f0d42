"""What is inside a file: its arrays, still unread, and what its header tells about the bands."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import scipy.io

from hsmamba._optional import optional_import
from hsmamba.data.scene import Array, iter_strips
from hsmamba.errors import HsmambaError, SceneError

if TYPE_CHECKING:
    import xarray as xr

# Length of a unit in nm; the British spelling and the plural are brought to these first.
_UNITS = {"nanometer": 1.0, "nm": 1.0, "micrometer": 1e3, "micron": 1e3, "um": 1e3, "µm": 1e3}
_UNITS |= {"millimeter": 1e6, "mm": 1e6, "centimeter": 1e7, "cm": 1e7, "meter": 1e9, "m": 1e9, "angstrom": 0.1}
_IN_TEXT = re.compile(r"(\d+(?:\.\d+)?)\s*(nm|nanomet(?:er|re)s?|um|µm|micromet(?:er|re)s?|microns?)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Variable:
    """An array of a file, not read yet.

    Attributes:
        shape: Its shape, rasters as (H, W, B).
        dtype: Its dtype as far as the header tells it.
        read: Reads it.
    """

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], Array]


@dataclass(frozen=True)
class Content:
    """What a file holds.

    Attributes:
        variables: Arrays by name; a format without names has one array, named "".
        wavelengths: Band centres in nm, or None.
        bad_bands: (B,) bool, True = bad, or None.
        class_names: Names of classes 1..K of a label image.
        nodata: Value that stands for "no data" in arrays read with `masked=False`.
    """

    variables: dict[str, Variable]
    wavelengths: npt.NDArray[np.float64] | None = None
    bad_bands: npt.NDArray[np.bool_] | None = None
    class_names: tuple[str, ...] = ()
    nodata: float | None = None


def open_file(path: Path, *, masked: bool) -> Content:
    """Look into a file.

    Args:
        path: `.mat`, `.npy`, `.npz`, `.hdr`, `.tif` or `.tiff`.
        masked: Give NaN where a raster has its "no data" value (the array becomes floating point then).

    Raises:
        SceneError: No such file, an unknown extension, a damaged file.
        MissingExtraError: The format needs a package that is not installed.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        header = next((h for h in (path.with_suffix(".hdr"), Path(f"{path}.hdr")) if h.is_file()), None)
        hint = f"give the ENVI header {str(header)!r}" if header else "convert the file to one of them"
        raise SceneError(
            f"{str(path)!r} has the extension {path.suffix!r}; expected one of {', '.join(_READERS)}: {hint}"
        )
    if not path.is_file():
        raise SceneError(f"there is no file {str(path)!r}; check the path")
    with reading(path):
        return reader(path, masked)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever a reader raises on damaged bytes into a SceneError that names the file."""
    try:
        yield
    except (HsmambaError, MemoryError):
        raise
    except Exception as error:  # the formats' packages promise no set of exceptions
        raise SceneError(
            f"{str(path)!r} could not be read ({type(error).__name__}: {error}); it is truncated, or not what its "
            "extension says: fetch or write it again"
        ) from error


def nanometres(values: npt.ArrayLike, unit: str) -> npt.NDArray[np.float64] | None:
    """Convert wavelengths to nm.

    Args:
        values: (B,).
        unit: As a header spells it. Where it is empty or "Unknown", values below 100 are taken as micrometres and
            all others as nanometres: no optical sensor has bands that leave a doubt.

    Returns:
        (B,) in nm; None for units that are no lengths (wavenumber, index, GHz).
    """
    wavelengths = np.asarray(values, dtype=np.float64)
    spelled = unit.strip().lower().replace("metre", "meter")
    if len(spelled) > 2:
        spelled = spelled.rstrip("s")
    if spelled in ("", "unknown", "none"):
        return wavelengths * (1000.0 if wavelengths.max() < 100 else 1.0)
    return wavelengths * _UNITS[spelled] if spelled in _UNITS else None


def _read_mat(path: Path, masked: bool) -> Content:
    try:
        listed = scipy.io.whosmat(str(path))
    except NotImplementedError:  # scipy's way of saying v7.3, which is HDF5
        return _read_mat_hdf5(path)

    def read(name: str) -> npt.NDArray[Any]:
        array: npt.NDArray[Any] = scipy.io.loadmat(str(path), variable_names=[name])[name]
        return array

    classes = {"double": "float64", "single": "float32", "logical": "bool"}
    variables = {
        name: Variable(tuple(shape), classes.get(kind, kind), partial(read, name))
        for name, shape, kind in listed
        if kind in classes or kind.lstrip("u").startswith("int")
    }
    return Content(variables)


def _read_mat_hdf5(path: Path) -> Content:
    h5py = optional_import("h5py", "to read MATLAB v7.3 files")

    def read(name: str) -> npt.NDArray[Any]:
        with h5py.File(path, "r") as file:
            array: npt.NDArray[Any] = file[name][()].T  # MATLAB writes its column-major arrays with the axes reversed
        return array

    variables = {}
    with h5py.File(path, "r") as file:
        for name, item in file.items():
            text = item.attrs.get("MATLAB_class", b"") in (b"char", "char", b"cell", "cell")
            if isinstance(item, h5py.Dataset) and item.dtype.kind in "biuf" and not text:
                shape = tuple(int(size) for size in item.shape[::-1])
                variables[name] = Variable(shape, str(item.dtype), partial(read, name))
    return Content(variables)


def _read_npy(path: Path, masked: bool) -> Content:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    return Content({"": Variable(array.shape, str(array.dtype), lambda: array)})


def _read_npz(path: Path, masked: bool) -> Content:
    def read(name: str) -> npt.NDArray[Any]:
        with np.load(path, allow_pickle=False) as file:
            array: npt.NDArray[Any] = file[name]
        return array

    headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    variables = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            with archive.open(member) as file:
                shape, _, dtype = headers[np.lib.format.read_magic(file)](file)
            name = member.removesuffix(".npy")
            if dtype.kind in "biuf":
                variables[name] = Variable(shape, str(dtype), partial(read, name))
    return Content(variables)


def _read_envi(path: Path, masked: bool) -> Content:
    envi = optional_import("spectral.io.envi", "to read ENVI files")
    image = envi.open(str(path.resolve()))
    header = image.metadata
    if not hasattr(image, "open_memmap"):
        raise SceneError(f"{str(path)!r} is a spectral library, no image; give the header of an image")
    cube = image.open_memmap(interleave="bip")  # a view (H, W, B) whatever the interleave on disk
    nodata = float(header["data ignore value"]) if "data ignore value" in header else None

    def read() -> npt.NDArray[Any]:
        return _nan_for(cube, nodata) if masked and nodata is not None else cube

    unit = str(header.get("wavelength units", ""))
    return Content(
        {"": Variable(cube.shape, str(cube.dtype), read)},
        nanometres([float(value) for value in header["wavelength"]], unit) if "wavelength" in header else None,
        np.array([float(flag) == 0 for flag in header["bbl"]]) if "bbl" in header else None,
        tuple(header.get("class names", ()))[1:],  # the first is that of 0, unclassified
        nodata,
    )


def _nan_for(cube: npt.NDArray[Any], nodata: float) -> npt.NDArray[Any]:
    """Return the cube itself where `nodata` does not occur, else a floating point copy with NaN in its place."""
    if not any((strip == nodata).any() for _, strip in iter_strips(cube)):
        return cube
    result = np.array(cube, dtype=np.result_type(cube.dtype, np.float32))
    result[result == nodata] = np.nan
    return result


def _read_geotiff(path: Path, masked: bool) -> Content:
    rioxarray = optional_import("rioxarray", "to read GeoTIFF files")
    rasterio = optional_import("rasterio", "to read GeoTIFF files")
    with warnings.catch_warnings():
        # Plain TIFF crops are welcome; whoever needs coordinates sees that there are none.
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path) as file:
            tags = [{k.lower(): v for k, v in file.tags(i).items()} for i in file.indexes]
            imagery = [file.tags(i, ns="IMAGERY") for i in file.indexes]
            texts = [text or "" for text in file.descriptions]
            nodata = None if file.nodata is None or np.isnan(file.nodata) else float(file.nodata)
        # masked=True makes every array floating point, so it is kept for files that have something to mask.
        raster = rioxarray.open_rasterio(path, masked=masked and nodata is not None)
    cube = rows_first(raster, path)
    bbl = [tag.get("bbl") for tag in tags]
    return Content(
        {"": Variable(cube.shape, str(cube.dtype), lambda: cube)},
        _raster_wavelengths(tags, imagery, texts),
        np.array([float(flag) == 0 for flag in bbl if flag is not None]) if None not in bbl else None,
        nodata=nodata,
    )


def _raster_wavelengths(
    tags: list[dict[str, str]], imagery: list[dict[str, str]], texts: list[str]
) -> npt.NDArray[np.float64] | None:
    """Look for the wavelength of every band in its tags, GDAL's IMAGERY domain or its description."""
    if all("wavelength" in tag for tag in tags):
        unit = tags[0].get("wavelength_units", tags[0].get("wavelength_unit", ""))
        return nanometres([float(tag["wavelength"]) for tag in tags], unit)
    if all("CENTRAL_WAVELENGTH_UM" in domain for domain in imagery):
        return nanometres([float(domain["CENTRAL_WAVELENGTH_UM"]) for domain in imagery], "um")
    found = [_IN_TEXT.search(text) for text in texts]
    if None in found:
        return None
    each = [nanometres([float(match[1])], match[2]) for match in found if match is not None]
    return np.concatenate([one for one in each if one is not None])


def rows_first(raster: xr.DataArray, path: Path) -> xr.DataArray:
    """Bring a lazy raster (band, y, x) to (y, x, band) without reading it.

    `DataArray.transpose` would stay lazy too, but then spells out the position of every value it reads, some 25 times
    the memory of the values.

    Args:
        raster: As rioxarray opens it.
        path: Its file, for errors.

    Returns:
        DataArray with dims (y, x, band), same coordinates and attributes; a damaged file raises SceneError when the
        damaged part is read.
    """
    xarray = optional_import("xarray", "to read GeoTIFF files")
    indexing = xarray.core.indexing
    dims = ("y", "x", "band")

    class RowsFirst(xarray.backends.BackendArray):  # type: ignore[misc, name-defined]
        shape = tuple(raster.sizes[dim] for dim in dims)
        dtype = raster.dtype

        def __getitem__(self, key: Any) -> Any:
            return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self.read)

        def read(self, key: tuple[Any, ...]) -> npt.NDArray[Any]:
            part = raster.variable[dict(zip(dims, key, strict=True))]
            with reading(path):
                return np.asarray(part.transpose(*(dim for dim in dims if dim in part.dims)))

    variable = xarray.Variable(dims, indexing.LazilyIndexedArray(RowsFirst()), attrs=raster.attrs)
    result: xr.DataArray = xarray.DataArray(variable, coords=raster.coords, name=raster.name)
    return result


_READERS: dict[str, Callable[[Path, bool], Content]] = {
    ".mat": _read_mat,
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".hdr": _read_envi,
    ".tif": _read_geotiff,
    ".tiff": _read_geotiff,
}
