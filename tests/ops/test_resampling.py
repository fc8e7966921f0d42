"""Resampling: the protocol's anchors, the phase, Keys' kernel, the mirrored border."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hsmamba.ops.resampling import interp23, interp23_inside, keys_cubic, mirror_index, upsample, upsample_reach


def test_interp23_spreads_a_single_one_as_the_protocol_says():
    image = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    image[0, 0, 3, 4] = 1
    fine = interp23(image, 4)[0, 0]
    assert fine.argmax() == 14 * 32 + 18
    assert fine.sum().item() == pytest.approx(16, abs=1e-6)
    row = [0.27461, 0.610668, 0.890027, 1, 0.890027, 0.610668, 0.27461]
    assert fine[14, 15:22].tolist() == pytest.approx(row, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(ratio=st.integers(1, 9), height=st.integers(1, 14), width=st.integers(1, 14))
def test_samples_are_kept_in_phase_and_constants_stay(ratio, height, width):
    image = torch.rand(2, 3, height, width, dtype=torch.float64)
    fine = upsample(image, ratio)
    assert fine.shape == (2, 3, ratio * height, ratio * width)
    torch.testing.assert_close(fine[..., ratio // 2 :: ratio, ratio // 2 :: ratio], image)
    flat = upsample(torch.full_like(image, 0.7), ratio)
    torch.testing.assert_close(flat, torch.full_like(flat, 0.7), rtol=0, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(ratio=st.sampled_from([2, 4, 8, 16]), height=st.integers(1, 70), width=st.integers(1, 140))
def test_the_inside_of_an_image_is_that_of_the_whole(ratio, height, width):
    reach = upsample_reach(ratio)
    image = torch.rand(1, 2, height + 2 * reach, width + 2 * reach, dtype=torch.float64)
    wanted = interp23(image, ratio)[..., reach * ratio : -reach * ratio, reach * ratio : -reach * ratio]
    torch.testing.assert_close(interp23_inside(image, ratio), wanted, rtol=0, atol=1e-13)
    torch.testing.assert_close(interp23_inside(image.float(), ratio), wanted.float(), rtol=0, atol=2e-6)


@pytest.mark.parametrize("ratio", [1, 2, 3, 4, 5, 8, 16])
def test_reach_is_how_far_a_sample_is_felt_and_no_further(ratio):
    image = torch.zeros(1, 1, 61, 61, dtype=torch.float64)
    image[..., 30, 30] = 1
    felt = upsample(image, ratio)[0, 0].abs().unflatten(0, (61, ratio)).amax(dim=(1, 2)).nonzero()[:, 0]
    assert int((felt - 30).abs().max()) == upsample_reach(ratio)


def test_what_was_held_for_inference_serves_gradients():
    with torch.inference_mode():
        interp23_inside(torch.rand(1, 1, 25, 25, dtype=torch.float64), 2)
    image = torch.rand(1, 2, 25, 25, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: interp23_inside(x, 2), image)


def test_ratios_that_cannot_be_are_refused():
    image = torch.zeros(1, 1, 4, 4)
    with pytest.raises(ValueError, match="power of two, got 3"):
        interp23(image, 3)
    with pytest.raises(ValueError, match="ratio is 0"):
        upsample(image, 0)


def test_keys_kernel_is_an_interpolating_partition_of_unity():
    assert keys_cubic(torch.tensor([0.0, 1, -1, 2, -2, 2.5])).tolist() == [1, 0, 0, 0, 0, 0]
    offset = torch.rand(50, 1, dtype=torch.float64)
    torch.testing.assert_close(keys_cubic(offset - torch.arange(-1, 3)).sum(1), torch.ones(50, dtype=torch.float64))


@given(length=st.integers(1, 9), first=st.integers(-40, 40))
def test_the_mirror_is_that_of_numpy_for_arrays_and_tensors(length, first):
    index = np.arange(first, first + 30)
    line = np.pad(np.arange(length), (40, 80), mode="symmetric")
    assert np.array_equal(mirror_index(index, length), line[index + 40])
    assert torch.equal(mirror_index(torch.from_numpy(index), length), torch.from_numpy(line[index + 40]))
