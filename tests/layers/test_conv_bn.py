"""ConvBN: the numbers and gradients of the three layers one after the other, in both modes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hsmamba.layers.conv_bn import ConvBN


def made(dims, bias, act, groups):
    conv = nn.Conv2d if dims == 2 else nn.Conv3d
    module = ConvBN(conv(4, 6, 3, padding=1, bias=bias, groups=groups, stride=2), act=act)
    for x in (*module[1].parameters(), module[1].running_mean):
        nn.init.normal_(x)
    nn.init.uniform_(module[1].running_var, 0.1, 3)
    return module


@settings(max_examples=20)
@given(
    dims=st.sampled_from([2, 3]), bias=st.booleans(), act=st.booleans(), groups=st.sampled_from([1, 2]),
    training=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_it_is_its_layers_one_after_the_other(dims, bias, act, groups, training, seed):
    torch.manual_seed(seed)
    module = made(dims, bias, act, groups).double().train(training)
    plain = nn.Sequential(*(layer for layer in made(dims, bias, act, groups))).double().train(training)
    plain.load_state_dict(module.state_dict())
    x = torch.randn(2, 4, *[5] * dims, dtype=torch.float64)
    got, wanted = module(x), plain(x)
    torch.testing.assert_close(got, wanted)
    slope = torch.randn_like(got)
    gradients = (torch.autograd.grad(y, list(m.parameters()), slope) for y, m in ((got, module), (wanted, plain)))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(module[1].running_var, plain[1].running_var)


@pytest.mark.parametrize("kernel", [1, 3])
def test_maps_whose_channels_are_neighbours_train_alike(kernel):
    torch.manual_seed(kernel)
    module = ConvBN(nn.Conv2d(5, 18, kernel, padding="same", bias=False))
    plain = nn.Sequential(nn.Conv2d(5, 18, kernel, padding="same", bias=False), nn.BatchNorm2d(18), nn.ReLU())
    plain.load_state_dict(module.state_dict())
    plain.double()
    x = torch.randn(3, 5, 6, 7).to(memory_format=torch.channels_last).requires_grad_()
    wide = x.detach().double().requires_grad_()
    got, wanted = module(x), plain(wide)
    torch.testing.assert_close(got.double(), wanted, rtol=1e-5, atol=1e-5)
    slope = torch.randn_like(got)
    ours = torch.autograd.grad(got, (x, *module.parameters()), slope)
    theirs = torch.autograd.grad(wanted, (wide, *plain.parameters()), slope.double())
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(module.double().state_dict(), plain.state_dict(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("kind", "kernel"), [(nn.Conv2d, 1), (nn.Conv2d, 3), (nn.Conv3d, 3)])
@pytest.mark.parametrize("act", [False, True])
def test_a_bias_that_the_norm_takes_away_stays_as_it_is(kind, kernel, act):
    conv = kind(5, 18, kernel)
    module = ConvBN(conv, act=act).train()
    x = torch.randn(3, 5, *[6] * (conv.weight.ndim - 2))
    if x.ndim == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    y = module(x)
    (y * torch.randn_like(y)).sum().backward()
    assert torch.equal(conv.bias.grad, torch.zeros(18))
    assert conv.weight.grad.abs().max() > 0.01
    conv.bias.grad = None
    module.eval()(x).sum().backward()  # where the statistics are fixed, it has a say
    assert conv.bias.grad.abs().max() > 0.01


def test_without_statistics_it_takes_those_of_the_batch():
    module = ConvBN(nn.Conv2d(2, 3, 1))
    module[1] = nn.BatchNorm2d(3, track_running_stats=False)
    x = torch.randn(4, 2, 5, 5)
    torch.testing.assert_close(module.eval()(x), module.train()(x))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_its_type(dtype):
    module, x = made(2, True, True, 1).eval(), torch.randn(2, 4, 5, 5)
    wanted = module(x)
    got = module.to(dtype)(x.to(dtype))
    assert got.dtype == dtype
    torch.testing.assert_close(got.float(), wanted, rtol=0.1, atol=0.1)
