"""Scenes: validation, and opening them from files and arrays."""

from functools import partial

import numpy as np
import pytest

from hsmamba.data import Scene, SelectBands, open_scene, random_split
from hsmamba.errors import SceneError
from tests.conftest import DATA
from tests.data.files.samples import NAMED, cube, truth
from tests.data.samples import ramp, raster
from tests.refusals import refused


def test_fields_are_brought_to_their_types():
    scene = Scene(
        ramp(), np.ones((4, 5), np.uint8), class_names=["a", "b"], wavelengths=[400, 500, 600], bad_bands=[0, 1, 0]
    )
    assert (scene.shape, scene.num_bands, scene.num_classes, scene.class_names) == ((4, 5), 3, 2, ("a", "b"))
    assert scene.wavelengths.dtype == np.float64 and scene.bad_bands.dtype == bool
    assert scene.good_bands.tolist() == [0, 2]


def test_classes_come_from_the_labels_where_there_are_no_names():
    labels = np.zeros((4, 5), int)
    labels[0, 0] = 7
    assert Scene(ramp(), labels).num_classes == 7
    assert Scene(ramp()).num_classes == 0


UNFIT = [
    ({"hsi": ramp()[0]}, ["(5, 3)", "3 dimensions"]),
    ({"hsi": [[1]]}, ["list", "numpy array"]),
    ({"hsi": ramp().astype(complex)}, ["complex128", "real"]),
    ({"hsi": ramp()[:0]}, ["empty", "(0, 5, 3)"]),
    ({"labels": np.ones((4, 6), int)}, ["(4, 6)", "(4, 5)", "resample"]),
    ({"labels": np.full((4, 5), 0.5)}, ["0.5", "float64", "whole numbers"]),
    ({"labels": np.ones((4, 5, 3), int)}, ["(4, 5, 3)", "several bands", "labels=array[..., 0]"]),
    ({"labels": np.full((4, 5), 3), "class_names": ("a", "b")}, ["up to 3", "2 class names", "0..2"]),
    ({"aux": np.ones((5, 5, 1))}, ["aux", "(5, 5)"]),
    ({"aux": np.ones((4, 5))}, ["aux", "3 dimensions"]),
    ({"wavelengths": [1, 2]}, ["wavelengths", "(2,)", "(3,)"]),
    ({"bad_bands": [True] * 4}, ["bad_bands", "(4,)", "(3,)"]),
]
test_what_does_not_fit_is_refused_with_both_sides = refused(
    *((partial(Scene, **{"hsi": ramp()} | fields), SceneError, words) for fields, words in UNFIT)
)


def test_rasters_of_another_place_or_order_are_refused():
    labels = raster(np.ones((4, 5), int), ("y", "x"))
    Scene(raster(ramp()), labels)
    with pytest.raises(SceneError, match=r"edges of labels and of hsi lie 0.00 \(rows\) and 1.00"):
        Scene(raster(ramp()), labels.assign_coords(x=labels.x + 30))
    with pytest.raises(SceneError, match=r"\('band', 'x', 'y'\).*hsi\.transpose\(\"y\", \"x\", \"band\"\)"):
        Scene(raster(ramp()).transpose("band", "x", "y"))


def test_rasters_with_the_bands_first_are_taken():
    turned = raster(ramp()).transpose("band", "y", "x").assign_attrs(_FillValue=3)
    scene = Scene(turned)
    assert scene.hsi.dims == ("y", "x", "band") and scene.hsi.attrs["_FillValue"] == 3
    np.testing.assert_array_equal(scene.hsi, ramp())
    np.testing.assert_array_equal(scene.hsi[1:3, 2], ramp()[1:3, 2])


@pytest.fixture(params=sorted(NAMED))
def write(request, tmp_path):
    def save(**arrays):
        path = tmp_path / f"scene{request.param}"
        NAMED[request.param](path, **arrays)
        return path

    return save


def test_the_only_cube_and_the_only_map_are_found(write):
    scene = open_scene(write(data=cube(), gt=truth(), other=np.ones((3, 4)), list=np.arange(5)), class_names="abc")
    assert np.array_equal(scene.hsi, cube()) and scene.hsi.dtype == np.uint16
    assert np.array_equal(scene.labels, truth()) and scene.class_names == ("a", "b", "c")
    assert scene.aux is None and scene.wavelengths is None and scene.name.startswith("scene")


def test_several_cubes_are_listed_with_the_argument_to_give(write):
    path = write(one=cube(), two=cube(np.float64, 7), gt=truth())
    with pytest.raises(SceneError) as error:
        open_scene(path)
    for word in ("'one' (6, 5, 4) uint16", "'two' (7, 5, 4) float64", "'gt' (6, 5) uint8", "variable="):
        assert word in str(error.value)
    assert open_scene(path, variable="two").hsi.shape == (7, 5, 4)
    assert open_scene(path, variable="two").labels is None
    with pytest.raises(SceneError, match="no variable 'three'"):
        open_scene(path, variable="three")


def test_a_map_of_floating_point_numbers_is_found_by_its_name(write):
    height = np.arange(30.0).reshape(6, 5)
    scene = open_scene(write(data=cube(), paviaU_gt=truth(np.float64), height=height))
    assert np.array_equal(scene.labels, truth()) and scene.labels.dtype == np.int64
    assert open_scene(write(data=cube(), height=height)).labels is None
    assert open_scene(write(data=cube(), gt=height + 0.5)).labels is None
    assert open_scene(write(data=cube(), gt=truth(np.float64), other=truth())).labels.dtype == np.uint8
    with pytest.raises(SceneError, match=r"'train_gt'.*labels_variable="):
        open_scene(write(data=cube(), train_gt=truth(np.float64), test_gt=truth(np.float64)))


def test_a_legend_wants_labels(write):
    with pytest.raises(SceneError, match=r"has none; give labels="):
        open_scene(write(data=cube()), classes=[1, 2])


def test_several_maps_are_listed_with_the_argument_to_give(write):
    path = write(data=cube(), train=truth(), test=3 - truth())
    with pytest.raises(SceneError, match=r"'train'.*labels_variable="):
        open_scene(path)
    assert np.array_equal(open_scene(path, labels_variable="test").labels, 3 - truth())


def test_a_file_without_a_cube_says_what_it_has(write):
    with pytest.raises(SceneError, match=r"no array with three dimensions.*'gt' \(6, 5\) uint8"):
        open_scene(write(gt=truth()))


def test_auxiliary_bands_come_from_the_same_file(write):
    path = write(data=cube(), lidar=cube(np.float32, bands=2), height=np.ones((6, 5)))
    assert open_scene(path, variable="data", aux_variable="lidar").aux.shape == (6, 5, 2)
    assert open_scene(path, variable="data", aux_variable="height").aux.shape == (6, 5, 1)


def test_labels_and_auxiliary_bands_come_from_other_files(tmp_path, write):
    np.save(tmp_path / "cube.npy", cube())
    path = write(lidar=cube(np.float32, bands=2), gt=truth(np.float64))
    scene = open_scene(tmp_path / "cube.npy", labels=path, aux=path, aux_variable="lidar")
    assert np.array_equal(scene.labels, truth()) and scene.labels.dtype == np.int64
    assert np.array_equal(scene.aux, cube(np.float32, bands=2))
    with pytest.raises(SceneError, match=r"more than one array on the grid.*aux_variable="):
        open_scene(tmp_path / "cube.npy", aux=path)


def test_label_files_that_do_not_fit_are_refused(tmp_path, write):
    np.save(tmp_path / "cube.npy", cube())
    with pytest.raises(SceneError, match=r"no label map of 6 x 5 pixels.*'gt' \(5, 6\)"):
        open_scene(tmp_path / "cube.npy", labels=write(gt=truth().T))
    with pytest.raises(SceneError, match=r"the label map in .*scene.* holds 0\.5 \(dtype float64\)"):
        open_scene(tmp_path / "cube.npy", labels=write(gt=truth() + 0.5))


def test_arrays_serve_as_labels_and_auxiliary_bands(tmp_path):
    np.save(tmp_path / "cube.npy", cube())
    scene = open_scene(str(tmp_path / "cube.npy"), labels=truth(), aux=cube(bands=1))
    assert isinstance(scene.hsi, np.memmap) and not scene.hsi.flags.writeable
    assert scene.labels is not None and scene.aux.shape == (6, 5, 1)


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not here")
def test_real_matlab_files_open():
    with pytest.raises(SceneError, match=r"'hyprImg' \(128, 128, 48\) uint16.*'rgbImg'.*variable="):
        open_scene(DATA / "dfc2018_houston_crop" / "houston_dataset.mat")
    scene = open_scene(DATA / "eo1_paris" / "paris_data_hs_ms.mat", variable="HSim", aux_variable="MSim")
    assert scene.hsi.shape == (72, 72, 128) and scene.aux.shape == (72, 72, 9)


def test_what_a_scene_says_of_itself_is_one_line():
    labels = np.zeros((4, 5), int)
    labels[0, :3] = 2
    scene = Scene(
        np.zeros((4, 5, 300), np.uint16), labels, np.ones((4, 5, 2)), name="x", wavelengths=np.arange(300) + 400
    )
    assert repr(scene) == (
        "Scene('x': 4 x 5 pixels; 300 bands from 400 to 699 nm, uint16; 2 auxiliary bands; "
        "3 labelled pixels of 2 classes)"
    )
    assert repr(Scene(np.zeros((4, 5, 3)))) == "Scene('': 4 x 5 pixels; 3 bands, float64)"
    split = random_split(labels, count=1)
    assert "\n" not in repr(split) and "1 train" in repr(split)
    assert repr(SelectBands(range(300))) == "SelectBands(indices=[0, 1, ..., 299: 300 in all], on='hsi')"
