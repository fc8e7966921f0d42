"""A cube of counted values, and the same as a raster with a place."""

import numpy as np
import pytest


def ramp(height=4, width=5, bands=3):
    return np.arange(height * width * bands, dtype=np.float32).reshape(height, width, bands)


def raster(values, dims=("y", "x", "band")):
    xr = pytest.importorskip("xarray", reason="needs the geo extra")
    coords = {"y": 100.0 - 30 * np.arange(values.shape[0]), "x": 7.0 + 30 * np.arange(values.shape[1])}
    array = xr.DataArray(values, dims=dims, coords=coords, attrs={"scale_factor": 1e-4, "AREA_OR_POINT": "Area"})
    return array.assign_coords(spatial_ref=xr.DataArray(0, attrs={"crs_wkt": "EPSG:32633"}))
