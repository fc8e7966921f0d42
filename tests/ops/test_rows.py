"""Row programs: the numbers of the same expressions in double precision, on every instruction set and layout."""

import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hsmamba.ops import cpu, inference
from hsmamba.ops.rows import RowProgram
from tests.ops.guarded import run_guarded
from tests.ops.scan_cases import STATUS

LEVELS = ["baseline", "avx2", "avx512"]
PROGRAMS = [
    RowProgram("y = x + silu(q) * (v - x / 2)", "y"),
    RowProgram("y = tanh(x) + softplus(q); z = sigmoid(x) * relu(q) - gelu(v)", "y", "z"),
    RowProgram("y = norm(x, w, b, 1e-5); z = norm(q, 1e-6) + rms(v, 1e-5)", "y", "z"),
    RowProgram("d = x - q; d = sqrt(sum(d * d)); m = most(v); y = exp(v - m) * d", "d", "m", "y"),
    RowProgram("y = total(x * q + v * -2)", "y"),
    RowProgram(
        "n = sum(x * q) / (sum(x * x) + 1.0); y = n * x + q * n; z = x * q + n; u = n * most(v) + x; r = n * v + n * n",
        *"nyzur",
    ),
    RowProgram("n = tanh(sum(x * q)) + 2.0; y = rms(n, 1e-5) * v + most(x + n); z = n - v; e = v / exp(n)", *"yze"),
]
compiled = pytest.mark.skipif(not STATUS["cpu"].available, reason=str(STATUS["cpu"]))


def both(program, **inputs):
    """What the kernel gives, and torch operations in double precision."""
    got = program(**inputs)
    with inference.plain():
        wanted = program(**{name: x.double() for name, x in inputs.items()})
    return (got, wanted) if isinstance(got, tuple) else ((got,), (wanted,))


@compiled
@pytest.mark.parametrize("level", LEVELS)
@settings(max_examples=25, deadline=None)
@given(
    program=st.sampled_from(PROGRAMS), samples=st.integers(0, 3), rows=st.integers(1, 40), width=st.integers(1, 70),
    shared=st.sampled_from(["", "samples", "rows", "columns"]), strided=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_it_is_the_expression_in_double_precision(level, program, samples, rows, width, shared, strided, seed):
    if LEVELS.index(level) > LEVELS.index(cpu.level()):
        pytest.skip(f"{level} does not run here")
    gen = torch.Generator().manual_seed(seed)

    def made(*shape):
        wide = torch.randn(*shape[:-1], 2 * shape[-1], generator=gen)
        return wide[..., : shape[-1]] if strided else wide[..., : shape[-1]].contiguous()

    sizes = [1 if shared == axis else n for axis, n in (("samples", samples), ("rows", rows), ("columns", width))]
    inputs = {"x": 3 * made(samples, rows, width), "q": 3 * made(samples, rows, width), "v": made(*sizes)}
    inputs |= {"w": torch.rand(width, generator=gen), "b": torch.randn(width, generator=gen)}
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(cpu, "level", lambda: level)
        assert inference.takes(*inputs.values())
        got, wanted = both(program, **{name: inputs[name] for name in program.inputs})
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one.double(), other.expand_as(one), rtol=2e-5, atol=2e-5 * max(1, width))


@compiled
def test_functions_are_right_where_they_are_small_large_or_at_their_seams():
    x = torch.cat([torch.linspace(-100, 100, 4001), torch.linspace(-1, 1, 999), 10.0 ** -torch.arange(0, 12)])
    for name in ("silu", "tanh", "softplus", "sigmoid", "relu", "gelu"):
        got, wanted = both(RowProgram(f"y = {name}(x)", "y"), x=x.view(1, 1, -1))
        torch.testing.assert_close(got[0].double(), wanted[0], rtol=2e-6, atol=3e-7, msg=name)


@compiled
def test_maps_results_in_place_and_numbers_for_all():
    x, v = torch.randn(2, 3, 5, 8), torch.randn(2, 3, 5, 8)
    half = torch.zeros(2, 3, 5, 16)
    PROGRAMS[0](x=x, q=v, v=v, out={"y": half[..., 8:]})
    with inference.plain():
        wanted = PROGRAMS[0](x=x, q=v, v=v)
    torch.testing.assert_close(half[..., 8:], wanted)
    assert not half[..., :8].any()
    turned = x.permute(0, 2, 1, 3)  # whose rows do not follow each other at one distance
    assert PROGRAMS[0](x=turned, q=turned, v=turned).shape == turned.shape
    torch.testing.assert_close(
        PROGRAMS[0](x=turned, q=turned, v=turned), PROGRAMS[0](x=x, q=x, v=x).permute(0, 2, 1, 3)
    )


def test_gradients_flow_where_they_are_asked_for():
    x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    weights = {name: torch.randn(4, dtype=torch.float64) for name in "wb"}
    for program in PROGRAMS:
        more = {name: weights.get(name, x.detach() + 1) for name in program.inputs if name != "x"}
        assert (
            torch.autograd.gradcheck(lambda x, p=program, m=more: p(x=x, **m), (x,)) if "x" in program.inputs else True
        )


@compiled
@pytest.mark.parametrize("level", LEVELS)
@settings(max_examples=25, deadline=None)
@given(
    program=st.sampled_from(PROGRAMS), samples=st.integers(1, 3), rows=st.integers(1, 40), width=st.integers(6, 70),
    shared=st.sampled_from(["", "samples", "rows", "columns"]), seed=st.integers(0, 99), frozen=st.booleans(),
)  # fmt: skip
def test_its_gradients_are_those_in_double_precision(level, program, samples, rows, width, shared, seed, frozen):
    if LEVELS.index(level) > LEVELS.index(cpu.level()):
        pytest.skip(f"{level} does not run here")
    gen = torch.Generator().manual_seed(seed)
    sizes = [1 if shared == axis else n for axis, n in (("samples", samples), ("rows", rows), ("columns", width))]
    inputs = {name: torch.randn(samples, rows, width, generator=gen) for name in "xq"}
    inputs |= {"v": torch.randn(*sizes, generator=gen), "w": torch.rand(width, generator=gen)}
    inputs |= {"b": torch.randn(width, generator=gen)}
    given = {name: inputs[name] for name in program.inputs}
    one, two = (
        {name: x.detach().clone().to(dtype).requires_grad_() for name, x in given.items()}
        for dtype in (torch.float32, torch.double)
    )
    if frozen and len(given) > 1:
        one["q"].requires_grad_(False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu, "level", lambda: level)
        assert inference.trains(*one.values())
        got, wanted = program(**one), program(**two)
        got, wanted = (x if isinstance(x, tuple) else (x,) for x in (got, wanted))
        slopes = [torch.randn(x.shape, generator=gen) for x in got]
        torch.autograd.backward(got, slopes)
        torch.autograd.backward(
            [x.expand_as(y) for x, y in zip(wanted, slopes, strict=True)], [x.double() for x in slopes]
        )
    for name, x in one.items():
        if x.requires_grad:
            limit = 2e-5 * max(1, float(two[name].grad.abs().max()), float(rows * width**0.5))
            torch.testing.assert_close(x.grad.double(), two[name].grad, rtol=0, atol=limit, msg=name)


@compiled
def test_gradients_at_their_seams_of_some_results_and_of_gradients():
    x = torch.cat([torch.linspace(-50, 50, 4001), torch.linspace(-1, 1, 999)]).view(1, 1, -1).requires_grad_()
    for name in ("silu", "tanh", "softplus", "sigmoid", "relu", "gelu"):
        program, wide = RowProgram(f"y = {name}(x)", "y"), x.detach().double().requires_grad_()
        (got,) = torch.autograd.grad(program(x=x).sum(), x)
        (wanted,) = torch.autograd.grad(program(x=wide).sum(), wide)
        torch.testing.assert_close(got.double(), wanted, rtol=3e-6, atol=4e-7, msg=name)
    both = RowProgram("y = x + q; z = x * q", "y", "z")
    x, q = (torch.randn(2, 3, 4, requires_grad=True) for _ in range(2))
    dx, dq = torch.autograd.grad(both(x=x, q=q)[1].sum(), (x, q))
    assert torch.equal(dx, q) and torch.equal(dq, x)
    dx, dq = torch.autograd.grad(both(x=x, q=q)[0].sum(), (x, q))
    assert torch.equal(dx, torch.ones_like(x)) and torch.equal(dq, dx)
    (slope,) = torch.autograd.grad(both(x=x, q=q)[1].square().sum(), x, create_graph=True)
    torch.testing.assert_close(torch.autograd.grad(slope.sum(), x)[0], 2 * q**2)
    distance = RowProgram("d = x - c; d = sqrt(sum(d * d))", "d")
    (got,) = torch.autograd.grad(distance(x=x, c=x.detach()).sum(), x)
    assert not got.any()  # where a distance is 0, so is its gradient, as torch's norms have it


def test_what_is_no_program_is_refused():
    for text in ("x + 1", "y = x ** 2", "y = sin(x)", "y = norm(x)", "x.y = 1"):
        with pytest.raises(ValueError, match="row program"):
            RowProgram(text, "y")


@compiled
def test_any_number_of_threads_gives_the_same_bits():
    x = torch.randn(9, 50, 200)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        wanted = PROGRAMS[4](x=x, q=x, v=x)
        torch.set_num_threads(3)
        assert torch.equal(PROGRAMS[4](x=x, q=x, v=x), wanted)
    finally:
        torch.set_num_threads(threads)


@compiled
def test_without_a_library_torch_computes(monkeypatch):
    x = torch.randn(2, 3, 4)
    with_it = PROGRAMS[0](x=x, q=x, v=x)
    monkeypatch.setattr(cpu, "load", lambda: "there is none")
    torch.testing.assert_close(PROGRAMS[0](x=x, q=x, v=x), with_it)


@compiled
def test_what_is_held_is_made_once_and_forgotten_behind():
    made = []

    def make(weight):
        made.append(weight)
        return weight + 1

    weight = torch.ones(2)
    with inference.holding():
        for _ in range(3):
            assert torch.equal(inference.prepared(make, weight), weight + 1)
        assert len(made) == 1
    weight.zero_()
    assert torch.equal(inference.prepared(make, weight), torch.ones(2))
    assert len(made) == 2


@pytest.mark.parametrize("op", ["sum", "most"])
def test_the_columns_of_one_number_are_refused(op):
    with pytest.raises(ValueError, match=f"{op} is of the columns of a row, .* is one number a row; leave it out"):
        RowProgram(f"m = sum(x); y = x * {op}(m * 2)", "y")


_GUARDED = """
from hsmamba.ops.rows import RowProgram

run_team = cpu.run_team
def longer(kernel, arguments, threads, held):
    arguments[1] += overrun  # rows
    run_team(kernel, arguments, threads, held)

cpu.run_team = longer
programs = [
    RowProgram("y = x + silu(q) * norm(x, w, b, 1e-5); s = sum(x)", "y", "s"),
    RowProgram("t = total(tanh(x) - q)", "t"),
    RowProgram("y = norm_slope(x, q, 1e-5) + rms_slope(q, x, 1e-5) * equal(x, q) + gelu_slope(x) * positive(q)", "y"),
    RowProgram("s = sum(x * q); y = s * x + q; y = y * q + s; y = y + rms(s * s + s, 1e-5) / s", "s", "y"),
]
for level in levels:
    cpu.level = lambda: level
    for width in (1, 3, 4, 15, 16, 17, 33):
        for behind in (True, False):
            x, q, y = (guarded((2, 5, width), behind) for _ in range(3))
            w, b = guarded((width,), behind), guarded((width,), behind)
            s, t = guarded((2, 5, 1), behind), guarded((2, 1, width), behind)
            programs[0](x=x, q=q, w=w, b=b, out={"y": y, "s": s})
            programs[1](x=x, q=q, out={"t": t})
            programs[2](x=x, q=q, out={"y": y})
            programs[3](x=x, q=q, out={"s": s, "y": y})
print("all")
"""


@pytest.mark.slow
@compiled
@pytest.mark.skipif(sys.platform != "linux", reason="pages are protected by Linux's call")
def test_no_access_outside_an_array():
    run_guarded("overrun = 0" + _GUARDED)


@pytest.mark.slow
@compiled
@pytest.mark.skipif(sys.platform != "linux", reason="pages are protected by Linux's call")
def test_the_guards_notice_a_row_too_far():
    with pytest.raises(AssertionError, match="ended by signal 11"):
        run_guarded("overrun = 1" + _GUARDED)


@compiled
@pytest.mark.parametrize("place", [(1, 1), (1, 5), (5, 1), (3, 4)])
@pytest.mark.parametrize("width", [1, 6])
def test_maps_of_one_row_or_one_column_stay_maps(place, width):
    x, q = torch.rand(2, *place, width), torch.rand(2, 1, 1, width)
    with torch.no_grad():
        assert inference.takes(x, q)
        got, wanted = both(RowProgram("y = q + x * w; z = sum(x)", "y", "z"), x=x, q=q, w=torch.rand(width))
    for one, other in zip(got, wanted, strict=True):
        assert one.shape == other.shape
        torch.testing.assert_close(one.double(), other)
