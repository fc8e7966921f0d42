"""Gradients of depthwise convolutions: every instruction set, those in double precision, nothing outside an array."""

import copy
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hsmamba.ops import cpu
from hsmamba.ops import depthwise_gradients as depthwise
from hsmamba.ops.depthwise_gradients import depthwise_op, trainable_depthwise
from tests.ops.guarded import run_guarded
from tests.ops.scan_cases import STATUS

LEVELS = ["baseline", "avx2", "avx512"]
pytestmark = [
    pytest.mark.skipif(not STATUS["cpu"].available, reason=str(STATUS["cpu"])),
]


def made(chans, kernel=(7, 7), dilation=1, bias=True):
    torch.manual_seed(0)
    return nn.Conv2d(chans, chans, kernel, padding="same", dilation=dilation, groups=chans, bias=bias)


def gradients(convolve, x, conv, slope):
    x = x.detach().requires_grad_()
    return torch.autograd.grad(convolve(x, conv), [x, *conv.parameters()], slope)


@pytest.mark.parametrize("level", LEVELS)
@settings(max_examples=15)
@given(
    batch=st.integers(1, 2), chans=st.integers(1, 35), height=st.integers(1, 12), width=st.integers(1, 20),
    kernel=st.sampled_from([(3, 3), (1, 3), (3, 1), (5, 5), (7, 7), (11, 11), (3, 11)]), dilation=st.integers(1, 3),
    bias=st.booleans(), last=st.booleans(), threads=st.sampled_from([1, 3]),
)  # fmt: skip
def test_its_gradients_are_those_in_double_precision(
    level, batch, chans, height, width, kernel, dilation, bias, last, threads
):
    if LEVELS.index(level) > LEVELS.index(cpu.level()):
        pytest.skip(f"{level} does not run here")
    conv, before = made(chans, kernel, dilation, bias), torch.get_num_threads()
    x, slope = torch.randn(2, batch, chans, height, width)
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    torch.set_num_threads(threads)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cpu, "level", lambda: level)
            patch.setattr(depthwise, "FEW", 0)
            patch.setattr(depthwise, "_SMALL", 0)
            assert depthwise._takes(x, conv)
            got = gradients(trainable_depthwise, x, conv, slope)
    finally:
        torch.set_num_threads(before)
    wanted = gradients(lambda x, conv: conv(x), x.double(), copy.deepcopy(conv).double(), slope.double())
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-5 * max(1.0, float(other.abs().max())))


def test_the_numbers_are_torchs_own():
    conv, x = made(5), torch.randn(2, 5, 9, 8, requires_grad=True)
    assert torch.equal(trainable_depthwise(x, conv), conv(x))
    with torch.no_grad():
        assert torch.equal(trainable_depthwise(x, conv), conv(x))


def test_its_gradient_has_one():
    conv, x = made(3), torch.randn(2, 3, 6, 5, requires_grad=True)
    (dx,) = torch.autograd.grad(trainable_depthwise(x, conv).square().sum(), x, create_graph=True)
    (plain,) = torch.autograd.grad(conv(x).square().sum(), x, create_graph=True)
    got, wanted = (torch.autograd.grad(one.square().sum(), x)[0] for one in (dx, plain))
    torch.testing.assert_close(got, wanted)


def test_the_operator_keeps_what_torch_expects_of_one():
    conv, x = made(5, (3, 7), 2), torch.randn(2, 5, 6, 7, requires_grad=True)
    torch.library.opcheck(depthwise_op, (x, conv.weight, conv.bias, 2))
    torch.library.opcheck(depthwise_op, (x, conv.weight, None, 2))


def test_it_takes_only_what_it_was_made_for():
    x = torch.zeros(2, 4, 9, 9)
    assert depthwise._takes(x, made(4)) and depthwise._takes(x, made(4, (3, 3), 2))
    assert not depthwise._takes(x, made(4, (3, 3)))
    assert not depthwise._takes(x.double(), made(4).double())
    assert not depthwise._takes(x, nn.Conv2d(4, 4, 7, padding=2, groups=4))
    assert not depthwise._takes(x, nn.Conv2d(4, 4, 7, padding=3, groups=2))
    assert not depthwise._takes(x, nn.Conv2d(4, 4, 7, padding=3, stride=2, groups=4))
    assert not depthwise._takes(x, nn.Conv2d(4, 4, 7, padding=3, groups=4, padding_mode="reflect"))


_GUARDED = """
from hsmamba.ops.depthwise_gradients import _Depthwise
for level in levels:
    cpu.level = lambda: level
    for chans in (1, 16, 17):
        row = -(-chans // 16) * 16
        for case in ((5, 9, 3, 3, 3), (8, 8, 7, 7, 1), (1, 17, 5, 11, 2), (3, 4, 1, 3, 1)):
            height, width, rows, columns, dilation = case
            for behind in (True, False):
                outer = 2, height + dilation * (rows - 1), width + dilation * (columns - 1), row
                x, weights = guarded(outer, behind), guarded((rows, columns, row), behind)
                sizes = 2, chans, height, width, rows, columns, dilation, row
                y = guarded((2, height, width, chans), behind)
                pointers = x.data_ptr(), weights.data_ptr(), y.data_ptr()
                cpu.kernel("depthwise_image")(ctypes.byref(_Depthwise(*sizes, *pointers, 0)))
                inside = guarded(outer, behind)[:, dilation * (rows // 2):, dilation * (columns // 2):]
                pointers = x.data_ptr(), weights.data_ptr(), inside.data_ptr()
                cpu.kernel("depthwise_weights")(ctypes.byref(_Depthwise(*sizes, *pointers, 0)))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="pages are protected by Linux's call")
def test_no_access_outside_an_array():
    run_guarded(_GUARDED)
