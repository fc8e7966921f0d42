"""Chains: the numbers of the same expressions in double precision, on every instruction set."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hsmamba.ops import cpu, inference
from hsmamba.ops.chains import RowChain
from tests.ops.guarded import run_guarded
from tests.ops.scan_cases import STATUS
from tests.ops.test_rows import LEVELS

GATED = RowChain("h = norm(x, w, b, 1e-6); y = x + linear(linear(h, one) * gelu(linear(h, two)), three)", "y")
TWO = RowChain("r = linear(x, one); s = r * silu(linear(x, two)); x = x * w + b", "r", "s", "x")
compiled = pytest.mark.skipif(not STATUS["cpu"].available, reason=str(STATUS["cpu"]))


def products(width, hidden, gen):
    whole, shift = torch.randn(2 * hidden, width, generator=gen) / width**0.5, torch.randn(2 * hidden, generator=gen)
    back = torch.randn(width, hidden, generator=gen) / hidden**0.5
    return {"one": (whole, shift, slice(hidden)), "two": (whole, shift, slice(hidden, None)), "three": (back, None)}


def wide(given):
    return {name: (w.double(), None if b is None else b.double(), *cut) for name, (w, b, *cut) in given.items()}


def both(program, given, **inputs):
    """What the kernel gives, and torch operations in double precision."""
    inputs = {name: inputs[name] for name in program.inputs}
    got = program(given, inputs)
    with inference.plain():
        wanted = program(wide(given), {name: x.double() for name, x in inputs.items()})
    return (got, wanted) if isinstance(got, tuple) else ((got,), (wanted,))


@compiled
@pytest.mark.parametrize("level", LEVELS)
@settings(max_examples=25, deadline=None)
@given(
    program=st.sampled_from([GATED, TWO]), samples=st.integers(0, 3), rows=st.integers(1, 300),
    width=st.integers(1, 70), hidden=st.integers(1, 140), strided=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_it_is_the_expression_in_double_precision(level, program, samples, rows, width, hidden, strided, seed):
    if LEVELS.index(level) > LEVELS.index(cpu.level()):
        pytest.skip(f"{level} does not run here")
    gen = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, rows, 2 * width, generator=gen)[..., :width]
    inputs = {"x": x if strided else x.contiguous(), "w": torch.rand(width, generator=gen)}
    inputs["b"] = torch.randn(width, generator=gen)
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(cpu, "level", lambda: level)
        got, wanted = both(program, products(width, hidden, gen), **inputs)
    for one, other in zip(got, wanted, strict=True):
        # A norm of few numbers that lie close together multiplies their rounding by up to 316, the root of 1 / 1e-5.
        torch.testing.assert_close(one.double(), other, rtol=2e-5, atol=1e-4)


def test_rows_of_one_number_are_rows_of_all_their_columns():
    gen = torch.Generator().manual_seed(0)
    inputs = {name: torch.randn(*size, generator=gen) for name, size in {"x": (2, 1), "w": (1,), "b": (1,)}.items()}
    with torch.no_grad():
        got, wanted = both(TWO, products(1, 20, gen), **inputs)
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=2e-5, atol=2e-5)


@compiled
def test_maps_of_any_layout_many_threads_and_other_weights_of_the_same_chain():
    gen, threads = torch.Generator().manual_seed(0), torch.get_num_threads()
    w, b = torch.rand(24, generator=gen), torch.randn(24, generator=gen)
    try:
        torch.set_num_threads(3)
        for hidden in (40, 96):
            given, x = products(24, hidden, gen), torch.randn(2, 24, 50, 60, generator=gen).movedim(1, 3)
            (got,), (wanted,) = both(GATED, given, x=x, w=w, b=b)
            torch.testing.assert_close(got.double(), wanted, rtol=2e-5, atol=2e-5)
            torch.set_num_threads(1)
            assert torch.equal(GATED(given, {"x": x, "w": w, "b": b}), got)
    finally:
        torch.set_num_threads(threads)


def test_gradients_flow_where_they_are_asked_for():
    gen = torch.Generator().manual_seed(0)
    given = wide(products(4, 6, gen))
    x, w, b = (torch.randn(*shape, dtype=torch.float64, generator=gen) for shape in ((2, 3, 4), (4,), (4,)))
    assert torch.autograd.gradcheck(
        lambda x, w: GATED(given, {"x": x, "w": w, "b": b}), (x.requires_grad_(), w.requires_grad_())
    )


@compiled
def test_rows_of_different_widths_do_not_meet():
    given = products(5, 7, torch.Generator())
    with pytest.raises(ValueError, match="5 and 7 numbers"):
        RowChain("y = x + linear(x, one)", "y")(given, {"x": torch.randn(2, 3, 5)})
    with pytest.raises(ValueError, match="row program"):
        RowChain("y = linear(x, 2)", "y")


_GUARDED = """
from hsmamba.ops.chains import RowChain
chain = RowChain("y = x + linear(norm(linear(x, up), w, b, 1e-5), down)", "y")
for level in levels:
    cpu.level = lambda: level
    for rows, width, hidden in ((1, 1, 1), (9, 7, 50), (70, 20, 33)):
        for behind in (True, False):
            x, w, b, out = (guarded(s, behind) for s in ((1, rows, width), (hidden,), (hidden,), (1, rows, width)))
            x.normal_(), w.normal_(), b.normal_()
            up, down = torch.randn(hidden, width), torch.randn(width, hidden)
            chain({"up": (up, None), "down": (down, None)}, {"x": x, "w": w, "b": b}, out={"y": out})
            assert out.isfinite().all() and out.any()
"""


@pytest.mark.slow
@compiled
def test_nothing_is_read_or_written_beside_rows():
    run_guarded(_GUARDED)
