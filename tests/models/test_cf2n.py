"""CF2N: the reconstruction's equations, its sizes, its acceptance checks."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from hsmamba.bench.transcriptions.cf2n import cf2n
from hsmamba.bench.transcriptions.rsanet import random_state
from hsmamba.layers.fusion import pad_sides
from hsmamba.models.cf2n import CF2N, WeightedFusion, high_pass
from hsmamba.ops.resampling import upsample


@settings(max_examples=12)
@given(
    in_chans=st.integers(1, 4),
    guide_chans=st.integers(1, 3),
    dim=st.sampled_from([4, 8]),
    depth=st.integers(1, 3),
    kernel_size=st.sampled_from([1, 3, 5]),
    reduction=st.sampled_from([1, 2, 4]),
    residual=st.booleans(),
    size=st.tuples(st.integers(2, 6), st.integers(2, 6)),
    seed=st.integers(0, 99),
)
def test_it_agrees_with_its_equations_at_any_size(size, seed, **cfg):
    model = CF2N(**cfg).double()
    state = random_state({key: value.shape for key, value in model.state_dict().items()}, seed)
    model.load_state_dict(state)
    sides = [2 * side for side in size]
    pan, lms = (torch.rand(2, c, *sides, dtype=torch.float64) for c in (cfg["guide_chans"], cfg["in_chans"]))
    want = cf2n(pan, lms, state, cfg["depth"], cfg["residual"])
    torch.testing.assert_close(model(None, pan, lms), want, rtol=1e-9, atol=1e-9)
    assert torch.equal(model.eval()(None, pan, lms), model.train()(None, pan, lms))


def test_gradients_of_training_are_those_in_double_precision():
    torch.manual_seed(0)
    model = CF2N(in_chans=3, guide_chans=1, dim=16)
    guide, ms_up, wanted = (torch.rand(2, c, 12, 8) for c in (1, 3, 3))
    gradients = []
    for dtype in (torch.float32, torch.double):
        model = model.to(dtype)
        error = (model(None, guide.to(dtype), ms_up.to(dtype)) - wanted).square().mean()
        gradients.append(torch.autograd.grad(error, list(model.parameters())))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-5 * max(1e-2, float(other.abs().max())))


def test_without_a_last_kernel_the_result_is_the_up_sampled_image():
    model = CF2N(in_chans=3, dim=8)
    torch.nn.init.zeros_(model.last.weight2)
    ms, guide = torch.rand(1, 3, 3, 4), torch.rand(1, 1, 12, 16)
    assert torch.equal(model(ms, guide), upsample(ms, 4))


def test_the_weighted_fusion_with_neutral_gates_is_the_mean():
    fuse = WeightedFusion(3)
    for parameter in fuse.parameters():
        torch.nn.init.zeros_(parameter)
    a, b = torch.rand(2, 3, 4, 5), torch.rand(2, 3, 4, 5)
    torch.testing.assert_close(fuse(a, b), (a + b) / 2)


def test_the_high_pass_takes_constants_and_slopes_away_and_keeps_a_point():
    rows = torch.arange(12.0).expand(1, 1, 12, 12)
    torch.testing.assert_close(high_pass(rows + 5)[..., 2:-2], torch.zeros(1, 1, 12, 8), atol=1e-5, rtol=0)
    point = F.pad(torch.ones(1, 1, 1, 1), [6] * 4)
    assert high_pass(point)[0, 0, 6, 6].item() == pytest.approx(24 / 25)


def test_odd_sides_are_padded_and_cropped():
    torch.manual_seed(0)
    model = CF2N(in_chans=3, dim=8, depth=2).eval()
    ms_up, guide = torch.rand(1, 3, 7, 9), torch.rand(1, 1, 7, 9)
    want = model(None, pad_sides(guide, 2), pad_sides(ms_up, 2))[..., :7, :9]
    torch.testing.assert_close(model(None, guide, ms_up), want)
