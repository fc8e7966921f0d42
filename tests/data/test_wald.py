"""Wald's protocol on files as people have them: invalid pixels, places, units, orders of axes."""

import dataclasses
import warnings

import numpy as np
import pytest
import torch

from hsmamba.data import wald_pairs
from hsmamba.errors import HsmambaWarning, SceneError
from tests.refusals import refused

RNG = np.random.default_rng(0)
MS = np.round(RNG.uniform(100, 900, (96, 48, 4)))
PAN = np.round(RNG.uniform(100, 900, (384, 192)))
PARTS = ("train", "val", "test", "full")


def make(ms=MS, pan=PAN, **options):
    return wald_pairs(ms, pan, **{"sensor": "QB", "val": 0.25, "test": 0.25, "guard": 4} | options)


def quiet(*images, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return make(*images, **options)


def tensors(pairs):
    return [x for part in PARTS for pair in getattr(pairs, part) for x in pair[1:] if x is not None]


def same(one, other):
    pairs = zip(tensors(one), tensors(other), strict=True)
    return one.sha256 == other.sha256 and all(torch.equal(x, y) for x, y in pairs)


def raster(values, pixel, corner=(5e5, 4e6), bands_first=False, valid=None, encoding=None, **attrs):
    xr = pytest.importorskip("xarray")
    values = np.atleast_3d(values)
    coords = {
        "y": corner[1] - pixel * (np.arange(values.shape[0]) + 0.5),
        "x": corner[0] + pixel * (np.arange(values.shape[1]) + 0.5),
    }
    if valid is not None:
        coords["valid"] = (("y", "x"), valid)
    array = xr.DataArray(values, dims=("y", "x", "band"), coords=coords, attrs=attrs)
    array = array.transpose("band", "y", "x") if bands_first else array
    array.encoding.update(encoding or {})
    return array


@pytest.mark.parametrize("ratio", [2, 3, 4])
def test_the_ratio_is_that_of_the_images(ratio):
    rng = np.random.default_rng(0)
    ms, pan = rng.uniform(1, 9, (48, 60, 2)), rng.uniform(1, 9, (48 * ratio, 60 * ratio))
    pairs = wald_pairs(ms, pan, sensor="generic", maximum=10, val=0)
    assert pairs.ratio == ratio and same(pairs, wald_pairs(ms, pan, sensor="generic", maximum=10, val=0, ratio=ratio))
    for guide in (pan[:-1], pan[:48, :60], ms[:24, :30, 0]):
        with pytest.raises(SceneError, match="a whole number: crop both to the same ground, or swap them"):
            wald_pairs(ms, guide, sensor="generic")


def test_every_container_and_order_gives_the_same_pairs():
    want = make()
    for low, high in (
        (raster(MS, 2.0), raster(PAN, 0.5)),
        (raster(MS, 2.0, bands_first=True), raster(PAN, 0.5, bands_first=True)),
        (MS.astype(">u2"), PAN.astype(">i4")),
        (np.ma.MaskedArray(MS, False), PAN.tolist()),
    ):
        assert same(quiet(low, high), want)
    assert same(quiet(nan="mask"), want)


DEAD = (30, 10)  # in the training part, rows 0 to 40


def spoilt(kind):
    """The scene with one invalid pixel of ms."""
    ms, whole = MS.copy(), np.ones(MS.shape[:2], bool)
    whole[DEAD] = False
    if kind in (np.nan, np.inf, 1e300, -3.4028235e38):
        ms[(*DEAD, 2)] = kind
        return ms
    if kind == "masked":
        return np.ma.MaskedArray(ms, ~np.repeat(whole[..., None], 4, 2))
    if kind == "valid":
        return raster(ms, 2.0, valid=whole)
    ms = ms.astype(np.uint16)
    ms[DEAD] = 65535
    return raster(
        ms, 2.0, **{"attribute": {"_FillValue": 65535}, "encoding": {"encoding": {"_FillValue": 65535}}}[kind]
    )


@pytest.mark.parametrize("kind", [np.nan, np.inf, 1e300, -3.4028235e38, "masked", "valid", "attribute", "encoding"])
def test_an_invalid_pixel_is_refused_or_in_no_image(kind):
    ms = spoilt(kind)
    pan = PAN if isinstance(ms, np.ndarray) else raster(PAN, 0.5)
    with pytest.raises(SceneError, match=r'1 of 4608 pixels of ms hold .*row 30, column 10; pass nan="mask"'):
        make(ms, pan)
    with pytest.warns(HsmambaWarning, match="there remain 75 % of train, 100 % of val, 100 %") as told:
        pairs = make(ms, pan, nan="mask")
    assert [str(one.filename) for one in told] == [__file__]
    want = make()
    for part in PARTS[1:]:
        for one, other in zip(getattr(pairs, part), getattr(want, part), strict=True):
            assert all(torch.equal(x, y) for x, y in zip(one[1:4], other[1:4], strict=True))
    # The columns right of the pixel, as if the scene had been cropped to them by hand.
    (image,) = pairs.train
    by_hand = wald_pairs(MS[:40, 12:], PAN[:160, 48:], sensor="QB", val=0, test=0).train[0]
    assert all(torch.equal(x, y) for x, y in zip(image[1:], by_hand[1:], strict=True))
    assert all(torch.isfinite(x).all() for x in tensors(pairs))


@pytest.mark.parametrize("axis", ["rows", "columns"])
def test_invalid_pixels_of_the_guide_count_too_in_every_part(axis):
    ms, pan = MS.copy(), PAN.copy()
    pan[:, 150:] = np.nan
    ms[90:] = np.nan
    if axis == "columns":
        ms, pan = ms.swapaxes(0, 1), pan.T
    with pytest.warns(HsmambaWarning, match="75 % of train, 75 % of val, 50 % of test"):
        pairs = make(ms, pan, nan="mask", axis=axis)
    ours = slice(0, 88), slice(0, 36)
    theirs = slice(0, 352), slice(0, 144)
    if axis == "columns":
        ours, theirs = ours[::-1], theirs[::-1]
    want = wald_pairs(ms[ours], pan[theirs], sensor="QB", val=0, test=0, axis=axis).train[0]
    train = pairs.train[0].gt
    assert torch.equal(train, want.gt[:, : train.shape[1], : train.shape[2]])
    assert pairs.test[0].gt.shape[1:] == ((16, 36) if axis == "rows" else (36, 16))
    assert all(torch.isfinite(x).all() for x in tensors(pairs))


def test_crops_of_a_scene_with_invalid_pixels_can_be_drawn_and_the_largest_number_is_a_valid_one():
    ms = np.full((200, 100, 3), 500.0)
    ms[7, 7], ms[100, 50] = np.nan, 1e35
    ms[3, 90] = 800
    with pytest.warns(HsmambaWarning, match="left out"):
        pairs = wald_pairs(ms, np.ones((800, 400)) * 300, sensor="generic", nan="mask", val=0, test=0)
    assert pairs.maximum == 800
    assert [image.name for image in pairs.train] == [f"scene, train {n + 1}" for n in range(len(pairs.train))]
    sides = [min(image.gt.shape[1:]) for image in pairs.train]
    assert len(sides) > 1 and min(sides) >= 32


def test_the_place_of_both_images_is_compared():
    with pytest.raises(SceneError, match=r"edges of ms and of the guide lie .* pixels of ms apart"):
        make(raster(MS, 2.0), raster(PAN, 0.5, corner=(5e5 + 3, 4e6)))
    quiet(raster(MS, 2.0), raster(PAN, 0.5, corner=(5e5 + 0.9, 4e6)))
    with pytest.warns(HsmambaWarning, match="the guide does not say where it lies, ms does") as told:
        make(raster(MS, 2.0), PAN)
    assert told[0].filename == __file__


def test_maxima_are_a_number_a_pair_or_a_sensor():
    want = make(maximum=1000)
    for given, pair in ((1000, (1000, 1000)), ((1000, 1e5), (1000, 1e5)), ("GF2", (1023, 1023))):
        pairs = quiet(MS, PAN * pair[1] / pair[0], maximum=given)
        assert pairs.maxima == pair
        if pair[0] == 1000:
            torch.testing.assert_close(pairs.train[0].guide, want.train[0].guide)
            assert torch.equal(pairs.train[0].gt, want.train[0].gt)
    low, high = quiet(MS, PAN * 100, maximum=(1000, 1e5)).spectra()
    assert low.shape == (10 * 12, 4) and high.shape == (40 * 48, 1)
    assert 400 < low.mean() < 600 and 40000 < high.mean() < 60000


@pytest.mark.parametrize(
    ("unit", "advice"), [(1e-3, "1, 1"), (10, "10000, 10000")], ids=["reflectance", "reflectance x 10000"]
)
def test_numbers_that_cannot_be_the_sensors_are_refused_with_what_mends_it(unit, advice):
    with pytest.raises(SceneError, match=rf"not those of QB: .* where 1 is 2047;.* of guide\): {advice}\?"):
        make(MS * unit, PAN * unit)
    quiet(MS * unit, PAN * unit, maximum=float(advice.split(",")[0]))
    with pytest.warns(HsmambaWarning, match="maximum may be wrong: 99 % of ms stay below"):
        make(MS * unit, PAN * unit, maximum=2047)


def test_one_glint_pixel_does_not_decide_what_is_one():
    assert quiet(sensor="generic").maximum == MS[:44].max()
    ms = MS.copy()
    ms[20, 20] = 65535
    with pytest.warns(HsmambaWarning, match=r"1 % of the training pixels of ms reach 65535.*Give maximum=") as told:
        pairs = make(ms, sensor="generic")
    assert 2000 < pairs.maximum < 2700 and told[0].filename == __file__
    assert quiet(ms, sensor="generic", maximum=900).maximum == 900


def test_a_guide_of_another_unit_gets_a_maximum_of_its_own():
    with pytest.warns(HsmambaWarning, match=r"images of two units; 0\.9 is taken for 1 in ms, 900 in the guide"):
        pairs = make(MS / 1000, PAN, sensor="generic")
    assert pairs.maxima == pytest.approx((0.9, 900), rel=0.01)
    decibels = quiet(MS, -PAN / 50, sensor="generic", maximum=(900, 20))
    assert decibels.train[0].guide.max() < 0


def test_wavelengths_are_kept():
    low = raster(MS, 2.0, wavelength=(485.0, 560.0, 660.0, 830.0))
    assert quiet(low, raster(PAN, 0.5)).wavelengths == (485, 560, 660, 830)
    assert make().wavelengths is None
    assert dataclasses.replace(make(), guide_maximum=5.0).maxima == (2047, 5)


BROKEN = np.where(np.arange(4) == 1, np.nan, MS)
COLLAR = np.where(np.arange(96)[:, None, None] > 70, np.nan, MS)
test_what_does_not_fit_is_named = refused(
    (lambda: make(BROKEN, nan="mask"), SceneError, "no pixel of ms is valid in all of its bands; leave out bands"),
    (lambda: make(COLLAR, nan="mask"), SceneError, "the test part has no block of 4 x 4 pixels.*choose other shares"),
    (lambda: make(nan="drop"), ValueError, 'nan is \'drop\'; expected "raise" or "mask"'),
    (lambda: make(maximum=(1, 2, 3)), ValueError, "expected a number above 0, a pair"),
    (lambda: make(maximum="generic"), ValueError, "'generic' is not known; give maximum= as a number"),
    (lambda: make(MS * 0, sensor="generic"), ValueError, "largest number of the training part of ms is 0; give"),
    (lambda: make(MS * 1j), SceneError, "ms has dtype complex128; expected real numbers"),
    (lambda: make(MS, PAN[:-4], ratio=4), SceneError, "ratio 4 the guide must be"),
    (lambda: make(raster(MS, 2.0).rename(y="row"), PAN), SceneError, "rename them"),
)


def test_the_advice_of_other_shares_works():
    with pytest.warns(HsmambaWarning, match="left out"):
        make(COLLAR, nan="mask", test=0.4)
