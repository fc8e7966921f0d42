"""What a raster has beside its values: where it lies, and what its bands are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hsmamba._optional import optional_import

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class Place:
    """Where a raster lies, in rasterio's types."""

    crs: Any = None
    transform: Any = None  # affine.Affine, None where there is none
    gcps: tuple[Sequence[Any], Any] = ((), None)  # ground control points and their CRS
    rpcs: Any = None

    def __bool__(self) -> bool:
        """Tell whether anything is known."""
        return any((self.crs, self.transform, self.gcps[0], self.rpcs))


def place_of(file: Any) -> Place:
    """Read the place of an open rasterio dataset; the identity is how GDAL says that it has no transform."""
    transform = type(file.transform)(*(value + 0.0 for value in file.transform[:6]))  # no -0.0
    gcps, crs = file.gcps
    return Place(file.crs, None if transform.is_identity else transform, (list(gcps), crs), file.rpcs)


def lay(raster: xr.DataArray, place: Place) -> xr.DataArray:
    """Give a DataArray (y, x, band) its place, in rioxarray's form.

    An unrotated transform gives the coordinates `x` and `y` of the pixels' centres; beside any other place they count
    pixels, from the middle of the first, 0.5, so that a crop is known. Every transform stands in `spatial_ref` as
    "GeoTransform", beside the CRS, "gcps" (GeoJSON) and "rpcs" (JSON of rasterio's `RPC.to_dict`).
    """
    optional_import("rioxarray", "to read rasters with a place")
    if place.transform is not None:
        raster.rio.write_transform(place.transform, inplace=True)
    if place.gcps[0]:
        raster.rio.write_gcps(*place.gcps, inplace=True)
    elif place.crs:
        raster.rio.write_crs(place.crs, inplace=True)
    if place:
        raster = raster.assign_coords(_centres(raster, place.transform))
    if place.rpcs is not None:
        if "spatial_ref" not in raster.coords:
            raster = raster.assign_coords(spatial_ref=0)
        raster.spatial_ref.attrs["rpcs"] = json.dumps(place.rpcs.to_dict())
    return raster


def _centres(raster: xr.DataArray, transform: Any) -> dict[str, Any]:
    """Coordinates of the pixels' centres; in pixels where the grid is rotated or sheared, or has no transform."""
    height, width = raster.shape[:2]
    x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
    if transform is None or (max(abs(transform.b), abs(transform.d)) > 1e-9 * max(abs(transform.a), abs(transform.e))):
        return {"y": ("y", y), "x": ("x", x)}
    return {"y": ("y", transform.f + transform.e * y), "x": ("x", transform.c + transform.a * x)}


def describe(
    raster: xr.DataArray, wavelengths: npt.NDArray[np.float64] | None, fwhm: npt.NDArray[np.float64] | None
) -> xr.DataArray:
    """Put the bands' centres and widths in nm, where they are known, on a raster as coordinates of its bands."""
    known = {"wavelength": wavelengths, "fwhm": fwhm}
    result: xr.DataArray = raster.assign_coords({k: ("band", v) for k, v in known.items() if v is not None})
    return result


def per_band(name: str, plural: str, values: list[float]) -> dict[str, Any]:
    """Attributes for one number a band: one where all are equal, else a tuple, under rioxarray's plural name too."""
    if len(set(values)) == 1:
        return {name: values[0]}
    return {name: tuple(values), plural: tuple(values)}
