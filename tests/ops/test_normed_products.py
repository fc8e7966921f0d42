"""A product with what stands before and behind it: values, gradients and statistics in double precision."""

import copy
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hsmamba.layers.conv_bn import ConvBN
from hsmamba.ops import cpu
from hsmamba.ops.normed_products import trainable_product
from tests.ops.guarded import run_guarded
from tests.ops.scan_cases import STATUS

LEVELS = ["baseline", "avx2", "avx512"]
THREE = ((3, 3), (1, 3), (5, 1))
pytestmark = pytest.mark.skipif(not STATUS["cpu"].available, reason=str(STATUS["cpu"]))


def made(channels, outputs, sides, *, biased, images=3, seed=0):
    torch.manual_seed(seed)
    conv = nn.Conv2d((1 + len(sides)) * channels, outputs, 1, bias=biased)
    norm = nn.BatchNorm2d(outputs)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2), norm.bias.uniform_(-1, 1)
    beside = [torch.randn(channels, 1, *side).requires_grad_() for side in sides]
    maps = (torch.randn(images, 7, 5, channels) + 3).permute(0, 3, 1, 2).requires_grad_()
    return maps, conv, norm, beside


def plain(maps, conv, norm, beside):
    whole = torch.cat([maps, *(F.conv2d(maps, w, padding="same", groups=len(w)) for w in beside)], 1)
    return norm(conv(whole)).relu()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("channels", "outputs", "sides", "biased", "threads"),
    [
        (20, 37, THREE, True, 1),
        (16, 32, THREE, False, 2),
        (5, 3, ((3, 3),), False, 1),
        (70, 16, (), False, 2),
        (9, 20, (), True, 1),
    ],
)
def test_it_is_torchs_in_double_precision(level, channels, outputs, sides, biased, threads, monkeypatch):
    if LEVELS.index(level) > LEVELS.index(cpu.level()):
        pytest.skip(f"{level} does not run here")
    monkeypatch.setattr(cpu, "level", lambda: level)
    monkeypatch.setattr(cpu, "SMALL", 0)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        _compare(channels, outputs, sides, biased)
    finally:
        torch.set_num_threads(before)


def _compare(channels, outputs, sides, biased):
    maps, conv, norm, beside = made(channels, outputs, sides, biased=biased)
    wide = maps.detach().double().requires_grad_()
    layers = copy.deepcopy(conv).double(), copy.deepcopy(norm).double()
    kernels = [w.detach().double().requires_grad_() for w in beside]
    got, wanted = trainable_product(maps, conv, norm, beside=beside), plain(wide, *layers, kernels)
    torch.testing.assert_close(got.double(), wanted, rtol=1e-5, atol=1e-5)
    slope = torch.randn(got.shape)
    ours = torch.autograd.grad(got, (maps, *conv.parameters(), *norm.parameters(), *beside), slope)
    leaves = (wide, *layers[0].parameters(), *layers[1].parameters(), *kernels)
    theirs = torch.autograd.grad(wanted, leaves, slope.double())
    scale = float(theirs[1].abs().max())
    for one, other in zip(ours, theirs, strict=True):  # a bias before a norm has the gradient 0
        torch.testing.assert_close(one.double(), other, rtol=0, atol=1e-5 * max(scale, float(other.abs().max())))
    torch.testing.assert_close(norm.double().state_dict(), layers[1].state_dict(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("channels", "share", "outputs", "threads"), [(6, 5, 37, 1), (3, 38, 16, 2), (20, 1, 5, 2)])
def test_a_norm_before_it(level, channels, share, outputs, threads, monkeypatch):
    if LEVELS.index(level) > LEVELS.index(cpu.level()):
        pytest.skip(f"{level} does not run here")
    monkeypatch.setattr(cpu, "level", lambda: level)
    monkeypatch.setattr(cpu, "SMALL", 0)
    before = torch.get_num_threads()
    maps, conv, norm, _ = made(channels * share, outputs, (), biased=False, images=7)
    first = nn.BatchNorm3d(channels)
    with torch.no_grad():
        first.weight.uniform_(0.5, 2), first.bias.uniform_(-1, 1)
    layers = [copy.deepcopy(layer).double() for layer in (first, conv, norm)]
    wide = maps.detach().double().requires_grad_()
    try:
        torch.set_num_threads(threads)
        got = trainable_product(maps, conv, norm, before=first)
        slope = torch.randn(got.shape)
        leaves = maps, *first.parameters(), *conv.parameters(), *norm.parameters()
        ours = torch.autograd.grad(got, leaves, slope, retain_graph=True)
        (once,) = torch.autograd.grad(got, maps, slope, create_graph=True)
        twice = torch.autograd.grad(once.square().sum(), (conv.weight, first.weight))
    finally:
        torch.set_num_threads(before)
    wanted = layers[2](layers[1](layers[0](wide.unflatten(1, (-1, share))).relu().flatten(1, 2))).relu()
    torch.testing.assert_close(got.double(), wanted, rtol=1e-5, atol=1e-5)
    leaves = (wide, *(p for layer in layers for p in layer.parameters()))
    theirs = torch.autograd.grad(wanted, leaves, slope.double(), retain_graph=True)
    (once,) = torch.autograd.grad(wanted, wide, slope.double(), create_graph=True)
    theirs += torch.autograd.grad(once.square().sum(), (layers[1].weight, layers[0].weight))
    for one, other in zip((*ours, *twice), theirs, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=0, atol=1e-5 * float(other.abs().max()))
    for one, other in zip((first, norm), layers[::2], strict=True):
        torch.testing.assert_close(one.double().state_dict(), other.state_dict(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("sides", [(), ((3, 3),)])
def test_gradients_of_gradients(sides):
    maps, conv, norm, beside = made(6, 4, sides, biased=True)
    slopes = [
        torch.autograd.grad(y.square().sum(), maps, create_graph=True)[0]
        for y in (trainable_product(maps, conv, norm, beside=beside), plain(maps, conv, norm, beside))
    ]
    torch.testing.assert_close(*slopes, rtol=1e-4, atol=1e-4)
    second = [torch.autograd.grad(slope.square().sum(), (conv.weight, *beside)) for slope in slopes]
    for one, other in zip(*second, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3 * float(other.abs().max()))


def test_maps_that_need_no_gradient():
    maps, conv, norm, beside = made(6, 4, THREE, biased=False)
    fixed = maps.detach()
    ours = torch.autograd.grad(
        trainable_product(fixed, conv, norm, beside=beside).square().sum(), (conv.weight, *beside)
    )
    theirs = torch.autograd.grad(plain(fixed, conv, norm, beside).square().sum(), (conv.weight, *beside))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))


def test_more_than_the_kernel_takes_is_refused():
    maps, conv, norm, beside = made(4, 3, ((3, 3),) * 5, biased=False)
    with pytest.raises(ValueError, match="got 5 convolutions"):
        trainable_product(maps, conv, norm, beside=beside)
    with pytest.raises(ValueError, match="1 convolutions and a norm"):
        trainable_product(maps, conv, norm, beside=beside[:1], before=nn.BatchNorm2d(4))


def test_a_layer_takes_the_kernel_or_torch():
    maps, *_ = made(8, 6, (), biased=False)
    layer, other = ConvBN(nn.Conv2d(8, 6, 1)), ConvBN(nn.Conv2d(8, 6, 1), act=False)
    assert "_ProductNorm" in layer(maps).grad_fn.name()
    assert "_ProductNorm" not in layer(maps.contiguous()).grad_fn.name()
    assert "_ProductNorm" not in other(maps).grad_fn.name()
    assert "_ProductNorm" not in layer.eval()(maps).grad_fn.name()


GUARDED = """
from torch import nn
from hsmamba.ops import linear_gradients, normed_products

def fresh(self, *shape):
    return guarded(tuple(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int) else shape, behind)

torch.Tensor.new_empty = torch.Tensor.new_zeros = fresh
run_team = cpu.run_team
def longer(kernel, arguments, threads, held):
    if hasattr(arguments, "product"):
        arguments.norm.rows += overrun * 15
    run_team(kernel, arguments, threads, held)

cpu.run_team = longer
for level in levels:
    cpu.level = lambda: level
    for behind in (True, False):
        for channels, outputs, sides in ((17, 20, ((3, 3), (1, 3))), (16, 3, ((3, 1),)), (33, 5, ()), (1, 1, ())):
            maps = guarded((9, 3, 5, channels), behind).permute(0, 3, 1, 2).requires_grad_()
            conv, norm = nn.Conv2d((1 + len(sides)) * channels, outputs, 1), nn.BatchNorm2d(outputs)
            beside = [torch.ones(channels, 1, *side).requires_grad_() for side in sides]
            y = normed_products.trainable_product(maps, conv, norm, beside=beside)
            torch.autograd.grad(y, (maps, conv.weight), guarded((9, 3, 5, outputs), behind).permute(0, 3, 1, 2))
            first = nn.BatchNorm3d(1)
            conv = nn.Conv2d(channels, outputs, 1)
            y = normed_products.trainable_product(maps, conv, norm, before=first)
            torch.autograd.grad(y, (maps, conv.weight), guarded((9, 3, 5, outputs), behind).permute(0, 3, 1, 2))
            rows, grad = guarded((131, channels), behind), guarded((131, outputs), behind)
            weight = conv.weight[:, :channels, 0, 0].detach()
            for activation in ("", *normed_products.TOLD):
                into, result = guarded((131, channels), behind), guarded((131, outputs), behind) if activation else None
                add = guarded((131, channels), behind)
                given = grad, rows, weight, into, result, activation
                normed_products.product_gradients(*given, biased=True, add=add)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="pages are protected by Linux's call")
def test_no_access_outside_an_array():
    run_guarded("overrun = 0" + GUARDED)
    with pytest.raises(AssertionError, match="ended by signal"):
        run_guarded("overrun = 100" + GUARDED)
