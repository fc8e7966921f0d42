"""Adaptive convolutions of neighbouring channels in training: every instruction set, those in double precision."""

import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hsmamba.layers.adaptive_conv import _conv_dense, adaptive_conv
from hsmamba.ops import adaptive_rows as ops
from hsmamba.ops import cpu
from tests.ops.guarded import run_guarded
from tests.ops.scan_cases import STATUS

LEVELS = ["baseline", "avx2", "avx512"]
pytestmark = [
    pytest.mark.skipif(not STATUS["cpu"].available, reason=str(STATUS["cpu"])),
]


def made(batch=2, chans=16, outputs=5, kernel=3, height=4, width=6, spatial=True):
    gen = torch.Generator().manual_seed(0)
    sizes = (batch, chans, height, width), (batch, kernel**2, *((height, width) if spatial else (1, 1)))
    x, taps = (torch.randn(n, generator=gen).contiguous(memory_format=torch.channels_last) for n in sizes)
    weight = torch.randn(outputs, chans, kernel, kernel, generator=gen) / (chans**0.5 * kernel)
    return [t.requires_grad_() for t in (x, taps, weight)]


@pytest.mark.parametrize("level", LEVELS)
@settings(max_examples=15, deadline=None)
@given(
    batch=st.integers(1, 3), chans=st.sampled_from([16, 32, 48]), outputs=st.integers(1, 35),
    kernel=st.sampled_from([1, 3, 5]), height=st.integers(1, 7), width=st.integers(2, 9),
    threads=st.sampled_from([1, 3]),
)  # fmt: skip
def test_its_gradients_are_those_in_double_precision(level, batch, chans, outputs, kernel, height, width, threads):
    if LEVELS.index(level) > LEVELS.index(cpu.level()):
        pytest.skip(f"{level} does not run here")
    tensors, before = made(batch, chans, outputs, kernel, height, width), torch.get_num_threads()
    slope = torch.randn(batch, outputs, height, width)
    torch.set_num_threads(threads)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cpu, "level", lambda: level)
            patch.setattr(cpu, "SMALL", 0)
            patch.setattr(ops, "_MOST_INPUTS", 2000)
            assert ops.takes(*tensors)
            y = adaptive_conv(*tensors)
            got = torch.autograd.grad(y, tensors, slope)
    finally:
        torch.set_num_threads(before)
    wide = [x.detach().double().requires_grad_() for x in tensors]
    wanted = _conv_dense(*wide)
    torch.testing.assert_close(y.double(), wanted, rtol=1e-5, atol=1e-5 * max(1.0, float(wanted.detach().abs().max())))
    for one, other in zip(got, torch.autograd.grad(wanted, wide, slope.double()), strict=True):
        torch.testing.assert_close(one.double(), other, rtol=0, atol=2e-5 * max(1.0, float(other.abs().max())))


def test_its_gradient_has_one():
    tensors = made()
    wide = [x.detach().double().requires_grad_() for x in tensors]
    seconds = []
    for convolve, (x, *more) in ((adaptive_conv, tensors), (_conv_dense, wide)):
        (slope,) = torch.autograd.grad(convolve(x, *more).square().sum(), x, create_graph=True)
        seconds.append(torch.autograd.grad(slope.square().sum(), more))
    for one, other in zip(*seconds, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-4)


def test_it_takes_only_what_it_was_made_for():
    x, taps, weight = made()
    assert ops.takes(x, taps, weight)
    assert not ops.takes(x.contiguous(), taps, weight)
    assert not ops.takes(*made(chans=12))
    assert not ops.takes(*made(chans=512))
    assert not ops.takes(*(t.double() for t in made()))
    with torch.no_grad():
        assert not ops.takes(x, taps, weight)


_GUARDED = """
from hsmamba.ops import adaptive_rows as ops
for level in levels:
    cpu.level = lambda: level
    for height, width, kernel, outputs in ((1, 1, 3, 1), (5, 9, 3, 16), (4, 8, 5, 17)):
        for behind in (True, False):
            inner, pitch = kernel**2 * 16, -(-outputs // 16) * 16
            weight = torch.zeros(outputs, 16, kernel, kernel)
            sizes = {"x": 16, "taps": kernel**2, "out": outputs}
            maps = {name: guarded((2, height, width, n), behind) for name, n in sizes.items()}
            ops._run("adaptive_rows", weight, ops._PIXELS * inner, turned=guarded((inner, pitch), behind), **maps)
            made = {"dx": guarded((1, 2, height, width, 16), behind), "dtaps": guarded(maps["taps"].shape, behind)}
            made |= {"weights": guarded((outputs, inner), behind), "dweights": guarded((1, outputs, inner), behind)}
            ops._run("adaptive_rows_backward", weight, 2 * ops._PIXELS * inner, 1, **maps, **made)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="pages are protected by the POSIX interface")
def test_nothing_outside_an_array_is_read_or_written():
    run_guarded(_GUARDED)
