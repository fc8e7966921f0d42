"""The measured shift between two images, on synthetic ground and on a real pair."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from hsmamba.engine.fusion.registration import measure_shift
from tests.conftest import DATA

REAL = DATA / "worldview2_ikonos"


def ground(side, seed=0):
    rng = np.random.default_rng(seed)
    fine, coarse = (ndimage.gaussian_filter(rng.normal(size=(side, side)), s, mode="wrap") for s in (1.5, 12))
    return fine / fine.std() + 2 * coarse / coarse.std()


def moved(image, rows, columns):
    return ndimage.shift(image, (rows, columns), order=3, mode="grid-wrap")


@settings(max_examples=15)
@given(rows=st.floats(-6, 6), columns=st.floats(-6, 6), seed=st.integers(0, 9), inverted=st.booleans())
def test_a_shift_is_measured_to_a_tenth_of_a_pixel(rows, columns, seed, inverted):
    image = ground(96, seed)
    noise = np.random.default_rng(seed).normal(size=image.shape)
    ms = np.stack([-image if inverted else image, noise, 3 + 0 * image], -1)
    shift = measure_shift(ms, 100 + 7 * moved(image, rows, columns))
    assert shift.is_sure
    assert (shift.rows, shift.columns) == pytest.approx((rows, columns), abs=0.1)
    assert shift.length == pytest.approx(np.hypot(rows, columns), abs=0.15)


def test_bands_that_lie_apart_do_not_hide_a_shift():
    image = ground(128)
    ms = np.stack([moved(image, 0.4, 0), image, moved(image, -0.4, 0)], -1)
    shift = measure_shift(ms, moved(image, 2, 0))
    assert (shift.rows, shift.columns) == pytest.approx((2, 0), abs=0.1)


def test_flat_small_and_unrelated_images():
    rng = np.random.default_rng(0)
    assert measure_shift(np.ones((32, 32, 2)), rng.random((32, 32))) is None
    assert measure_shift(rng.random((32, 32, 2)), np.ones((32, 32))) is None
    assert measure_shift(rng.random((15, 40, 2)), rng.random((15, 40))) is None
    for side in (16, 32, 100, 256):
        assert not measure_shift(rng.random((side, side, 3)), rng.random((side, side))).is_sure


@pytest.mark.skipif(not REAL.is_dir(), reason="the WorldView-2 and IKONOS pairs are not at hand (shared/data)")
@pytest.mark.parametrize("name", ["imgWV2", "imgIK"])
def test_real_images(name):
    from scipy.io import loadmat

    content = loadmat(REAL / f"{name}.mat")
    ms, pan = content["I_MS"].astype(float), content["I_PAN"].astype(float)
    for rows, columns in ((0, 0), (8, 0), (3, -6)):
        coarse = np.roll(pan, (rows, columns), (0, 1)).reshape(320, 4, 320, 4).mean((1, 3))
        shift = measure_shift(ms[32:288, 32:288], coarse[32:288, 32:288])
        assert shift.is_sure
        assert (shift.rows, shift.columns) == pytest.approx((rows / 4, columns / 4), abs=0.2)
