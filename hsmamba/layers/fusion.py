"""What the fusion networks share: where a tile lies, and padding of sides."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Place(NamedTuple):
    """Where a tile lies in the image that it was cut from, in pixels of the guide's grid."""

    top: int
    left: int
    height: int  # of the whole image
    width: int


def pad_sides(image: Tensor, multiple: int = 1, min_side: int = 1) -> Tensor:
    """Extend (B, C, H, W) below and at the right by reflection (border sample not repeated), where it is needed.

    Sides become multiples of `multiple` and no smaller than `min_side`. Crop what is made from it by [..., :H, :W].
    """
    for axis in (2, 3):
        length = image.shape[axis]
        target = -(-max(length, min_side) // multiple) * multiple
        if target != length:
            period = max(2 * (length - 1), 1)
            index = torch.arange(target, device=image.device) % period
            image = image.index_select(axis, torch.minimum(index, period - index))
    return image
