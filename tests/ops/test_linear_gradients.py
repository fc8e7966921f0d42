"""Linear maps in training: values and gradients in double precision, and where torch's own operation computes."""

import sys

import pytest
import torch
import torch.nn.functional as F

from hsmamba.layers.linear import Linear
from hsmamba.ops import cpu, inference, products
from hsmamba.ops import linear_gradients as ops
from hsmamba.ops import normed_products as products_of
from tests.ops.guarded import run_guarded
from tests.ops.scan_cases import STATUS

LEVELS = ["baseline", "avx2", "avx512"]
compiled = pytest.mark.skipif(not STATUS["cpu"].available, reason=str(STATUS["cpu"]))

served = pytest.mark.skipif(cpu.level() != "avx512" or isinstance(cpu.load(), str), reason="elsewhere torch is as fast")


def made(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def took(y):
    """Whether the operation made this."""
    found = y.grad_fn, *(step for step, _ in y.grad_fn.next_functions)
    return any("_LinearBackward" in step.name() for step in found if step is not None)


@served
@pytest.mark.parametrize("shape", [(7, 9, 20), (64, 5, 20), (48, 20), (16, 2, 3, 20)])
@pytest.mark.parametrize("outputs", [30, 96])  # the latter's gradient is of long rows
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("activation", ["", *products_of.TOLD])
def test_values_and_gradients(shape, outputs, biased, activation, monkeypatch):
    monkeypatch.setattr(ops, "_SMALL", 0)
    x, weight, bias = made(*shape), made(outputs, 20, seed=1), made(outputs, seed=2) if biased else None
    slope = torch.randn(*shape[:-1], outputs, generator=torch.Generator().manual_seed(3))
    leaves = [t for t in (x, weight, bias) if t is not None]
    y = ops.trainable_linear(x, weight, bias, activation)
    assert took(y)
    got = torch.autograd.grad(y, leaves, slope)
    wide = [t.detach().double().requires_grad_() for t in leaves]
    wanted = F.linear(*wide)
    wanted = getattr(F, activation)(wanted) if activation else wanted
    torch.testing.assert_close(y.double(), wanted, rtol=0, atol=1e-5 * float(wanted.detach().abs().max()))
    for one, other in zip(got, torch.autograd.grad(wanted, wide, slope.double()), strict=True):
        torch.testing.assert_close(one.double(), other, rtol=0, atol=1e-5 * float(other.abs().max()))


@served
@pytest.mark.parametrize("activation", ["", "softplus", "silu"])
@pytest.mark.parametrize("turned", [False, True])
def test_the_gradient_of_what_else_is_made_is_added(activation, turned, monkeypatch):
    monkeypatch.setattr(ops, "_SMALL", 0)
    x, weight, bias = made(7, 70, 20), made(130, 20, seed=1), made(130, seed=2)
    slopes = torch.randn(7, 70, 130), torch.randn(7, 20, 70).mT if turned else torch.randn(7, 70, 20)
    y, same = ops.shared_linear(x, weight, bias, activation)
    assert torch.equal(same, x)
    got = torch.autograd.grad((y, same.square()), (x, weight, bias), slopes, retain_graph=True)
    wide = [t.detach().double().requires_grad_() for t in (x, weight, bias)]
    wanted = F.linear(*wide)
    wanted = getattr(F, activation)(wanted) if activation else wanted
    given = [slope.double() for slope in slopes]
    for one, other in zip(got, torch.autograd.grad((wanted, wide[0].square()), wide, given), strict=True):
        torch.testing.assert_close(one.double(), other, rtol=0, atol=1e-5 * float(other.abs().max()))
    (alone,) = torch.autograd.grad(same, x, slopes[1], retain_graph=True)
    torch.testing.assert_close(alone, slopes[1])
    (first,) = torch.autograd.grad((y, same), x, slopes, create_graph=True)
    torch.testing.assert_close(first, got[0] + slopes[1] * (1 - 2 * x), rtol=1e-4, atol=1e-4)


@served
def test_long_rows(monkeypatch):
    monkeypatch.setattr(ops, "_SMALL", 0)
    x, weight = made(9, 7, 80), made(48, 80, seed=1)
    y, slope = ops.trainable_linear(x, weight), torch.ones(9, 7, 48)
    torch.testing.assert_close(y, x @ weight.mT, rtol=1e-5, atol=1e-4)
    for one, other in zip(
        torch.autograd.grad(y, (x, weight), slope), torch.autograd.grad(x @ weight.mT, (x, weight), slope), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-4)


@served
@pytest.mark.parametrize("activation", ["", *products_of.TOLD])
def test_weights_that_are_frozen_views_and_gradients_of_gradients(activation, monkeypatch):
    monkeypatch.setattr(ops, "_SMALL", 0)
    x, weight = made(8, 6, 5), made(5, 4, seed=1)
    y, plain = ops.trainable_linear(x.mT.contiguous().mT, weight.mT, None, activation), x @ weight
    plain = getattr(F, activation)(plain) if activation else plain
    torch.testing.assert_close(y, plain)
    (slope,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(slope.square().sum(), weight)
    (plain_slope,) = torch.autograd.grad(plain.sum(), x, retain_graph=True)
    (wanted,) = torch.autograd.grad(plain.square().sum(), x, create_graph=True)
    torch.testing.assert_close(second, torch.autograd.grad(wanted.square().sum(), weight)[0], rtol=1e-4, atol=1e-4)
    frozen = weight.detach().mT
    (got,) = torch.autograd.grad(ops.trainable_linear(x, frozen, None, activation).sum(), x)
    torch.testing.assert_close(got, plain_slope)


def test_elsewhere_it_is_torchs(monkeypatch):
    x, layer = made(64, 49, 40), Linear(40, 30)
    small, wide = Linear(4, 3), Linear(40, 30).double()
    with torch.no_grad():
        assert layer(x).grad_fn is None
    with inference.plain():
        assert not took(layer(x))
    assert not took(small(made(2, 4)))
    assert not took(wide(x.double()))
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    monkeypatch.setattr(cpu, "level", lambda: "avx2")
    torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias), rtol=0, atol=0)
    assert torch.equal(layer(x, "relu"), F.linear(x, layer.weight, layer.bias).relu())


@compiled
@pytest.mark.parametrize("level", LEVELS)
def test_the_slope_of_softplus_is_exact_throughout(level, monkeypatch):
    if LEVELS.index(level) > LEVELS.index(cpu.level()):
        pytest.skip(f"{level} does not run here")
    monkeypatch.setattr(cpu, "level", lambda: level)
    x = torch.linspace(-80, 30, 4001).double()
    y, one = F.softplus(x, threshold=100).float()[:, None], torch.ones(1, 1)
    dx = torch.empty(len(x), 1)
    products_of.product_gradients(torch.ones(len(x), 1), torch.ones(len(x), 1), one, dx, y, "softplus", biased=False)
    torch.testing.assert_close(dx[:, 0].double(), x.sigmoid(), rtol=1e-6, atol=0)


@compiled
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("sizes", [(300, 64, 48), (129, 9, 20), (128, 8, 33), (1, 3, 1), (40, 17, 96)])
@pytest.mark.parametrize("strided", [False, True])
def test_gradients_of_weights(level, sizes, strided, monkeypatch):
    if LEVELS.index(level) > LEVELS.index(cpu.level()):
        pytest.skip(f"{level} does not run here")
    monkeypatch.setattr(cpu, "level", lambda: level)
    rows, outputs, inputs = sizes
    more = 5 if strided else 0
    grad, x = made(rows, outputs + more).detach()[:, :outputs], made(rows, inputs + more, seed=1).detach()[:, more:]
    wanted = grad.double().mT @ x.double()
    close = {"rtol": 0, "atol": 1e-6 * float(wanted.abs().max())}
    torch.testing.assert_close(products.weight_gradient(grad, x).double(), wanted, **close)
    torch.testing.assert_close(products.weight_gradient(grad.mT.contiguous().mT, x).double(), wanted, **close)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        monkeypatch.setattr(cpu, "SMALL", 0)
        weights, bias = products.linear_gradients(grad, x, biased=True)
        torch.testing.assert_close(weights.double(), wanted, **close)
        torch.testing.assert_close(bias.double(), grad.double().sum(0), rtol=1e-5, atol=1e-5)
    finally:
        torch.set_num_threads(before)


GUARDED = """
from hsmamba.ops.products import GradientArguments
for level in levels:
    for behind in (False, True):
        for rows, outputs, inputs in ((131, 9, 20), (3, 17, 49), (2, 1, 1)):
            rows_of = rows + {extra}
            grad, x = guarded((rows, outputs), behind), guarded((rows, inputs), behind)
            weights, bias = guarded((outputs, inputs), behind), guarded((outputs,), behind)
            pointers = [t.data_ptr() for t in (grad, x, weights, bias)]
            arguments = GradientArguments(rows_of, outputs, inputs, outputs, inputs, 1, *pointers, 0)
            getattr(cpu.load(), f"hsmamba_linear_gradients_{{level}}")(ctypes.byref(arguments))
"""


@pytest.mark.slow
@compiled
@pytest.mark.skipif(sys.platform != "linux", reason="pages are protected by Linux's call")
def test_no_access_outside_an_array():
    run_guarded(GUARDED.format(extra=0))
    with pytest.raises(AssertionError, match="ended by signal"):
        run_guarded(GUARDED.format(extra=1000))
