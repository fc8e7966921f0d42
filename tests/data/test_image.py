"""Image arrays: strips, pixels, neighbours, finite pixels, results in the form of the input."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsmamba.data import gather_pixels, iter_strips, like, neighbour_pairs, valid_mask
from hsmamba.errors import SceneError
from tests.data.samples import ramp, raster


@given(height=st.integers(1, 30), width=st.integers(1, 5), max_bytes=st.integers(1, 2000))
def test_strips_give_the_array_back_within_their_size(height, width, max_bytes):
    array = ramp(height, width)
    strips = list(iter_strips(array, max_bytes))
    assert np.array_equal(np.concatenate([strip for _, strip in strips]), array)
    assert [start for start, _ in strips] == np.cumsum([0, *(len(strip) for _, strip in strips)])[:-1].tolist()
    assert all(strip.nbytes <= max(max_bytes, width * 12) for _, strip in strips)


@given(data=st.data())
def test_pixels_are_gathered_in_their_order(data):
    array = ramp(6, 4)
    pixels = data.draw(st.lists(st.integers(0, 23), max_size=30))
    expected = array.reshape(-1, 3)[pixels]
    assert np.array_equal(gather_pixels(array, np.array(pixels, int)), expected)
    assert np.array_equal(gather_pixels(raster(array), np.array(pixels, int)), expected)


@pytest.mark.parametrize("pixels", [[-1], [20], [0.5], [[0]]])
def test_pixels_outside_the_grid_are_refused(pixels):
    with pytest.raises(SceneError, match="pixel"):
        gather_pixels(ramp(), pixels)


def test_non_finite_pixels_are_counted_and_located():
    array = ramp()
    array[2, 3, 1] = np.nan
    array[3, 0] = np.inf
    with pytest.raises(SceneError) as error:
        valid_mask(array)
    for word in ("2 of 20 pixels", "row 2, column 3", 'nan="mask"'):
        assert word in str(error.value)
    mask = valid_mask(raster(array), "mask")
    assert np.argwhere(~mask).tolist() == [[2, 3], [3, 0]]
    assert np.argwhere(~valid_mask(array, "mask", bands=[0, 2])).tolist() == [[3, 0]]
    assert valid_mask(ramp().astype(np.int16)).all()


def test_an_unknown_policy_is_refused():
    with pytest.raises(ValueError, match="'drop'"):
        valid_mask(ramp(), "drop")


def test_results_are_numpy_for_numpy():
    result = np.zeros((4, 5))
    assert like(ramp(), result) is result


def test_results_for_xarray_keep_the_place_but_not_the_scale():
    template = raster(ramp()).assign_coords(band=[10, 20, 30])
    labels = like(template, np.ones((4, 5), np.uint8), name="labels")
    assert labels.name == "labels" and labels.dims == ("y", "x") and labels.dtype == np.uint8
    assert set(labels.coords) == {"y", "x", "spatial_ref"}
    assert labels.spatial_ref.attrs == {"crs_wkt": "EPSG:32633"}
    assert labels.attrs == {"AREA_OR_POINT": "Area"}
    assert like(template, ramp()).band.values.tolist() == [10, 20, 30]
    assert "band" not in like(template, ramp(bands=2)).coords
    with pytest.raises(SceneError, match="grid"):
        like(template, np.ones((5, 5)))


@pytest.mark.parametrize("window", [3, 5])
def test_neighbour_pairs_lie_side_by_side_in_the_windows(window):
    rows, columns = np.mgrid[:9, :11]
    where = np.stack([rows, columns], axis=-1)
    pairs = neighbour_pairs(where, [3 * 11 + 4], window)
    assert len(pairs) == 2 * window * (window - 1)
    assert (np.abs(pairs[:, 0] - pairs[:, 1]).sum(axis=1) == 1).all()
    assert pairs.min(axis=(0, 1)).tolist() == [3 - window // 2, 4 - window // 2]
    assert len(np.unique(pairs.reshape(len(pairs), -1), axis=0)) == len(pairs)
    assert neighbour_pairs(where, [0], 3).shape == (4, 2, 2)
