"""MSFMamba: multi-scale feature fusion Mamba for the joint classification of hyperspectral and LiDAR or SAR patches.

Paper: Gao, Jin, Zhou, Dong, Du, "MSFMamba: Multi-Scale Feature Fusion State Space Model for Multi-Source Remote Sensing
Image Classification", IEEE TGRS 63 (2025), 1-16, arXiv 2408.14255.

The official code (oucailab/MSFMamba, no licence) was not copied: this is written from a description of it, and agrees
with it to rounding. It reads channel-first memory as channel-last where a transposition may have been meant; trained
checkpoints depend on that, so it is kept, and every such place is a call of `reinterpret`. Its two passes through the
dense transposed convolution are one here: the convolution is linear, only its bias enters twice.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from hsmamba.layers.conv_bn import ConvBN
from hsmamba.layers.depthwise import depthwise_conv
from hsmamba.layers.linear import Linear
from hsmamba.layers.scan_order import CROSS
from hsmamba.layers.ssm import S6, no_weight_decay_names
from hsmamba.models._base import Classifier
from hsmamba.models._registry import ModelCfg, register_model
from hsmamba.ops import inference
from hsmamba.ops.linear import linear, linear_parts
from hsmamba.ops.rows import RowProgram

_CITATION = (
    "Gao, Jin, Zhou, Dong, Du: MSFMamba: Multi-Scale Feature Fusion State Space Model for Multi-Source Remote Sensing "
    "Image Classification. IEEE TGRS 63, 1-16 (2025). arXiv:2408.14255"
)
default_cfgs = {
    name: ModelCfg(
        summary=summary,
        citation=_CITATION,
        default_tag="idtrees2020" if name == "msfmamba" else None,
        tiny={"in_chans": 16, "patch_size": 7},
    )
    for name, summary in {
        "msfmamba": "MSFMamba, one layer, hyperspectral and LiDAR",
        "msfmamba_berlin": "MSFMamba as released for Berlin (SAR), two layers",
        "msfmamba_augsburg": "MSFMamba as released for Augsburg (SAR), one layer",
        "msfmamba_houston2013": "MSFMamba as released for Houston 2013 (LiDAR), one layer",
        "msfmamba_houston2018": "MSFMamba as released for Houston 2018 (LiDAR), two layers",
    }.items()
}


def reinterpret(x: Tensor, *shape: int) -> Tensor:
    """Read the row-major memory of x (B, ...) as (B, *shape): no axis is moved, whatever the axes mean."""
    return x.reshape(-1, *shape)


def inner_width(width: int, expand: float) -> int:
    """Inner width of a scan, int(expand * width), at least 1.

    Raises:
        ValueError: It would be 0.
    """
    inner = int(expand * width)
    if inner < 1:
        raise ValueError(
            f"expand={expand} leaves no channel of a width of {width}; it must be at least {1 / width:.3g}"
        )
    return inner


def step_rank(width: int) -> int:
    """Rank of the step projection, a sixteenth of the width."""
    return math.ceil(width / 16)


_normed = RowProgram("y = norm(x, weight, bias, 1e-6)", "y")
_affine = RowProgram("y = norm(x, weight, bias, 1e-5)", "y")
_gate = RowProgram("y = x * gate", "y")
_gated = RowProgram("y = norm(x, weight, bias, 1e-5) * gate", "y")
_gated_sum = RowProgram("y = norm(x + small + shift, weight, bias, 1e-5) * gate", "y")
_DENSE_BYTES = 2**23  # of a transposed convolution's matrix, from all numbers of a small map to all of a large one


def _maps(x: Tensor) -> Tensor:
    """(B, H, W, d) -> (B, 1, d, H, W), as the scans take it; a view."""
    return x.permute(0, 3, 1, 2).unsqueeze(1)


def dense_transposed(weight: Tensor, height: int, width: int) -> Tensor:
    """Write a transposed convolution of stride 2 and padding k // 2 as a matrix.

    Args:
        weight: (d, e, k, k), k odd.
        height: Rows h of the small map.
        width: Columns w of it.

    Returns:
        (H W e, h w d), H = 2 h - 1, W = 2 w - 1: what each of (H, W, e) gets of each number of a map (h, w, d).
    """
    matrix: Tensor = _Dense.apply(weight, height, width)
    return matrix


class _Dense(torch.autograd.Function):
    """`dense_transposed`, whose gradient needs as few copies as itself."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, height: int, width: int) -> Tensor:
        d, e, side, _ = weight.shape
        ctx.sizes = d, e, side, height, width
        taps = weight.permute(2, 3, 1, 0).contiguous()  # (k, k, e, d)
        matrix = weight.new_zeros(2 * height - 1, 2 * width - 1, e, height, width, d)
        for i, j in itertools.product(range(height), range(width)):
            (rows, down), (columns, across) = _reached(i, height, side), _reached(j, width, side)
            matrix[rows, columns, :, i, j] = taps[down, across]
        return matrix.view(-1, height * width * d)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        d, e, side, height, width = ctx.sizes
        grad = grad.view(2 * height - 1, 2 * width - 1, e, height, width, d)
        taps = grad.new_zeros(side, side, e, d)
        for i, j in itertools.product(range(height), range(width)):
            (rows, down), (columns, across) = _reached(i, height, side), _reached(j, width, side)
            taps[down, across] += grad[rows, columns, :, i, j]
        return taps.permute(3, 2, 0, 1), None, None


def _reached(line: int, lines: int, side: int) -> tuple[slice, slice]:
    """The lines of the large map that a line of the small one reaches, and the taps by which it does."""
    before = 2 * line - side // 2
    start, end = max(0, before), min(2 * lines - 1, before + side)
    return slice(start, end), slice(start - before, end - before)


class MultiScaleScan(nn.Module):
    """MS-SSM: rows and columns forward at full size, rows and columns backward at half size, summed.

    Shape: (B, H, W, D) -> (B, H, W, D), H and W odd.
    """

    def __init__(self, dim: int, expand: float, d_state: int) -> None:
        super().__init__()
        d = inner_width(dim, expand)
        self.in_proj = Linear(dim, 2 * d, bias=False)
        self.conv = nn.Conv2d(d, d, 3, padding=1, groups=d)
        self.fine_conv = nn.Conv2d(d, d, 3, padding=1, groups=d)
        self.coarse_conv = nn.Conv2d(d, d, 5, stride=2, padding=2, groups=d)
        self.fine_ssm = S6(d, d_state, step_rank(dim), scans=2)
        self.coarse_ssm = S6(d, d_state, step_rank(dim), scans=2)
        self.upsample = nn.ConvTranspose2d(d, d, 5, stride=2, padding=2)
        self.out_norm = nn.LayerNorm(d)
        self.out_proj = Linear(d, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Scan at two scales and gate."""
        d = self.out_proj.in_features
        u, gate = self.in_proj.parts(x, (d, ""), (d, "silu"))  # (B, H, W, d) each
        u = depthwise_conv(self.conv, u, silu=True)
        fine, coarse = depthwise_conv(self.fine_conv, u), depthwise_conv(self.coarse_conv, u)  # the second (B, h, w, d)
        y = self.fine_ssm(_maps(fine), orders=CROSS[:2], summed=True)  # (B, d, H, W)
        small = self.coarse_ssm(_maps(coarse), orders=CROSS[2:], summed=True)  # (B, d, h, w)
        norm, tokens = self.out_norm, y.permute(0, 2, 3, 1)
        gated = _gated_sum(
            x=tokens,
            small=self._upsampled(small),
            shift=cast(Tensor, self.upsample.bias),
            weight=norm.weight,
            bias=norm.bias,
            gate=gate,
        )
        out: Tensor = self.out_proj(gated)
        return out

    def _upsampled(self, small: Tensor) -> Tensor:
        """Convolve back to full size: (B, d, h, w) -> (B, H, W, d)."""
        conv, (_, d, height, width) = self.upsample, small.shape
        large = 2 * height - 1, 2 * width - 1
        fits = 4 * d * d * height * width * math.prod(large) <= _DENSE_BYTES
        if fits and inference.takes(small, of=conv):
            matrix = inference.prepared(dense_transposed, conv.weight, height=height, width=width)
        elif fits and math.prod(large) <= math.prod(conv.kernel_size) and inference.trains(small, conv.weight):
            matrix = dense_transposed(conv.weight, height, width)  # which is made anew, but no larger than the taps
        else:
            return cast(Tensor, conv(small)).permute(0, 2, 3, 1)
        tokens = linear(small.permute(0, 2, 3, 1).flatten(1), matrix)
        return tokens.view(-1, *large, d) + cast(Tensor, conv.bias)


class SpatialBlock(nn.Module):
    """Multi-scale spatial block: x + MultiScaleScan(LN(x)) on reinterpreted memory, transposed on the way out.

    Shape: (B, D, H, W) -> (B, D, H, W).
    """

    def __init__(self, dim: int, expand: float, d_state: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.mixer = MultiScaleScan(dim, expand, d_state)

    def forward(self, x: Tensor) -> Tensor:
        """Mix over space."""
        x = reinterpret(x, *x.shape[2:], x.shape[1])  # (B, H, W, D)
        x = x + self.mixer(_normed(x=x, weight=self.norm.weight, bias=self.norm.bias))
        return x.permute(0, 3, 1, 2)


class SpectralBlock(nn.Module):
    """Spectral block: scans forward and backward over channels, the pixels of a channel are its features.

    Shape: (B, T, G) -> (B, T, G), T channels of G pixels.
    """

    def __init__(self, pixels: int, expand: float, d_state: int) -> None:
        super().__init__()
        d = inner_width(pixels, expand)
        self.norm = nn.LayerNorm(pixels, eps=1e-6)
        self.in_proj = Linear(pixels, 2 * d, bias=False)
        self.proj = Linear(d, d, bias=False)
        self.ssm = S6(d, d_state, step_rank(pixels), scans=2)
        self.out_norm = nn.LayerNorm(d)
        self.out_proj = Linear(d, pixels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Mix over channels."""
        norm, out_norm = self.norm, self.out_norm
        u, gate = self._entered(_normed(x=x, weight=norm.weight, bias=norm.bias))  # (B, T, d) each
        u = reinterpret(u, 1, u.shape[2], 1, u.shape[1])  # (B, 1, d, 1, T), a map of one row
        y = self.ssm(u, orders=("rows", "rows back"), summed=True).squeeze(2).mT  # (B, T, d)
        out: Tensor = self.out_proj(_gated(x=y, weight=out_norm.weight, bias=out_norm.bias, gate=gate), add=x)
        return out

    def _entered(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Project x (B, T, G) to stream and gate, (B, T, d) each."""
        d = self.proj.in_features
        if inference.takes(x, of=self):
            weight = inference.prepared(_chained, self.in_proj.weight, self.proj.weight)
            stream, gate = linear_parts(x, weight, None, (d, "silu"), (d, "silu"))
            return stream, gate
        u, gate = self.in_proj.parts(x, (d, ""), (d, "silu"))
        return self.proj(u, "silu"), gate


def _chained(first: Tensor, second: Tensor) -> Tensor:
    """Weight (2 d, G) of a projection whose first half goes through another (d, d)."""
    return torch.cat([second @ first[: len(second)], first[len(second) :]])


class CrossScan(nn.Module):
    """Fus-SSM: four scans of one source, with steps, B and C from the other, the driver.

    Shape: scanned (B, d, H, W), driver (B, e, H, W) -> (B, H, W, d).
    """

    def __init__(self, d_inner: int, d_driver: int, dt_rank: int, d_state: int) -> None:
        super().__init__()
        self.ssm = S6(d_inner, d_state, dt_rank, scans=4, d_driver=d_driver)
        self.out_norm = nn.LayerNorm(d_inner)

    def forward(self, scanned: Tensor, driver: Tensor) -> Tensor:
        """Scan by rows and columns, forward and backward, and sum."""
        y = self.ssm(scanned.unsqueeze(1), driver.unsqueeze(1), orders=CROSS, summed=True)  # (B, d, H, W)
        norm = self.out_norm
        out: Tensor = _affine(x=y.permute(0, 2, 3, 1), weight=norm.weight, bias=norm.bias)
        return out


class FusionStream(nn.Module):
    """One source of the fusion block: what happens to it before and after the cross scan."""

    def __init__(self, dim: int, other_dim: int, expand: float, d_state: int) -> None:
        super().__init__()
        d, e = inner_width(dim, expand), inner_width(other_dim, expand)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.in_proj = Linear(dim, 2 * d, bias=False)
        self.conv = nn.Conv2d(d, d, 3, padding=1, groups=d)
        self.cross_scan = CrossScan(d, e, step_rank(other_dim), d_state)
        self.out_proj = Linear(d, dim, bias=False)

    def enter(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Project x (B, H, W, D): what is scanned (B, d, H, W), and the gate (B, H, W, d)."""
        d = self.conv.in_channels
        normed = _normed(x=x, weight=self.norm.weight, bias=self.norm.bias)
        u, gate = self.in_proj.parts(normed, (d, ""), (d, "silu"))
        maps = reinterpret(u, u.shape[3], *u.shape[1:3])
        # The memory format in which convolution and scans read a pixel at once.
        tokens = maps.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
        return depthwise_conv(self.conv, tokens, silu=True).permute(0, 3, 1, 2), gate

    def leave(self, x: Tensor, u: Tensor, gate: Tensor, driver: Tensor) -> Tensor:
        """Scan u under the driver, gate, and add to x (B, H, W, D)."""
        out: Tensor = self.out_proj(_gate(x=self.cross_scan(u, driver), gate=gate), add=x)
        return out


class FusionBlock(nn.Module):
    """Each source is scanned with the steps of the other, and added to itself.

    Shape: hsi (B, Dh, H, W), aux (B, Dx, H, W) -> the same.
    """

    def __init__(self, hsi_dim: int, aux_dim: int, expand: float, d_state: int) -> None:
        super().__init__()
        self.hsi = FusionStream(hsi_dim, aux_dim, expand, d_state)
        self.aux = FusionStream(aux_dim, hsi_dim, expand, d_state)

    def forward(self, hsi: Tensor, aux: Tensor) -> tuple[Tensor, Tensor]:
        """Fuse two sources."""
        shapes = hsi.shape[1:], aux.shape[1:]
        hsi, aux = (reinterpret(x, *x.shape[2:], x.shape[1]) for x in (hsi, aux))  # (B, H, W, D)
        (u_hsi, gate_hsi), (u_aux, gate_aux) = self.hsi.enter(hsi), self.aux.enter(aux)
        hsi = self.hsi.leave(hsi, u_hsi, gate_hsi, driver=u_aux)
        aux = self.aux.leave(aux, u_aux, gate_aux, driver=u_hsi)
        return reinterpret(hsi, *shapes[0]), reinterpret(aux, *shapes[1])


class Layer(nn.Module):
    """Convolutions, spatial and spectral blocks, fusion; a side shrinks by 2, the spectral depth by `kernel - 1`.

    Shape: hsi (B, c, P, S, S), aux (B, a, S, S) -> hsi (B, ch, P', S - 2, S - 2), aux (B, ca, S - 2, S - 2).
    """

    def __init__(
        self, chans: tuple[int, int], aux_chans: tuple[int, int], kernel: int, depth: int, side: int, **ssm: Any
    ) -> None:
        super().__init__()
        dim = chans[1] * depth
        self.chans = chans[1]
        self.hsi_conv = ConvBN(nn.Conv3d(*chans, (kernel, 3, 3)))
        self.aux_conv = ConvBN(nn.Conv2d(*aux_chans, 3))
        self.hsi_spatial = SpatialBlock(dim, **ssm)
        self.hsi_spectral = SpectralBlock(side * side, **ssm)
        self.aux_spatial = SpatialBlock(aux_chans[1], **ssm)
        self.fusion = FusionBlock(dim, aux_chans[1], **ssm)

    def forward(self, hsi: Tensor, aux: Tensor) -> tuple[Tensor, Tensor]:
        """Extract features of both sources and fuse them."""
        return self.mix(self.hsi_conv(hsi), self.aux_conv(aux))

    def mix(self, hsi: Tensor, aux: Tensor) -> tuple[Tensor, Tensor]:
        """Fuse the features of both sources."""
        folded = (hsi.shape[1] * hsi.shape[2], *hsi.shape[3:])  # depth goes into the channels: (Dh, H, W)
        spatial = self.hsi_spatial(reinterpret(hsi, *folded))
        spectral = self.hsi_spectral(spatial.flatten(2))
        fused_hsi, fused_aux = self.fusion(reinterpret(spectral, *folded), self.aux_spatial(aux))
        return reinterpret(fused_hsi, *hsi.shape[1:]), fused_aux


class MSFMamba(Classifier):
    """MSFMamba classifier of co-registered hyperspectral and LiDAR or SAR patches.

    Args:
        in_chans: Bands (PCA components) of the hyperspectral patch; enough that every layer leaves one (8 + 1 for one
            layer, 14 + 1 for two, 18 + 1, 20 + 1).
        num_classes: Classes K; 0 leaves the head out.
        patch_size: Side P of the patch, odd, larger than 2 * depth.
        aux_chans: Channels of the second source.
        depth: Layers, 1 to 4.
        d_state: States N of a scan.
        expand: Inner width of the scans as a multiple of the width.
        drop_rate: Dropout before the head.

    Raises:
        ValueError: Sizes that do not go together.
    """

    layer_groups = {
        "layers": [
            (rf"^layers\.(\d+)\.(?:{parts})\b", (depth,))
            for depth, parts in enumerate(("hsi_conv|aux_conv", "hsi_spatial|aux_spatial", "hsi_spectral", "fusion"))
        ]
    }

    def __init__(
        self,
        in_chans: int = 30,
        num_classes: int = 15,
        patch_size: int = 11,
        aux_chans: int = 1,
        *,
        depth: int = 1,
        d_state: int = 16,
        expand: float = 0.75,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__(in_chans, num_classes, patch_size, aux_chans)
        _check_sizes(in_chans, patch_size, depth)
        self.layers = nn.ModuleList()
        self.shared_rim = 1
        chans, aux, bands, side = 1, aux_chans, in_chans, patch_size
        for i in range(depth):
            kernel, bands, side = 9 - 2 * i, bands - (8 - 2 * i), side - 2
            pairs = (chans, 8 * (i + 1)), (aux, 64 * (i + 1))
            self.layers.append(Layer(*pairs, kernel, bands, side, expand=expand, d_state=d_state))
            chans, aux = pairs[0][1], pairs[1][1]
        self.add_head((chans * bands + aux) * side * side, drop_rate)

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that weight decay leaves alone, beside biases and norms."""
        return no_weight_decay_names(self)

    def shared_maps(self, hsi: Tensor, aux: Tensor | None = None) -> tuple[Tensor, ...]:
        """Run the first layer's convolutions, bands folded into the channels: (B, c, P - 2, P - 2) for each source."""
        first = cast(Layer, self.layers[0])
        return first.hsi_conv(hsi.unsqueeze(1)).flatten(1, 2), first.aux_conv(cast(Tensor, aux))

    def from_maps(self, *maps: Tensor) -> Tensor:
        """Compute the feature maps (B, C, S, S), those of the hyperspectral source first; S = P - 2 depth."""
        first, *others = (cast(Layer, layer) for layer in self.layers)
        hsi, y = maps
        folded = (first.chans, hsi.shape[1] // first.chans)
        x, y = first.mix(hsi.reshape(-1, *folded, *hsi.shape[2:]), y)  # (B, c, P, S, S), (B, a, S, S)
        for layer in others:
            x, y = layer(x, y)
        return torch.cat([x.flatten(1, 2), y], dim=1)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Classify feature maps (B, C, S, S): (B, num_classes), or (B, num_features) with `pre_logits`."""
        return super().forward_head(x.flatten(1), pre_logits)


def _check_sizes(in_chans: int, patch_size: int, depth: int) -> None:
    if not 1 <= depth <= 4:
        raise ValueError(f"depth is {depth}; MSFMamba has 1 to 4 layers")
    if patch_size % 2 == 0:
        odd = [side for side in (patch_size - 1, patch_size + 1) if side > 2 * depth] or [2 * depth + 1]
        nearest = f"are {odd[0]} and {odd[1]}" if len(odd) == 2 else f"is {odd[0]}"
        raise ValueError(f"patch_size is {patch_size}, and MSFMamba needs an odd one: the nearest {nearest}")
    if patch_size <= 2 * depth:
        raise ValueError(f"patch_size is {patch_size}; {depth} layers need at least {2 * depth + 1}")
    used = sum(8 - 2 * i for i in range(depth))
    if in_chans <= used:
        raise ValueError(f"in_chans is {in_chans}; {depth} layers use up {used} bands and need at least {used + 1}")


@register_model
def msfmamba(**kwargs: Any) -> MSFMamba:
    """MSFMamba with one layer, for hyperspectral and LiDAR patches: the configuration of Houston 2013."""
    return MSFMamba(**kwargs)


@register_model
def msfmamba_berlin(**kwargs: Any) -> MSFMamba:
    """MSFMamba as released for Berlin: 8 classes, 4 SAR channels, two layers, 2 744 992 parameters."""
    return MSFMamba(**{"num_classes": 8, "aux_chans": 4, "depth": 2, **kwargs})


@register_model
def msfmamba_augsburg(**kwargs: Any) -> MSFMamba:
    """MSFMamba as released for Augsburg: 7 classes, 4 SAR channels, one layer, 8 states, 886 633 parameters."""
    return MSFMamba(**{"num_classes": 7, "aux_chans": 4, "d_state": 8, **kwargs})


@register_model
def msfmamba_houston2013(**kwargs: Any) -> MSFMamba:
    """MSFMamba as released for Houston 2013: 15 classes, LiDAR, one layer, 1 077 873 parameters."""
    return MSFMamba(**kwargs)


@register_model
def msfmamba_houston2018(**kwargs: Any) -> MSFMamba:
    """MSFMamba as released for Houston 2018: 20 classes, LiDAR, two layers, 2 969 068 parameters."""
    return MSFMamba(**{"num_classes": 20, "depth": 2, **kwargs})
