"""Mosaics: tiles and virtual rasters are the image that they were cut from, and what does not fit is refused."""

import numpy as np
import pytest

from hsmamba.data import open_image, open_scene
from hsmamba.data.files import mosaic
from hsmamba.data.georeference import Georeference
from hsmamba.errors import SceneError
from tests.data.files.samples import write_tif, write_tile, write_vrt

rasterio = pytest.importorskip("rasterio", reason="needs the geo extra")

RNG = np.random.default_rng(0)
WHOLE = RNG.integers(1, 4000, (50, 70, 3)).astype(np.uint16)


def tiles(folder, whole=WHOLE, **more):
    """Cut an image in four, two of which overlap."""
    parts = {"a": (0, 0, 30, 40), "b": (0, 40, 30, 70), "c": (25, 0, 50, 40), "d": (30, 40, 50, 70)}
    return [
        write_tile(folder / f"{name}.tif", whole[top:bottom, left:right], top, left, **more)
        for name, (top, left, bottom, right) in parts.items()
    ]


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 0, 2, 1)])
def test_tiles_are_the_image_that_they_were_cut_from(tmp_path, order):
    tags = [{"wavelength": str(w), "wavelength_units": "Nanometers"} for w in (485, 560, 660)]
    paths = tiles(tmp_path, tags=tags, texts=["a", "b", "c"])
    whole = open_image(write_tif(tmp_path / "whole.tif", WHOLE))
    scene, image = open_scene([paths[i] for i in order]), open_image([paths[i] for i in order])
    for found in (scene.hsi, image):
        np.testing.assert_array_equal(found, WHOLE)
        np.testing.assert_array_equal(found[20:35, 30:45, 1:], WHOLE[20:35, 30:45, 1:])
        assert found.dtype == np.uint16 and Georeference.of(found) == Georeference.of(whole)
        np.testing.assert_allclose(found.x, whole.x)
    assert scene.wavelengths.tolist() == [485, 560, 660] and scene.band_names == ("a", "b", "c")


def test_a_virtual_raster_is_its_tiles(tmp_path):
    (tmp_path / "tiles").mkdir()
    path = write_vrt(tmp_path / "all.vrt", tiles(tmp_path / "tiles"), WHOLE.shape)
    np.testing.assert_array_equal(open_scene(path).hsi, WHOLE)
    np.testing.assert_array_equal(open_image(path), WHOLE)
    with rasterio.open(path) as file:  # a virtual raster that GDAL reads, too
        assert (file.height, file.width, file.count) == WHOLE.shape


def test_gaps_and_overlaps_have_no_data_where_no_tile_has(tmp_path):
    holed = WHOLE.copy()
    holed[25:30, 5:9] = 7
    upper, lower = holed.copy(), WHOLE.copy()
    lower[27, 6] = 7
    one = write_tile(tmp_path / "a.tif", lower[:30, :40], nodata=7)
    two = write_tile(tmp_path / "b.tif", upper[25:50, :20], 25, 0, nodata=7)
    image, scene = open_image([one, two]), open_scene([one, two])
    want = np.full((50, 40, 3), 7, np.uint16)
    want[:30, :40] = lower[:30, :40]
    want[25:50, :20] = np.where(upper[25:50, :20] == 7, want[25:50, :20], upper[25:50, :20])
    np.testing.assert_array_equal(image, want)
    assert image.attrs["_FillValue"] == 7 and image.dtype == np.uint16
    np.testing.assert_array_equal(scene.hsi, np.where(want == 7, np.nan, want.astype(np.float32)))


def test_the_no_data_value_of_a_virtual_raster_is_that_of_its_tiles(tmp_path):
    whole = np.where(WHOLE < 400, 9, WHOLE).astype(np.uint16)
    path = write_vrt(tmp_path / "all.vrt", tiles(tmp_path, whole), WHOLE.shape, nodata=9)
    assert open_image(path).attrs["_FillValue"] == 9
    np.testing.assert_array_equal(open_scene(path).hsi, np.where(whole == 9, np.nan, whole.astype(np.float32)))


def refused(call, text):
    with pytest.raises(SceneError, match=text):
        call()


def test_what_does_not_fit_is_refused_with_the_reason(tmp_path):
    one = write_tile(tmp_path / "a.tif", WHOLE[:30])
    refused(lambda: open_scene([one, write_tile(tmp_path / "b.tif", WHOLE[:9, :, :2], 30)]), "2 bands, not 3")
    refused(lambda: open_scene([one, write_tile(tmp_path / "b.tif", WHOLE[:9], 30.4)]), "0.40 pixels beside the grid")
    refused(lambda: open_scene([one, write_tile(tmp_path / "b.tif", WHOLE[:9], pixel=20)]), "pixels of 20 x 20, not 30")
    refused(lambda: open_image([one, write_tile(tmp_path / "b.tif", WHOLE[:9], 40)]), "leave gaps, and no value")
    other = write_tile(tmp_path / "b.tif", WHOLE[:9], 30)
    with rasterio.open(other, "r+") as file:
        file.crs = "EPSG:32634"
    refused(lambda: open_scene([one, other]), "another CRS")
    values = [write_tile(tmp_path / f"{k}.tif", WHOLE[:9], 9 * k, nodata=k) for k in (1, 2)]
    refused(lambda: open_image(values), "other values for .no data., 1, 2")
    np.save(tmp_path / "c.npy", WHOLE)
    refused(lambda: open_scene([one, tmp_path / "c.npy"]), "no raster with a place")
    refused(lambda: open_scene([]), "empty list")


def test_a_virtual_raster_that_does_more_is_refused(tmp_path):
    paths = tiles(tmp_path)
    path = tmp_path / "all.vrt"
    for more in ({"band_of": lambda band: 1}, {"inner": "<ScaleRatio>2</ScaleRatio>"}):
        write_vrt(path, paths, WHOLE.shape, **more)
        refused(lambda: open_scene(path), "does more than to lay GeoTIFFs beside each other")
    write_vrt(path, paths, WHOLE.shape, size=(50, 60))
    refused(lambda: open_scene(path), "has 50 x 60 pixels, its tiles have 50 x 70")
    text = write_vrt(path, paths, WHOLE.shape).read_text()
    path.write_text(text.replace("a.tif", "a.png"))
    refused(lambda: open_scene(path), "names 'a.png'; expected GeoTIFFs")
    path.write_text(text.replace('relativeToVRT="1">a.tif', 'relativeToVRT="0">/vsicurl/http://127.0.0.1/a.tif'))
    refused(lambda: open_scene(path), "expected GeoTIFFs on this machine")
    path.write_text(text.replace("<SRS>", '<!ENTITY a "b"><SRS>'))
    refused(lambda: open_scene(path), "or has declarations")
    path.write_text(text.replace("a.tif", "missing.tif"))
    refused(lambda: open_scene(path), "there is no file")


@pytest.mark.parametrize("seed", range(5))
def test_gaps_are_those_of_the_pixels(seed):
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, 8, (5, 2))
    corners = np.concatenate([starts, starts + rng.integers(1, 6, (5, 2))], axis=1)
    corners[:, [0, 2]] -= corners[:, 0].min()
    corners[:, [1, 3]] -= corners[:, 1].min()
    shape = corners[:, 2:].max(axis=0)
    covered = np.zeros(shape, bool)
    for top, left, bottom, right in corners:
        covered[top:bottom, left:right] = True
    assert mosaic._has_gaps(corners, tuple(shape)) == (not covered.all())
