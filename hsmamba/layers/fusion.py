"""What the fusion networks share: where a tile lies, padding and means of sides, the residual block."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Place(NamedTuple):
    """Where a tile lies in the image that it was cut from, in pixels of the guide's grid."""

    top: int
    left: int
    height: int  # of the whole image
    width: int


class ResidualBlock(nn.Module):
    """x + conv2(act(conv1(x))), no activation after the sum.

    Args:
        make: Makes a convolution, dim -> dim channels, which keeps the size; called for each of the two.
        act: The activation between them.

    Shape: (B, dim, H, W) -> the same.
    """

    def __init__(self, make: Callable[[], nn.Module], act: Callable[[Tensor], Tensor] = F.relu) -> None:
        super().__init__()
        self.conv1, self.conv2 = make(), make()
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        """Add the block's detail."""
        out: Tensor = x + self.conv2(self.act(self.conv1(x)))
        return out


def pointwise(image: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolve with 1 x 1 kernels as a matrix product, which torch's convolution of few channels takes longer for.

    Args:
        image: (B, C, H, W).
        weight: (M, C).
        bias: (M,).

    Returns:
        (B, M, H, W).
    """
    out = torch.baddbmm(bias[:, None], weight.expand(image.shape[0], -1, -1), image.flatten(2))
    return out.view(*out.shape[:2], *image.shape[2:])


def pad_sides(image: Tensor, multiple: int = 1, min_side: int = 1) -> Tensor:
    """Extend (B, C, H, W) below and at the right by reflection (border sample not repeated), where it is needed.

    Sides become multiples of `multiple` and no smaller than `min_side`. Crop what is made from it by [..., :H, :W].
    """
    for axis in (2, 3):
        length = image.shape[axis]
        target = -(-max(length, min_side) // multiple) * multiple
        if target != length:
            image = _reflected(image, axis, 0, target - length)
    return image


def box_mean(image: Tensor, side: int) -> Tensor:
    """Average (B, C, H, W) over a square of an odd side around each pixel, the image reflected at its border.

    Args:
        image: (B, C, H, W), of any size.
        side: Odd side of the square.

    Returns:
        (B, C, H, W).
    """
    for axis in (2, 3):
        image = _reflected(image, axis, side // 2, side // 2)
    return F.avg_pool2d(image, side, stride=1)


def _reflected(image: Tensor, axis: int, before: int, after: int) -> Tensor:
    """Extend an axis at both ends by reflection (border sample not repeated), however short it is."""
    period = max(2 * (image.shape[axis] - 1), 1)
    index = torch.arange(-before, image.shape[axis] + after, device=image.device) % period
    return image.index_select(axis, torch.minimum(index, period - index))
