"""A small scene as files: placed, with labels as raster and polygons."""

import numpy as np
import pytest

NAMES = ("water", "meadow", "road")


def images():
    """A cube (24, 24, 12) and the classes (24, 24) that it is made of."""
    rng = np.random.default_rng(0)
    kinds = np.kron(rng.integers(0, 3, (4, 4)), np.ones((6, 6), int)) + 1
    cube = (100 + 20 * rng.normal(size=(4, 12)))[kinds] + 2 * rng.normal(size=(24, 24, 12))
    return cube.astype(np.float32), kinds.astype(np.uint8)


def placed(image):
    """A DataArray of an image, with CRS and place."""
    rasterio, xarray = pytest.importorskip("rasterio"), pytest.importorskip("xarray")
    from hsmamba.data.files.place import Place, lay

    raster = xarray.DataArray(np.atleast_3d(image), dims=("y", "x", "band"))
    return lay(raster, Place(rasterio.CRS.from_epsg(32633), rasterio.Affine(10, 0, 400000, 0, -10, 5800000)))


def write_scene(folder):
    """Write scene.tif and labels.tif; return their paths."""
    from hsmamba.data.writers import write_raster

    cube, kinds = images()
    paths = folder / "scene.tif", folder / "labels.tif"
    for path, image in zip(paths, (cube, kinds), strict=True):
        write_raster(path, placed(image))
    return paths
