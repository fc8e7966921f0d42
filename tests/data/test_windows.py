"""Windows of an image: every pixel once, along the blocks of its file, and as large as they may be."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsmamba.data.validity import valid_mask
from hsmamba.data.windows import blocks_of, cut_windows, iter_windows, release, spread_pixels

SIDES = st.integers(1, 300)


@given(st.tuples(SIDES, SIDES), st.tuples(SIDES, SIDES), st.integers(1, 20_000), st.integers(1, 9))
def test_windows_hold_every_pixel_once_from_top_to_bottom(shape, blocks, pixels, least):
    shape = tuple(max(side, least) for side in shape)
    found, done = np.zeros(shape, int), 0
    for row in cut_windows(shape, blocks, pixels, least=least):
        assert len({(rows.start, rows.stop) for rows, _ in row}) == 1 and row[0][0].start == done
        done = row[0][0].stop
        for place in row:
            found[place] += 1
            assert min(found[place].shape) >= least
    assert (found == 1).all() and done == shape[0]


@pytest.mark.parametrize(
    ("shape", "blocks", "rows", "columns"),
    [
        ((1000, 300), (1, 1), 33, 300),
        ((1000, 300), (16, 300), 32, 300),
        ((1000, 9000), (64, 64), 64, 128),
        ((1000, 9000), (1, 9000), 1, 9000),
        ((1000, 50), (1000, 50), 200, 50),
    ],
)
def test_windows_are_whole_blocks_or_a_part_of_one(shape, blocks, rows, columns):
    assert cut_windows(shape, blocks, 10_000)[0][0] == (slice(0, rows), slice(0, columns))


def tiled(array, blocks):
    xr = pytest.importorskip("xarray")
    image = xr.DataArray(array, dims=("y", "x", "band"))
    image.encoding["preferred_chunks"] = dict(zip(("y", "x"), blocks, strict=True))
    return image


def test_an_image_is_read_in_windows_of_its_blocks():
    array = np.arange(40 * 60 * 2, dtype=np.float32).reshape(40, 60, 2)
    image, found = tiled(array, (8, 16)), np.zeros_like(array)
    assert blocks_of(image) == (8, 16) and blocks_of(array) == (1, 1)
    for place, window in iter_windows(image, 8 * 32 * 8):
        assert window.shape[:2] in ((8, 32), (8, 28))
        found[place] = window
    np.testing.assert_array_equal(found, array)


def test_the_valid_pixels_of_a_tiled_image_are_those_of_the_array(monkeypatch):
    array = np.ones((40, 60, 2), np.float32)
    array[3, 50, 1] = array[20, 4, 0] = np.nan
    monkeypatch.setattr("hsmamba.data.windows.iter_windows.__defaults__", (8 * 32 * 8,))
    np.testing.assert_array_equal(valid_mask(tiled(array, (8, 16)), "mask"), np.isfinite(array).all(axis=2))
    with pytest.raises(ValueError, match=r"2 of 2400 pixels.*first at row 3, column 50"):
        valid_mask(tiled(array, (32, 16)))


@pytest.mark.parametrize("blocks", [(1, 1), (8, 64), (16, 16)])
def test_pixels_are_spread_over_an_image(blocks):
    y, x = np.mgrid[:300, :400]
    image = tiled(np.stack([y, x], axis=-1), blocks)
    found = np.concatenate([values.reshape(-1, 2) for _, values in spread_pixels(image, 16)])
    assert len(np.unique(found, axis=0)) == len(found) == 256
    assert found.min(axis=0).tolist() == [0, 0] and found.max(axis=0).tolist() == [299, 399]


def test_the_memory_of_a_mapped_file_is_given_back(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(2**22, dtype=np.float32).reshape(2**11, 2**9, 4))
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    private = np.load(tmp_path / "a.npy", mmap_mode="c")
    private[0] = -1
    for array in (mapped, private, np.ones(3)):
        release(array)
    assert mapped[0, 0, 1] == 1 and private[0, 0, 1] == -1
