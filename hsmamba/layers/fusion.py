"""What the fusion networks share: the check of their inputs, up-sampling to the guide's grid, padding of sides."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from hsmamba.errors import SceneError
from hsmamba.ops.resampling import upsample


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


class FusionSizes(Protocol):
    """The attributes of a fusion network that say which inputs it takes."""

    in_chans: int
    guide_chans: int
    scale: int


def check_fusion_inputs(model: FusionSizes, ms: Tensor | None, guide: Tensor, ms_up: Tensor | None) -> None:
    """Raise unless the images have the network's channels and lie on grids that fit.

    Args:
        model: Gives `in_chans`, `guide_chans` and `scale`.
        ms: Coarse image (B, in_chans, h, w), or None.
        guide: Sharp image (B, guide_chans, scale h, scale w).
        ms_up: Coarse image on the guide's grid (B, in_chans, scale h, scale w), or None.

    Raises:
        SceneError: Shapes that do not fit; the text names them and the scale ratio.
    """
    if guide.ndim != 4 or guide.shape[1] != model.guide_chans:
        raise SceneError(
            f"guide is {tuple(guide.shape)}; this model takes (B, {model.guide_chans}, H, W). "
            f"Create the model with guide_chans= of your guide, or pass the channels it was trained with"
        )
    batch, _, height, width = guide.shape
    for name, image, ratio in (("ms", ms, model.scale), ("ms_up", ms_up, 1)):
        if image is None:
            continue
        if image.ndim != 4 or image.shape[1] != model.in_chans:
            raise SceneError(
                f"{name} is {tuple(image.shape)}; this model takes (B, {model.in_chans}, h, w). "
                f"Create the model with in_chans= of your bands, or pass the bands it was trained with"
            )
        if (image.shape[0], image.shape[2] * ratio, image.shape[3] * ratio) != (batch, height, width):
            raise SceneError(
                f"{name} is {tuple(image.shape)} and the guide {tuple(guide.shape)}: at scale ratio {model.scale} the "
                f"guide of this {name} must be ({image.shape[0]}, {model.guide_chans}, {image.shape[2] * ratio}, "
                f"{image.shape[3] * ratio}); crop both to the same ground, or create the model with another scale="
            )


def upsampled(model: FusionSizes, ms: Tensor | None, guide: Tensor, ms_up: Tensor | None) -> Tensor:
    """Check the inputs as `check_fusion_inputs` does and return `ms_up`, made from `ms` where it is not given.

    Returns:
        (B, in_chans, H, W) on the guide's grid.

    Raises:
        SceneError: Neither `ms` nor `ms_up` is given, or shapes do not fit.
    """
    check_fusion_inputs(model, ms, guide, ms_up)
    if ms_up is not None:
        return ms_up
    if ms is None:
        raise SceneError("neither ms nor ms_up is given; pass the coarse image as ms, or up-sampled as ms_up")
    return upsample(ms, model.scale)


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
