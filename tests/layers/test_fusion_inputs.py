"""Inputs of the fusion networks: what fits, what is said of what does not, and padding by reflection."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hsmamba.errors import SceneError
from hsmamba.layers.fusion import check_fusion_inputs, pad_sides, upsampled
from hsmamba.ops.resampling import upsample

MODEL = SimpleNamespace(in_chans=4, guide_chans=1, scale=2)
MS, GUIDE, UP = torch.rand(2, 4, 3, 5), torch.rand(2, 1, 6, 10), torch.rand(2, 4, 6, 10)


def test_the_upsampled_image_is_the_given_one_or_made():
    assert upsampled(MODEL, MS, GUIDE, UP) is UP
    assert upsampled(MODEL, None, GUIDE, UP) is UP
    assert torch.equal(upsampled(MODEL, MS, GUIDE, None), upsample(MS, 2))


@pytest.mark.parametrize(
    ("ms", "guide", "ms_up", "text"),
    [
        (None, GUIDE, None, "neither ms nor ms_up"),
        (MS[:, :3], GUIDE, None, r"ms is \(2, 3, 3, 5\).*\(B, 4, h, w\)"),
        (MS, UP, None, r"guide is \(2, 4, 6, 10\).*\(B, 1, H, W\)"),
        (MS, GUIDE[..., :9], None, r"\(2, 4, 3, 5\).*\(2, 1, 6, 9\).*ratio 2.*\(2, 1, 6, 10\)"),
        (MS[:1], GUIDE, None, r"\(1, 4, 3, 5\) and the guide \(2, 1, 6, 10\)"),
        (None, GUIDE, UP[:, :, :5], r"ms_up is \(2, 4, 5, 10\) and the guide \(2, 1, 6, 10\)"),
        (MS[0], GUIDE, None, r"ms is \(4, 3, 5\)"),
    ],
)
def test_shapes_that_do_not_fit_are_named(ms, guide, ms_up, text):
    with pytest.raises(SceneError, match=text):
        upsampled(MODEL, ms, guide, ms_up)


def test_both_coarse_images_are_checked():
    with pytest.raises(SceneError, match="ms_up is"):
        check_fusion_inputs(MODEL, MS, GUIDE, UP[..., :9])


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
