"""Means over windows around the centre of a patch."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hsmamba.layers.multiscale import MultiScaleMeans, windows_within


@given(side=st.integers(1, 9), window=st.integers(1, 9))
def test_a_window_lies_around_the_pixel_at_index_half_the_side(side, window):
    window = min(window, side)
    rows = torch.arange(side).float()
    patch = (rows[:, None] + 100 * rows).expand(1, 1, side, side)
    first = side // 2 - window // 2
    centre = first + (window - 1) / 2
    assert first >= 0 and first + window <= side
    assert MultiScaleMeans([window])(patch).item() == pytest.approx(101 * centre)


def test_channels_follow_by_image_then_window():
    hsi, aux = torch.rand(2, 3, 5, 5), torch.rand(2, 1, 5, 5)
    got = MultiScaleMeans((1, 5))(hsi, aux)
    want = [hsi[:, :, 2, 2], hsi.mean((2, 3)), aux[:, :, 2, 2], aux.mean((2, 3))]
    torch.testing.assert_close(got, torch.cat(want, 1))


def test_windows_beyond_the_patch_become_the_patch_and_occur_once():
    assert windows_within((1, 5, 11), 7) == (1, 5, 7)
    assert windows_within((1, 5, 11), 5) == (1, 5)
    with pytest.raises(ValueError, match=r"window of 5 pixels is larger than the patch of 3"):
        MultiScaleMeans((1, 5))(torch.zeros(1, 1, 3, 3))
    for windows in ((), (0, 3)):
        with pytest.raises(ValueError, match="give the side of one or more"):
            MultiScaleMeans(windows)
