"""MMAPP: multi-branch and multi-scale adaptive progressive pyramid network for pansharpening.

Paper: Zhang, Liu, Wei, Xiang, "Multi-branch and multi-scale adaptive progressive pyramid network for pansharpening",
IEEE JSTARS (2024), doi 10.1109/JSTARS.2024.3490755.

Loads the official checkpoints (RSMIF project, Apache-2.0) and computes what they compute. The official network has
951 591 parameters, of which 134 970 are never used and 207 (biases of position fields) cancel in a softmax: ours leaves
them out. The release has ratio 4, two doublings; any power of two is ours, by the same rule level by level.

Written from the equations; the code is ours.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hsmamba.errors import SceneError
from hsmamba.layers.adaptive_conv import adaptive_conv
from hsmamba.layers.fusion import ResidualBlock, pad_sides
from hsmamba.layers.window_attention import projected_attention, window_attention
from hsmamba.models._base import FusionNetwork
from hsmamba.models._registry import ModelCfg, register_model
from hsmamba.ops import grouped, inference
from hsmamba.ops.resampling import upsample

_CITATION = (
    "Zhang, Liu, Wei, Xiang: Multi-branch and multi-scale adaptive progressive pyramid network for pansharpening. "
    "IEEE JSTARS (2024). doi:10.1109/JSTARS.2024.3490755"
)


default_cfgs = {
    "mmapp": ModelCfg(
        task="fusion",
        summary="MMAPP, two branches that meet scale by scale",
        citation=_CITATION,
        default_tag="worldview2",
        train_args={"residual": True},
        train_settings={"lr": 3e-4},  # at 1e-3 the tail's ReLU dies on some sensors
        tiny={"dim": 4, "depth": 1, "scale": 2},
    )
}


class MMAPPOutputs(NamedTuple):
    """What the network returns in training: the sharp image and what its loss looks at beside it.

    Attributes:
        sharp: (B, in_chans, r h, r w).
        sides: Sharp images at the coarser scales, (B, in_chans, h, w) first, each twice as large as the one before.
        ms_up: The network's own up-sampling of the coarse image, (B, in_chans, r h, r w).
    """

    sharp: Tensor
    sides: tuple[Tensor, ...]
    ms_up: Tensor

    def loss(self, target: Tensor, ms_up: Tensor) -> Tensor:
        """Compute `mmapp_loss`, by which `hsmamba.finetune` trains."""
        return mmapp_loss(self, target, ms_up)


class AdaptiveConv(nn.Module):
    """A static kernel whose taps are scaled; subclasses make the taps. Shape: (B, C, H, W) -> (B, M, H, W)."""

    def __init__(self, in_chans: int, out_chans: int, kernel_size: int) -> None:
        super().__init__()
        bound = (in_chans * kernel_size**2) ** -0.5
        self.weight = nn.Parameter(torch.empty(out_chans, in_chans, kernel_size, kernel_size).uniform_(-bound, bound))


def _per_pixel(in_chans: int, out_chans: int) -> nn.Sequential:
    """Values from 0 to 1 for each pixel: 3x3, 1x1 and 1x1 convolution."""
    first = nn.Conv2d(in_chans, out_chans, 3, padding=1)
    rest = (nn.Conv2d(out_chans, out_chans, 1) for _ in range(2))
    return nn.Sequential(first, nn.ReLU(), next(rest), nn.ReLU(), next(rest), nn.Sigmoid())


class PerImage(nn.Sequential):
    """Values for each image from the mean over it. Shape: (B, in_chans, H, W) -> (B, out_chans, 1, 1)."""

    def __init__(self, in_chans: int, out_chans: int) -> None:
        convs = nn.Conv2d(in_chans, out_chans, 1), nn.ReLU(), nn.Conv2d(out_chans, out_chans, 1)
        super().__init__(nn.AdaptiveAvgPool2d(1), *convs)

    def forward(self, input: Tensor) -> Tensor:
        """Do what the layers do, as products: torch's convolutions of one pixel take longer."""
        first, second = cast("tuple[nn.Conv2d, nn.Conv2d]", (self[1], self[3]))
        y = F.relu(F.linear(input.mean((2, 3)), first.weight.flatten(1), first.bias))
        return F.linear(y, second.weight.flatten(1), second.bias)[..., None, None]


class TSAM(AdaptiveConv):
    """Texture: taps for each pixel, a bias for each image."""

    def __init__(self, in_chans: int, out_chans: int, kernel_size: int) -> None:
        super().__init__(in_chans, out_chans, kernel_size)
        self.taps = _per_pixel(in_chans, kernel_size**2)
        self.bias = PerImage(in_chans, out_chans)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        out: Tensor = adaptive_conv(x, self.taps(x), self.weight) + self.bias(x)
        return out


class SICM(AdaptiveConv):
    """Spectra: taps for each image, a bias for each pixel."""

    def __init__(self, in_chans: int, out_chans: int, kernel_size: int) -> None:
        super().__init__(in_chans, out_chans, kernel_size)
        self.taps = PerImage(in_chans, kernel_size**2)
        self.bias = _per_pixel(in_chans, out_chans)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        out: Tensor = adaptive_conv(x, self.taps(x), self.weight) + self.bias(x)
        return out


class ACmix(nn.Module):
    """Windowed self-attention and a convolution of the same queries, keys and values, each with a learned rate.

    Shape: (B, C, H, W) -> (B, kernel_size^2, H, W).
    """

    def __init__(self, in_chans: int, kernel_size: int, num_heads: int, window_size: int) -> None:
        super().__init__()
        taps = kernel_size**2
        self.num_heads, self.window_size, self.kernel_size = num_heads, window_size, kernel_size
        self.qkv = nn.Conv2d(in_chans, 3 * taps, 1)
        self.position = nn.Parameter(torch.empty(taps // num_heads, 2))
        self.mix = nn.Parameter(torch.empty(taps, 3 * num_heads))
        self.conv = nn.Parameter(torch.empty(taps, taps, kernel_size, kernel_size))
        self.rate1 = nn.Parameter(torch.full((1,), 0.5))
        self.rate2 = nn.Parameter(torch.full((1,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        """Attend and convolve."""
        qkv = self.qkv(x)
        q, k, v = qkv.chunk(3, dim=1)
        attended = window_attention(q, k, v, self.position, heads=self.num_heads, window=self.window_size)
        d, (batch, _, height, width) = self.position.shape[0], x.shape
        by_channel = qkv.view(batch, 3 * self.num_heads, d, height, width).transpose(1, 2).flatten(1, 2)
        convolved = F.conv2d(by_channel, _mixed(self.conv, self.mix), padding=self.kernel_size // 2, groups=d)
        out: Tensor = self.rate1 * attended + self.rate2 * convolved
        return out

    def infer(self, x: Tensor, activation: str) -> Tensor | None:
        """Do the same and apply "relu" or "sigmoid", by compiled kernels; None where they may not run."""
        projection = self.qkv.weight, cast(Tensor, self.qkv.bias)
        options: dict[str, Any] = {"heads": self.num_heads, "window": self.window_size, "raw": True}
        if not inference.takes(x, self.conv) or not (
            made := projected_attention(x, *projection, self.position, **options)
        ):
            return None
        attended, qkv = made
        kernels = inference.prepared(_mixed_and_arranged, self.conv, self.mix, self.rate2, groups=len(self.position))
        given: dict[str, Any] = {"add": attended, "gain": self.rate1, "activation": activation}
        return grouped.convolve(qkv, kernels, self.num_heads, side_by_side=True, **given)


def _mixed(conv: Tensor, mix: Tensor) -> Tensor:
    """Make one kernel of two linear maps.

    The heads of q, k and v are mixed for each of the d channels of a head, then convolved in d groups.
    """
    return torch.einsum("moij,os->msij", conv, mix)


def _mixed_and_arranged(conv: Tensor, mix: Tensor, rate: Tensor, *, groups: int) -> Tensor:
    """Put the same, times a rate, in the order of the compiled kernel."""
    return grouped.arranged(rate * _mixed(conv, mix), groups=groups)


class AFM(AdaptiveConv):
    """Fusion: taps for each pixel by a chain of ACmix, times taps for each image."""

    def __init__(self, in_chans: int, out_chans: int, kernel_size: int, num_heads: int, window_size: int) -> None:
        super().__init__(in_chans, out_chans, kernel_size)
        taps = kernel_size**2
        self.taps = nn.Sequential()
        for i in range(3):
            self.taps.append(ACmix(taps if i else in_chans, kernel_size, num_heads, window_size))
            self.taps.append(nn.ReLU() if i < 2 else nn.Sigmoid())
        self.image_taps = PerImage(in_chans, taps)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        return adaptive_conv(x, self._taps(x) * self.image_taps(x), self.weight)

    def _taps(self, x: Tensor) -> Tensor:
        taps: Tensor | None = x
        for i, layer in enumerate(self.taps[::2]):  # each with its activation, where the compiled kernels may run
            if taps is not None:
                taps = cast(ACmix, layer).infer(taps, "relu" if 2 * i < len(self.taps) - 2 else "sigmoid")
        return self.taps(x) if taps is None else taps


class Upsample(nn.Module):
    """3x3 convolution and pixel shuffle by 2. Shape: (B, dim, H, W) -> (B, dim, 2 H, 2 W)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, 4 * dim, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Double the sides."""
        return F.pixel_shuffle(self.conv(x), 2)


class Stage(nn.Module):
    """One scale of a branch: convolution and residual block, then the next scale, and `bands` features for the fusion.

    Shape: (B, C, H, W) -> (B, dim, H', W') and (B, bands, H', W'), sides halved (PAN) or doubled (MS).
    """

    def __init__(
        self, kind: type[AdaptiveConv], in_chans: int, dim: int, bands: int, *, first: bool, **options: int
    ) -> None:
        super().__init__()
        self.first = first
        self.conv = kind(in_chans, dim, **options)
        self.block = ResidualBlock(partial(kind, dim, dim, **options))
        self.resample = nn.MaxPool2d(2) if kind is TSAM else nn.Sequential(Upsample(dim), nn.ReLU())
        self.side = kind(dim, bands, **options)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Extract, and go to the next scale."""
        features = F.relu(self.conv(x))
        # The first stage's input has other channels; later ones pass it by, with the block's own skip inside.
        skipped = features if self.first else x
        x = self.resample(F.relu(self.block(features) + skipped))
        return x, self.side(x)


class Level(nn.Module):
    """One scale of the fusion: residual blocks, the side image of this scale, up-sampled features for the next.

    Shape: (B, dim, H, W) -> (B, dim, 2 H, 2 W) and (B, bands, H, W).
    """

    def __init__(self, dim: int, bands: int, depth: int, **options: int) -> None:
        super().__init__()
        conv = partial(AFM, dim, dim, **options)
        self.blocks = nn.Sequential(*(ResidualBlock(conv) for _ in range(depth)))
        self.side = nn.Conv2d(dim, bands, 3, padding=1)
        self.up = Upsample(dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Fuse at this scale."""
        x = self.blocks(x)
        return F.leaky_relu(self.up(x), 0.2), self.side(x)


class MMAPP(FusionNetwork):
    """MMAPP: a branch that shrinks the guide, one that enlarges the coarse image, and their fusion scale by scale.

    Args:
        in_chans: Bands of the coarse image.
        guide_chans: Channels of the guide: 1 for PAN, 3 for RGB.
        scale: Ratio between the grids, a power of two.
        dim: Feature channels; each finer level of the fusion has 2 in_chans more.
        depth: Residual blocks of a fusion level.
        kernel_size: Odd side k of the adaptive kernels.
        num_heads: Attention heads; they divide k^2 into parts that divide it, too.
        window_size: Odd side of the attention window.
        residual: Add the up-sampled coarse image to the result. The release does not and has to learn that image; a
            network that adds it is trained in a fraction of the steps.

    `margin` is None: taps and biases of many layers come from means over the whole image.

    Raises:
        ValueError: Sizes that do not go together.
    """

    window = 24  # of coarse pixels; validation images come out worse in larger ones
    layer_groups = {
        "branches": r"^(?:pan|ms)_stages\.(\d+)",
        "head": r"^head",
        "levels": r"^levels\.(\d+)",
        "tail": r"^(?:to_bands|tail)",
    }

    def __init__(
        self,
        in_chans: int = 8,
        guide_chans: int = 1,
        scale: int = 4,
        *,
        dim: int = 32,
        depth: int = 5,
        kernel_size: int = 3,
        num_heads: int = 3,
        window_size: int = 7,
        residual: bool = False,
    ) -> None:
        super().__init__(in_chans, guide_chans, scale)
        taps = kernel_size**2
        if kernel_size % 2 == 0 or window_size % 2 == 0 or taps % num_heads or taps % (taps // num_heads):
            raise ValueError(
                f"kernel_size and window_size must be odd and num_heads divide kernel_size ** 2; got "
                f"kernel_size={kernel_size}, window_size={window_size}, num_heads={num_heads}"
            )
        if scale < 2 or scale & (scale - 1):
            raise ValueError(f"MMAPP doubles the size level by level: scale must be 2, 4, 8, ..., got {scale}")
        self.window_size, self.residual = window_size, residual
        levels = scale.bit_length() - 1
        attention = {"kernel_size": kernel_size, "num_heads": num_heads, "window_size": window_size}

        def branch(kind: type[AdaptiveConv], chans: int) -> nn.ModuleList:
            return nn.ModuleList(
                Stage(kind, dim if i else chans, dim, in_chans, first=i == 0, kernel_size=kernel_size)
                for i in range(levels)
            )

        self.pan_stages = branch(TSAM, guide_chans)
        self.ms_stages = branch(SICM, in_chans)
        self.head = nn.Sequential(AFM(2 * in_chans, dim, **attention), nn.PReLU())
        dims = [dim + 2 * in_chans * level for level in range(levels)]
        self.levels = nn.ModuleList(Level(width, in_chans, depth, **attention) for width in dims)
        self.to_bands = nn.Conv2d(dims[-1], in_chans, 3, padding=1)
        start, end = AFM(2 * in_chans + guide_chans, in_chans, **attention), AFM(in_chans, in_chans, **attention)
        self.tail = nn.Sequential(start, nn.ReLU(), end)
        self.apply(_init_weights)
        if residual:
            # A large wrong detail would soon drive the tail's ReLU to zero: start from none. Taps of dark images are
            # products of small means, through which no gradient comes: start from 1.
            nn.init.zeros_(end.weight)
            for conv in (start, end):
                nn.init.ones_(conv.image_taps.get_parameter("3.bias"))

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that weight decay leaves alone, beside biases."""
        return {name for name, _ in self.named_parameters() if name.endswith((".rate1", ".rate2", ".position"))}

    def forward(self, ms: Tensor | None, guide: Tensor, ms_up: Tensor | None = None) -> Tensor | MMAPPOutputs:
        """Sharpen.

        Args:
            ms: Coarse image (B, in_chans, h, w), about 0 to 1.
            guide: (B, guide_chans, scale h, scale w).
            ms_up: `ms` on the guide's grid, only for `residual` (default interp23): the network up-samples `ms` itself.

        Returns:
            (B, in_chans, scale h, scale w), not clipped; in training `MMAPPOutputs`, which `mmapp_loss` takes.

        Raises:
            SceneError: `ms` is missing, or shapes do not fit.
        """
        self.check_inputs(ms, guide, ms_up)
        if ms is None:
            raise SceneError("MMAPP works on the coarse image itself; pass it as ms")
        height, width = ms.shape[2:]
        least = self.window_size // 2 + 1  # reflection needs more than half a window
        outputs = self._fuse(pad_sides(ms, 1, least), pad_sides(guide, self.scale, least * self.scale))
        sharp, own_up = (x[..., : self.scale * height, : self.scale * width] for x in (outputs.sharp, outputs.ms_up))
        if self.residual:
            sharp = sharp + (upsample(ms, self.scale) if ms_up is None else ms_up)
        if not self.training:
            return sharp
        sides = (x[..., : height << i, : width << i] for i, x in enumerate(outputs.sides))
        return MMAPPOutputs(sharp, tuple(sides), own_up)

    def _fuse(self, ms: Tensor, guide: Tensor) -> MMAPPOutputs:
        pan_sides, ms_sides, sides = [], [], []
        x = guide
        for stage in self.pan_stages:
            x, side = stage(x)
            pan_sides.append(side)
        x = ms
        for stage in self.ms_stages:
            x, side = stage(x)
            ms_sides.append(side)
        x = self.head(torch.cat([ms, pan_sides.pop()], dim=1))
        for i, level in enumerate(self.levels):
            if i > 0:
                x = torch.cat([x, ms_sides[i - 1], pan_sides.pop()], dim=1)
            x, side = level(x)
            sides.append(side)
        x = self.tail(torch.cat([self.to_bands(x), guide, ms_sides[-1]], dim=1))
        return MMAPPOutputs(x, tuple(sides), ms_sides[-1])


def _init_weights(module: nn.Module) -> None:
    """The release's initialisation: truncated normal for all but the static weights of the adaptive convolutions."""
    weights = [module.weight] if isinstance(module, nn.Conv2d) else []
    if isinstance(module, nn.Conv2d) and module.bias is not None:
        nn.init.zeros_(module.bias)
    if isinstance(module, ACmix):
        weights = [module.position, module.mix, module.conv]
    for weight in weights:
        std = weight[0].numel() ** -0.5 / 0.87962566103423978  # a normal cut at two sigma has this spread
        nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)


def mmapp_loss(outputs: MMAPPOutputs, target: Tensor, ms_up: Tensor) -> Tensor:
    """Mean absolute errors of all scales: half for the sharp image, half for the sides, 0.01 for the own up-sampling.

    The sides share their half as 2 : 3 : ..., the finer the more; at ratio 4 these are the release's 0.2 and 0.3.

    Args:
        outputs: What the network returned in training.
        target: The true sharp image (B, C, H, W).
        ms_up: The coarse image on the grid of the target, by `interp23`.

    Returns:
        The loss, a scalar.
    """
    loss = 0.5 * F.l1_loss(outputs.sharp, target) + 0.01 * F.l1_loss(outputs.ms_up, ms_up)
    shares = range(2, 2 + len(outputs.sides))
    for share, side in zip(shares, outputs.sides, strict=True):
        coarse = F.interpolate(target, side.shape[2:], mode="bicubic", align_corners=True)
        loss = loss + 0.5 * share / sum(shares) * F.l1_loss(side, coarse)
    return loss


@register_model
def mmapp(**kwargs: Any) -> MMAPP:
    """MMAPP of the release: 8 bands, PAN, ratio 4; 816 414 parameters, 951 591 with those it never uses."""
    return MMAPP(**kwargs)
