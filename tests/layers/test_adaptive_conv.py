"""Adaptive convolution: an ordinary one where taps are 1, linear in each operand, gradients, tiles and threads."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from hsmamba.layers import tiling
from hsmamba.layers.adaptive_conv import _conv_dense, adaptive_conv, conv_op


def operands(batch=2, chans=3, out=4, kernel=3, size=(5, 6), spatial=True):
    taps = (batch, kernel**2, *(size if spatial else (1, 1)))
    shapes = [(batch, chans, *size), taps, (out, chans, kernel, kernel)]
    return [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes]


@settings(max_examples=25)
@given(
    batch=st.integers(1, 3),
    chans=st.integers(1, 4),
    out=st.integers(1, 4),
    kernel=st.sampled_from([1, 3, 5]),
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    spatial=st.booleans(),
)
def test_each_tap_scales_its_shift(batch, chans, out, kernel, size, spatial):
    x, taps, weight = operands(batch, chans, out, kernel, size, spatial)
    got = adaptive_conv(x, taps, weight)
    want = torch.zeros_like(got)
    for u in range(kernel):
        for r in range(kernel):
            alone = torch.zeros_like(weight)
            alone[..., u, r] = weight[..., u, r]
            tap = taps[:, kernel * u + r, None]
            want = want + tap * F.conv2d(x, alone, padding=kernel // 2)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(_conv_dense(x, taps, weight), want)
    ones = adaptive_conv(x, torch.ones_like(taps), weight)
    torch.testing.assert_close(ones, F.conv2d(x, weight, padding=kernel // 2))


@pytest.mark.parametrize("spatial", [True, False])
def test_gradients_are_those_of_finite_differences(spatial):
    assert torch.autograd.gradcheck(adaptive_conv, operands(2, 2, 3, size=(3, 4), spatial=spatial))


def test_the_operator_keeps_what_torch_expects_of_one():
    x, taps, weight = operands()
    torch.library.opcheck(conv_op, (F.pad(x, [1] * 4).detach().requires_grad_(), taps, weight))


def test_tiles_and_threads_change_nothing(monkeypatch):
    inputs = operands(size=(7, 6))
    whole = adaptive_conv(*inputs)
    gradients = torch.autograd.grad(whole.square().sum(), inputs)
    monkeypatch.setitem(tiling._TILE_ELEMENTS, "cpu", 27 * 6 * 2)  # two rows of one image
    threads = torch.get_num_threads()
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            tiled = adaptive_conv(*inputs)
            torch.testing.assert_close(tiled, whole)
            torch.testing.assert_close(torch.autograd.grad(tiled.square().sum(), inputs), gradients)
    finally:
        torch.set_num_threads(threads)
