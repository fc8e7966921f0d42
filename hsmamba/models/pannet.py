"""PanNet: a residual network that sees high-pass images alone, and adds its detail to the up-sampled coarse image.

Paper: Yang, Fu, Hu, Huang, Ding, Paisley, "PanNet: A Deep Network Architecture for Pan-Sharpening", ICCV 2017,
5449-5457, doi 10.1109/ICCV.2017.193.

Sizes, initial weights and the place of each part are those of the training program of the first author, which
DLPan-Toolbox (PyTorch) repeats number by number; others read batch norms into the residual blocks. The paper trained it
by SGD in Caffe, both programs by Adam.

Written from the equations; the code is ours.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hsmamba.layers.fusion import ResidualBlock, box_mean, pad_sides
from hsmamba.models._base import FusionNetwork
from hsmamba.models._registry import ModelCfg, register_model

default_cfgs = {
    "pannet": ModelCfg(
        task="fusion",
        summary="PanNet, residual blocks on high-pass images, 83 K parameters",
        citation=(
            "Yang, Fu, Hu, Huang, Ding, Paisley: PanNet: A Deep Network Architecture for Pan-Sharpening. ICCV, "
            "5449-5457 (2017). doi:10.1109/ICCV.2017.193"
        ),
        tiny={"dim": 4, "depth": 1},
    )
}
_LARGEST = 64  # of scale and box, whose squares would take all memory or time


class PanNet(FusionNetwork):
    """PanNet: sharp = ms_up + f(up(ms - box(ms)), guide - box(guide)), with `up` a transposed convolution.

    Args:
        in_chans: Bands of the coarse image.
        guide_chans: Channels of the guide: 1 for PAN, 3 for RGB.
        scale: Ratio r between the grids; the transposed convolution is 2 r wide.
        dim: Feature channels.
        depth: Residual blocks.
        box_size: Odd side of the mean that is taken away, in pixels of each image's own grid.

    Raises:
        ValueError: Sizes that do not go together.
    """

    layer_groups = {"up": r"^up", "head": r"^head", "blocks": r"^blocks\.(\d+)", "tail": r"^tail"}

    def __init__(
        self,
        in_chans: int = 8,
        guide_chans: int = 1,
        scale: int = 4,
        *,
        dim: int = 32,
        depth: int = 4,
        box_size: int = 5,
    ) -> None:
        super().__init__(in_chans, guide_chans, scale)
        if box_size % 2 == 0 or not 1 < scale <= _LARGEST or not 1 < box_size <= _LARGEST:
            raise ValueError(
                f"box_size must be odd, and scale and box_size 2 to {_LARGEST}; got box_size={box_size}, scale={scale}"
            )
        self.box_size = box_size
        padding = (scale + 1) // 2
        self.up = nn.ConvTranspose2d(in_chans, in_chans, 2 * scale, scale, padding, output_padding=scale % 2)
        self.head = nn.Conv2d(in_chans + guide_chans, dim, 3, padding=1)
        conv = partial(nn.Conv2d, dim, dim, 3, padding=1)
        self.blocks = nn.Sequential(*(ResidualBlock(conv) for _ in range(depth)))
        self.tail = nn.Conv2d(dim, in_chans, 3, padding=1)
        # The convolutions look so far on the guide's grid, `up` from there above or below, and the box around that.
        reach = 2 * depth + 2
        self.margin = (reach + max(2 * scale - 1 - padding, scale - 1 + padding)) // scale + box_size // 2
        self.apply(_init_weights)

    def sharpen(self, ms: Tensor | None, guide: Tensor, ms_up: Tensor) -> Tensor:
        """See `FusionNetwork.forward`; without `ms` (an image that lies on the guide's grid) block means are taken."""
        height, width = guide.shape[2:]
        guide = pad_sides(guide, self.scale)
        if ms is None:
            ms = F.avg_pool2d(pad_sides(ms_up, self.scale), self.scale)
        coarse, fine = (image - box_mean(image, self.box_size) for image in (ms, guide))
        x = self.blocks(F.relu(self.head(torch.cat([self.up(coarse), fine], dim=1))))
        sharp: Tensor = ms_up + self.tail(x)[..., :height, :width]
        return sharp


def _init_weights(module: nn.Module) -> None:
    """Truncated normal numbers for ReLUs, as the author's program has them; no bias."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        # Kernels of a transposed convolution count as if their outputs were inputs; the bands are as many.
        deviation = (2.6 / module.weight[0].numel()) ** 0.5
        nn.init.trunc_normal_(module.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


@register_model
def pannet(**kwargs: Any) -> PanNet:
    """PanNet of the author's program and of DLPan-Toolbox: 8 bands, PAN, ratio 4; 83 024 parameters."""
    return PanNet(**kwargs)
