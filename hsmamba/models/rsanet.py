"""RSANet: recursive self-attention modules for the fusion of panchromatic and multispectral images.

Paper: Liu, Wei, Zhang, Feng, Xiang, "Recursive Self-Attention Modules-Based Network for Panchromatic and Multispectral
Image Fusion", IEEE JSTARS 16 (2023), 10067-10083, doi 10.1109/JSTARS.2023.3327167.

Loads the official checkpoints (RSMIF project, Apache-2.0) and computes what they compute. The official network has
96 827 parameters, of which 23 328 are never used and 96 (the bias of the position field) cancel in a softmax: ours
leaves them out. It works on the guide's grid alone, so one network serves any scale ratio.

Written from the equations; the code is ours.
"""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hsmamba.layers.adaptive_conv import adaptive_conv
from hsmamba.layers.fusion import Place, ResidualBlock, pad_sides, pointwise
from hsmamba.layers.window_attention import projected_attention, window_attention
from hsmamba.models._base import FusionNetwork
from hsmamba.models._registry import ModelCfg, register_model

_CITATION = (
    "Liu, Wei, Zhang, Feng, Xiang: Recursive Self-Attention Modules-Based Network for Panchromatic and Multispectral "
    "Image Fusion. IEEE JSTARS 16, 10067-10083 (2023). doi:10.1109/JSTARS.2023.3327167"
)


default_cfgs = {
    "rsanet": ModelCfg(
        task="fusion",
        summary="RSANet, recursive self-attention, 73 K parameters",
        citation=_CITATION,
        default_tag="worldview2",
        tiny={"dim": 4, "depth": 1, "recursions": 2},
    )
}


class SelfAttention(nn.Module):
    """SA: each pixel attends to the window around it, with relative positions; scaled by a learned rate.

    Shape: (B, C, H, W) -> (B, kernel_size^2, H, W).
    """

    def __init__(self, in_chans: int, kernel_size: int, num_heads: int, window_size: int) -> None:
        super().__init__()
        taps = kernel_size**2
        self.num_heads, self.window_size = num_heads, window_size
        self.image: tuple[int, int] | None = None
        self.qkv = nn.Conv2d(in_chans, 3 * taps, 1)
        self.position = nn.Parameter(torch.empty(taps // num_heads, 2).uniform_(-(2**-0.5), 2**-0.5))
        self.rate = nn.Parameter(torch.full((1,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        """Attend."""
        # Queries by the square root of a head's channels and values by the rate: both in the weights, which are few.
        taps, ones = self.qkv.out_channels // 3, self.rate.new_ones(1)
        gains = torch.cat([ones * len(self.position) ** -0.5, ones, self.rate]).repeat_interleave(taps)
        weight, bias = self.qkv.parameters()
        q, k, v = pointwise(x, gains[:, None] * weight.flatten(1), gains * bias).chunk(3, dim=1)
        options = {"heads": self.num_heads, "window": self.window_size}
        return window_attention(q, k, v, self.position, image=self.image, scaled=True, **options)

    def infer(self, x: Tensor, activation: str) -> Tensor | None:
        """Attend and apply "relu" or "sigmoid" by compiled kernels; None where they may not run."""
        weights = self.qkv.weight, cast(Tensor, self.qkv.bias), self.position, self.rate
        heads, window = self.num_heads, self.window_size
        made = projected_attention(x, *weights, activation, heads=heads, window=window, image=self.image)
        return None if made is None else made[0]


class RSAM(nn.Module):
    """Adaptive convolution whose taps are made by a chain of self-attention layers, a sigmoid at its end.

    Shape: (B, in_chans, H, W) -> (B, out_chans, H, W).
    """

    def __init__(
        self, in_chans: int, out_chans: int, recursions: int, kernel_size: int, num_heads: int, window_size: int
    ) -> None:
        super().__init__()
        self.taps = nn.Sequential()
        for i in range(recursions):
            self.taps.append(SelfAttention(kernel_size**2 if i else in_chans, kernel_size, num_heads, window_size))
            self.taps.append(nn.ReLU() if i < recursions - 1 else nn.Sigmoid())
        bound = (in_chans * kernel_size**2) ** -0.5
        self.weight = nn.Parameter(torch.empty(out_chans, in_chans, kernel_size, kernel_size).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """Make the taps and convolve."""
        taps: Tensor | None = x
        for i, layer in enumerate(self.taps[::2]):  # each with its activation, where the compiled kernels may run
            if taps is not None:
                taps = cast(SelfAttention, layer).infer(taps, "relu" if 2 * i < len(self.taps) - 2 else "sigmoid")
        return adaptive_conv(x, self.taps(x) if taps is None else taps, self.weight)


class RSANet(FusionNetwork):
    """RSANet: the up-sampled image plus the detail that adaptive convolutions find in it and the guide.

    Args:
        in_chans: Bands of the coarse image.
        guide_chans: Channels of the guide: 1 for PAN, 3 for RGB.
        scale: Ratio between the grids; used only where `ms` is to be up-sampled.
        dim: Feature channels.
        depth: Residual blocks.
        recursions: Self-attention layers in each module.
        kernel_size: Odd side k of the adaptive kernels.
        num_heads: Attention heads, a divisor of k^2.
        window_size: Odd side of the attention window.

    Raises:
        ValueError: Sizes that do not go together.
    """

    layer_groups = {"head": r"^head", "blocks": r"^blocks\.(\d+)", "tail": r"^tail"}

    def __init__(
        self,
        in_chans: int = 8,
        guide_chans: int = 1,
        scale: int = 4,
        *,
        dim: int = 32,
        depth: int = 3,
        recursions: int = 4,
        kernel_size: int = 3,
        num_heads: int = 3,
        window_size: int = 7,
    ) -> None:
        super().__init__(in_chans, guide_chans, scale)
        if kernel_size % 2 == 0 or window_size % 2 == 0 or kernel_size**2 % num_heads:
            raise ValueError(
                f"kernel_size and window_size must be odd and num_heads divide kernel_size ** 2; got "
                f"kernel_size={kernel_size}, window_size={window_size}, num_heads={num_heads}"
            )
        self.window_size = window_size
        # Of the modules in a row; the kernel of a pixel is where its taps are.
        reach = (2 * depth + 2) * max(recursions * (window_size // 2), kernel_size // 2)
        self.margin = -(-reach // scale)
        options = {
            "recursions": recursions,
            "kernel_size": kernel_size,
            "num_heads": num_heads,
            "window_size": window_size,
        }
        self.head = RSAM(guide_chans + in_chans, dim, **options)
        conv = partial(RSAM, dim, dim, **options)
        self.blocks = nn.Sequential(*(ResidualBlock(conv) for _ in range(depth)))
        self.tail = RSAM(dim, in_chans, **options)
        # A small last kernel: a large wrong detail would soon drive the head's ReLU to zero.
        self.tail.weight.data.mul_(0.1)

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that weight decay leaves alone, beside biases."""
        return {name for name, _ in self.named_parameters() if name.endswith((".rate", ".position"))}

    def set_place(self, place: Place | None) -> None:
        """Take the images that follow as tiles of a larger one, whose size is the unit of the relative positions.

        Args:
            place: Where the tile lies; None ends it.
        """
        least = self.window_size // 2 + 1
        for module in self.modules():
            if isinstance(module, SelfAttention):
                module.image = None if place is None else (max(place.height, least), max(place.width, least))

    def sharpen(self, ms: Tensor | None, guide: Tensor, ms_up: Tensor) -> Tensor:
        """See `FusionNetwork.forward`."""
        height, width = guide.shape[2:]
        x = torch.cat([guide, ms_up], dim=1)
        x = pad_sides(x, min_side=self.window_size // 2 + 1)  # reflection needs more than half a window
        x = self.tail(self.blocks(F.relu(self.head(x))))
        sharp: Tensor = ms_up + x[..., :height, :width]
        return sharp


@register_model
def rsanet(**kwargs: Any) -> RSANet:
    """RSANet of the release: 8 bands, PAN, ratio 4; 73 403 parameters, 96 827 with those it never uses."""
    return RSANet(**kwargs)
