"""Pairs for fusion: what is cut where, what is simulated from what."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hsmamba.data import degrade_ms, get_sensor, upsample, wald_pairs
from hsmamba.data.pairs import FusionPairs, crops, training_image
from hsmamba.errors import SceneError, SplitError
from tests.refusals import refused


def scene(seed=0, rows=64, columns=32, bands=4, ratio=4):
    rng = np.random.default_rng(seed)
    return rng.uniform(100, 900, (rows, columns, bands)), rng.uniform(100, 900, (rows * ratio, columns * ratio))


def make(ms, pan, **options):
    return wald_pairs(ms, pan, **{"sensor": "QB", "val": 0.25, "test": 0.25, "guard": 4} | options)


def tensors(pair):
    return [tensor for tensor in pair[1:] if tensor is not None]


def test_the_parts_have_the_sizes_that_were_asked_for():
    pairs = make(*scene())
    assert pairs.train[0].gt.shape == (4, 24, 32)
    assert [tuple(x.shape) for x in pairs.val[0][1:]] == [(4, 4, 8), (1, 16, 32), (4, 16, 32), (4, 16, 32)]
    assert pairs.test[0].gt.shape == (4, 16, 32)
    assert pairs.full[0].guide.shape == (1, 64, 128)
    assert pairs.full[0].gt is None
    assert (pairs.in_chans, pairs.guide_chans, pairs.ratio, pairs.maximum) == (4, 1, 4, 2047)
    torch.testing.assert_close(pairs.val[0].ms, degrade_ms(pairs.val[0].gt[None], sensor="QB")[0])


@pytest.mark.parametrize("axis", ["rows", "columns"])
@given(row=st.integers(0, 63), column=st.integers(0, 31))
@settings(max_examples=12)
def test_a_pixel_reaches_its_own_part_alone(axis, row, column):
    ms, pan = scene()
    other, sharp = ms.copy(), pan.copy()
    other[row, column] += 500
    sharp[row * 4 : row * 4 + 4, column * 4 : column * 4 + 4] += 500
    if axis == "columns":
        ms, pan, other, sharp = (np.swapaxes(x, 0, 1) for x in (ms, pan, other, sharp))
    before, after = make(ms, pan, axis=axis), make(other, sharp, axis=axis)
    touched = {
        name
        for name in ("train", "val", "test", "full")
        for a, b in zip(getattr(before, name), getattr(after, name), strict=True)
        if not all(torch.equal(x, y) for x, y in zip(tensors(a), tensors(b), strict=True))
    }
    part = next(
        (n for n, (a, b) in {"train": (0, 24), "val": (28, 44), "test": (48, 64)}.items() if a <= row < b), None
    )
    assert touched == ({part} | ({"full"} if part == "test" else set()) if part else set())
    assert (before.sha256 == after.sha256) == (part in (None, "test"))


def test_views_are_the_protocol_on_the_flipped_image():
    pairs = make(*scene())
    seen = set()
    for seed in range(12):
        view = pairs.views(torch.Generator().manual_seed(seed))[0]
        gt = pairs.train[0].gt
        flips = [axes for axes in ((), (-1,), (-2,), (-1, -2)) if torch.equal(view.gt, gt.flip(axes))]
        seen |= set(flips)
        torch.testing.assert_close(view.guide, pairs.train[0].guide.flip(flips[0]))
        torch.testing.assert_close(view.ms, degrade_ms(view.gt[None], sensor="QB")[0])
        torch.testing.assert_close(view.ms_up, upsample(view.ms[None], 4)[0])
    assert len(seen) == 4
    assert torch.equal(pairs.unturned()[0].gt, pairs.train[0].gt)


@given(seed=st.integers(0, 99), augment=st.booleans())
@settings(max_examples=15)
def test_crops_are_of_one_place_in_every_image(seed, augment):
    pairs = make(*scene())
    images = pairs.unturned()
    batch = crops(images, 5, 8, 4, torch.Generator().manual_seed(seed), augment=augment)
    assert [tuple(x.shape) for x in batch[1:]] == [(5, 4, 2, 2), (5, 1, 8, 8), (5, 4, 8, 8), (5, 4, 8, 8)]
    whole = images[0]
    for n in range(5):
        found = [
            (y, x)
            for y in range(0, 17, 4)
            for x in range(0, 25, 4)
            for turn in ((False, True) if augment else (False,))
            if all(
                torch.equal(
                    a[n].transpose(-1, -2) if turn else a[n], b[:, y // s : (y + 8) // s, x // s : (x + 8) // s]
                )
                for a, b, s in zip(batch[1:], whole[1:], (4, 1, 1, 1), strict=True)
            )
        ]
        assert len(found) == 1


def test_every_place_is_drawn():
    images = make(*scene()).unturned()
    generator = torch.Generator().manual_seed(0)
    first = {float(x[0, 0, 0]) for x in crops(images, 800, 8, 4, generator, augment=False).ms}
    assert first == set(images[0].ms[0, :5, :7].flatten().tolist())


def test_parts_can_be_left_out_and_the_maximum_comes_from_the_training_part():
    ms, pan = scene()
    ms[60:] += 5000
    pairs = make(ms, pan, sensor="generic", val=0)
    assert pairs.val == ()
    assert pairs.maximum == pytest.approx(ms[:44].max())
    assert make(ms, pan, test=0).full == ()


MS, PAN = scene()
WITH_NAN = np.where(np.arange(MS.size).reshape(MS.shape) < 3, np.nan, MS)
test_what_does_not_fit_is_named = refused(
    (lambda: make(MS, PAN[:-64], ratio=4), SceneError, r"ratio 4 the guide must be .*256, 128"),
    (lambda: make(WITH_NAN, PAN), SceneError, '1 of 2048 pixels of ms hold NaN.*row 0, column 0; pass nan="mask"'),
    (lambda: make(MS, PAN, val=0.5, test=0.5), SplitError, "come to 0 for train, 32 for val.*works with val=0"),
    (lambda: make(MS, PAN, test=1), ValueError, r"test is 1; it must be in \[0, 1\)"),
    (lambda: make(MS, PAN, axis="diagonal"), ValueError, "axis is 'diagonal'"),
    (
        lambda: crops(make(MS, PAN).unturned(), 1, 6, 4, torch.Generator(), augment=True),
        *(ValueError, "crop is 6; it must be a multiple of the ratio 4"),
    ),
)


def test_some_bands_of_pairs_are_those_bands_with_their_gains():
    pairs = make(*scene())
    two = pairs.with_bands([3, 0])
    assert (two.in_chans, two.sensor.ms_gains, two.sensor.bands) == (2, (0.22, 0.34), ("NIR", "blue"))
    assert two.sensor.wavelengths == (810, 492) and two.wavelengths is None
    for part in ("val", "test", "full"):
        one, other = getattr(pairs, part)[0], getattr(two, part)[0]
        assert torch.equal(other.ms, one.ms[[3, 0]]) and torch.equal(other.guide, one.guide)
        assert torch.equal(other.ms_up, one.ms_up[[3, 0]])
    assert torch.equal(two.train[0].blurred, pairs.train[0].blurred[[3, 0]])
    assert replace(pairs, wavelengths=(492, 551, 654, 810)).with_bands([2]).wavelengths == (654,)
    assert replace(pairs, sensor=get_sensor("generic")).with_bands([1]).sensor.ms_gains == (0.3,)
    with pytest.raises(ValueError, match=r"bands is \[4\]; expected some of 0 to 3"):
        pairs.with_bands([4])


def test_what_pairs_say_of_themselves_is_one_line():
    rng = np.random.default_rng(0)
    pairs = wald_pairs(rng.uniform(1, 9, (64, 48, 4)), rng.uniform(1, 9, (256, 192)), sensor="QB", maximum=9, name="x")
    assert repr(pairs) == (
        "FusionPairs('x': 4 bands, a guide of 1, ratio 4, sensor QB; 1 train, 1 val, 1 test, 1 full)"
    )
    assert repr(pairs.test[0]) == "FusionPair('x, test': ms (4, 5, 12), guide (1, 20, 48), with truth)"
    assert "\n" not in repr(pairs.train[0])


def test_whole_training_images_are_there_to_judge_on():
    generator = torch.Generator().manual_seed(0)
    gt, guide = (torch.rand(n, 48, 40, generator=generator) for n in (3, 1))
    image = training_image("moon, train", gt, guide, ratio=4, sensor="generic")
    pairs = FusionPairs("moon", 4, get_sensor("generic"), 1.0, (image,), cut=21)
    judged = pairs.to_judge()
    assert not judged.train and not judged.val and judged.cut == 10
    (pair,) = judged.test
    assert pair.name == "moon, whole" and torch.equal(pair.gt, gt)
    with pytest.raises(SceneError, match="no training images to judge on"):
        judged.to_judge()
