"""The compiled kernel of linear layers: torch's numbers, every instruction set, nothing outside an array."""

import sys

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from hsmamba.layers.linear import Linear
from hsmamba.ops import cpu, inference
from hsmamba.ops.linear import linear, linear_parts, product, takes
from tests.ops.guarded import run_guarded
from tests.ops.scan_cases import STATUS

LEVELS = ["baseline", "avx2", "avx512"]
TORCH = {
    "": lambda x: x, "silu": F.silu, "softplus": F.softplus, "tanh": torch.tanh, "sigmoid": torch.sigmoid,
    "relu": torch.relu,
}  # fmt: skip
pytestmark = pytest.mark.skipif(not STATUS["cpu"].available, reason=str(STATUS["cpu"]))


@pytest.mark.parametrize("level", LEVELS)
@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(0, 140), inputs=st.integers(1, 70), sizes=st.lists(st.integers(6, 70), min_size=1, max_size=3),
    activation=st.sampled_from(sorted(TORCH)), bias=st.booleans(), seed=st.integers(0, 99),
    layout=st.sampled_from(["plain", "strided", "turned"]),
)  # fmt: skip
def test_it_is_the_layer(level, rows, inputs, sizes, activation, bias, layout, seed):
    if LEVELS.index(level) > LEVELS.index(cpu.level()):
        pytest.skip(f"{level} does not run here")
    gen = torch.Generator().manual_seed(seed)
    x = torch.randn(2, rows, inputs * (2 if layout == "strided" else 1), generator=gen)[..., :inputs]
    x = x.mT.contiguous().mT if layout == "turned" else x
    weight, add = torch.randn(sum(sizes), inputs, generator=gen), torch.randn(2, rows, sum(sizes), generator=gen)
    shift = torch.randn(sum(sizes), generator=gen) if bias else None
    names = [activation, "", "softplus"][: len(sizes)]
    wanted = F.linear(x, weight, shift)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu, "level", lambda: level)
        assert takes(x, weight, shift)
        parts = linear_parts(x, weight, shift, *zip(sizes, names, strict=True))
        whole = linear(x, weight, shift, activation, add=add)
    close = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(whole, TORCH[activation](wanted) + add, **close)
    for got, part, name in zip(parts, wanted.split(sizes, -1), names, strict=True):
        torch.testing.assert_close(got, TORCH[name](part), **close)


@pytest.mark.parametrize("level", LEVELS)
@settings(max_examples=20, deadline=None)
@given(
    samples=st.integers(0, 3), rows=st.integers(0, 70), inputs=st.integers(0, 20),
    outputs=st.sampled_from([16, 64, 80, 9]), seed=st.integers(0, 99),
    layout=st.sampled_from(["plain", "turned", "one", "strided"]),
)  # fmt: skip
def test_many_matrices_are_multiplied(level, samples, rows, inputs, outputs, layout, seed):
    if LEVELS.index(level) > LEVELS.index(cpu.level()):
        pytest.skip(f"{level} does not run here")
    gen = torch.Generator().manual_seed(seed)
    a, b = torch.randn(samples, rows, inputs, generator=gen), torch.randn(samples, inputs, outputs, generator=gen)
    if layout == "one":
        a = torch.randn(rows, inputs, generator=gen).expand(samples, -1, -1)
    elif layout == "turned":
        a, b = a.mT.contiguous().mT, b.mT.contiguous().mT
    elif layout == "strided":
        b = torch.cat([b, b], dim=2)[..., :outputs]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu, "level", lambda: level)
        torch.testing.assert_close(product(a, b), a @ b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(121, 16, 64), (49, 128, 43), (1300, 9, 20), (5, 1100, 7)])
@pytest.mark.parametrize("turned", [False, True])
def test_products_have_gradients(rows, inputs, outputs, turned, monkeypatch):
    monkeypatch.setattr(cpu, "SMALL", 0)
    gen = torch.Generator().manual_seed(rows)
    a, b = torch.randn(3, rows, inputs, generator=gen), torch.randn(3, inputs, outputs, generator=gen)
    slope = torch.randn(3, rows, outputs, generator=gen)
    a, b = (x.mT.contiguous().mT.requires_grad_() if turned else x.requires_grad_() for x in (a, b))
    made = product(a, b)
    assert "_Product" in made.grad_fn.name()
    got = made, *torch.autograd.grad(made, (a, b), slope, retain_graph=True)
    wide = [x.detach().double().requires_grad_() for x in (a, b)]
    wanted = wide[0] @ wide[1]
    for one, other in zip(got, (wanted, *torch.autograd.grad(wanted, wide, slope.double())), strict=True):
        torch.testing.assert_close(one.double(), other, rtol=0, atol=2e-6 * float(other.detach().abs().max()))
    (first,) = torch.autograd.grad(made, a, slope, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), b)
    torch.testing.assert_close(second, slope.sum(1)[:, None].expand_as(b), rtol=1e-4, atol=1e-4)
    with inference.plain():
        assert "_Product" not in product(a, b).grad_fn.name()


def test_weights_may_have_several_axes():
    x, weight, bias = torch.randn(5, 4, 6), torch.randn(3, 7, 6), torch.randn(3, 7)
    wanted = F.linear(x, weight.flatten(0, 1), bias.flatten())
    torch.testing.assert_close(linear(x, weight, bias), wanted)
    with inference.plain():
        torch.testing.assert_close(linear(x, weight, bias), wanted)


def test_a_layer_takes_the_kernel_or_torch():
    layer, x = Linear(6, 10), torch.randn(2, 4, 6)
    with torch.no_grad():
        assert takes(x, layer.weight, layer.bias)
        fast, parts = layer(x, "silu", add=torch.ones(10)), layer.parts(x, (7, ""), (3, "tanh"))
    plain, apart = layer(x, "silu", add=torch.ones(10)), layer.parts(x, (7, ""), (3, "tanh"))
    assert plain.requires_grad
    for one, other in zip((fast, *parts), (plain, *apart), strict=True):
        torch.testing.assert_close(one, other.detach())


def test_it_takes_only_what_it_was_made_for():
    weight = torch.randn(8, 6)
    assert takes(torch.randn(3, 6), weight)
    assert not takes(torch.randn(6), weight)
    assert not takes(torch.randn(3, 6), torch.randn(2, 6))
    assert not takes(torch.randn(3, 2000), torch.randn(8, 2000))
    x, double = torch.randn(3, 6, dtype=torch.float64), weight.double()
    assert not takes(x, double)
    torch.testing.assert_close(linear(x, double), x @ double.T)


def test_any_number_of_threads_gives_the_same_bits():
    x, weight = torch.randn(999, 40), torch.randn(70, 40)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        wanted = linear(x, weight, None, "silu")
        torch.set_num_threads(3)
        assert torch.equal(linear(x, weight, None, "silu"), wanted)
    finally:
        torch.set_num_threads(threads)


_GUARDED = """
from guard_kernel import extent
from hsmamba.ops.linear import linear

run_team = cpu.run_team
def beside_guards(kernel, arguments, threads, held):
    arrays = [x for x in held if x is not None]
    places = {x.data_ptr(): Guarded(extent(x), behind) for x in arrays}
    for x in arrays:
        ctypes.memmove(places[x.data_ptr()].address, x.data_ptr(), extent(x))
    for i in range(12, 18):
        if arguments[i]:
            arguments[i] = places[arguments[i]].address
    arguments[0] += overrun
    kernel(ctypes.byref(arguments))
    for x in arrays:
        ctypes.memmove(x.data_ptr(), places[x.data_ptr()].address, extent(x))

cpu.run_team = beside_guards
for level in levels:
    cpu.level = lambda: level
    for rows, inputs, outputs in ((1, 1, 6), (7, 3, 15), (8, 5, 16), (65, 9, 33), (64, 4, 48), (130, 2, 100)):
        for behind in (True, False):
            x, weight, add = torch.randn(rows, inputs), torch.randn(outputs, inputs), torch.randn(rows, outputs)
            torch.testing.assert_close(linear(x, weight, add[0], "relu", add=add), (x @ weight.T + add[0]).relu() + add)
print("all")
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="pages are protected by Linux's call")
def test_no_access_outside_an_array():
    run_guarded("overrun = 0" + _GUARDED)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="pages are protected by Linux's call")
def test_the_guards_notice_rows_too_many():
    with pytest.raises(AssertionError, match="ended by signal 11"):
        run_guarded("overrun = 64" + _GUARDED)
