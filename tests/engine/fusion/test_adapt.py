"""Tuning on a user's own pair: what is compared and held out, what is used, what is left alone."""

import dataclasses
import logging
import re

import numpy as np
import pytest
import torch
from torch import nn

import hsmamba
from hsmamba.baselines import BASELINES, BackProjection
from hsmamba.data.sensors import get_sensor
from hsmamba.engine import Adapt
from hsmamba.engine.fusion import adapt as _adapt
from hsmamba.engine.fusion.adapt import adapt_to_pairs
from hsmamba.engine.fusion.candidates import Blend, Consistent
from hsmamba.engine.fusion.classical import methods_for
from hsmamba.engine.fusion.heldout import _divided, cut_parts, with_derived
from hsmamba.engine.fusion.images import Image, Images
from hsmamba.engine.fusion.job import prepare_fusion
from hsmamba.errors import SceneError, TrainingError
from tests.engine.fusion.toys import Copy, images, make, same
from tests.models.samples import tiny

QUICK = {"maximum": 2047, "progress": False}
FIGURES = ("SAM", "ERGAS", "Q2n")
CLASSICAL = list(BASELINES)


def small(rows=48, columns=64, dtype=np.float64):
    ms, pan = images(rows, columns)
    return ms.astype(dtype), pan.astype(dtype)


def adapted(model, ms, pan, how, **options):
    return prepare_fusion(model, ms, pan, adapt=how, **QUICK | options)


def ran(job):
    result = np.empty(job.shape, job.dtype)

    def keep(top, rows):
        result[top : top + len(rows)] = rows

    job.run(keep)
    return result


def tuned_alone(job):
    """The same job by its tuned network without a classical method beside it, whatever was chosen."""
    network = tuned_alone.seen[-1]
    return dataclasses.replace(job, adaptation=dataclasses.replace(job.adaptation, chosen=network))


@pytest.fixture(autouse=True)
def seen(monkeypatch):
    """Remember the tuned networks that are made."""
    tuned_alone.seen = []
    made = _adapt.Tuned.__init__

    def remember(self, *args):
        made(self, *args)
        tuned_alone.seen.append(self)

    monkeypatch.setattr(_adapt.Tuned, "__init__", remember)


@pytest.mark.parametrize("name", ["ramsf", "cf2n"])
def test_what_is_used_is_never_worse_than_the_best_classical_method(name, caplog):
    ms, pan = small()
    model = make(name)
    before = make(name)
    with caplog.at_level(logging.INFO, logger="hsmamba"):
        job = adapted(model, ms, pan, Adapt(steps=3))
    report = job.adaptation.report
    plain = [*CLASSICAL, name, "fitted filters", f"{name}, tuned"]
    theirs, ours, *means = list(report.figures)[len(plain) :]
    assert list(report.figures)[: len(plain)] == plain
    assert re.fullmatch(rf"{report.classical}, (1|3|10) x back-projected( in proportion)?", theirs)
    assert re.fullmatch(r".*(filters|tuned).*, (1|3|10) x back-projected( in proportion)?", ours)
    assert means and all(
        re.fullmatch(r"(.* \d+ %, )+(1|3|10) x back-projected( in proportion)?", mean) for mean in means
    )
    mine, theirs = report.figures[report.used], report.figures[report.classical]
    for classical in CLASSICAL:
        assert all(mine[key] <= report.figures[classical][key] for key in ("SAM", "ERGAS"))
        assert mine["Q2n"] >= report.figures[classical]["Q2n"]
    assert report.used not in CLASSICAL and report.steps == 3
    assert mine["ERGAS"] < 0.9 * theirs["ERGAS"]  # the toy's bands are linear in the guide, which filters learn
    assert report.headline in caplog.text and report.used in report.headline
    assert report._repr_html_().count("<tr>") == 2 + len(report.figures)
    assert same(model, before) and model.transform is None and model.training == before.training
    assert ran(job).shape == (*pan.shape, 4)


def test_steps_make_it_the_same_whatever_the_clock_says():
    ms, pan = small()
    one, two, other = (ran(adapted(make(), ms, pan, Adapt(steps=2, seed=seed))) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()


def test_a_blend_is_the_mean_of_what_it_is_made_of():
    ms, pan = small()
    job = adapted(make(), ms, pan, Adapt(steps=0))
    method, network = methods_for(1, 4, get_sensor("generic"))["GSA"], tuned_alone.seen[-1]
    one, two, both = (
        ran(dataclasses.replace(job, tile=12, adaptation=dataclasses.replace(job.adaptation, chosen=chosen)))
        for chosen in (method, network, Blend(((method, 0.75), (network, 0.25))))
    )
    np.testing.assert_allclose(both, 0.75 * one + 0.25 * two, rtol=1e-5)
    assert np.abs(one - two).max() > 1


@pytest.mark.slow
@pytest.mark.parametrize("dark", [None, torch.full((4,), 0.1)])
@pytest.mark.parametrize("rows", [4, 13])
def test_what_is_made_consistent_row_by_row_is_that_of_the_whole_image(rows, dark, monkeypatch):
    ms, pan = small(64, 32)
    project = BackProjection("generic", 4, 3, dark=dark)
    job = adapted(make(), ms, pan, Adapt(steps=0))
    plain, both = (
        dataclasses.replace(job, tile=9, adaptation=dataclasses.replace(job.adaptation, chosen=chosen))
        for chosen in (tuned_alone.seen[-1], Consistent(tuned_alone.seen[-1], project))
    )
    monkeypatch.setattr("hsmamba.engine.fusion.candidates._ROWS", rows)
    tensors = [torch.from_numpy(np.asarray(x)).permute(2, 0, 1)[None] / 2047 for x in (ran(plain), ms)]
    want = 2047 * project(*tensors)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(ran(both), want, rtol=1e-4)
    assert np.abs(want / ran(plain) - 1).max() > 1e-3


@pytest.mark.slow
def test_seconds_end_the_training():
    ms, pan = small()
    report = adapted(make(), ms, pan, 4).adaptation.report
    assert report.steps > 0 and report.seconds < 20
    late = adapted(make(), ms, pan, 1e-3).adaptation.report
    assert late.steps == 0 and "no time left" in late.notes[0] and late.used.startswith("fitted filters")
    assert "no time left" in str(late)


def test_only_what_is_fair_is_chosen(monkeypatch):
    ms, pan = small()
    monkeypatch.setattr(_adapt.Injection, "fit", lambda self, pairs: self)  # filters that do nothing: EXP
    job = adapted(make(), ms, pan, Adapt(steps=0))
    report = job.adaptation.report
    chosen = job.adaptation.chosen
    assert report.used.startswith(f"{report.classical}, {chosen.projection.rounds} x back-projected")
    assert report.classical in CLASSICAL
    assert report.figures["fitted filters"] == pytest.approx(report.figures["EXP"], abs=1e-4)
    tensors = [torch.from_numpy(x / 2047).permute(2, 0, 1)[None] for x in (ms, pan[..., None])]
    want = BASELINES[report.classical](*tensors, ratio=4, wrap=False)
    projected = chosen.projection(want, tensors[0])
    for method, image in [(chosen, projected), (chosen.inner, want)]:
        got = ran(dataclasses.replace(job, adaptation=dataclasses.replace(job.adaptation, chosen=method)))
        np.testing.assert_allclose(got, image[0].permute(1, 2, 0).numpy() * 2047, rtol=1e-10)


def test_filters_that_leave_more_of_ms_over_than_up_sampling_are_left_out(monkeypatch):
    ms, pan = small()
    fit = _adapt.Injection.fit

    def wild(self, pairs):
        fit(self, pairs)
        if wild.by:
            self.guide_taps.data += wild.by
        return self

    monkeypatch.setattr(_adapt.Injection, "fit", wild)
    for wild.by in (0.0, 2.0):
        report = adapted(make(), ms, pan, Adapt(steps=0)).adaptation.report
        assert ("fitted filters" in report.figures) == (not wild.by) == (not report.notes)
    assert "leave" in report.notes[0] and report.used.startswith(report.classical)


def test_the_classical_method_itself_is_used_where_nothing_is_better(monkeypatch):
    ms, pan = small()
    monkeypatch.setattr(_adapt.Injection, "fit", lambda self, pairs: self)
    monkeypatch.setattr(_adapt._Contest, "enter_consistent", lambda self: None)
    report = adapted(make(), ms, pan, Adapt(steps=0)).adaptation.report
    assert report.used == report.classical in CLASSICAL and "is best" in report.headline


def test_of_one_band_the_angle_tells_nothing():
    ms, pan = small()
    report = adapted(make(in_chans=1), ms[..., :1], pan, Adapt(steps=0)).adaptation.report
    assert {figures["SAM"] for figures in report.figures.values()} == {0.0}
    assert report.figures[report.used]["ERGAS"] < 0.9 * report.figures[report.classical]["ERGAS"]


def test_what_is_used_at_another_scale_is_a_mean_where_one_is_fair(pairs):
    ms, pan = small()
    report = adapted(make(), ms, pan, Adapt(steps=0)).adaptation.report
    assert " %" in report.used and "ramsf" not in report.used  # a network that has learnt nothing is part of none


@pytest.mark.parametrize("margin", [0.0, 9.0])
def test_of_a_small_image_a_mean_is_used_before_one_method_that_is_little_better(pairs, margin, monkeypatch):
    monkeypatch.setattr(_adapt, "_LITTLE", margin)
    monkeypatch.setattr(_adapt, "mean_of", lambda results, held: ({0: 0.5, 1: 0.5}, half_of(results)))
    report = adapt_to_pairs(make(), pairs, Adapt(steps=0)).report
    wrong = {name: np.log([x["SAM"], x["ERGAS"], 1 - x["Q2n"]]).sum() for name, x in report.figures.items()}
    assert (report.used == min(wrong, key=wrong.get)) == (margin == 0)
    assert (" %" in report.used) == (margin > 0)


def half_of(results):
    """Means of the last two of some results, the filters among them."""
    return [(a + b) / 2 for a, b in zip(*results[-2:], strict=True)]


def test_of_a_small_image_the_filters_stand_where_they_were_not_fitted(monkeypatch):
    ms, pan = small()
    fitted = []
    fit = _adapt.Injection.fit

    def remember(self, pairs):
        fitted.append((self, sum(pair.guide[0].numel() for pair in pairs)))
        return fit(self, pairs)

    monkeypatch.setattr(_adapt.Injection, "fit", remember)
    job = adapted(make(), ms, pan, Adapt(steps=0))
    sizes = [size for _, size in fitted]
    assert len(fitted) == 5 and max(sizes[:4]) < sizes[4] == 48 * 64
    assert tuned_alone(job).adaptation.chosen.base is fitted[-1][0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ramsf", "rsanet"])
def test_tiles_of_a_tuned_network_equal_the_whole_image(name):
    ms, pan = small(48, 96)
    model = tiny(name, in_chans=4, guide_chans=1, scale=4)
    job = tuned_alone(adapted(model, ms, pan, Adapt(steps=1)))
    network = job.adaptation.chosen
    whole = ran(dataclasses.replace(job, tile=1000))
    np.testing.assert_allclose(ran(dataclasses.replace(job, tile=9)), whole, rtol=1e-5)
    assert network.margin is not None


def test_a_global_network_runs_in_windows_whose_filters_see_beyond_them():
    ms, pan = small(48, 48)
    job = tuned_alone(adapted(make("cf2n"), ms, pan, Adapt(steps=0)))
    assert job.adaptation.chosen.margin == 1
    tuned = tuned_alone(adapted(make("cf2n"), ms, pan, Adapt(steps=2)))
    assert tuned.adaptation.chosen.margin is None
    tuned.adaptation.chosen.share = 0.0
    apart = np.abs(ran(tuned) / ran(job) - 1)
    assert apart.max() < 0.01 and (apart > 1e-4).mean() < 0.002  # where windows end at the border of the image


@pytest.mark.parametrize("ratio", [2, 3])
def test_other_ratios_and_guides_of_several_channels(ratio):
    rng = np.random.default_rng(0)
    guide = rng.normal(size=(60 * ratio, 40 * ratio, 3)).cumsum(0).cumsum(1)
    guide = 1000 + 100 * guide / guide.std((0, 1))
    ms = guide.reshape(60, ratio, 40, ratio, 3).mean((1, 3)) @ rng.uniform(0.2, 1, (3, 5))
    model = make("cf2n", in_chans=5, guide_chans=3, scale=ratio)
    report = adapted(model, ms, guide, Adapt(steps=1), maximum=4095).adaptation.report
    assert "Brovey" not in report.figures and len(report.figures) >= len(BASELINES) + 4
    assert report.figures[report.used]["ERGAS"] <= report.figures[report.classical]["ERGAS"]


def test_units_and_dtype_stay_and_invalid_pixels_are_no_ground_to_learn_from():
    ms, pan = small(64, 64, np.uint16)
    ms[10:14, 20:26], pan[200:203, 30] = 0, 0
    xr = pytest.importorskip("xarray")
    low, high = (
        xr.DataArray(x.reshape(*x.shape[:2], -1), dims=("y", "x", "band"), attrs={"_FillValue": 0}) for x in (ms, pan)
    )
    job = adapted(make(), low, high, Adapt(steps=1), nan="mask")
    got = job.on_grid(ran(job))
    plain = hsmamba.fuse(make(), low, high, nan="mask", **QUICK)
    assert got.dtype == np.uint16 and got.attrs == plain.attrs and got.dims == plain.dims
    np.testing.assert_array_equal(got.values == 0, plain.values == 0)
    assert abs(float(got.where(got > 0).mean()) - ms[ms > 0].mean()) < 20
    parts = cut_parts(dataclasses.replace(job.images), get_sensor("generic"), 0)
    seen = [*parts.folds[0], *(part.pair for part in parts.held)]
    values = torch.cat([torch.as_tensor(pair.gt).flatten() for pair in seen])
    assert float(values.min()) * 2047 == pytest.approx(ms[ms > 0].min(), rel=0.1)


def places(pixels):
    """Where the pixels (2, N) of an image lie that holds its rows and columns."""
    return {tuple(x) for x in pixels.T.int().tolist()}


@pytest.mark.parametrize("enough", [1, 2**14])
def test_no_pixel_is_tuned_on_and_held_out(enough, monkeypatch):
    monkeypatch.setattr("hsmamba.engine.fusion.heldout._ENOUGH", enough)
    rows, columns = np.mgrid[:80, :96]
    ms = np.stack([rows, columns, np.ones_like(rows)], -1) + 1.0
    guide = np.ones((160, 192, 1))
    parts = cut_parts(Images(Image(ms), Image(guide), None, 2, fill=False), get_sensor("generic"), 0)
    assert len(parts.folds) == (1 if enough == 1 else 4) and bool(parts.every) == (enough > 1)
    compared = set()
    for number, pairs in enumerate(parts.folds):
        tuned = set().union(*(places(torch.as_tensor(pair.gt)[:2].flatten(1)) for pair in pairs))
        held = set().union(*(places(torch.as_tensor(part.pair.gt)[:2, part.fold == number]) for part in parts.held))
        assert tuned and held and not tuned & held and not held & compared
        gap = min(abs(a - c) + abs(b - d) for a, b in list(tuned)[::7] for c, d in list(held)[::7])
        assert gap >= 8
        compared |= held
        if number == 0:
            assert parts.share == pytest.approx(len(held) / (80 * 96)) and f"; tuned on {len(tuned)}" in parts.words
    assert len(compared) == sum(part.fold.numel() for part in parts.held)
    if enough > 1:
        assert len(compared) == 80 * 96 and "held out in 4 turns: 80 x 96 pixels of ms" in parts.words


def test_of_a_large_image_some_cells_are_looked_at():
    good = np.ones((600, 700), bool)
    folds, again, other = (_divided(good, 2, seed) for seed in (0, 0, 1))
    assert [held for held, _ in folds] == [held for held, _ in again] != [held for held, _ in other]
    assert len(folds) == 4
    for held, rest in folds:
        assert len(held) == 4 and 8 * 64**2 < rest.sum() < 13 * 70**2
        assert not any(rest[box].any() for box in held)


def test_what_is_derived_of_a_guide_in_strips_is_that_of_the_whole(monkeypatch):
    ms, pan = small(48, 32)
    pair = Images(Image(ms), Image(pan[..., None]), None, 4, fill=False)
    whole = with_derived(pair, get_sensor("QB")).derived.array
    monkeypatch.setattr("hsmamba.engine.fusion.heldout._CELL", 7)
    np.testing.assert_allclose(with_derived(pair, get_sensor("QB")).derived.array, whole, rtol=1e-5)
    assert whole.shape == (48, 32, 2)
    left = whole[..., 0] - whole[..., 1]
    assert abs(left.mean()) < 1e-2 and left.std() < 0.5 * whole[..., 0].std()


def test_small_images_work_and_smaller_ones_are_refused():
    ms, pan = images(48, 48)
    report = adapted(make(), ms, pan, Adapt(steps=1)).adaptation.report
    assert "held out in 4 turns: 48 x 48 pixels of ms (25 % of it at once)" in report.parts
    with pytest.raises(SceneError, match=r"ms has 12 x 8 .*must be 16 x 8 at ratio 4: leave adapt out, or"):
        adapted(make(), ms[:12, :8], pan[:48, :32], Adapt(steps=1))
    assert adapted(make(), ms[:16, :8], pan[:64, :32], Adapt(steps=1)).adaptation.report.used
    ms[:, 4:] = np.nan
    with pytest.raises(SceneError, match="too few pixels"):
        adapted(make(), ms[:16], pan[:64], Adapt(steps=1), nan="mask")


def test_a_weight_is_corrected_from_where_it_stands(pairs):
    model = make("cf2n")
    hsmamba.finetune(model, pairs, epochs=1, steps=3, batch_size=2, crop=16, progress=False)
    kept = [value.clone() for value in model.state_dict().values()]
    ms, pan = small()
    report = prepare_fusion(model, ms, pan, adapt=Adapt(steps=2), progress=False).adaptation.report
    assert report.steps == 2
    assert all(torch.equal(a, b) for a, b in zip(kept, model.state_dict().values(), strict=True))


def test_a_module_of_ones_own_and_a_training_that_fails(monkeypatch):
    ms, pan = small()
    model = Copy(scale=4, in_chans=4)
    report = adapted(model, ms, pan, Adapt(steps=2)).adaptation.report
    assert report.figures["Copy"] == pytest.approx(report.figures["EXP"], rel=1e-3)

    def fail(*args, **kwargs):
        raise TrainingError("epoch 1: the loss is nan")

    monkeypatch.setattr(_adapt, "tune", fail)
    report = adapted(model, ms, pan, Adapt(steps=2)).adaptation.report
    assert report.used.startswith("fitted filters") and "the loss is nan" in report.notes[0] and report.steps == 0


@pytest.mark.parametrize(
    ("how", "error", "text"),
    [
        ("60", TypeError, "adapt is '60'; expected seconds"),
        (True, TypeError, "adapt is True"),
        (0, ValueError, "seconds is 0"),
        (float("nan"), ValueError, "seconds is nan"),
    ],
)
def test_what_is_no_time_is_refused(how, error, text):
    with pytest.raises(error, match=text):
        hsmamba.fuse(make(), *small(), adapt=how, **QUICK)


def test_settings_that_make_no_sense_are_refused():
    for given, text in [
        ({}, "either seconds or steps"),
        ({"seconds": 1, "steps": 1}, "either seconds or steps"),
        ({"steps": -1}, "steps is -1"),
        ({"steps": 1, "seed": 0.5}, "seed is 0.5"),
        ({"steps": 1, "sensor": "landsat"}, "unknown sensor"),
    ]:
        with pytest.raises(ValueError, match=text):
            Adapt(**given)
    ms, pan = small()
    with pytest.raises(SceneError, match="without ms_up"):
        hsmamba.fuse(make(), ms, pan, ms_up=np.repeat(np.repeat(ms, 4, 0), 4, 1), adapt=1, **QUICK)
    with pytest.raises(SceneError, match="has 8"):
        hsmamba.fuse(make(), ms, pan, adapt=Adapt(steps=1, sensor="WV3"), **QUICK)


def test_the_sensor_is_that_of_the_weight():
    model = make()
    seen = [_adapt._sensor_of(model, Adapt(steps=1)).name]
    model.record = {"data": {"sensor": "IKONOS"}}
    seen.append(_adapt._sensor_of(model, Adapt(steps=1)).name)
    model.record = {"data": {"sensor": "WV3"}}  # of eight bands
    seen.append(_adapt._sensor_of(model, Adapt(steps=1)).name)
    assert seen == ["generic", "IKONOS", "generic"]
    assert isinstance(model, nn.Module)


def test_pairs_are_adapted_to_on_their_training_image_and_judged_on_their_test_images(pairs):
    adaptation = adapt_to_pairs(make(), pairs, Adapt(steps=1))
    assert adaptation.sensor.name == "QB" and "ramsf, tuned" in adaptation.report.figures
    pair = pairs.test[0]
    error = (adaptation.predict(pair) - pair.gt).square().mean()
    for method in BASELINES.values():
        assert error < (method(pair.ms[None], pair.guide[None], ratio=4, sensor="QB")[0] - pair.gt).square().mean()
    with pytest.raises(SceneError, match="no training images"):
        adapt_to_pairs(make(), dataclasses.replace(pairs, train=()), Adapt(steps=1))
    with pytest.raises(SceneError, match="ms is"):
        adapt_to_pairs(make(in_chans=8), pairs, Adapt(steps=1))
