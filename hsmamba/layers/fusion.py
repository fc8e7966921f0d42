"""What the fusion networks share: where a tile lies, and padding of sides."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Place(NamedTuple):
    """Where a tile lies in the image that it was cut from, in pixels of the guide's grid.

    Attributes:
        top: First row of the tile.
        left: First column.
        height: Rows of the whole image.
        width: Columns.
    """

    top: int
    left: int
    height: int
    width: int


def pad_sides(image: Tensor, multiple: int = 1, min_side: int = 1) -> Tensor:
    """Extend the lower and right side by reflection (border sample not repeated) to sides that a network can take.

    Args:
        image: (B, C, H, W).
        multiple: The sides become multiples of it.
        min_side: And not smaller than this.

    Returns:
        (B, C, H', W'); the image itself where its sides fit already. Crop what is made from it by [..., :H, :W].
    """
    for axis in (2, 3):
        length = image.shape[axis]
        target = -(-max(length, min_side) // multiple) * multiple
        if target != length:
            period = max(2 * (length - 1), 1)
            index = torch.arange(target, device=image.device) % period
            image = image.index_select(axis, torch.minimum(index, period - index))
    return image
