"""Haar transform: the definition of RAMSF's specification, perfect reconstruction, energy."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hsmamba.layers.wavelet import haar, inverse_haar


@given(chans=st.integers(1, 3), height=st.integers(1, 5), width=st.integers(1, 5))
def test_it_is_orthonormal_and_inverts(chans, height, width):
    x = torch.randn(2, chans, 2 * height, 2 * width, dtype=torch.float64)
    bands = haar(x)
    torch.testing.assert_close(inverse_haar(*bands), x)
    torch.testing.assert_close(sum(b.square().sum() for b in bands), x.square().sum())
    again = haar(inverse_haar(*(torch.flip(b, [0]) for b in bands)))
    torch.testing.assert_close(again, tuple(torch.flip(b, [0]) for b in bands))


def test_signs_are_those_of_the_specification():
    a, b, c, d = 1.0, 2.0, 4.0, 8.0  # (0, 0), (1, 0), (0, 1), (1, 1)
    x = torch.tensor([[[[a, c], [b, d]]]])
    got = [band.item() for band in haar(x)]
    assert got == [(a + b + c + d) / 2, (-a - b + c + d) / 2, (-a + b - c + d) / 2, (a - b - c + d) / 2]


def test_hl_answers_to_columns_and_lh_to_rows():
    stripes = torch.tensor([0.0, 1.0]).repeat(4).expand(1, 1, 8, 8)
    _, hl, lh, hh = haar(stripes)
    assert hl.all() and not lh.any() and not hh.any()
    _, hl, lh, hh = haar(stripes.mT)
    assert lh.all() and not hl.any() and not hh.any()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradients_in_training_are_those_through_slices(layout):
    x = torch.randn(2, 3, 6, 8).contiguous(memory_format=layout).requires_grad_()
    wide = x.detach().double().requires_grad_()
    slopes = [torch.randn(2, 3, 3, 4) for _ in range(3)]
    found = []
    for image in (x, wide):
        ll, hl, lh, hh = haar(image)  # the first of them has no gradient
        assert ("_Haar" in hl.grad_fn.name()) == (image is x)
        (first,) = torch.autograd.grad([hl, lh, hh], image, [s.to(ll.dtype) for s in slopes], retain_graph=True)
        joined = inverse_haar(hh, ll, hl, lh)
        (second,) = torch.autograd.grad(joined.pow(3).sum(), image, create_graph=True)
        found.append((first, joined, second, torch.autograd.grad(second.square().sum(), image)[0]))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-3)
