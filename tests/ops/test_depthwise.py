"""The compiled kernel of depthwise convolutions: torch's numbers, every instruction set, nothing outside an array."""

import sys

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hsmamba.layers.depthwise import depthwise_conv
from hsmamba.ops import cpu, depthwise, inference
from tests.ops.guarded import run_guarded
from tests.ops.scan_cases import STATUS

LEVELS = ["baseline", "avx2", "avx512"]
pytestmark = pytest.mark.skipif(not STATUS["cpu"].available, reason=str(STATUS["cpu"]))


@pytest.mark.parametrize("level", LEVELS)
@settings(max_examples=20, deadline=None)
@given(
    batch=st.integers(0, 2), channels=st.integers(1, 140), height=st.integers(1, 6), width=st.integers(1, 6),
    taps=st.sampled_from([(1, 1), (3, 3), (1, 3), (5, 5)]), stride=st.integers(1, 2), silu=st.booleans(),
    strided=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_it_is_the_convolution(level, batch, channels, height, width, taps, stride, silu, strided, seed):
    if LEVELS.index(level) > LEVELS.index(cpu.level()):
        pytest.skip(f"{level} does not run here")
    gen = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, height, width, channels * (2 if strided else 1), generator=gen)[..., :channels]
    weight, bias = torch.randn(channels, 1, *taps, generator=gen), torch.randn(channels, generator=gen)
    padding = taps[0] // 2, taps[1] // 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu, "level", lambda: level)
        got = depthwise.convolve(x, weight, bias, stride=stride, padding=padding, silu=silu)
    wanted = F.conv2d(x.permute(0, 3, 1, 2), weight, bias, stride, padding, groups=channels).permute(0, 2, 3, 1)
    torch.testing.assert_close(got, F.silu(wanted) if silu else wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("silu", [True, False])
@pytest.mark.parametrize(
    ("channels", "side", "taps", "stride", "padding"),
    [(64, 5, (3, 3), 1, (1, 1)), (132, 4, (5, 5), 2, (2, 2)), (9, 6, (5, 3), 2, (1, 0)), (33, 3, (1, 3), 1, (0, 1)),
     (50, 2, (7, 7), 3, (3, 2))],
)  # fmt: skip
def test_it_has_gradients(level, threads, silu, channels, side, taps, stride, padding, monkeypatch):
    if LEVELS.index(level) > LEVELS.index(cpu.level()):
        pytest.skip(f"{level} does not run here")
    monkeypatch.setattr(cpu, "level", lambda: level)
    monkeypatch.setattr(cpu, "SMALL", 0)
    gen = torch.Generator().manual_seed(side)
    x = torch.randn(5, side, side + 3, 2 * channels, generator=gen)[..., :channels].requires_grad_()
    weight = torch.randn(channels, 1, *taps, generator=gen, requires_grad=True)
    bias = torch.randn(channels, generator=gen, requires_grad=True)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        assert depthwise.trains(x, weight, bias)
        made = depthwise.trainable(x, weight, bias, stride=stride, padding=padding, silu=silu)
        slope = torch.randn(made.shape, generator=gen)
        got = made, *torch.autograd.grad(made, (x, weight, bias), slope)
    finally:
        torch.set_num_threads(before)
    wide = [t.detach().double().requires_grad_() for t in (x, weight, bias)]
    wanted = F.conv2d(wide[0].permute(0, 3, 1, 2), *wide[1:], stride, padding, groups=channels).permute(0, 2, 3, 1)
    wanted = F.silu(wanted) if silu else wanted
    for one, other in zip(got, (wanted, *torch.autograd.grad(wanted, wide, slope.double())), strict=True):
        torch.testing.assert_close(one.double(), other, rtol=0, atol=2e-6 * float(other.detach().abs().max()))


def test_gradients_of_gradients():
    gen = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(shape, generator=gen).requires_grad_() for shape in ((2, 4, 5, 6), (6, 1, 3, 3)))
    maps = x.permute(0, 3, 1, 2)
    made = depthwise.trainable(x, weight, padding=(1, 1), silu=True)
    plain = F.silu(F.conv2d(maps, weight, padding=1, groups=6)).permute(0, 2, 3, 1)
    ours, theirs = (torch.autograd.grad(y.square().sum(), x, create_graph=True)[0] for y in (made, plain))
    torch.testing.assert_close(ours, theirs)
    ours, theirs = (torch.autograd.grad(g.square().sum(), weight)[0] for g in (ours, theirs))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)


def test_a_layer_takes_the_kernel_or_torch():
    conv, x = nn.Conv2d(6, 6, 3, padding="same", groups=6, bias=False), torch.randn(2, 4, 5, 6)
    with torch.no_grad():
        fast = depthwise_conv(conv, x, silu=True)
    plain = depthwise_conv(conv, x, silu=True)
    assert "_Convolved" in plain.grad_fn.name()
    torch.testing.assert_close(fast, plain.detach())
    with inference.plain():
        assert "_Convolved" not in depthwise_conv(conv, x, silu=True).grad_fn.name()


_GUARDED = """
from hsmamba.ops.depthwise import _gradients, convolve

run_team = cpu.run_team
def longer(kernel, arguments, threads, held):
    (arguments if hasattr(arguments, "images") else arguments[0]).images += overrun
    run_team(kernel, arguments, threads, held)

cpu.run_team = longer
for level in levels:
    cpu.level = lambda: level
    for channels in (1, 3, 4, 15, 16, 17, 64, 67):
        for behind in (True, False):
            x, out = guarded((2, 3, 5, channels), behind), guarded((2, 3, 5, channels), behind)
            weight, bias = torch.ones(channels, 1, 3, 3), torch.ones(channels)
            got = convolve(x, weight, bias, padding=(1, 1), silu=True, out=out)
            assert got.gt(0.7).all()
            grad, dx = guarded((2, 3, 5, channels), behind), guarded((2, 3, 5, channels), behind)
            _gradients(x, grad, weight, dx, padding=(1, 1), stride=1)
            few = guarded((2, 2, 3, channels), behind)
            _gradients(x, few, weight, dx, padding=(1, 1), stride=2)
print("all")
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="pages are protected by Linux's call")
def test_no_access_outside_an_array():
    run_guarded("overrun = 0" + _GUARDED)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="pages are protected by Linux's call")
def test_the_guards_notice_an_image_too_many():
    with pytest.raises(AssertionError, match="ended by signal 11"):
        run_guarded("overrun = 1" + _GUARDED)
