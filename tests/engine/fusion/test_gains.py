"""Gains: images come to the brightness of the training, and their results back."""

import dataclasses
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import hsmamba
from hsmamba.data import Compose, SensorScale
from hsmamba.data.pairs import crops
from hsmamba.data.units import robust_mean
from hsmamba.engine.fusion.evaluate import predict
from hsmamba.engine.fusion.gains import with_gains
from hsmamba.engine.fusion.images import Image, Images
from hsmamba.engine.fusion.train import FusionSettings, _brightened
from hsmamba.errors import HsmambaWarning
from hsmamba.ops.resampling import upsample
from tests.engine.fusion.toys import images as scene

LOW, HIGH = [[0.2, 0.3, 0.4, 0.5], [0.4]], [[0.2, 0.3, 0.4, 0.5], [0.4]]


class Bent(nn.Module):
    """A network that is not linear, so that it matters how bright what it sees is."""

    in_chans, guide_chans, scale, margin = 4, 1, 4, 0

    def __init__(self, low=LOW, high=HIGH, maximum=1000):
        super().__init__()
        self.zero = nn.Parameter(torch.zeros(1))
        rng = np.random.default_rng(0)
        self.transform = Compose([SensorScale(1 / maximum), SensorScale(1 / maximum, on="aux")])
        for on, a, b in zip(("hsi", "aux"), low, high, strict=True):
            pixels = rng.uniform(0.2, 1, (500, len(a))) * maximum
            self.transform.note_range(on, pixels, np.stack([a, b]))

    def forward(self, ms, guide, ms_up):
        return ms_up + 0.2 * guide**2 + self.zero


def pair(seed=0, rows=24, columns=20):
    rng = np.random.default_rng(seed)
    return rng.uniform(150, 900, (rows, columns, 4)), rng.uniform(150, 900, (4 * rows, 4 * columns))


def fuse(model, ms, guide, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return hsmamba.fuse(model, ms, guide, progress=False, **options)


def factors(model, ms, guide):
    given = Images(Image(ms, 1e-3), Image(guide[..., None], 1e-3), None, 4, fill=False)
    found = with_gains(model, given)
    return found.ms.factor / 1e-3, found.guide.factor / 1e-3


def by_hand(ms, guide, wanted=LOW):
    """The gains in plain numpy: one for all bands, and what a band lies beyond 1.6 times the others' share."""

    def mean(pixels):
        low, high = np.quantile(pixels, [0.01, 0.99], axis=0)
        return np.clip(pixels, low, high).mean(axis=0)

    def ratio(pixels, wanted):
        found = mean(pixels) * 1e-3
        return np.clip(found, np.array(wanted) / 1.02, np.array(wanted) * 1.02) / found

    ratios = ratio(ms.reshape(-1, ms.shape[2]), wanted[0])
    common = np.prod(ratios) ** (1 / len(ratios))
    beyond = [max(r / common / 1.6, 1) * min(r / common * 1.6, 1) for r in ratios]
    return common * np.array(beyond), ratio(guide.reshape(-1, 1), wanted[1])


@pytest.mark.parametrize("colour", [(1, 1, 1, 1), (1, 0.1, 1, 3)])
def test_gains_against_numpy(colour):
    ms, guide = pair()
    for found, expected in zip(factors(Bent(), ms * colour, guide), by_hand(ms * colour, guide), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_what_the_network_sees_is_matched_and_the_result_is_brought_back():
    ms, guide = pair()
    low, high = by_hand(ms, guide)
    up = upsample(torch.from_numpy(ms).permute(2, 0, 1)[None], 4)[0].permute(1, 2, 0).numpy()
    expected = up + 0.2 * (guide[..., None] * 1e-3 * high) ** 2 / low * 1000
    np.testing.assert_allclose(fuse(Bent(), ms, guide), expected, rtol=1e-5, atol=1e-3)
    plain = up + 0.2 * (guide[..., None] * 1e-3) ** 2 * 1000
    np.testing.assert_allclose(fuse(Bent(), ms, guide, gains=None), plain, rtol=1e-5, atol=1e-3)


@settings(max_examples=10, deadline=None)
@given(low=st.floats(1, 1.6), high=st.floats(1, 1.6))
def test_how_much_brighter_an_image_is_is_only_a_factor_of_the_result(low, high):
    ms, guide = pair()
    np.testing.assert_allclose(
        fuse(Bent(), ms * low, guide * high), fuse(Bent(), ms, guide) * low, rtol=1e-5, atol=1e-3
    )


def test_tiles_are_matched_as_the_whole_image_is():
    ms, guide = pair(rows=300, columns=37)
    ms[:150] *= 0.5
    whole = fuse(Bent(), ms, guide, tile=300)
    np.testing.assert_allclose(fuse(Bent(), ms, guide, tile=16), whole, rtol=1e-5)


def test_an_image_between_the_training_images_stays_as_it_is():
    ms, guide = pair()
    model = Bent([[0.1] * 4, [0.1]], [[0.9] * 4, [0.9]])
    assert np.array_equal(fuse(model, ms, guide), fuse(model, ms, guide, gains=None))


def test_invalid_and_empty_pixels_have_no_say():
    ms, guide = pair()
    expected = factors(Bent(), ms[:, 8:], guide[:, 32:])
    ms[:, :8], guide[:, :32] = 0, 0
    assert all(map(np.allclose, factors(Bent(), ms, guide), expected))
    ms[:, :8], guide[:, :32] = np.nan, np.nan
    assert all(map(np.allclose, factors(Bent(), ms, guide), expected))


def test_a_band_without_a_mean_is_told_and_nothing_is_matched():
    ms, guide = pair()
    ms[..., 2] = 0
    with pytest.warns(HsmambaWarning, match=r"brightness is not matched .*, 0, .* in ms.*gains=None"):
        found = hsmamba.fuse(Bent(), ms, guide, progress=False)
    np.testing.assert_array_equal(found, fuse(Bent(), ms, guide, gains=None))


def test_units_are_still_refused_before():
    ms, guide = pair()
    with pytest.raises(hsmamba.errors.SceneError, match="not like those that the network was trained on"):
        fuse(Bent(), ms / 100, guide / 100)


def test_another_word_is_refused():
    with pytest.raises(ValueError, match=r'gains is \'yes\'; expected "match" .* or None'):
        fuse(Bent(), *pair(), gains="yes")


def test_evaluate_shows_what_fuse_gives(pairs):
    darker = [LOW[0], [0.25]]
    model, image = Bent(darker, darker, maximum=2047), pairs.test[0]
    ms, guide = (tensor.permute(1, 2, 0).numpy() * 2047 for tensor in (image.ms, image.guide))
    for gains in ("match", None):
        fused = torch.from_numpy(fuse(model, ms, guide, gains=gains) / 2047).permute(2, 0, 1)
        torch.testing.assert_close(predict(model, image, gains=gains), fused.clamp(0, 1), atol=1e-5, rtol=0)
    assert (predict(model, image) - predict(model, image, gains=None)).abs().max() > 1e-3


def test_finetune_notes_the_means_of_its_images_and_a_file_keeps_them(pairs, tmp_path):
    model = hsmamba.create_model("ramsf", in_chans=4, dim=8, mlp_dims=(8,))
    hsmamba.finetune(
        model, dataclasses.replace(pairs, val=()), epochs=1, steps=1, batch_size=1, crop=16, progress=False
    )
    model.transform.save(tmp_path / "t.safetensors")
    again = Compose.load(tmp_path / "t.safetensors")
    ms = scene()[0][:64] / 2047  # training is the upper part
    for on, chans in (("hsi", 4), ("aux", 1)):
        means = again.range(on).means
        assert means.shape == (2, chans) and np.array_equal(means, model.transform.range(on).means)
    np.testing.assert_allclose(again.range("hsi").means[0], robust_mean(ms.reshape(-1, 4)), rtol=0.02)


def test_jitter_keeps_the_truth_with_its_bands(pairs):
    generator = torch.Generator().manual_seed(0)
    plain = crops(pairs.unturned(), 3, 16, 4, generator, augment=False)
    bright = _brightened(plain, 0.5, generator)
    low = bright.ms / plain.ms
    gains = low.mean(dim=(2, 3), keepdim=True)
    torch.testing.assert_close(low, gains.expand_as(low))
    torch.testing.assert_close(bright.gt, plain.gt * gains)
    torch.testing.assert_close(bright.ms_up, plain.ms_up * gains)
    assert gains.flatten().unique().numel() == 12
    assert (gains.log().abs() <= 0.5 + 1e-6).all() and gains.log().abs().max() > 0.2
    with pytest.raises(ValueError, match="gain_jitter is -1"):
        FusionSettings(gain_jitter=-1.0)
