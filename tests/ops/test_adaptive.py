"""The compiled kernel of adaptive convolutions: every instruction set, all widths, nothing outside an array."""

import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hsmamba.layers.adaptive_conv import adaptive_conv
from hsmamba.ops import adaptive, cpu
from tests.ops.guarded import run_guarded
from tests.ops.scan_cases import STATUS

LEVELS = ["baseline", "avx2", "avx512"]
pytestmark = [
    pytest.mark.skipif(not STATUS["cpu"].available, reason=str(STATUS["cpu"])),
]


@pytest.mark.parametrize("level", LEVELS)
@settings(max_examples=15)
@given(
    batch=st.integers(1, 2), kernel=st.sampled_from([1, 3, 5]), channels=st.integers(1, 5), outputs=st.integers(1, 20),
    height=st.integers(1, 4), width=st.integers(1, 70), seed=st.integers(0, 99),
)  # fmt: skip
def test_it_is_the_convolution_in_double_precision(level, batch, kernel, channels, outputs, height, width, seed):
    if LEVELS.index(level) > LEVELS.index(cpu.level()):
        pytest.skip(f"{level} does not run here")
    gen = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, channels, height, width, generator=gen)
    taps = torch.randn(batch, kernel**2, height, width, generator=gen)
    weight = torch.randn(outputs, channels, kernel, kernel, generator=gen)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu, "level", lambda: level)
        assert adaptive.takes(x, taps, weight) is (level != "baseline")
        if level == "baseline":
            patch.setattr(adaptive, "takes", lambda *_: True)
        got = adaptive_conv(x, taps, weight)
    wanted = adaptive_conv(x.double(), taps.double(), weight.double())
    torch.testing.assert_close(got.double(), wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("level", LEVELS)
@settings(max_examples=15)
@given(
    batch=st.integers(1, 2), kernel=st.sampled_from([1, 3, 5]), channels=st.integers(1, 5), outputs=st.integers(1, 20),
    height=st.integers(1, 4), width=st.integers(1, 70), seed=st.integers(0, 99),
)  # fmt: skip
def test_its_gradients_are_those_in_double_precision(level, batch, kernel, channels, outputs, height, width, seed):
    if LEVELS.index(level) > LEVELS.index(cpu.level()):
        pytest.skip(f"{level} does not run here")
    gen = torch.Generator().manual_seed(seed)
    shapes = (batch, channels, height, width), (batch, kernel**2, height, width), (outputs, channels, kernel, kernel)
    inputs = [torch.randn(shape, generator=gen).requires_grad_() for shape in shapes]
    slope = torch.randn(batch, outputs, height, width, generator=gen)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu, "level", lambda: level)
        got = torch.autograd.grad(adaptive_conv(*inputs), inputs, slope)
    exact = [x.detach().double().requires_grad_() for x in inputs]
    wanted = torch.autograd.grad(adaptive_conv(*exact), exact, slope.double())
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-4)


def test_without_a_library_torch_computes(monkeypatch):
    x, taps, weight = torch.randn(1, 3, 9, 40), torch.rand(1, 9, 9, 40), torch.randn(5, 3, 3, 3)
    with_it = adaptive_conv(x, taps, weight)
    monkeypatch.setattr(cpu, "load", lambda: "there is none")
    torch.testing.assert_close(adaptive_conv(x, taps, weight), with_it)


_GUARDED = """
from hsmamba.ops.adaptive import _AdaptiveBackward, _Maps, OUTPUT_BLOCK, convolve
for level in levels:
    cpu.level = lambda: level
    for width in (1, 3, 4, 15, 16, 17, 31, 32, 33, 50):
        for outputs in (1, 8, 11):
            for behind in (True, False):
                blocks = -(-outputs // OUTPUT_BLOCK)
                padded, taps = guarded((2, 3, 7, width + 2), behind), guarded((2, 9, 5, width), behind)
                out, weights = guarded((2, outputs, 5, width), behind), guarded((blocks, 9, 3, OUTPUT_BLOCK), behind)
                convolve(padded, taps, weights, 3, out)
                columns, changed = guarded((27, 10 * width), behind), (guarded(x.shape, behind) for x in (padded, taps))
                maps = [_Maps(x.data_ptr(), *x.stride()[:3]) for x in (padded, taps, *changed)]
                arguments = _AdaptiveBackward(2, 3, 5, width, 3, *maps, columns.data_ptr())
                for name in ("adaptive_columns", "adaptive_gather"):
                    cpu.kernel(name)(ctypes.byref(arguments))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="pages are protected by Linux's call")
def test_no_access_outside_an_array():
    run_guarded(_GUARDED)
