"""Windowed attention: the papers' formula with its relative positions, gradients, tiles and threads."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from hsmamba.layers.window_attention import attend_op, position_field, projected_attention, window_attention
from tests.layers.samples import tiles_and_threads_change_nothing
from tests.ops.scan_cases import STATUS


def pixel_by_pixel(q, k, v, position, heads, window):
    """The formula of RSANet's specification, section 3, one pixel and one head at a time."""
    n, channels, height, width = q.shape
    d, p = channels // heads, window // 2
    pe = position_field(position, height, width)
    k, v, pe_near = (F.pad(x, [p] * 4, mode="reflect") for x in (k, v, pe[None]))
    out = torch.empty_like(q)
    for b in range(n):
        for head in range(heads):
            rows = slice(head * d, head * d + d)
            for i in range(height):
                for j in range(width):
                    near = (slice(None), slice(i, i + window), slice(j, j + window))
                    relative = pe[:, i, j, None, None] - pe_near[0][near]
                    query = q[b, rows, i, j, None, None] * d**-0.5
                    logits = (query * (k[b, rows][near] + relative)).sum(0)
                    weights = logits.flatten().softmax(0).view(window, window)
                    out[b, rows, i, j] = (weights * v[b, rows][near]).sum((1, 2))
    return out


@settings(max_examples=15)
@given(
    window=st.sampled_from([3, 5, 7]),
    heads=st.integers(1, 3),
    d=st.integers(1, 3),
    size=st.tuples(st.integers(4, 7), st.integers(4, 7)),
    batch=st.integers(1, 2),
)
def test_it_is_the_formula_pixel_by_pixel(window, heads, d, size, batch):
    q, k, v = torch.randn(3, batch, heads * d, *size, dtype=torch.float64)
    position = torch.randn(d, 2, dtype=torch.float64)
    got = window_attention(q, k, v, position, heads=heads, window=window)
    torch.testing.assert_close(got, pixel_by_pixel(q, k, v, position, heads, window))
    scaled = window_attention(q * d**-0.5, k, v, position, heads=heads, window=window, scaled=True)
    torch.testing.assert_close(scaled, got)


def operands(groups=3, d=2, height=9, width=8, window=5):
    gen = torch.Generator().manual_seed(0)
    shapes = [(groups, d, height, width)] + [(groups, d, height + window - 1, width + window - 1)] * 2
    return [torch.randn(s, generator=gen, dtype=torch.float64).requires_grad_() for s in shapes]


def test_gradients_are_those_of_finite_differences():
    assert torch.autograd.gradcheck(lambda *x: attend_op(*x, 3), operands(2, 2, 4, 3, 3))


def test_the_operator_keeps_what_torch_expects_of_one():
    torch.library.opcheck(attend_op, (*operands(), 5))


def test_large_logits_and_low_precision_stay_finite():
    q = torch.full((1, 3, 8, 8), 200.0)
    out = window_attention(q, q, q, torch.zeros(1, 2), heads=3, window=3)
    torch.testing.assert_close(out, q)
    half = window_attention(*(x.bfloat16() for x in (q, q, q)), torch.zeros(1, 2), heads=3, window=3)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half, q.bfloat16())


def test_tiles_and_threads_change_nothing(monkeypatch):
    two_rows_of_one_group = 25 * 8 * 2
    tiles_and_threads_change_nothing(monkeypatch, lambda *x: attend_op(*x, 5), operands(), two_rows_of_one_group)


@pytest.mark.skipif(not STATUS["cpu"].available, reason=str(STATUS["cpu"]))
@settings(max_examples=15, deadline=None)
@given(
    window=st.sampled_from([3, 7]), heads=st.integers(1, 3), d=st.integers(1, 4), chans=st.integers(1, 20),
    size=st.tuples(st.integers(4, 20), st.integers(4, 40)), batch=st.integers(1, 2), tile=st.booleans(),
)  # fmt: skip
def test_one_kernel_after_another_is_the_layer(window, heads, d, chans, size, batch, tile):
    x = torch.randn(batch, chans, *size)
    weight, bias = torch.randn(3 * heads * d, chans, 1, 1), torch.randn(3 * heads * d)
    position, rate, options = torch.randn(d, 2), torch.tensor([0.6]), {"heads": heads, "window": window}
    options["image"] = (50, 60) if tile else None
    for activation, apply in (("", lambda y: y), ("relu", torch.relu), ("sigmoid", torch.sigmoid)):
        got, _ = projected_attention(x, weight, bias, position, rate, activation, **options)
        q, k, v = F.conv2d(x.double(), weight.double(), bias.double()).chunk(3, dim=1)
        wanted = apply(rate.double() * window_attention(q, k, v, position.double(), **options))
        torch.testing.assert_close(got.double(), wanted, rtol=1e-4, atol=1e-4)
    got, projection = projected_attention(x, weight, bias, position, raw=True, **options)
    torch.testing.assert_close(projection, F.conv2d(x, weight, bias), rtol=1e-4, atol=1e-4)
    wanted = window_attention(q, k, v, position.double(), **options)
    torch.testing.assert_close(got.double(), wanted, rtol=1e-4, atol=1e-4)
    assert projected_attention(x.double(), weight, bias, position, rate, "", **options) is None
