"""The Mamba block: causal, whatever the layout of its input, and its convolution torch's."""

import pytest
import torch
from torch.nn import functional as F

from hsmamba.layers.mamba import Mamba, causal_conv


@pytest.mark.parametrize("taps", [1, 2, 4, 6])
def test_the_convolution_is_the_depthwise_one_with_zeros_before(taps):
    torch.manual_seed(taps)
    x, weight, bias = torch.randn(2, 5, 3).double(), torch.randn(3, taps).double(), torch.randn(3).double()
    want = F.conv1d(F.pad(x.mT, (taps - 1, 0)), weight[:, None], bias, groups=3).mT
    torch.testing.assert_close(causal_conv(x, weight, bias), want)
    torch.testing.assert_close(causal_conv(x, weight) + bias, want)


def test_what_comes_later_has_no_influence():
    torch.manual_seed(0)
    block = Mamba(4, d_state=3).double()
    x = torch.randn(2, 9, 4).double()
    other = x.clone()
    other[:, 6:] += 1
    torch.testing.assert_close(block(x)[:, :6], block(other)[:, :6])
    assert not torch.allclose(block(x)[:, 6:], block(other)[:, 6:])


def test_the_layout_of_the_sequence_changes_nothing():
    torch.manual_seed(0)
    block = Mamba(4, d_state=3).double()
    x = torch.randn(2, 9, 4).double()
    torch.testing.assert_close(block(x.mT.contiguous().mT), block(x))
