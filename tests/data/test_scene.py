"""Scenes: validation, finite pixels strip by strip, results in the form of the input."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsmamba.data import Scene, gather_pixels, iter_strips, like, valid_mask
from hsmamba.errors import SceneError

xr = pytest.importorskip("xarray", reason="needs the geo extra")


def cube(height=4, width=5, bands=3):
    return np.arange(height * width * bands, dtype=np.float32).reshape(height, width, bands)


def raster(values, dims=("y", "x", "band")):
    coords = {"y": 100.0 - 30 * np.arange(values.shape[0]), "x": 7.0 + 30 * np.arange(values.shape[1])}
    array = xr.DataArray(values, dims=dims, coords=coords, attrs={"scale_factor": 1e-4, "AREA_OR_POINT": "Area"})
    return array.assign_coords(spatial_ref=xr.DataArray(0, attrs={"crs_wkt": "EPSG:32633"}))


def test_fields_are_brought_to_their_types():
    scene = Scene(
        cube(), np.ones((4, 5), np.uint8), class_names=["a", "b"], wavelengths=[400, 500, 600], bad_bands=[0, 1, 0]
    )
    assert (scene.shape, scene.num_bands, scene.num_classes, scene.class_names) == ((4, 5), 3, 2, ("a", "b"))
    assert scene.wavelengths.dtype == np.float64 and scene.bad_bands.dtype == bool
    assert scene.good_bands.tolist() == [0, 2]


def test_classes_come_from_the_labels_where_there_are_no_names():
    labels = np.zeros((4, 5), int)
    labels[0, 0] = 7
    assert Scene(cube(), labels).num_classes == 7
    assert Scene(cube()).num_classes == 0


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"hsi": cube()[0]}, ["(5, 3)", "3 dimensions"]),
        ({"hsi": [[1]]}, ["list", "numpy array"]),
        ({"hsi": cube().astype(complex)}, ["complex128", "real"]),
        ({"hsi": cube()[:0]}, ["empty", "(0, 5, 3)"]),
        (
            {"hsi": raster(cube()).transpose("band", "y", "x")},
            ["('band', 'y', 'x')", 'hsi.transpose("y", "x", "band")'],
        ),
        ({"labels": np.ones((4, 6), int)}, ["(4, 6)", "(4, 5)", "resample"]),
        ({"labels": np.ones((4, 5))}, ["float64", "astype(int)"]),
        ({"labels": np.full((4, 5), -1)}, ["-1", "0 (unlabelled)"]),
        ({"labels": np.full((4, 5), 3), "class_names": ("a", "b")}, ["up to 3", "2 class names", "0..2"]),
        ({"aux": np.ones((5, 5, 1))}, ["aux", "(5, 5)"]),
        ({"aux": np.ones((4, 5))}, ["aux", "3 dimensions"]),
        ({"wavelengths": [1, 2]}, ["wavelengths", "(2,)", "(3,)"]),
        ({"bad_bands": [True] * 4}, ["bad_bands", "(4,)", "(3,)"]),
    ],
)
def test_what_does_not_fit_is_refused_with_both_sides(fields, words):
    with pytest.raises(SceneError) as error:
        Scene(**({"hsi": cube()} | fields))
    for word in words:
        assert word in str(error.value)


def test_rasters_of_another_place_are_refused():
    labels = raster(np.ones((4, 5), int), ("y", "x"))
    Scene(raster(cube()), labels)
    with pytest.raises(SceneError, match="other x coordinates"):
        Scene(raster(cube()), labels.assign_coords(x=labels.x + 30))


@given(height=st.integers(1, 30), width=st.integers(1, 5), max_bytes=st.integers(1, 2000))
def test_strips_give_the_array_back_within_their_size(height, width, max_bytes):
    array = cube(height, width)
    strips = list(iter_strips(array, max_bytes))
    assert np.array_equal(np.concatenate([strip for _, strip in strips]), array)
    assert [start for start, _ in strips] == np.cumsum([0, *(len(strip) for _, strip in strips)])[:-1].tolist()
    assert all(strip.nbytes <= max(max_bytes, width * 12) for _, strip in strips)


@given(data=st.data())
def test_pixels_are_gathered_in_their_order(data):
    array = cube(6, 4)
    pixels = data.draw(st.lists(st.integers(0, 23), max_size=30))
    expected = array.reshape(-1, 3)[pixels]
    assert np.array_equal(gather_pixels(array, np.array(pixels, int)), expected)
    assert np.array_equal(gather_pixels(raster(array), np.array(pixels, int)), expected)


@pytest.mark.parametrize("pixels", [[-1], [20], [0.5], [[0]]])
def test_pixels_outside_the_grid_are_refused(pixels):
    with pytest.raises(SceneError, match="pixel"):
        gather_pixels(cube(), pixels)


def test_non_finite_pixels_are_counted_and_located():
    array = cube()
    array[2, 3, 1] = np.nan
    array[3, 0] = np.inf
    with pytest.raises(SceneError) as error:
        valid_mask(array)
    for word in ("2 of 20 pixels", "row 2, column 3", 'nan="mask"'):
        assert word in str(error.value)
    mask = valid_mask(raster(array), "mask")
    assert np.argwhere(~mask).tolist() == [[2, 3], [3, 0]]
    assert np.argwhere(~valid_mask(array, "mask", bands=[0, 2])).tolist() == [[3, 0]]
    assert valid_mask(cube().astype(np.int16)).all()


def test_an_unknown_policy_is_refused():
    with pytest.raises(ValueError, match="'drop'"):
        valid_mask(cube(), "drop")


def test_masking_a_mapped_file_takes_strips_only(tmp_path, monkeypatch):
    np.save(tmp_path / "cube.npy", cube(64, 8))
    mapped = np.load(tmp_path / "cube.npy", mmap_mode="r")
    monkeypatch.setattr("hsmamba.data.scene.iter_strips", lambda array: iter_strips(array, 8 * 3 * 4 * 10))
    seen = []
    monkeypatch.setattr(np, "isfinite", lambda strip, real=np.isfinite: seen.append(strip.shape) or real(strip))
    assert valid_mask(mapped).all()
    assert max(shape[0] for shape in seen) == 10 and sum(shape[0] for shape in seen) == 64


def test_results_are_numpy_for_numpy():
    result = np.zeros((4, 5))
    assert like(cube(), result) is result


def test_results_for_xarray_keep_the_place_but_not_the_scale():
    template = raster(cube()).assign_coords(band=[10, 20, 30])
    labels = like(template, np.ones((4, 5), np.uint8), name="labels")
    assert labels.name == "labels" and labels.dims == ("y", "x") and labels.dtype == np.uint8
    assert set(labels.coords) == {"y", "x", "spatial_ref"}
    assert labels.spatial_ref.attrs == {"crs_wkt": "EPSG:32633"}
    assert labels.attrs == {"AREA_OR_POINT": "Area"}
    assert like(template, cube()).band.values.tolist() == [10, 20, 30]
    assert "band" not in like(template, cube(bands=2)).coords
    with pytest.raises(SceneError, match="grid"):
        like(template, np.ones((5, 5)))


def test_opening_a_scene_needs_no_torch():
    code = "import sys; import hsmamba.data; print('torch' in sys.modules, 'xarray' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.split() == ["False", "False"]
