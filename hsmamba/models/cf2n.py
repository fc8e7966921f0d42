"""CF2N: frequency-spectral dual-domain cross fusion network. A reconstruction: no official network was published.

Paper: Liu, Zhang, Wang, Xiang, Xie, "A novel cross fusion model with fine-grained detail reconstruction for remote
sensing image pan-sharpening", Geo-spatial Information Science (2024), doi 10.1080/10095020.2024.2416899.

What the paper's framework figure fixes is as drawn there: residual heads, fusion in each Haar sub-band, hierarchical
reconstruction, cross-fusion modules whose k x k x C kernels come from a frequency and a spectral attention, injected
high-pass details. What it leaves open is ours, in the style of the authors' published networks: the formula of the
weighted fusion, kernels for each pixel as outer products of taps and channel gains, three modules of 32 channels, and
the up-sampled image added to the result. Official weights cannot be loaded, for there are none.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hsmamba.layers.adaptive_conv import adaptive_conv
from hsmamba.layers.fusion import pad_sides
from hsmamba.layers.wavelet import haar, inverse_haar
from hsmamba.models._base import FusionNetwork
from hsmamba.models._registry import ModelCfg, register_model
from hsmamba.ops import inference
from hsmamba.ops.depthwise_gradients import trainable_depthwise
from hsmamba.ops.extremes import mean_and_most

_CITATION = (
    "Liu, Zhang, Wang, Xiang, Xie: A novel cross fusion model with fine-grained detail reconstruction for remote "
    "sensing image pan-sharpening. Geo-spatial Information Science (2024). doi:10.1080/10095020.2024.2416899"
)


default_cfgs = {
    "cf2n": ModelCfg(
        task="fusion",
        summary="CF2N, a reconstruction: no official network was published",
        citation=_CITATION,
        default_tag="worldview2",
        tiny={"dim": 8, "depth": 2},
    )
}
_BOX = 5  # side of the mean that the high-pass takes away


class ResBlock(nn.Module):
    """y = conv(x), y + conv(leaky_relu(conv(y))), 3x3. Shape: (B, in_chans, H, W) -> (B, dim, H, W)."""

    def __init__(self, in_chans: int, dim: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(in_chans, dim, 3, padding=1)
        self.conv1 = nn.Conv2d(dim, dim, 3, padding=1)
        self.conv2 = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Encode."""
        x = self.stem(x)
        out: Tensor = x + self.conv2(F.leaky_relu(self.conv1(x)))
        return out


class WeightedFusion(nn.Module):
    """AWF: what one source alone holds says which of the two is trusted, what both hold how much of it is kept.

    alpha a + (1 - alpha) b + (gamma - 1/2) (a + b), with alpha = sigmoid(conv(a - b)), gamma = sigmoid(conv(a + b)).
    With both gates at 1/2 it is the mean.

    Shape: (B, dim, H, W) twice -> (B, dim, H, W).
    """

    def __init__(self, dim: int, kernel_size: int = 3) -> None:
        super().__init__()
        self.unique = nn.Conv2d(dim, dim, kernel_size, padding=kernel_size // 2)
        self.common = nn.Conv2d(dim, dim, kernel_size, padding=kernel_size // 2)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Fuse."""
        both, apart = a + b, a - b
        alpha, gamma = self.unique(apart).sigmoid(), self.common(both).sigmoid()
        out: Tensor
        if inference.trains(a, b, alpha):  # the same with fewer steps to differentiate
            out = (alpha - 0.5) * apart + gamma * both
        else:
            out = torch.lerp(b, a, alpha) + (gamma - 0.5) * both
        return out


def _planes(x: Tensor) -> Tensor:
    """Mean and maximum over channels, (B, C, H, W) -> (B, 2, H, W)."""
    planes = torch.cat(mean_and_most(x, (1,)), dim=1)
    return planes if x.is_contiguous() else planes.contiguous(memory_format=torch.channels_last)


class FrequencyAttention(nn.Module):
    """FDA: the k x k taps of each pixel, from 0 to 1. Shape: (B, dim, H, W) -> (B, k^2, H, W)."""

    def __init__(self, dim: int, kernel_size: int) -> None:
        super().__init__()
        self.block = ResBlock(dim, dim)
        self.conv = nn.Conv2d(2, kernel_size**2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Make the taps."""
        taps: Tensor = self.conv(_planes(self.block(x))).sigmoid()
        return taps


class SpectralAttention(nn.Module):
    """SDA: the gain of each channel, from 0 to 2. Shape: (B, dim, H, W) -> (B, dim, 1, 1)."""

    def __init__(self, dim: int, reduction: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, 3, padding=1)
        self.bottleneck = nn.Sequential(
            nn.Conv2d(dim, dim // reduction, 1), nn.ReLU(), nn.Conv2d(dim // reduction, dim, 1)
        )
        self.fuse = WeightedFusion(dim, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Make the gains."""
        x = self.conv(x)
        low, high = mean_and_most(x, (2, 3))
        gain: Tensor = 2 * self.fuse(self.bottleneck(high), self.bottleneck(low)).sigmoid()
        return gain


class FrequencySelection(nn.Module):
    """FSM: a large receptive field chooses taps and gains of each pixel.

    Shape: (B, dim, H, W) -> taps (B, k^2, H, W) from 0 to 1 and gains (B, dim, H, W) from 0 to 2.
    """

    def __init__(self, dim: int, kernel_size: int) -> None:
        super().__init__()
        half = dim // 2
        self.near = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.far = nn.Conv2d(dim, dim, 3, padding=3, dilation=3, groups=dim)
        self.half_near, self.half_far = nn.Conv2d(dim, half, 1), nn.Conv2d(dim, half, 1)
        self.select = nn.Conv2d(2, 2, 7, padding=3)
        self.fuse = WeightedFusion(half)
        self.to_taps, self.to_gain = nn.Conv2d(half, kernel_size**2, 1), nn.Conv2d(half, dim, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Choose."""
        x = self.near(x)
        near, far = self.half_near(x), self.half_far(trainable_depthwise(x, self.far))
        shares = self.select(_planes(torch.cat([near, far], dim=1))).sigmoid()
        x = self.fuse(near * shares[:, :1], far * shares[:, 1:])
        return self.to_taps(x).sigmoid(), 2 * self.to_gain(x).sigmoid()


class CrossFusion(nn.Module):
    """FSCFM: the frequency stream is convolved twice with kernels that both attentions make.

    Shape: frequency (B, dim, H, W) and spectral (B, dim, H, W) -> (B, out_chans, H, W).
    """

    def __init__(self, dim: int, out_chans: int, kernel_size: int, reduction: int, *, spread: float = 1.0) -> None:
        super().__init__()
        self.frequency = FrequencyAttention(dim, kernel_size)
        self.spectral = SpectralAttention(dim, reduction)
        self.selection = FrequencySelection(dim, kernel_size)
        # Twice what keeps the variance: taps are about 1/2.
        bound = 2 * (3 / (dim * kernel_size**2)) ** 0.5
        self.weight1 = nn.Parameter(torch.empty(dim, dim, kernel_size, kernel_size).uniform_(-bound, bound))
        last = torch.empty(out_chans, dim, kernel_size, kernel_size).uniform_(-bound, bound)
        self.weight2 = nn.Parameter(spread * last)

    def forward(self, frequency: Tensor, spectral: Tensor) -> Tensor:
        """Fuse."""
        gain = self.spectral(spectral)
        middle = adaptive_conv(gain * frequency, self.frequency(frequency), self.weight1)
        taps, gain_here = self.selection(middle)
        return adaptive_conv(gain * gain_here * middle, taps, self.weight2)


class Injection(nn.Module):
    """MDI: high-pass details of both images, fused. Shape: guide and ms_up, already high-pass -> (B, dim, H, W)."""

    def __init__(self, in_chans: int, guide_chans: int, dim: int) -> None:
        super().__init__()
        self.guide, self.ms = ResBlock(guide_chans, dim), ResBlock(in_chans, dim)
        self.fuse = WeightedFusion(dim)

    def forward(self, guide: Tensor, ms_up: Tensor) -> Tensor:
        """Encode and fuse."""
        out: Tensor = self.fuse(self.guide(guide), self.ms(ms_up))
        return out


def high_pass(x: Tensor) -> Tensor:
    """Take the mean of the 5 x 5 pixels around away; the border is reflected. Shape: (B, C, H, W) -> the same."""
    return x - F.avg_pool2d(F.pad(x, [_BOX // 2] * 4, mode="reflect"), _BOX, stride=1)


class CF2N(FusionNetwork):
    """CF2N: details reconstructed from Haar sub-bands, fused with the spectra module by module.

    Args:
        in_chans: Bands of the coarse image.
        guide_chans: Channels of the guide: 1 for PAN, 3 for RGB, 2 for VV and VH.
        scale: Ratio between the grids; used only where `ms` is to be up-sampled.
        dim: Feature channels, a multiple of 4.
        depth: Cross-fusion modules; details are injected after each but the last.
        kernel_size: Odd side k of the kernels.
        reduction: Of channels in the spectral attention's bottleneck.
        residual: Add the up-sampled image to the result; False is the paper's figure to the letter.

    `margin` is None: the spectral attention looks at the whole image.

    Raises:
        ValueError: Sizes that do not go together.
    """

    window = 24  # of coarse pixels; validation images come out no better in larger or smaller ones
    layer_groups = {
        "heads": r"^head_",
        "wavelet": r"^(?:bands|add_hh|add_ll|encode)\b",
        "fusion": r"^(?:middle|injections)\.(\d+)",
        "last": r"^last",
    }

    def __init__(
        self,
        in_chans: int = 8,
        guide_chans: int = 1,
        scale: int = 4,
        *,
        dim: int = 32,
        depth: int = 3,
        kernel_size: int = 3,
        reduction: int = 4,
        residual: bool = True,
    ) -> None:
        super().__init__(in_chans, guide_chans, scale)
        if dim % 4 or dim < reduction or kernel_size % 2 == 0 or depth < 1:
            raise ValueError(
                f"dim must be a multiple of 4 and not below reduction, kernel_size odd and depth at least 1; got "
                f"dim={dim}, reduction={reduction}, kernel_size={kernel_size}, depth={depth}"
            )
        self.residual = residual
        self.head_guide, self.head_ms = ResBlock(guide_chans, dim), ResBlock(in_chans, dim)
        self.bands = nn.ModuleList(WeightedFusion(dim) for _ in range(4))  # LL, HL, LH, HH
        self.add_hh, self.add_ll = WeightedFusion(dim), WeightedFusion(dim)
        self.encode = ResBlock(dim // 4, dim)
        self.middle = nn.ModuleList(CrossFusion(dim, dim, kernel_size, reduction) for _ in range(depth - 1))
        self.injections = nn.ModuleList(Injection(in_chans, guide_chans, dim) for _ in range(depth - 1))
        # A small last kernel: at first the result is near the up-sampled image.
        self.last = CrossFusion(dim, in_chans, kernel_size, reduction, spread=0.1)

    def sharpen(self, ms: Tensor | None, guide: Tensor, ms_up: Tensor) -> Tensor:
        """See `FusionNetwork.forward`."""
        height, width = guide.shape[2:]
        least = _BOX // 2 + 1  # reflection needs more than half the high-pass's box
        guide, ms_up = pad_sides(guide, 2, least), pad_sides(ms_up, 2, least)
        if inference.trains(
            *self.parameters()
        ):  # convolutions on a CPU train fastest where a pixel's channels lie together
            guide, ms_up = (x.clone(memory_format=torch.channels_last) for x in (guide, ms_up))
        spectral = self.head_ms(ms_up)
        x = self.encode(self._reconstruct(self.head_guide(guide), spectral))
        guide_detail, ms_detail = high_pass(guide), high_pass(ms_up)
        if not spectral.is_contiguous():
            guide_detail = guide_detail.clone(memory_format=torch.channels_last)
        for module, inject in zip(self.middle, self.injections, strict=True):
            x = module(x, spectral) + inject(guide_detail, ms_detail)
        x = self.last(x, spectral)
        sharp: Tensor = ms_up + x if self.residual else x
        return sharp[..., :height, :width]

    def _reconstruct(self, guide: Tensor, ms: Tensor) -> Tensor:
        """Fuse the sub-bands, join them from fine to coarse and transform back: (B, dim / 4, H, W)."""
        pairs = zip(self.bands, haar(guide), haar(ms), strict=True)
        ll, hl, lh, hh = (fuse(a, b) for fuse, a, b in pairs)
        x = self.add_ll(self.add_hh(hl + lh, hh), ll)
        joined = inverse_haar(*x.chunk(4, dim=1))
        return joined if x.is_contiguous() else joined.contiguous(memory_format=torch.channels_last)


@register_model
def cf2n(**kwargs: Any) -> CF2N:
    """CF2N as reconstructed: 8 bands, PAN, ratio 4; 477 302 parameters."""
    return CF2N(**kwargs)
