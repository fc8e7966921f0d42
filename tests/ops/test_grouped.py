"""Grouped convolutions: the numbers of torch's in double precision, on every instruction set."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from hsmamba.ops import cpu, grouped
from tests.ops.guarded import run_guarded
from tests.ops.scan_cases import STATUS
from tests.ops.test_rows import LEVELS

pytestmark = pytest.mark.skipif(not STATUS["cpu"].available, reason=str(STATUS["cpu"]))
ACTIVATIONS = {"": lambda x: x, "relu": torch.relu, "sigmoid": torch.sigmoid}


@pytest.mark.parametrize("level", LEVELS)
@settings(max_examples=30, deadline=None)
@given(
    images=st.integers(0, 3), groups=st.integers(1, 3), inputs=st.integers(1, 9), outputs=st.integers(1, 9),
    kernel=st.sampled_from([1, 3, 5]), height=st.integers(1, 20), width=st.integers(1, 80),
    activation=st.sampled_from(list(ACTIVATIONS)), side_by_side=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_it_is_the_convolution_in_double_precision(
    level, images, groups, inputs, outputs, kernel, height, width, activation, side_by_side, seed
):
    if LEVELS.index(level) > LEVELS.index(cpu.level()):
        pytest.skip(f"{level} does not run here")
    gen = torch.Generator().manual_seed(seed)
    x = torch.randn(images, groups * inputs, height, width, generator=gen)
    weight = torch.randn(groups * outputs, inputs, kernel, kernel, generator=gen) / (inputs**0.5 * kernel)
    add, gain = torch.randn(images, groups * outputs, height, width, generator=gen), torch.tensor([0.7])
    options = {"add": add, "gain": gain, "activation": activation, "side_by_side": side_by_side}
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(cpu, "level", lambda: level)
        got = grouped.convolve(x, grouped.arranged(weight, groups=groups), outputs, **options)
    turned = x.view(images, inputs, groups, height, width).transpose(1, 2).flatten(1, 2) if side_by_side else x
    plain = F.conv2d(turned.double(), weight.double(), padding=kernel // 2, groups=groups)
    wanted = ACTIVATIONS[activation](plain + 0.7 * add.double())
    torch.testing.assert_close(got.double(), wanted, rtol=1e-5, atol=1e-5)


def test_activations_that_it_does_not_have_are_refused():
    x, weight = torch.randn(1, 2, 3, 3), torch.randn(2, 1, 1, 1)
    options = {"add": x, "gain": torch.ones(1), "side_by_side": False}
    with pytest.raises(ValueError, match="activation is 'tanh'"):
        grouped.convolve(x, grouped.arranged(weight, groups=2), 1, activation="tanh", **options)


@pytest.mark.parametrize("level", LEVELS)
@settings(max_examples=30, deadline=None)
@given(
    images=st.integers(0, 3), inputs=st.integers(1, 40), outputs=st.integers(1, 30), kept=st.integers(0, 9),
    height=st.integers(4, 20), width=st.integers(4, 80), margin=st.integers(0, 3), seed=st.integers(0, 99),
)  # fmt: skip
def test_what_is_projected_has_ramps_and_a_reflected_border(
    level, images, inputs, outputs, kept, height, width, margin, seed
):
    if LEVELS.index(level) > LEVELS.index(cpu.level()):
        pytest.skip(f"{level} does not run here")
    gen, kept = torch.Generator().manual_seed(seed), min(kept, outputs - 1)
    x = torch.randn(images, inputs, height, width, generator=gen)
    weight = torch.randn(outputs, inputs, 1, 1, generator=gen) / inputs**0.5
    across, down = torch.randn(outputs, width, generator=gen), torch.randn(outputs, height, generator=gen)
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(cpu, "level", lambda: level)
        got = grouped.project(x, grouped.arranged(weight, groups=1), across, down, margin, kept).double()
    wanted = F.conv2d(x.double(), weight.double()) + across.double()[:, None] + down.double()[:, :, None]
    inside = got[..., margin : margin + height, margin : margin + width]
    torch.testing.assert_close(inside, wanted, rtol=1e-5, atol=1e-5)
    wanted = F.pad(wanted, [margin] * 4, mode="reflect") if images else got
    torch.testing.assert_close(got[:, kept:], wanted[:, kept:], rtol=1e-5, atol=1e-5)


_GUARDED = """
import types
from hsmamba.ops import grouped
plain = grouped.F
for level in levels:
    cpu.level = lambda: level
    for height, width, outputs in ((1, 1, 1), (5, 17, 3), (3, 70, 5)):
        for behind in (True, False):
            def pad(x, sides):
                return guarded((*x.shape[:2], height + 2, width + 2), behind).copy_(plain.pad(x, sides))
            weight, grouped.F = torch.randn(2 * outputs, 3, 3, 3), plain
            arranged = grouped.arranged(weight, groups=2)
            weights = guarded(arranged.shape, behind).copy_(arranged)
            add = guarded((2, 2 * outputs, height, width), behind).normal_()
            grouped.F = types.SimpleNamespace(pad=pad)
            options = {"add": add, "gain": torch.ones(1), "side_by_side": True}
            assert grouped.convolve(torch.randn(2, 6, height, width), weights, outputs, **options).isfinite().all()
    grouped.F = plain
    for height, width, outputs, margin in ((2, 2, 1, 1), (5, 17, 3, 2), (4, 70, 5, 3)):
        for behind in (True, False):
            arranged = grouped.arranged(torch.randn(outputs, 3, 1, 1), groups=1)
            weights = guarded(arranged.shape, behind).copy_(arranged)
            x, across, down = (guarded(s, behind) for s in ((2, 3, height, width), (outputs, width), (outputs, height)))
            out = guarded((2, outputs, height + 2 * margin, width + 2 * margin), behind)
            x.new_empty = lambda *sizes: out
            assert grouped.project(x, weights, across.normal_(), down.normal_(), margin, 0) is out
            assert out.isfinite().all() and (out != 0).all()
"""


@pytest.mark.slow
def test_nothing_is_read_beside_the_maps():
    run_guarded(_GUARDED)
