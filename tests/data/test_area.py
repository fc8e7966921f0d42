"""The part of an image that polygons hold: the same in any windows, of any file, in any CRS."""

import numpy as np
import pytest

from hsmamba.data import open_image
from hsmamba.data.area import open_area
from hsmamba.errors import SceneError
from tests.data.files.samples import write_tif
from tests.data.files.vector_samples import WRITERS, box, point, write_geojson

rasterio = pytest.importorskip("rasterio", reason="needs the geo extra")


@pytest.fixture
def image(tmp_path):
    return open_image(write_tif(tmp_path / "scene.tif", np.ones((40, 60, 2), np.uint16)))


def whole(area, image):
    return area(slice(0, image.shape[0]), slice(0, image.shape[1]))


@pytest.mark.parametrize("suffix", WRITERS)
def test_pixels_whose_centre_is_within_are_told_in_any_windows(image, tmp_path, suffix):
    path, fields = tmp_path / f"a{suffix}", {"name": "a", "size": 1}
    WRITERS[suffix](path, [(box(5, 10, 7, 23), fields), (box(30, 0, 9, 4), fields)])
    area = open_area(path, image)
    found = whole(area, image)
    y, x = np.mgrid[:40, :60]
    want = ((y >= 5) & (y < 12) & (x >= 10) & (x < 33)) | ((y >= 30) & (y < 39) & (x < 4))
    np.testing.assert_array_equal(found, want)
    for rows, columns in ((slice(3, 9), slice(30, 60)), (slice(20, 29), slice(0, 60)), (slice(35, 40), slice(2, 7))):
        np.testing.assert_array_equal(area(rows, columns), want[rows, columns])


def test_polygons_of_another_system_are_brought_to_that_of_the_image(image, tmp_path):
    warp = pytest.importorskip("rasterio.warp")
    shape = warp.transform_geom("EPSG:32633", "OGC:CRS84", box(5, 10, 7, 23))
    write_geojson(tmp_path / "a.geojson", [(shape, {})], crs=None)
    write_geojson(tmp_path / "b.geojson", [(box(5, 10, 7, 23), {})])
    one, other = (whole(open_area(tmp_path / name, image), image) for name in ("a.geojson", "b.geojson"))
    assert (one != other).sum() <= 2 and one.sum() > 100


@pytest.mark.parametrize(
    ("shapes", "text"),
    [
        ([box(500, 500, 6, 6)], "lie outside the image"),
        ([box(1, 1, 2, 2), point(3, 3)], "no polygons, or points"),
        ([], "no polygons"),
    ],
)
def test_what_limits_no_area_is_refused(image, tmp_path, shapes, text):
    write_geojson(tmp_path / "a.geojson", [(shape, {"k": 1}) for shape in shapes])
    with pytest.raises(SceneError, match=text):
        open_area(tmp_path / "a.geojson", image)


def test_an_image_without_place_has_no_area(tmp_path):
    write_geojson(tmp_path / "a.geojson", [(box(1, 1, 2, 2), {"k": 1})])
    with pytest.raises(SceneError, match="does not say where it lies"):
        open_area(tmp_path / "a.geojson", np.ones((4, 4, 1)))
