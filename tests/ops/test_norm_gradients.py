"""Batch norm and ReLU of channels that are neighbours in memory: torch's numbers, gradients and statistics."""

import pytest
import torch
from torch import nn

from hsmamba.ops.norm_gradients import takes, trainable_norm
from tests.ops.scan_cases import STATUS

pytestmark = pytest.mark.skipif(not STATUS["cpu"].available, reason=str(STATUS["cpu"]))


def made(seed=0):
    gen = torch.Generator().manual_seed(seed)
    x = (3 * torch.randn(4, 5, 6, 2 * 7, generator=gen) + 20).requires_grad_()  # far from zero
    norm = nn.BatchNorm3d(2)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2, generator=gen)
        norm.bias.uniform_(-1, 1, generator=gen)
    return x, norm, torch.randn(x.shape, generator=gen)


def test_it_is_torchs_in_double_precision():
    (x, norm, slope), (_, plain, _) = made(), made()
    plain = plain.double()
    wide = x.detach().double().requires_grad_()
    assert takes(norm, x)
    got = trainable_norm(x, norm, 7)
    wanted = plain(wide.unflatten(3, (2, 7)).permute(0, 3, 4, 1, 2)).relu().permute(0, 3, 4, 1, 2).flatten(3)
    torch.testing.assert_close(got.double(), wanted, rtol=1e-5, atol=1e-5)
    ours = torch.autograd.grad(got, (x, norm.weight, norm.bias), slope)
    theirs = torch.autograd.grad(wanted, (wide, plain.weight, plain.bias), slope.double())
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=0, atol=1e-5 * float(other.abs().max()))
    torch.testing.assert_close(norm.double().state_dict(), plain.state_dict(), rtol=1e-5, atol=1e-5)


def test_gradients_of_gradients():
    x, norm, _ = made()
    (slope,) = torch.autograd.grad(trainable_norm(x, norm, 7).square().sum(), x, create_graph=True)
    maps = x.unflatten(3, (2, 7)).permute(0, 3, 4, 1, 2)
    (plain,) = torch.autograd.grad(norm(maps).relu().square().sum(), x, create_graph=True)
    torch.testing.assert_close(slope, plain, rtol=1e-4, atol=1e-4)
    one, other = (torch.autograd.grad(y.square().sum(), norm.weight)[0] for y in (slope, plain))
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_layers_that_norm_otherwise_are_left_alone():
    x, norm, _ = made()
    assert not takes(norm.eval(), x)
    assert not takes(nn.BatchNorm3d(2, affine=False), x)
    assert not takes(nn.BatchNorm3d(2, track_running_stats=False), x)
    assert not takes(nn.SyncBatchNorm(2), x)
