"""Padding by reflection and convolution of single pixels, as the fusion networks do them."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from hsmamba.layers.fusion import box_mean, pad_sides, pointwise


@given(height=st.integers(1, 9), width=st.integers(1, 9), multiple=st.integers(1, 8), least=st.integers(1, 8))
def test_sides_are_reflected_up_to_what_is_needed_and_no_further(height, width, multiple, least):
    image = torch.rand(2, 3, height, width)
    padded = pad_sides(image, multiple, least)
    for got, side in zip(padded.shape[2:], (height, width), strict=True):
        assert got % multiple == 0 and got >= max(side, least)
        assert got - multiple < max(side, least)
    below, right = padded.shape[2] - height, padded.shape[3] - width
    want = np.pad(image.numpy(), [(0, 0), (0, 0), (0, below), (0, right)], mode="reflect")
    assert np.array_equal(padded.numpy(), want)


@given(height=st.integers(1, 9), width=st.integers(1, 9), side=st.sampled_from([1, 3, 5]))
def test_boxes_are_averaged_over_the_reflected_image(height, width, side):
    image = torch.rand(2, 3, height, width, dtype=torch.float64)
    half = side // 2
    wide = np.pad(image.numpy(), [(0, 0), (0, 0), (half, half), (half, half)], mode="reflect")
    want = [wide[..., i : i + height, j : j + width] for i in range(side) for j in range(side)]
    np.testing.assert_allclose(box_mean(image, side), np.mean(want, axis=0), atol=1e-12)


@given(batch=st.integers(1, 3), chans=st.integers(1, 5), outputs=st.integers(1, 7), height=st.integers(1, 9))
def test_single_pixels_are_convolved(batch, chans, outputs, height):
    image = torch.randn(batch, chans, height, 4, dtype=torch.float64)
    weight, bias = torch.randn(outputs, chans, dtype=torch.float64), torch.randn(outputs, dtype=torch.float64)
    torch.testing.assert_close(
        pointwise(image, weight, bias), torch.nn.functional.conv2d(image, weight[..., None, None], bias)
    )
