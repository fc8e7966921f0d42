"""The compiled kernel of window attention: every instruction set, all widths, nothing outside an array."""

import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hsmamba.layers.window_attention import window_attention
from hsmamba.ops import attention, cpu
from tests.ops.guarded import run_guarded
from tests.ops.scan_cases import STATUS

LEVELS = ["baseline", "avx2", "avx512"]
pytestmark = [
    pytest.mark.skipif(not STATUS["cpu"].available, reason=str(STATUS["cpu"])),
]


def attended(q, k, v, position, heads, window):
    return window_attention(q, k, v, position, heads=heads, window=window)


@pytest.mark.parametrize("level", LEVELS)
@settings(max_examples=15)
@given(
    window=st.sampled_from([3, 5, 7]), heads=st.integers(1, 2), d=st.integers(1, 5), height=st.integers(4, 6),
    width=st.integers(4, 40), spread=st.sampled_from([0.1, 1.0, 20.0]), seed=st.integers(0, 99),
)  # fmt: skip
def test_it_is_attention_in_double_precision(level, window, heads, d, height, width, spread, seed):
    if LEVELS.index(level) > LEVELS.index(cpu.level()):
        pytest.skip(f"{level} does not run here")
    gen = torch.Generator().manual_seed(seed)
    q, k, v = torch.randn(3, 1, heads * d, height, width, generator=gen)
    position = torch.randn(d, 2, generator=gen)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu, "level", lambda: level)
        assert attention.takes(q.reshape(heads, d, height, width), k, v, window)
        got = attended(spread * q, k, v, position, heads, window)
    wanted = attended(*(x.double() for x in (spread * q, k, v, position)), heads, window)
    torch.testing.assert_close(got.double(), wanted, rtol=1e-5, atol=1e-5 * max(1.0, spread))


@pytest.mark.parametrize("level", LEVELS)
@settings(max_examples=15)
@given(
    window=st.sampled_from([3, 5, 7]), heads=st.integers(1, 3), d=st.integers(1, 5), height=st.integers(4, 6),
    width=st.integers(4, 40), spread=st.sampled_from([0.1, 1.0, 5.0]), seed=st.integers(0, 99),
    threads=st.sampled_from([1, 3]),
)  # fmt: skip
def test_its_gradients_are_those_in_double_precision(level, window, heads, d, height, width, spread, seed, threads):
    if LEVELS.index(level) > LEVELS.index(cpu.level()):
        pytest.skip(f"{level} does not run here")
    gen = torch.Generator().manual_seed(seed)
    q, k, v, slope = torch.randn(4, 1, heads * d, height, width, generator=gen)
    inputs = [x.requires_grad_() for x in (spread * q, k, v, torch.randn(d, 2, generator=gen))]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cpu, "level", lambda: level)
            got = torch.autograd.grad(attended(*inputs, heads, window), inputs, slope)
    finally:
        torch.set_num_threads(before)
    exact = [x.detach().double().requires_grad_() for x in inputs]
    wanted = torch.autograd.grad(attended(*exact, heads, window), exact, slope.double())
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-5 * max(1.0, float(other.abs().max())))


def test_what_is_not_finite_stays_with_the_pixels_that_see_it():
    q, k, v = torch.randn(3, 1, 3, 12, 40)
    clean = attended(q, k, v, torch.zeros(3, 2), 1, 3)
    k[0, 1, 6, 20] = float("nan")
    got = attended(q, k, v, torch.zeros(3, 2), 1, 3)
    seen = torch.zeros(12, 40, dtype=torch.bool)
    seen[5:8, 19:22] = True
    assert got[0, :, seen].isnan().all()
    torch.testing.assert_close(got[0, :, ~seen], clean[0, :, ~seen])


def test_it_takes_only_what_it_was_made_for():
    def of(channels=3, dtype=torch.float32, window=7, turned=False):
        x = torch.zeros(1, channels, 9, 9, dtype=dtype)
        x = x.mT if turned else x
        return attention.takes(x, x, x, window)

    assert of() and of(channels=16) and of(window=15)
    assert not any((of(channels=17), of(dtype=torch.float64), of(window=17), of(turned=True)))


def test_without_a_library_torch_computes(monkeypatch):
    q, k, v = torch.randn(3, 1, 3, 9, 20)
    with_it = attended(q, k, v, torch.ones(3, 2), 1, 5)
    monkeypatch.setattr(cpu, "load", lambda: "there is none")
    torch.testing.assert_close(attended(q, k, v, torch.ones(3, 2), 1, 5), with_it)


_GUARDED = """
from hsmamba.ops.attention import attend, attend_back
for level in levels:
    cpu.level = lambda: level
    for width in (3, 4, 7, 16, 17, 33):
        for d in (3, 4):
            for behind in (True, False):
                outer = (2, d, 7 + 4, width + 4)
                q, out = (guarded((2, d, 7, width), behind) for _ in range(2))
                k, v, dk, dv = (guarded(outer, behind) for _ in range(4))
                attend(q, k, v, 5, out)
                attend_back(q, k, v, out, guarded(q.shape, behind), 5, guarded(q.shape, behind), dk, dv)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="pages are protected by Linux's call")
def test_no_access_outside_an_array():
    run_guarded(_GUARDED)
