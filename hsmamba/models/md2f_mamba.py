"""MD2F-Mamba: multidirectional depthwise convolution and dual-branch Mamba feature fusion for hyperspectral patches.

Paper: Wan, Mo, He, Chen, Li, "MD2F-Mamba: Multidirectional Depthwise Convolution and Dual-Branch Mamba Feature Fusion
Networks for Hyperspectral Image Classification", IEEE JSTARS 19 (2026), 6214-6238, doi 10.1109/JSTARS.2026.3657648.

No official code was published. Two variants:

- `md2f_mamba`: our reading of the paper, 92 K parameters and 8.30 M multiply-adds on a 30 x 13 x 13 patch, as the paper
  reports. Its global branch is the hidden-state mixer of EfficientViM (arXiv 2411.15241), with which the paper's
  formulas agree one to one. The paper's Omega, added before a softmax over positions, cancels and is left out.
- `md2f_mamba_ref`: numerically the listing of a third-party article about the paper, 223 K parameters, with the one
  repair without which it cannot run.

Written from the equations; the code is ours.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hsmamba.layers.conv_bn import ConvBN, has_neighbours
from hsmamba.layers.depthwise import depthwise_conv
from hsmamba.layers.linear import pointwise, pointwise_parts
from hsmamba.models._base import Classifier
from hsmamba.models._registry import ModelCfg, register_model
from hsmamba.ops import bands, inference, norm_gradients, normed_products
from hsmamba.ops.linear import linear, product
from hsmamba.ops.products import MOST_INPUTS
from hsmamba.ops.rows import RowProgram

_CITATION = (
    "Wan, Mo, He, Chen, Li: MD2F-Mamba: Multidirectional Depthwise Convolution and Dual-Branch Mamba Feature Fusion "
    "Networks for Hyperspectral Image Classification. IEEE JSTARS 19, 6214-6238 (2026). doi:10.1109/JSTARS.2026.3657648"
)
default_cfgs = {
    "md2f_mamba": ModelCfg(
        summary="MD2F-Mamba as the paper describes it, 92 K parameters",
        citation=_CITATION,
        default_tag="indian_pines",
        tiny={"in_chans": 8, "patch_size": 7, "dim": 16},
    ),
    "md2f_mamba_ref": ModelCfg(
        summary="MD2F-Mamba as a third-party article prints it, 223 K parameters",
        citation=_CITATION,
        tiny={"in_chans": 8, "patch_size": 7, "dim": 16},
    ),
}


_normed = RowProgram("y = norm(x + pos, weight, bias, 1e-5)", "y")
_placed = RowProgram("y = x + pos", "y")
_gated = RowProgram("y = x * (gate + phi)", "y")
_decomposed = RowProgram("y = q + delta * (q - gelu(w))", "y")
_fused = RowProgram("s = sum(l * g) / (sqrt(sum(l * l)) * sqrt(sum(g * g)) + 1e-8); y = relu(g + l * s)", "y")


def conv_bn(in_chans: int, out_chans: int, kernel: int | tuple[int, int] = 1, *, act: bool = True) -> ConvBN:
    """Convolution with zero padding to the same size and no bias, batch norm and, unless told otherwise, ReLU."""
    return ConvBN(nn.Conv2d(in_chans, out_chans, kernel, padding="same", bias=False), act=act)


class InitialExtractor(nn.Module):
    """3-D convolution over (band, row, column), filters and bands merged (filter outermost), 1x1 convolution to `dim`.

    Shape: (B, D, P, P) -> (B, dim, Q, Q) with Q = P + 2 padding - 2.
    """

    def __init__(self, in_chans: int, filters: int, dim: int, padding: int) -> None:
        super().__init__()
        self.conv3d = ConvBN(nn.Conv3d(1, filters, 3, padding=padding, bias=False))
        self.conv2d = conv_bn(filters * (in_chans + 2 * padding - 2), dim)

    def forward(self, hsi: Tensor) -> Tensor:
        """Extract spectral-spatial features."""
        conv, norm = cast("nn.Conv3d", self.conv3d[0]), cast("nn.BatchNorm3d", self.conv3d[1])
        mix, mixed_norm = cast("nn.Conv2d", self.conv2d[0]), cast("nn.BatchNorm2d", self.conv2d[1])
        trains = all(norm_gradients.takes(one, hsi, conv.weight, mix.weight) for one in (norm, mixed_norm))
        if trains and bands.takes(conv, hsi) and mix.in_channels <= MOST_INPUTS:
            x = bands.trainable_bands(hsi, conv).permute(0, 3, 1, 2)
            out: Tensor = normed_products.trainable_product(x, mix, mixed_norm, before=norm)
            return out
        merged = self.conv3d(hsi.unsqueeze(1)).flatten(1, 2)
        # All that follows keeps this memory format, in which a CPU convolves faster.
        out = self.conv2d(merged.contiguous(memory_format=torch.channels_last))
        return out


class MDConv(nn.Module):
    """Multidirectional depthwise convolution: square, horizontal and vertical kernels beside the input, then 1x1.

    Shape: (B, C, Q, Q) -> (B, C, Q, Q).
    """

    def __init__(self, dim: int, kernel_sizes: tuple[int, int, int]) -> None:
        super().__init__()
        square, horizontal, vertical = kernel_sizes
        self.square = nn.Conv2d(dim, dim, square, padding="same", groups=dim, bias=False)
        self.horizontal = nn.Conv2d(dim, dim, (1, horizontal), padding="same", groups=dim, bias=False)
        self.vertical = nn.Conv2d(dim, dim, (vertical, 1), padding="same", groups=dim, bias=False)
        self.mix = conv_bn(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Look in three directions and mix."""
        return self._mixed(x, self.square.weight, self.horizontal.weight, self.vertical.weight)

    def at_all_places(self, x: Tensor) -> Tensor:
        """Convolve an image for patches anywhere in it, whose surroundings are zeros.

        Args:
            x: (B, C, H, W); kernels of 3 taps at most.

        Returns:
            (B, 9 C, H, W): each pixel in the place of a patch's corners, edges and inside, row by row, 3 by 3.
        """
        kernels = self.square.weight, self.horizontal.weight, self.vertical.weight
        places = itertools.product(range(3), range(3))
        return torch.cat([self._mixed(x, *(_cut(w, *place) for w in kernels)) for place in places], dim=1)

    def _mixed(self, x: Tensor, *kernels: Tensor) -> Tensor:
        conv, norm = cast("nn.Conv2d", self.mix[0]), cast("nn.BatchNorm2d", self.mix[1])
        if has_neighbours(x) and norm_gradients.takes(norm, x, conv.weight, *kernels):
            mixed: Tensor = normed_products.trainable_product(x, conv, norm, beside=kernels)
            return mixed
        found = [F.conv2d(x, kernel, padding="same", groups=x.shape[1]) for kernel in kernels]
        mixed = self.mix(torch.cat([x, *found], dim=1))
        return mixed


def _cut(kernel: Tensor, down: int, across: int) -> Tensor:
    """Set to 0 those taps of a kernel (C, 1, h, w) that look out of a patch from its first (0) or last (2) line."""
    kernel = kernel.clone()
    for axis, place in ((2, down), (3, across)):
        if place != 1 and kernel.shape[axis] > 1:
            kernel.select(axis, place).zero_()
    return kernel


class LocalBranch(nn.Module):
    """MS-LFEM, multiscale local features: four branches of `branch_dim` channels, concatenated and mixed.

    The fourth is a channel decomposition, q + delta (q - GELU(W q)). The article's listing (`article=True`) leaves the
    ReLU of the 3x3 branch out and has one delta for all channels.

    Shape: (B, C, Q, Q) -> (B, C, Q, Q), not negative.
    """

    def __init__(self, dim: int, branch_dim: int, side: int, *, article: bool) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.empty(1, dim, side, 1))  # one value a row
        self.stem = conv_bn(dim, dim)
        self.branch0 = conv_bn(dim, branch_dim, 3, act=not article)
        self.branch1 = nn.Sequential(conv_bn(dim, branch_dim, (1, 3)), conv_bn(branch_dim, branch_dim, (3, 1)))
        self.branch2 = nn.Sequential(conv_bn(dim, branch_dim, (3, 1)), conv_bn(branch_dim, branch_dim, (1, 3)))
        self.branch3 = conv_bn(dim, branch_dim)
        self.gate = nn.Conv2d(branch_dim, branch_dim, 1, bias=False)
        self.delta = nn.Parameter(torch.ones(1, 1 if article else branch_dim, 1, 1))
        self.mix = nn.Conv2d(4 * branch_dim, dim, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Run the four branches and mix them."""
        if inference.takes(x, of=self):
            return self._fused(x)
        x = self._placed(x).permute(0, 3, 1, 2)
        shared = self.stem(x)
        pixels = self.branch3(x).permute(0, 2, 3, 1)
        q = _decomposed(q=pixels, w=pointwise(self.gate, pixels), delta=self.delta.view(-1)).permute(0, 3, 1, 2)
        whole = torch.cat([self.branch0(shared), self.branch1(shared), self.branch2(shared), q], dim=1)
        return pointwise(self.mix, whole.permute(0, 2, 3, 1), "relu").permute(0, 3, 1, 2)

    def _placed(self, x: Tensor) -> Tensor:
        """Add the encoding of rows: (B, C, Q, Q) -> (B, Q, Q, C)."""
        pos = self.pos_embed.permute(0, 2, 3, 1).expand(1, *x.shape[2:], -1)
        placed: Tensor = _placed(x=x.permute(0, 2, 3, 1), pos=pos)
        return placed

    def _fused(self, x: Tensor) -> Tensor:
        """Do the same by kernels, pixels with neighbouring channels; for inference."""
        placed = self._placed(x)
        shared, q = (
            linear(placed, *inference.prepared(_per_pixel, *branch.folded()), "relu")
            for branch in (self.stem, self.branch3)
        )
        q = _decomposed(q=q, w=pointwise(self.gate, q), delta=self.delta.view(-1))
        maps = shared.permute(0, 3, 1, 2)
        found = [branch(maps) for branch in (self.branch0, self.branch1, self.branch2)]
        whole = torch.cat([*found, q.permute(0, 3, 1, 2)], dim=1)
        return pointwise(self.mix, whole.permute(0, 2, 3, 1), "relu").permute(0, 3, 1, 2)


def _per_pixel(kernel: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Weight (N, K) and bias of a convolution of size 1."""
    return kernel.flatten(1), shift


class HiddenStateMixer(nn.Module):
    """HSM-GFE, global features: positions are pooled into `d_state` hidden states, mixed there, and read out again.

    [theta, lam, psi] = dw3x3(conv1x1(N)), U = N (softmax(lam) theta)^T, [H, Z] = conv1x1(U),
    Y = conv1x1(H (SiLU(Z) + phi)), output Y psi, with N the normalised input; the softmax runs over positions.

    Shape: (B, C, Q, Q) -> (B, C, Q, Q).
    """

    def __init__(self, dim: int, d_state: int, expand: float, side: int) -> None:
        super().__init__()
        d_inner = round(expand * dim)
        self.pos_embed = nn.Parameter(torch.empty(1, dim, 1, side))  # one value a column
        self.norm = nn.LayerNorm(dim)
        self.in_proj = nn.Conv2d(dim, 3 * d_state, 1)
        self.refine = nn.Conv2d(3 * d_state, 3 * d_state, 3, padding="same", groups=3 * d_state, bias=False)
        self.state_proj = nn.Conv1d(dim, 2 * d_inner, 1)
        self.phi = nn.Parameter(torch.ones(d_inner, 1))
        self.out_proj = nn.Conv1d(d_inner, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Pool positions into states, mix the states, read them out at each position."""
        side, pos = x.shape[2:], self.pos_embed.permute(0, 2, 3, 1).expand(1, *x.shape[2:], -1)
        x = _normed(x=x.permute(0, 2, 3, 1), pos=pos, weight=self.norm.weight, bias=self.norm.bias)  # (B, Q, Q, C)
        refined = depthwise_conv(self.refine, pointwise(self.in_proj, x))
        theta, lam, psi = refined.flatten(1, 2).chunk(3, dim=2)  # (B, L, S) each
        states = product((lam.softmax(1) * theta).mT, x.flatten(1, 2))  # (B, S, C)
        d_inner = len(self.phi)
        hidden, gate = pointwise_parts(self.state_proj, states, (d_inner, ""), (d_inner, "silu"))
        gated = _gated(x=hidden, gate=gate, phi=self.phi.view(-1))  # (B, S, E)
        mixed = pointwise(self.out_proj, gated)  # (B, S, C)
        out: Tensor = product(psi, mixed).mT.unflatten(2, side)  # type: ignore[no-untyped-call]
        return out


class ArticleMixer(nn.Module):
    """The global branch as the article's listing prints it: linear attention without a normaliser.

    The listing multiplies (B, L, C) with (B, L, C) as matrices and cannot run unless C = L. `product="repaired"` uses
    the (C, C) product that the listing computes one statement earlier; `product="verbatim"` is the printed one, for
    checking only. With expand = 2, half of `split_proj` never reaches the output: its gradient is zero.

    Shape: (B, C, P, P) -> (B, C, P, P).
    """

    def __init__(self, dim: int, expand: float, side: int, product: str) -> None:
        super().__init__()
        if product not in ("repaired", "verbatim"):
            raise ValueError(f"product is {product!r}; it is 'repaired' or 'verbatim'")
        if product == "verbatim" and dim != side * side:
            raise ValueError(
                f"product='verbatim' multiplies a channel axis with a position axis and needs dim == patch_size ** 2, "
                f"got dim={dim} and patch_size={side}; use product='repaired'"
            )
        d_inner = round(expand * dim)
        self.product = product
        self.pos_embed = nn.Parameter(torch.empty(1, dim, 1, side))  # one value a column
        self.norm = nn.LayerNorm(dim)
        self.expand_conv = nn.Conv2d(dim, d_inner, 1)
        self.refine = nn.Conv2d(d_inner, d_inner, 3, padding="same", groups=d_inner, bias=False)
        self.split_proj = nn.Conv2d(d_inner, 3 * d_inner, 1)
        self.omega = nn.Parameter(torch.zeros(dim))
        self.state_proj = nn.Linear(dim, 2 * dim)
        self.phi = nn.Parameter(torch.ones(dim))
        self.out_proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Attend linearly and gate at each position."""
        tokens = self.norm((x + self.pos_embed).flatten(2).mT)  # (B, L, C)
        grid = tokens.mT.unflatten(2, x.shape[2:])  # (B, C, P, P)
        thirds = self.split_proj(self.refine(self.expand_conv(grid))).flatten(2).chunk(3, dim=1)
        theta, lam, psi = (third[:, : x.shape[1]] for third in thirds)  # (B, C, L) each
        value = (lam + self.omega[:, None]).softmax(1) * theta  # over channels, as printed
        context = tokens @ (value.mT if self.product == "verbatim" else tokens.mT @ value.mT)  # (B, L, C)
        hidden, gate = self.state_proj(context).chunk(2, dim=-1)  # (B, L, C) each
        mixed = self.out_proj((hidden * F.silu(gate) + hidden * self.phi) * psi.mT)  # (B, L, C)
        out: Tensor = mixed.mT.unflatten(2, x.shape[2:])
        return out


def cross_similarity_fusion(local: Tensor, glob: Tensor) -> Tensor:
    """CSFF: `relu(glob + local * cos(local, glob))`, the cosine taken over channels at each position.

    Shape: (B, C, Q, Q) twice -> (B, C, Q, Q).
    """
    fused: Tensor = _fused(l=local.permute(0, 2, 3, 1), g=glob.permute(0, 2, 3, 1))
    return fused.permute(0, 3, 1, 2)


class MD2FMamba(Classifier):
    """MD2F-Mamba classifier of hyperspectral patches.

    Args:
        in_chans: Bands (PCA components) D of the patch, at least 3 where the 3-D convolution is not padded.
        num_classes: Classes K; 0 leaves the head out.
        patch_size: Side P of the patch; the encodings are tables for this side.
        dim: Working width C.
        variant: "paper" (our reading of the paper) or "article" (the article's listing).
        filters: Number of 3-D filters.
        d_state: Hidden states S of the global branch ("paper" only).
        expand: Inner width of the global branch, as a multiple of `dim`.
        kernel_sizes: Square, horizontal and vertical kernel of the depthwise convolutions, odd.
        product: See `ArticleMixer` ("article" only).
        drop_rate: Dropout before the head.

    Raises:
        ValueError: Sizes that do not go together.
    """

    layer_groups = {"stem": r"^init_extractor", "mix": r"^mdconv", "branches": r"^(?:ms_lfem|hsm_gfe)"}

    def __init__(
        self,
        in_chans: int = 30,
        num_classes: int = 9,
        patch_size: int = 13,
        *,
        dim: int = 64,
        variant: Literal["paper", "article"] = "paper",
        filters: int = 6,
        d_state: int = 16,
        expand: float = 2.5,
        kernel_sizes: tuple[int, int, int] = (3, 3, 3),
        product: str = "repaired",
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__(in_chans, num_classes, patch_size)
        if variant not in ("paper", "article"):
            raise ValueError(f"variant is {variant!r}; it is 'paper' or 'article'")
        article = variant == "article"
        side = patch_size if article else patch_size - 2
        if not article and (min(in_chans, patch_size) < 3 or dim % 4):
            raise ValueError(
                f"the unpadded 3-D convolution needs in_chans >= 3 and patch_size >= 3, and four branches need dim "
                f"divisible by 4; got in_chans={in_chans}, patch_size={patch_size}, dim={dim}"
            )
        if any(kernel % 2 == 0 for kernel in kernel_sizes):
            raise ValueError(f"kernel_sizes must be odd, got {tuple(kernel_sizes)}")
        self.init_extractor = InitialExtractor(in_chans, filters, dim, padding=int(article))
        self.mdconv = MDConv(dim, kernel_sizes)
        self.ms_lfem = LocalBranch(dim, dim if article else dim // 4, side, article=article)
        self.hsm_gfe = (
            ArticleMixer(dim, expand, side, product) if article else HiddenStateMixer(dim, d_state, expand, side)
        )
        self.shared_rim = None if article else 1  # the article's zero padding gives each patch a rim of its own
        if not article and side >= 3 and max(kernel_sizes) <= 3:
            self.shared_places = 9
        self.add_head(dim, drop_rate)
        nn.init.trunc_normal_(self.ms_lfem.pos_embed, std=0.02)
        nn.init.trunc_normal_(self.hsm_gfe.pos_embed, std=0.02)

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that weight decay leaves alone, beside biases and norms."""
        names = {"ms_lfem.pos_embed", "ms_lfem.delta", "hsm_gfe.pos_embed", "hsm_gfe.phi", "hsm_gfe.omega"}
        return names & dict(self.named_parameters()).keys()

    def shared_maps(self, hsi: Tensor, aux: Tensor | None = None) -> tuple[Tensor, ...]:
        """Extract spectral-spatial features, (B, in_chans, P, P) -> (B, dim, Q, Q); Q = P - 2 (article: P)."""
        x = self.init_extractor(hsi)
        return (self.mdconv(x) if self.shared_places > 1 else x,)

    def scene_maps(self, hsi: Tensor, aux: Tensor | None = None) -> tuple[Tensor, ...]:
        """Compute the maps of patches anywhere in an image: see `Classifier.scene_maps`."""
        x = self.init_extractor(hsi)
        return (self.mdconv.at_all_places(x) if self.shared_places > 1 else x,)

    def from_maps(self, *maps: Tensor) -> Tensor:
        """Compute the fused feature map, (B, dim, Q, Q) -> the same."""
        (x,) = maps
        x = x if self.shared_places > 1 else self.mdconv(x)
        return cross_similarity_fusion(self.ms_lfem(x), self.hsm_gfe(x))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool the feature map and classify, (B, dim, Q, Q) -> (B, num_classes), or (B, dim) with `pre_logits`."""
        pooled = x.sum((2, 3)) / math.prod(x.shape[2:])  # the mean, whose gradient is not written out for all pixels
        return super().forward_head(pooled, pre_logits)


@register_model
def md2f_mamba(**kwargs: Any) -> MD2FMamba:
    """MD2F-Mamba as the paper describes it: 92 167 parameters, 8.30 M multiply-adds on a 30 x 13 x 13 patch."""
    return MD2FMamba(**kwargs)


@register_model
def md2f_mamba_ref(**kwargs: Any) -> MD2FMamba:
    """MD2F-Mamba as a third-party article prints it: 222 770 parameters, 39.4 M multiply-adds."""
    return MD2FMamba(**{"variant": "article", "filters": 8, "expand": 2.0, **kwargs})
