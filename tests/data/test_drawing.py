"""Labels drawn of polygons and points: classes, overlaps, what lies outside, places."""

import warnings

import numpy as np
import pytest

from hsmamba.data import Scene, open_scene
from hsmamba.data.drawing import draw_labels
from hsmamba.errors import HsmambaWarning, SceneError
from tests.data.files.samples import cube, write_tif
from tests.data.files.vector_samples import WRITERS, box, point, write_geojson


@pytest.fixture
def scene_file(tmp_path):
    return write_tif(tmp_path / "scene.tif", cube())


def drawn(scene_file, features, *, crs="urn:ogc:def:crs:EPSG::32633", quiet=True, **options):
    write_geojson(scene_file.with_name("fields.geojson"), features, crs)
    with warnings.catch_warnings():
        warnings.simplefilter("error" if quiet else "ignore", HsmambaWarning)
        return open_scene(scene_file, labels=scene_file.with_name("fields.geojson"), **options)


def named(*fields):
    return [(shape, {"crop": crop}) for shape, crop in fields]


@pytest.mark.parametrize("suffix", WRITERS)
def test_polygons_of_every_format_become_classes_in_sorted_order(tmp_path, scene_file, suffix):
    fields = [(box(0, 0, 2, 3), "oats"), (box(3, 1, 3, 2), "corn"), (box(0, 4, 1, 1), "oats")]
    WRITERS[suffix](tmp_path / f"a{suffix}", named(*fields))
    scene = open_scene(scene_file, labels=tmp_path / f"a{suffix}", labels_field="crop")
    want = np.zeros((6, 5), int)
    want[:2, :3] = want[0, 4] = 2
    want[3:6, 1:3] = 1
    assert (
        np.array_equal(scene.labels, want) and scene.class_names == ("corn", "oats") and scene.labels.dtype == np.uint8
    )
    assert scene.labels.rio.crs.to_epsg() == 32633 and scene.labels.rio.transform() == scene.hsi.rio.transform()


def test_pixels_take_the_polygon_that_holds_their_centre(scene_file):
    half = box(0, 0, 2, 2)
    half["coordinates"][0] = [
        [x + 14, y - 16] for x, y in half["coordinates"][0]
    ]  # from before x, behind y of a centre
    scene = drawn(scene_file, named((half, "corn")))
    assert np.argwhere(np.asarray(scene.labels)).tolist() == [[1, 0], [1, 1], [2, 0], [2, 1]]
    scene = drawn(scene_file, named((point(4, 3), "corn")))
    assert np.argwhere(np.asarray(scene.labels)).tolist() == [[4, 3]]


def test_pixels_of_two_classes_are_unlabelled_and_said(scene_file):
    fields = named(
        (box(0, 0, 2, 5), "corn"), (box(1, 0, 2, 2), "oats"), (box(1, 1, 1, 2), "corn"), (point(0, 0), "rye")
    )
    with pytest.warns(HsmambaWarning, match=r"no pixel has the class rye; 3 pixels lie in features of two classes"):
        labels, names = draw_labels_of(scene_file, fields)
    assert labels.tolist()[:3] == [[0, 1, 1, 1, 1], [0, 0, 1, 1, 1], [2, 2, 0, 0, 0]] and names == (
        "corn",
        "oats",
        "rye",
    )


def draw_labels_of(scene_file, fields):
    path = scene_file.with_name("fields.geojson")
    write_geojson(path, fields)
    labels, names = draw_labels(path, open_scene(scene_file).hsi, field="crop")
    return np.asarray(labels), names


def test_tiles_have_the_classes_of_the_whole_file(scene_file):
    fields = named((box(0, 0, 1, 1), "oats"), (box(400, 0, 1, 1), "corn"), (box(0, 10**6, 1, 1), "rye"))
    with pytest.warns(HsmambaWarning, match=r"2 of 3 features lie outside the scene; no pixel has the class corn, rye"):
        labels, names = draw_labels_of(scene_file, fields)
    assert names == ("corn", "oats", "rye") and labels[0, 0] == 2 and np.count_nonzero(labels) == 1


def test_class_names_choose_and_order_texts(scene_file):
    fields = named(
        (box(0, 0, 1, 1), "oats"), (box(1, 0, 1, 2), "corn"), (box(2, 0, 1, 1), "rye"), (box(1, 1, 1, 1), "rye")
    )
    fields.append((box(4, 0, 1, 1), {"crop": None}))
    scene = drawn(scene_file, fields, quiet=False, class_names=("oats", "corn"))
    assert np.asarray(scene.labels)[:3, :2].tolist() == [[1, 0], [2, 0], [0, 0]] and scene.class_names == (
        "oats",
        "corn",
    )
    assert not np.asarray(scene.labels)[3:].any()
    with pytest.raises(SceneError, match=r"holds texts \(corn, oats, rye\); choose and order them with class_names="):
        drawn(scene_file, fields, classes=[1, 2])


@pytest.mark.parametrize("write", [int, float, str])
def test_numbers_are_classes_like_those_of_a_label_map(scene_file, write):
    fields = named(*((box(k, 0, 1, 1), write(code)) for k, code in enumerate((10, 20, 30))))
    assert np.asarray(drawn(scene_file, fields).labels)[:4, 0].tolist() == [10, 20, 30, 0]
    scene = drawn(scene_file, fields, classes={30: "rye", 10: "corn", 20: "oats"})
    assert np.asarray(scene.labels)[:4, 0].tolist() == [2, 3, 1, 0] and scene.class_names == ("rye", "corn", "oats")
    with pytest.raises(SceneError, match=r"codes up to 2000.*classes=\[1000, 2000\]"):
        drawn(scene_file, named(*((box(k, 0, 1, 1), write(1000 * (k + 1))) for k in range(2))))


def test_0_is_a_class_on_request(scene_file):
    fields = named((box(0, 0, 1, 1), 0), (box(1, 0, 1, 1), 1))
    with pytest.warns(HsmambaWarning, match=r"and 0, too; where 0 is a class, give classes=\[0, 1\]"):
        assert draw_labels_of(scene_file, fields)[0][:3, 0].tolist() == [0, 1, 0]
    assert np.asarray(drawn(scene_file, fields, classes=[0, 1]).labels)[:3, 0].tolist() == [1, 2, 0]


def test_polygons_are_reprojected(scene_file):
    warp = pytest.importorskip("rasterio.warp")
    shape = box(1, 1, 3, 2)
    (degrees,) = warp.transform_geom("EPSG:32633", "EPSG:4326", [shape])
    for crs in (None, "urn:ogc:def:crs:OGC:1.3:CRS84", "EPSG:4326"):
        labels = np.asarray(drawn(scene_file, named((degrees, "corn")), crs=crs).labels)
        assert labels[1:4, 1:3].all() and labels.sum() == 6
    with pytest.raises(SceneError, match=r"coordinates up to 58\d{5}, which are no degrees"):
        drawn(scene_file, named((shape, "corn")), crs=None)
    with pytest.warns(HsmambaWarning, match="1 of 2 features lie outside"):
        antarctica = {
            "type": "Polygon",
            "coordinates": [[[-180, -90], [180, -90], [180, -60], [-180, -60], [-180, -90]]],
        }
        path = scene_file.with_name("fields.geojson")
        write_geojson(path, named((degrees, "corn"), (antarctica, "ice")), None)
        assert np.asarray(draw_labels(path, open_scene(scene_file).hsi, field="crop")[0]).sum() == 6


def test_rotated_and_turned_grids_are_drawn_on(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    path = write_tif(tmp_path / "scene.tif", cube())
    labels = {}
    for name, transform in {
        "turned": rasterio.Affine(30, 0, 366000, 0, 30, 5810000 - 180),  # south up
        "rotated": rasterio.Affine(0, 30, 366000, -30, 0, 5810000),  # rows run east
    }.items():
        with rasterio.open(path, "r+") as file:
            file.transform = transform
        labels[name] = np.asarray(drawn(path, named((box(0, 0, 2, 3), "corn"))).labels)
    assert np.argwhere(labels["turned"]).tolist() == [[row, column] for row in (4, 5) for column in range(3)]
    assert np.argwhere(labels["rotated"]).tolist() == [[row, column] for row in range(3) for column in range(2)]


def test_without_a_place_nothing_is_drawn(tmp_path, scene_file):
    write_geojson(tmp_path / "a.geojson", named((box(0, 0, 1, 1), "corn")))
    np.save(tmp_path / "cube.npy", cube())
    with pytest.raises(SceneError, match=r"the scene does not say where it lies, .*a\.geojson'.* give a GeoTIFF"):
        open_scene(tmp_path / "cube.npy", labels=tmp_path / "a.geojson")
    with pytest.raises(SceneError, match="labels_field='crop' is for labels in a shapefile"):
        open_scene(scene_file, labels=np.zeros((6, 5), int), labels_field="crop")
    with pytest.raises(SceneError, match="no feature with a value"):
        drawn(scene_file, named((box(0, 0, 1, 1), "")))


def test_drawn_labels_make_a_scene_again(scene_file):
    scene = drawn(scene_file, named((box(0, 0, 2, 3), "oats"), (box(3, 1, 3, 2), "corn")))
    again = Scene(scene.hsi, scene.labels, class_names=scene.class_names)
    assert again.labels is scene.labels
