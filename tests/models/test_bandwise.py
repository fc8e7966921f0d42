"""The network for any images: units and sizes make no difference, tiles are the whole image, and how it mixes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import hsmamba
from hsmamba.baselines import BackProjection
from hsmamba.baselines.regression import LowPass
from hsmamba.data import upsample
from hsmamba.data.sensors import Sensor
from hsmamba.models.bandwise import _GAINS, Sums
from tests.models.samples import tiny


def pair(bands=3, channels=1, side=24, ratio=4):
    """Images with structure at all scales, bands partly of the guide."""
    rng = np.random.default_rng(0)
    guide = torch.from_numpy(rng.random((1, channels, side, side)))
    guide = upsample(guide, ratio) + 0.2 * torch.from_numpy(rng.random((1, channels, ratio * side, ratio * side))) + 1
    low = guide.mean(1, keepdim=True)[..., ratio // 2 :: ratio, ratio // 2 :: ratio]
    ms = low * torch.linspace(0.5, 1.5, bands)[:, None, None] + 0.1 * torch.from_numpy(
        rng.random((1, bands, side, side))
    )
    return ms, guide


def make(trained=True, **sizes):
    torch.manual_seed(0)
    model = tiny("bandwise", **{"in_chans": 3, **sizes}).double().eval()
    if trained:
        torch.nn.init.normal_(model.tail.weight, std=0.05)
    return model


@settings(max_examples=8, deadline=None)
@given(low=st.lists(st.floats(1e-3, 1e4), min_size=3, max_size=3), high=st.floats(1e-3, 1e4))
def test_units_of_bands_and_guide_come_out_again(low, high):
    ms, guide = pair()
    model, gains = make(), torch.tensor(low).double()[:, None, None]
    with torch.no_grad():
        torch.testing.assert_close(model(ms * gains, guide * high) / gains, model(ms, guide), rtol=1e-6, atol=1e-8)


def test_bands_are_sharpened_one_by_one():
    ms, guide = pair()
    model = make()
    with torch.no_grad():
        whole = model(ms, guide)
        for band in range(3):
            alone = model.resized(1, 1, 4)(ms[:, band : band + 1], guide)
            torch.testing.assert_close(alone[:, 0], whole[:, band], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("bands", "channels", "ratio"), [(1, 1, 2), (5, 1, 3), (6, 4, 2), (12, 3, 4)])
def test_one_weight_serves_any_sizes(bands, channels, ratio):
    ms, guide = pair(bands, channels, 12, ratio)
    model = make()
    other = model.resized(bands, channels, ratio)
    assert other.sizes == {"in_chans": bands, "guide_chans": channels, "scale": ratio}
    assert model.sizes == {"in_chans": 3, "guide_chans": 1, "scale": 4}
    assert all(a is b for a, b in zip(model.parameters(), other.parameters(), strict=True))
    images = (ms[0].permute(1, 2, 0).numpy(), guide[0].permute(1, 2, 0).numpy())
    fused = hsmamba.fuse(model, *images, progress=False)
    with torch.no_grad():
        np.testing.assert_allclose(fused, other(ms, guide)[0].permute(1, 2, 0).numpy(), rtol=1e-9)


def test_integers_of_any_unit_come_out_in_that_unit():
    ms, guide = (x[0].permute(1, 2, 0).numpy() for x in pair())
    model = make(trained=False)
    counts = hsmamba.fuse(model, (ms * 9000).astype(np.uint16), (guide * 5000).astype(np.uint16), progress=False)
    plain = hsmamba.fuse(model, ms, guide, progress=False)
    assert counts.dtype == np.uint16
    np.testing.assert_allclose(counts / 9000, plain.clip(0), atol=0.01)


def test_tiles_are_the_whole_image():
    model = make(scale=2)
    ms, guide = (x[0].permute(1, 2, 0).numpy() for x in pair(side=180, ratio=2))
    whole = hsmamba.fuse(model, ms, guide, tile=180, progress=False)
    np.testing.assert_allclose(hsmamba.fuse(model, ms, guide, tile=50, progress=False), whole, atol=1e-9)


def test_without_ms_its_samples_are_found_in_the_up_sampled_image():
    ms, guide = pair()
    model = make()
    with torch.no_grad():
        torch.testing.assert_close(model(None, guide, upsample(ms, 4)), model(ms, guide), rtol=1e-9, atol=1e-9)


def test_an_untrained_one_is_consistent_and_mixes_by_the_scale_below():
    ms, guide = pair(side=64)
    model = make(trained=False)
    with torch.no_grad():
        sums = model.measure(guide, upsample(ms, 4), (slice(None), slice(None)))
        fused = model(ms, guide)
    mix = sums.mix(model.usual.detach())
    assert mix.shape == (1, 3, 6) and sums.count == 64 * 64
    least = torch.linalg.solve(sums.products, sums.matches)

    def error(shares):
        return torch.einsum("bck,bckl,bcl->bc", shares, sums.products, shares) - 2 * (shares * sums.matches).sum(2)

    equal = torch.full_like(mix, 1 / 6)
    assert bool((error(least) <= error(mix)).all()) and bool((error(mix) <= error(equal)).all())
    left = [float((BackProjection("generic", 4, 1)(x, ms) - x).abs().mean()) for x in (upsample(ms, 4), fused)]
    assert left[1] < 0.3 * left[0]


def test_images_too_small_to_tell_are_mixed_as_usual():
    ms, guide = pair(side=8)
    model = make()
    torch.testing.assert_close(model.usual, torch.full((6,), 1 / 6).double())
    sums = model.measure(guide, upsample(ms, 4), (slice(None), slice(None)))
    assert sums.count == 0
    usual = torch.tensor([0.1, 0.3, 0.2, 0.0, 0.1, 0.3]).double()
    torch.testing.assert_close(sums.mix(usual), usual.expand(1, 3, 6))


def seen_by(gains, ratio=4, share=1.0):
    """A guide, and bands that sensors of these MTFs see of it, besides as much of something else as the guide lacks."""
    rng = np.random.default_rng(1)
    scenes = torch.from_numpy(rng.random((1, 2, 48 * ratio, 48 * ratio)))
    guide, other = LowPass(Sensor("soft", (0.7,), 0.3), 2, 2).down(upsample(scenes, 2)).split(1, dim=1)
    scene = share * guide + (1 - share) * other + 1
    return LowPass(Sensor("own", gains, 0.15), len(gains), ratio).down(scene.expand(-1, len(gains), -1, -1)), guide


@pytest.mark.parametrize("ratio", [3, 4])
def test_the_mtf_of_each_band_is_found_where_the_guide_explains_it(ratio):
    gains = (0.18, 0.24, 0.3, 0.36, 0.42)
    ms, guide = seen_by(gains, ratio)
    model = make(trained=False, in_chans=5, scale=ratio)
    kinds = model.measured(ms, guide).blur.kinds(ratio)[0]
    found = [_GAINS[kind] for kind in kinds]
    assert found == sorted(found) and found[2] == pytest.approx(0.3)
    assert sum(abs(a - b) for a, b in zip(found, gains, strict=True)) < 0.6 * sum(abs(0.3 - b) for b in gains)


def test_a_band_that_the_guide_does_not_explain_has_the_usual_mtf():
    ms, guide = seen_by((0.2, 0.4), share=0.1)
    kinds = make(trained=False, in_chans=2).measured(ms, guide).blur.kinds(4)
    assert [_GAINS[kind] for kind in kinds[0]] == pytest.approx([0.3, 0.3])
    constant = make(trained=False, in_chans=2).measured(torch.ones_like(ms), guide).blur.kinds(4)
    assert [_GAINS[kind] for kind in constant[0]] == pytest.approx([0.3, 0.3])


def test_what_lies_at_one_border_says_nothing_at_the_opposite_one():
    ms, guide = pair(side=24, ratio=2)
    ms, guide = ms.repeat(1, 1, 1, 9), guide.repeat(1, 1, 1, 9)
    model = make(scale=2)
    with torch.no_grad():
        model.set_image(model.measured(ms, guide))
        before = model(ms, guide)
        ms[..., -8:] += 5
        after = model(ms, guide)
    reach = 2 * (24 * 9 - 8 - model.margin)
    assert reach > 0
    torch.testing.assert_close(after[..., :reach], before[..., :reach], rtol=1e-9, atol=1e-9)
    assert float((after - before)[..., -16:].abs().max()) > 1


def test_sums_of_parts_add_up():
    ms, guide = pair(side=32)
    model, up = make(), upsample(ms, 4)
    sums = model.measure(guide, up, (slice(None), slice(None)))
    twice = sums + sums
    assert isinstance(twice, Sums) and twice.count == 2 * sums.count
    torch.testing.assert_close(twice.moments.levels, sums.moments.levels)
    assert torch.equal(twice.products, 2 * sums.products)
    halves = [model.measure(guide, up, (slice(None), side)).blur for side in (slice(0, 64), slice(64, 128))]
    for part in ("bands", "guide", "both"):
        together = getattr(halves[0], part) + getattr(halves[1], part)
        torch.testing.assert_close(together, getattr(sums.blur, part))
    assert halves[0].count + halves[1].count == sums.blur.count == 32 * 32


def test_the_images_of_a_batch_are_sharpened_each_for_itself():
    ms, guide = pair(side=16)
    model = make()
    other = ms.flip(2) ** 2, guide.flip(2) + guide.square()
    with torch.no_grad():
        both = model(torch.cat([ms, other[0]]), torch.cat([guide, other[1]]))
        torch.testing.assert_close(both, torch.cat([model(ms, guide), model(*other)]), rtol=1e-9, atol=1e-9)


def test_a_constant_band_and_a_constant_guide_stay():
    ms, guide = pair()
    ms[:, 1] = 7
    with torch.no_grad():
        fused = make()(ms, guide)
        torch.testing.assert_close(fused[:, 1], torch.full_like(fused[:, 1], 7.0))
        assert torch.isfinite(make()(ms, torch.full_like(guide, 3.0))).all()


def test_sizes_below_one_are_refused():
    with pytest.raises(ValueError, match=r"must be 1 or more; got 4, \[0\], 3"):
        tiny("bandwise", dilations=(0,))


def test_weights_for_one_size_say_so():
    model = tiny("ramsf", in_chans=4)
    assert model.resized(4, 1, 4) is model
    with pytest.raises(
        ValueError, match="are for 4 bands, 1 of the guide and ratio 4, not 6, 1 and 2; create the model"
    ):
        model.resized(6, 1, 2)


def test_other_grids_are_refused_with_the_reason():
    with pytest.raises(hsmamba.errors.SceneError, match="two or more times as many rows and columns"):
        hsmamba.fuse(make(), np.ones((10, 10, 3)), np.ones((25, 25)), progress=False)


def test_it_comes_back_from_a_folder_for_any_sizes(tmp_path):
    model = make().float()
    hsmamba.save_pretrained(model, tmp_path, license="MIT", data={"name": "toy", "source": "made"}, metrics={})
    again = hsmamba.create_model(f"local-dir:{tmp_path}", in_chans=5, scale=2)
    assert again.sizes == {"in_chans": 5, "guide_chans": 1, "scale": 2}
    ms, guide = (x[0].permute(1, 2, 0).numpy() for x in pair(4, 1, 16, 3))
    np.testing.assert_array_equal(
        hsmamba.fuse(again, ms, guide, progress=False), hsmamba.fuse(model, ms, guide, progress=False)
    )
