"""Linear maps in training: values and gradients in double precision, and where torch's own operation computes."""

import pytest
import torch
import torch.nn.functional as F

from hsmamba.layers.linear import Linear
from hsmamba.ops import cpu, inference
from hsmamba.ops import linear_gradients as ops

served = pytest.mark.skipif(
    cpu.level() != "avx512" or not torch.backends.mkldnn.is_available() or isinstance(cpu.load(), str),
    reason="oneDNN computes in vectors of sixteen numbers nowhere else",
)


def made(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def took(y):
    """Whether the operation made this."""
    found = y.grad_fn, *(step for step, _ in y.grad_fn.next_functions)
    return any("_LinearBackward" in step.name() for step in found if step is not None)


@served
@pytest.mark.parametrize("shape", [(7, 9, 20), (64, 5, 20), (48, 20), (16, 2, 3, 20)])
@pytest.mark.parametrize("biased", [True, False])
def test_values_and_gradients(shape, biased, monkeypatch):
    monkeypatch.setattr(ops, "_SMALL", 0)
    x, weight, bias = made(*shape), made(30, 20, seed=1), made(30, seed=2) if biased else None
    slope = torch.randn(*shape[:-1], 30, generator=torch.Generator().manual_seed(3))
    leaves = [t for t in (x, weight, bias) if t is not None]
    y = ops.trainable_linear(x, weight, bias)
    assert took(y)
    got = torch.autograd.grad(y, leaves, slope)
    wide = [t.detach().double().requires_grad_() for t in leaves]
    wanted = F.linear(*wide)
    torch.testing.assert_close(y.double(), wanted, rtol=0, atol=1e-5 * float(wanted.detach().abs().max()))
    for one, other in zip(got, torch.autograd.grad(wanted, wide, slope.double()), strict=True):
        torch.testing.assert_close(one.double(), other, rtol=0, atol=1e-5 * float(other.abs().max()))


@served
def test_weights_that_are_frozen_views_and_gradients_of_gradients(monkeypatch):
    monkeypatch.setattr(ops, "_SMALL", 0)
    x, weight = made(8, 6, 5), made(5, 4, seed=1)
    y = ops.trainable_linear(x.mT.contiguous().mT, weight.mT)
    torch.testing.assert_close(y, x @ weight)
    (slope,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(slope.square().sum(), weight)
    (plain,) = torch.autograd.grad((x @ weight).square().sum(), x, create_graph=True)
    torch.testing.assert_close(second, torch.autograd.grad(plain.square().sum(), weight)[0], rtol=1e-4, atol=1e-4)
    frozen = weight.detach().mT
    (got,) = torch.autograd.grad(ops.trainable_linear(x, frozen).sum(), x)
    torch.testing.assert_close(got, weight.detach().sum(1).expand_as(x))


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
    monkeypatch.setattr(torch._C, "_has_mkldnn", False)
    torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias))
