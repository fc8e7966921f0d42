"""Results that agree with both images: the projection, the response that is fitted for it, and `fuse` with it."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import hsmamba
from hsmamba.baselines import BackProjection
from hsmamba.data.degrade import degrade_ms
from hsmamba.data.pairs import FusionPairs, simulated_pair
from hsmamba.engine.fusion.classical_job import prepare_classical
from hsmamba.engine.fusion.consistency import Response, consistent_method, fit_response
from hsmamba.engine.fusion.evaluate import evaluate_fusion, predict
from hsmamba.engine.fusion.images import Image, Images
from hsmamba.engine.fusion.job import prepare_fusion
from hsmamba.errors import SceneError
from tests.engine.fusion.toys import Copy, ground, make

BANDS, CHANNELS, RATIO = 8, 3, 4


@pytest.fixture(scope="module")
def response():
    return torch.rand(CHANNELS, BANDS, generator=torch.Generator().manual_seed(3), dtype=torch.float64) / 3


@pytest.fixture(scope="module")
def pair(response):
    """A simulated pair whose guide has the response, and its truth."""
    rng = np.random.default_rng(0)
    shapes = np.stack([ground(96, seed) for seed in range(BANDS)])
    truth = torch.from_numpy(0.3 + 0.05 * np.einsum("cd,dhw->chw", rng.normal(size=(BANDS, BANDS)) / 3, shapes)).float()
    guide = torch.einsum("gc,chw->ghw", response.float(), truth)
    return simulated_pair("toy", truth, guide, ratio=RATIO, sensor="generic")


def images(pair, **options):
    ms, guide = (Image(part.permute(1, 2, 0).numpy()) for part in (pair.ms, pair.guide))
    return dataclasses.replace(Images(ms, guide, None, RATIO, fill=False), **options)


def arrays(pair):
    return tuple(part.permute(1, 2, 0).contiguous().numpy() for part in (pair.ms, pair.guide))


def fused(pair, model, **options):
    return hsmamba.fuse(model, *arrays(pair), maximum=1, gains=None, progress=False, **options)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 9))
def test_a_projection_comes_no_further_from_the_truth(seed, channels, bands):
    g = torch.Generator().manual_seed(seed)
    truth, other = (torch.rand(2, bands, 5, 4, generator=g, dtype=torch.float64) for _ in range(2))
    weights, offset = torch.rand(channels, bands, generator=g).double(), torch.rand(channels, generator=g).double()
    guide = torch.einsum("gc,bchw->bghw", weights, truth) + offset[:, None, None]
    found = Response(weights, offset).project(other, guide)
    assert (found - truth).norm() <= (other - truth).norm() * (1 + 1e-9)


def test_what_is_projected_has_the_guide(pair, response):
    start = torch.rand(1, BANDS, 96, 96)
    found = Response(response, torch.zeros(CHANNELS, dtype=torch.float64)).project(start, pair.guide[None])
    assert torch.allclose(torch.einsum("gc,bchw->bghw", response.float(), found), pair.guide[None], atol=1e-5)


def test_the_response_is_found(pair, response):
    found = fit_response(images(pair), "generic")
    assert found.explains == [0, 1, 2]
    assert torch.allclose(found.weights, response, atol=1e-3)
    assert found.offset.abs().max() < 1e-4


def test_the_response_is_that_of_the_numbers_that_the_network_sees(pair, response):
    ms, guide = images(pair).ms, images(pair).guide
    scaled = images(pair, ms=dataclasses.replace(ms, factor=2.0), guide=dataclasses.replace(guide, offset=0.5))
    found = fit_response(scaled, "generic")
    assert torch.allclose(found.weights, response / 2, atol=1e-3)
    assert torch.allclose(found.offset, torch.full((CHANNELS,), 0.5, dtype=torch.float64), atol=1e-3)


def test_a_channel_that_the_bands_do_not_explain_is_left_alone(pair):
    other = torch.from_numpy(ground(96, 77)).float()
    odd = pair._replace(guide=torch.stack([pair.guide[0], other, pair.guide[2]]))
    found = fit_response(images(odd), "generic")
    assert found.explains == [0, 2]
    start = torch.rand(1, BANDS, 96, 96)
    alone = dataclasses.replace(found, weights=found.weights[[0, 2]], offset=found.offset[[0, 2]])
    assert torch.allclose(
        found.project(start, odd.guide[None]), alone.project(start, odd.guide[None, [0, 2]]), atol=1e-5
    )


def test_fewer_pixels_than_bands_fit_no_response(pair):
    small = pair._replace(ms=pair.ms[:, :3, :4], guide=pair.guide[:, :12, :16])
    found = fit_response(images(small), "generic")
    assert found.explains == []
    start = torch.rand(1, BANDS, 12, 16)
    assert torch.equal(found.project(start, small.guide[None]), start)


@pytest.mark.parametrize("margin", [0, 1])
def test_results_agree_with_both_images_and_are_nearer_to_the_truth(pair, response, margin):
    model = Copy(RATIO, margin, BANDS, CHANNELS)
    alone, made = (torch.from_numpy(fused(pair, model, consistent=how)).permute(2, 0, 1)[None] for how in (False, True))
    errors = [float((x - pair.gt[None]).square().mean().sqrt()) for x in (alone, made)]
    assert errors[1] < 0.7 * errors[0]
    left = [float((torch.einsum("gc,bchw->bghw", response.float(), x) - pair.guide).abs().max()) for x in (alone, made)]
    assert left[1] < 1e-3 < left[0]
    coarse = [float((degrade_ms(x, ratio=RATIO, sensor="generic") - pair.ms).square().mean()) for x in (alone, made)]
    assert coarse[1] < 0.2 * coarse[0]


def test_tiles_and_a_run_that_goes_on_give_the_whole_image(pair):
    model = Copy(RATIO, 1, BANDS, CHANNELS)
    whole = fused(pair, model, consistent=True)
    assert np.abs(fused(pair, model, consistent=True, tile=7) - whole).max() < 2e-6
    job = prepare_fusion(model, *arrays(pair), maximum=1, gains=None, tile=7, consistent=True, progress=False)
    rest = {}
    job.run(lambda top, rows: rest.update({top: rows}), start=28)
    first = min(rest)
    assert first == 28
    parts = np.concatenate([rest[top] for top in sorted(rest)])
    assert np.array_equal(parts, fused(pair, model, consistent=True, tile=7)[28:])


def test_images_that_dask_holds_give_the_same(pair):
    pytest.importorskip("dask.array")
    xr = pytest.importorskip("xarray")
    ms, guide = (xr.DataArray(array, dims=("y", "x", "band")) for array in arrays(pair))
    model = Copy(RATIO, 1, BANDS, CHANNELS)
    chunked = ms.chunk(y=12, x=12), guide.chunk(y=48, x=48)
    lazy = hsmamba.fuse(model, *chunked, maximum=1, gains=None, consistent=True, progress=False)
    assert np.abs(np.asarray(lazy) - fused(pair, model, consistent=True)).max() < 2e-6


def test_the_record_of_a_weight_says_whether(pair):
    model = make("ramsf", in_chans=BANDS, guide_chans=CHANNELS).eval()
    made, alone = (predict(model, pair, gains=None, consistent=how) for how in (True, False))
    assert torch.equal(predict(model, pair, gains=None), alone)
    model.record = {"data": {"consistent": True}}
    assert torch.equal(predict(model, pair, gains=None), made)
    assert torch.equal(predict(model, pair, gains=None, consistent=False), alone)
    assert not torch.equal(made, alone)


def test_an_image_on_the_guides_grid_alone_is_left_as_it_comes(pair):
    model = Copy(RATIO, 1, BANDS, CHANNELS)
    model.record = {"data": {"consistent": True}}
    guide = arrays(pair)[1]
    up = pair.ms_up.permute(1, 2, 0).numpy()
    options = {"ms_up": up, "maximum": 1, "gains": None, "progress": False}
    # The up-sampled image of a pair and that which `fuse` makes differ in rounding.
    assert np.allclose(hsmamba.fuse(model, None, guide, **options), fused(pair, model, consistent=False), atol=1e-6)
    with pytest.raises(SceneError, match="no ms that a result could be consistent with; pass it, or consistent=False"):
        hsmamba.fuse(model, None, guide, consistent=True, **options)


def test_the_mode_of_the_network_stays(pair):
    model = make("ramsf", in_chans=BANDS, guide_chans=CHANNELS).train()
    fused(pair, model, consistent=True)
    assert all(module.training for module in model.modules())


def test_residual_measures_the_whole_image(pair):
    inner = {"network": "ramsf", "network_args": {"dim": 8, "align_dim": 4, "mlp_dims": [8]}}
    model = hsmamba.create_model("residual", in_chans=BANDS, guide_chans=CHANNELS, scale=RATIO, **inner).eval()
    whole = fused(pair, model, consistent=True)
    assert np.abs(fused(pair, model, consistent=True, tile=12) - whole).max() < 1e-5


def test_classical_methods_are_judged_consistent_too(pair):
    model = Copy(RATIO, 1, BANDS, CHANNELS)
    pairs = FusionPairs(name="toy", ratio=RATIO, sensor="generic", maximum=1.0, train=(), test=(pair,), cut=0)
    report = evaluate_fusion(model, pairs, consistent=True, gains=None)
    means = report.mean()
    assert means["consistent GSA"]["PSNR"] > means["GSA"]["PSNR"]
    assert "consistent GSA" not in evaluate_fusion(model, pairs, gains=None).mean()


def test_errors_that_follow_the_spectrum_go_where_back_projection_leaves_them(pair):
    wrong = pair.gt[None] + 0.1 * (pair.gt[None] - 0.3) ** 2 * torch.linspace(-5, 5, BANDS)[:, None, None]
    made = consistent_method(lambda *_: wrong, images(pair), "generic")(pair.ms[None], pair.guide[None])
    projected = BackProjection("generic", RATIO, 3, bright=False)(wrong, pair.ms[None])
    known = fit_response(images(pair), "generic").project(projected, pair.guide[None])
    assert (made - pair.gt).norm() < 0.5 * (known - pair.gt).norm()


@pytest.mark.slow
def test_windows_of_a_large_image_are_enough(response):
    shapes = np.stack([ground(416, seed) for seed in range(BANDS)])
    mixed = np.einsum("cd,dhw->chw", np.random.default_rng(0).normal(size=(BANDS, BANDS)) / 3, shapes)
    truth = torch.from_numpy(0.3 + 0.05 * mixed).float()
    guide = torch.einsum("gc,chw->ghw", response.float(), truth)
    large = simulated_pair("toy", truth, guide, ratio=RATIO, sensor="generic")  # of 104 coarse pixels a side
    model = Copy(RATIO, 1, BANDS, CHANNELS)
    alone, made = (fused(large, model, consistent=how) for how in (False, True))
    gt = truth.permute(1, 2, 0).numpy()
    assert np.square(made - gt).mean() < 0.5 * np.square(alone - gt).mean()
    assert np.abs(fused(large, model, consistent=True, tile=40) - made).max() < 2e-6


def test_a_classical_method_takes_it_too(pair, response):
    jobs = [prepare_classical("GSA", *arrays(pair), consistent=how, progress=False) for how in (False, True)]
    alone, made = (torch.from_numpy(rows_of(job)).permute(2, 0, 1) for job in jobs)
    errors = [float((x - pair.gt).square().mean().sqrt()) for x in (alone, made)]
    assert errors[1] < errors[0]
    assert torch.allclose(torch.einsum("gc,chw->ghw", response.float(), made), pair.guide, atol=1e-4)


def rows_of(job):
    result = np.empty(job.shape, job.dtype)
    job.run(lambda top, rows: result.__setitem__(slice(top, top + len(rows)), rows))
    return result


def test_words_that_mean_nothing(pair):
    model = Copy(RATIO, 1, BANDS, CHANNELS)
    with pytest.raises(TypeError, match="consistent is 'yes'; expected True, False or None"):
        fused(pair, model, consistent="yes")
    with pytest.raises(ValueError, match=r"consistent is True beside adapt, .* leave one of them out"):
        fused(pair, model, consistent=True, adapt=1)
