import numpy as np
import pytest

from hsmamba.data import valid_mask
from hsmamba.data.validity import Validity
from hsmamba.errors import SceneError

xr = pytest.importorskip("xarray", reason="needs the geo extra")


def raster(values, **attrs):
    return xr.DataArray(values, dims=("y", "x", "band"), attrs=attrs)


def holes(array, bands=None):
    return np.argwhere(~valid_mask(array, "mask", bands=bands)).tolist()


def test_numbers_that_are_none_are_invalid_in_numpy():
    cube = np.ones((3, 3, 2))
    cube[0, 0, 1], cube[1, 1, 0], cube[2, 2, 0], cube[2, 0, 1] = np.nan, -np.inf, 1e300, -3.4028235e38
    assert holes(cube) == [[0, 0], [1, 1], [2, 0], [2, 2]]
    assert holes(cube.astype(">f4").astype(">f4")) == holes(cube)
    assert holes(cube, bands=[0]) == [[1, 1], [2, 2]]


@pytest.mark.parametrize("name", ["_FillValue", "missing_value", "nodata"])
@pytest.mark.parametrize("place", ["attrs", "encoding"])
def test_no_data_is_found_under_every_name(name, place):
    values = np.full((3, 3, 2), 5, np.int16)
    values[0, 1, 0] = -32768
    array = raster(values)
    getattr(array, place)[name] = np.int16(-32768)
    assert holes(array) == [[0, 1]]
    with pytest.raises(SceneError, match=r"1 of 9 pixels hold .*-32768, the first at row 0, column 1.*--nan mask"):
        valid_mask(array)


def test_no_data_is_compared_with_a_tolerance_where_numbers_are_floating():
    values = np.full((2, 2, 1), 5, np.float32)
    values[0, 0], values[1, 1] = -9999.0, np.finfo(np.float32).min
    assert holes(raster(values, _FillValue=-9999.001)) == [[0, 0], [1, 1]]
    assert holes(raster(values, _FillValue=-3.40282e38)) == [[1, 1]]
    assert holes(raster(values.astype(np.float16), _FillValue=-9999.0)) == [[0, 0], [1, 1]]


def test_the_encoding_of_decoded_numbers_does_not_count():
    array = raster(np.zeros((2, 2, 1), np.float32))
    array.encoding.update(_FillValue=0, dtype=np.dtype("int16"), scale_factor=1e-4)
    assert holes(array) == []


def test_a_mask_travels_with_crops():
    mask = np.ones((4, 4), bool)
    mask[2, 3] = False
    array = raster(np.ones((4, 4, 2), np.uint8)).assign_coords(valid=(("y", "x"), mask))
    assert holes(array) == [[2, 3]]
    assert holes(array[1:, 1:]) == [[1, 2]]
    with pytest.raises(SceneError, match="or are masked"):
        valid_mask(array)


def test_integers_without_a_word_are_all_valid():
    assert not Validity.of(np.ones((2, 2, 1), np.int16)).may_lack(np.dtype(np.int16))
    assert valid_mask(np.ones((2, 2, 1), np.int16)).all()


def test_the_first_hole_of_a_later_strip_is_told(monkeypatch):
    monkeypatch.setattr("hsmamba.data.validity._BLOCK_BYTES", 64)
    cube = np.ones((64, 8, 3))
    cube[41, 5] = np.nan
    with pytest.raises(SceneError, match="row 41, column 5"):
        valid_mask(cube)


def test_masks_of_numpy_count():
    cube = np.ma.MaskedArray(np.ones((2, 3, 2)), False)
    assert valid_mask(cube).all()
    cube[1, 2, 0] = np.ma.masked
    assert np.argwhere(~valid_mask(cube, "mask")).tolist() == [[1, 2]]
    with pytest.raises(SceneError, match=r"1 of 6 pixels of ms hold .*are masked, the first at row 1, column 2"):
        valid_mask(cube, name="ms")
