"""Means over windows of several sides around the centre of a patch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn


def windows_within(windows: Iterable[int], patch_size: int) -> tuple[int, ...]:
    """Return the sides of windows that a patch can hold: those beyond it become the patch, each occurs once."""
    return tuple(dict.fromkeys(min(int(window), patch_size) for window in windows))


class MultiScaleMeans(nn.Module):
    """The means of each channel over windows that share the patch's centre, at index P // 2.

    Args:
        windows: Sides of the windows in pixels, each from 1 to P; 1 is the pixel itself.

    Shape:
        Images (N, C_i, P, P) of the same patches, one or several -> (N, len(windows) * sum of C_i): for each image its
        channels by window, in the order of the windows.

    Raises:
        ValueError: No window, or one without a pixel.
    """

    def __init__(self, windows: Sequence[int] = (1, 5, 11)) -> None:
        super().__init__()
        self.windows = tuple(int(window) for window in windows)
        if not self.windows or min(self.windows) < 1:
            raise ValueError(f"windows are {self.windows}; give the side of one or more, each 1 or more")

    def forward(self, *images: Tensor) -> Tensor:
        """Average."""
        return torch.cat([self._mean(image, window) for image in images for window in self.windows], dim=1)

    def _mean(self, image: Tensor, window: int) -> Tensor:
        side = image.shape[-1]
        if window > side:
            raise ValueError(f"a window of {window} pixels is larger than the patch of {side}; give larger patches")
        first = side // 2 - window // 2
        inside = slice(first, first + window)
        return image[..., inside, inside].mean((2, 3))
