"""Rasters: ENVI as memory maps by spectral, GeoTIFF as lazy DataArrays (y, x, band) by rioxarray and rasterio."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hsmamba._optional import optional_import
from hsmamba.data.files.content import Content, Variable, nanometres, reading
from hsmamba.data.image import iter_strips
from hsmamba.errors import SceneError

if TYPE_CHECKING:
    import xarray as xr

_IN_TEXT = re.compile(r"(\d+(?:\.\d+)?)\s*(nm|nanomet(?:er|re)s?|um|µm|micromet(?:er|re)s?|microns?)\b", re.IGNORECASE)


def read_envi(path: Path, masked: bool) -> Content:
    """Map an image by its header `.hdr`; `masked` gives NaN where its "data ignore value" stands."""
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


def read_geotiff(path: Path, masked: bool) -> Content:
    """Open a raster lazily; `masked` gives NaN where its "no data" value stands."""
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
    cube = _rows_first(raster, path)
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


def _rows_first(raster: xr.DataArray, path: Path) -> xr.DataArray:
    """Bring a lazy raster (band, y, x) to (y, x, band) without reading it.

    `DataArray.transpose` would stay lazy too, but then spells out the position of every value it reads, some 25 times
    the memory of the values. Reading a damaged part of the file raises SceneError.
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
