"""RAMSF: a generic framework for optical remote-sensing multimodal spatial-spectral fusion.

Paper: Liu, Zhang, Wang, "RAMSF, a generic framework for optical remote-sensing multimodal spatial-spectral fusion",
IEEE TGRS 63 (2025), 1-22, doi 10.1109/TGRS.2025.3552937.

Loads the official checkpoints (RSMIF project, Apache-2.0) and computes what they compute, for any image size. The
release has ratio 4, two alignment stages; one stage for each doubling is the rule of the paper's figure.

Written from the equations; the code is ours.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hsmamba.layers.fusion import Place, ResidualBlock, pad_sides
from hsmamba.layers.wavelet import haar, inverse_haar
from hsmamba.models._base import FusionNetwork
from hsmamba.models._registry import ModelCfg, register_model
from hsmamba.ops import inference
from hsmamba.ops.align import align
from hsmamba.ops.linear_gradients import trainable_linear

_CITATION = (
    "Liu, Zhang, Wang: RAMSF, a generic framework for optical remote-sensing multimodal spatial-spectral fusion. "
    "IEEE TGRS 63, 1-22 (2025). doi:10.1109/TGRS.2025.3552937"
)


default_cfgs = {
    "ramsf": ModelCfg(
        task="fusion",
        summary="RAMSF, detail by wavelets and spectra aligned with it",
        citation=_CITATION,
        default_tag="worldview2",
        tiny={"dim": 8, "align_dim": 4, "mlp_dims": (8, 8)},
    )
}
_REACH = 17  # guide pixels: stem 1, block 2; half as fine: six convolutions, 12, and 1 of the pairs; encoder 1
_TILE_PIXELS = 2048  # pixels of a row tile: hidden layers of that many stay in a CPU's cache
_MIN_IMAGES = 16  # rows of a tile at least: torch gives 1x1 convolutions of so many images to oneDNN on one thread, too


class Encoder(nn.Sequential):
    """3x3 convolution and PReLU, to channels last in memory: so CPUs convolve fastest from here on."""

    def __init__(self, in_chans: int, dim: int) -> None:
        super().__init__(nn.Conv2d(in_chans, dim, 3, padding=1), nn.PReLU())

    def forward(self, x: Tensor) -> Tensor:
        """Encode, (B, in_chans, H, W) -> (B, dim, H, W)."""
        out: Tensor = self[1](self[0](x.contiguous(memory_format=torch.channels_last)))
        return out.contiguous(memory_format=torch.channels_last)


class DetailReconstruction(nn.Module):
    """LHSDR: details of both images are added in the Haar domain, refined, and joined to the guide's low band.

    Shape: (B, guide_chans, H, W) and (B, in_chans, H, W) -> (B, dim / 4, H, W).
    """

    def __init__(self, in_chans: int, guide_chans: int, dim: int) -> None:
        super().__init__()
        block = partial(ResidualBlock, partial(nn.Conv2d, dim, dim, 3, padding=1), F.leaky_relu)
        self.guide_stem, self.guide_block = Encoder(guide_chans, dim), block()
        self.ms_stem, self.ms_block = Encoder(in_chans, dim), block()
        self.hl_block, self.lh_block, self.hh_block = block(), block(), block()
        self.mix_block, self.high_block = block(), block()

    def forward(self, guide: Tensor, ms_up: Tensor) -> Tensor:
        """Reconstruct the detail."""
        bands = haar(self.guide_block(self.guide_stem(guide)))
        # The low band of the coarse image is not used.
        details = (a + b for a, b in zip(bands[1:], haar(self.ms_block(self.ms_stem(ms_up)))[1:], strict=True))
        hl, lh, hh = (f(x) for f, x in zip((self.hl_block, self.lh_block, self.hh_block), details, strict=True))
        high = self.high_block(self.mix_block(hl + lh) + hh)
        # The release inverts a learned tensor, cut into four groups of channels, not the sub-bands themselves.
        return inverse_haar(*(high + bands[0]).chunk(4, dim=1))


class Align(nn.Module):
    """One stage of CSFPA: a local implicit function doubles the resolution, guided by the sharp features.

    A perceptron looks from each fine pixel at its four nearest coarse ones: o = MLP(coarse, guide, relative position);
    the last entry of o is the logit of a softmax over the four, the others are what it averages. A neighbour beyond
    the border has zero features and the position (0, 0).

    The first layer is linear in coarse features, guide and position. Its coarse part is computed once a coarse pixel
    (zero beyond the border, as a neighbour there has it), its guide part once a fine pixel, and added. Fine pixels go
    by their parity, for then each of the four neighbours is a shift of the coarse grid and nothing is gathered.

    Shape: (B, C, h, w) and (B, D, 2 h, 2 w) -> (B, out_chans, 2 h, 2 w).
    """

    def __init__(self, in_chans: int, guide_chans: int, out_chans: int, mlp_dims: tuple[int, ...]) -> None:
        super().__init__()
        self.in_chans = in_chans
        self.first = nn.Conv2d(in_chans + guide_chans + 2, mlp_dims[0], 1)
        self.rest = nn.Sequential()
        for a, b in itertools.pairwise((*mlp_dims, out_chans + 1)):
            self.rest.extend([nn.ReLU(inplace=True), nn.Conv2d(a, b, 1)])
        self.grad_checkpointing = False
        self.place: Place | None = None  # in coarse pixels

    def forward(self, x: Tensor, guide: Tensor) -> Tensor:
        """Double the resolution."""
        height, width = x.shape[2:]
        of_coarse, _, of_row, of_column = self._first_layer()
        y, x_axis = _positions(of_row, 0, height, height, 1), _positions(of_column, 0, width, width, 1)
        # Channels last from here on: what a pixel's layers read lies together.
        if inference.trains(x, of_coarse):
            coarse = trainable_linear(x.permute(0, 2, 3, 1), of_coarse.flatten(1))
        else:
            coarse = F.conv2d(x, of_coarse).permute(0, 2, 3, 1)
        coarse = coarse - y[:, None] - x_axis
        around = (0, 0, 1, 1, 1, 1)
        if self.place is None:
            coarse = F.pad(coarse, around)  # (B, h + 2, w + 2, M)
        else:
            beyond = self._beyond(self.place, height, width)
            coarse = F.pad(coarse - beyond, around) + beyond
        guide = guide.permute(0, 2, 3, 1)
        rows = max(_MIN_IMAGES, _TILE_PIXELS // width)
        tiles = []
        for row in range(0, height, rows):
            end = min(row + rows, height)
            args = coarse[:, row : end + 2], guide[:, 2 * row : 2 * end], row, (height, width)
            if self.grad_checkpointing and torch.is_grad_enabled():
                tiles.append(checkpoint(self._align_rows, *args, use_reentrant=False))
            else:
                tiles.append(self._align_rows(*args))
        return torch.cat(tiles, dim=1).permute(0, 3, 1, 2)

    def _beyond(self, place: Place, height: int, width: int) -> Tensor:
        """First layer of what lies beyond the border: the image's centre, seen from the centre of this tile of it."""
        _, _, of_row, of_column = self._first_layer()
        top, left, rows, columns = place
        return of_row * (2 * top + height - rows) + of_column * (2 * left + width - columns)

    def _first_layer(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weights (M, C, 1, 1) of the coarse features, (M, D, 1, 1) of the guide, (M,) of the row and of the column."""
        weight = self.first.weight
        return weight[:, : self.in_chans], weight[:, self.in_chans : -2], weight[:, -2, 0, 0], weight[:, -1, 0, 0]

    def _align_rows(self, coarse: Tensor, guide: Tensor, row: int, size: tuple[int, int]) -> Tensor:
        """Align fine rows from 2 * row on: coarse (B, R + 2, w + 2, M), guide (B, 2 R, 2 w, D) -> (B, 2 R, 2 w, O)."""
        if inference.trains(coarse, guide, *self.parameters()):
            return self._align_all(coarse, guide, row, size)
        _, of_guide, of_row, of_column = self._first_layer()
        batch, rows, (height, width) = guide.shape[0], guide.shape[1] // 2, size
        y, x = _positions(of_row, row, rows, height, 2), _positions(of_column, 0, width, width, 2)
        fine = F.conv2d(_rows_as_images(guide), of_guide, self.first.bias)
        fine = fine.squeeze(2).mT.reshape(batch, 2 * rows, 2 * width, -1) + y[:, None] + x
        activation, *layers = self.rest
        out = []
        for i in (0, 1):
            for j in (0, 1):
                here = fine[:, i::2, j::2]
                answers = []
                for a in (i, i + 1):
                    for b in (j, j + 1):
                        hidden = (here + coarse[:, a : a + rows, b : b + width]).to(guide.dtype)
                        z = _rows_as_images(activation(hidden))
                        for layer in layers:
                            z = layer(z)
                        answers.append(z.squeeze(2))  # (B R, O + 1, w)
                o = torch.stack(answers)
                out.append((o[:, :, -1:].softmax(0) * o[:, :, :-1]).sum(0))
        fine = torch.stack(out).view(2, 2, batch * rows, -1, width).permute(2, 0, 4, 1, 3)  # (B R, 2, w, 2, O)
        return fine.reshape(batch, 2 * rows, 2 * width, -1)

    def _align_all(self, coarse: Tensor, guide: Tensor, row: int, size: tuple[int, int]) -> Tensor:
        """Do the same by one product a layer, for all neighbours of all pixels: for training."""
        (batch, rows, width, _), weight = guide.shape, self.first.weight.flatten(1)
        y, x = (
            _positions(weight.new_ones(1), *place, 2) for place in ((row, rows // 2, size[0]), (0, size[1], size[1]))
        )
        where = torch.cat([y[:, None].expand(-1, width, -1), x.expand(rows, -1, -1)], dim=2)
        seen = torch.cat([guide, where.expand(batch, -1, -1, -1)], dim=3)
        fine = trainable_linear(seen, weight[:, self.in_chans :], self.first.bias)
        convs = (cast(nn.Conv2d, layer) for layer in self.rest[1::2])
        return align(fine, coarse, [(conv.weight.flatten(1), cast(Tensor, conv.bias)) for conv in convs])


def _rows_as_images(x: Tensor) -> Tensor:
    """(B, H, W, C) as B H images of one row, (B H, C, 1, W), channels last; no copy where x is contiguous."""
    return x.flatten(0, 1).mT.unsqueeze(2)


def _positions(weight: Tensor, first: int, count: int, side: int, zoom: int) -> Tensor:
    """First layer of the position along one axis: twice the distance from the image's centre in coarse pixels.

    Args:
        weight: (M,).
        first: First coarse pixel.
        count: Number of coarse pixels.
        side: Coarse pixels of the image along this axis.
        zoom: Pixels for each coarse one, 1 or 2.

    Returns:
        (zoom count, M), float32 at least: half precision does not resolve positions.
    """
    compute = torch.promote_types(weight.dtype, torch.float32)
    index = torch.arange(zoom * first, zoom * (first + count), dtype=compute, device=weight.device)
    return ((2 * index + 1) / zoom - side)[:, None] * weight.to(compute)


class RAMSF(FusionNetwork):
    """RAMSF: detail by wavelets, spectra aligned with it step by step; the up-sampled image plus what that finds.

    Args:
        in_chans: Bands of the coarse image.
        guide_chans: Channels of the guide: 1 for PAN, 3 for RGB, 2 for VV and VH.
        scale: Ratio between the grids, a power of two.
        dim: Feature channels, a multiple of 4.
        align_dim: Output width of every alignment stage but the last, its logit included.
        mlp_dims: Hidden widths of the alignment's perceptrons.

    Raises:
        ValueError: Sizes that do not go together.
    """

    layer_groups = {"detail": r"^detail", "encoders": r"^(?:spatial|spectral)_encoder", "align": r"^align\.(\d+)"}

    def __init__(
        self,
        in_chans: int = 8,
        guide_chans: int = 1,
        scale: int = 4,
        *,
        dim: int = 64,
        align_dim: int = 33,
        mlp_dims: tuple[int, ...] = (256, 128),
    ) -> None:
        super().__init__(in_chans, guide_chans, scale)
        if scale < 2 or scale & (scale - 1):
            raise ValueError(f"RAMSF doubles the size stage by stage: scale must be 2, 4, 8, ..., got {scale}")
        if dim % 4 or align_dim < 2 or not mlp_dims:
            raise ValueError(
                f"dim must be a multiple of 4, align_dim at least 2 and mlp_dims not empty; got dim={dim}, "
                f"align_dim={align_dim}, mlp_dims={tuple(mlp_dims)}"
            )
        self.detail = DetailReconstruction(in_chans, guide_chans, dim)
        self.spatial_encoder = Encoder(dim // 4, dim)
        self.spectral_encoder = Encoder(in_chans, dim)
        # Each stage looks one pixel of its coarse grid further: guides of the first stage by scale - 2, and within a
        # pooled block; coarse pixels by 2 in all, and by 1 for their encoder.
        self.margin = max(3, -(-(_REACH + scale - 2 + scale // 2 - 1) // scale))
        stages = scale.bit_length() - 1
        dims = (dim, *[align_dim - 1] * (stages - 1), in_chans)
        self.align = nn.ModuleList(Align(a, dim, b, tuple(mlp_dims)) for a, b in itertools.pairwise(dims))
        for name, parameter in self.align[-1].named_parameters():
            if name.startswith(
                f"rest.{2 * len(mlp_dims) - 1}."
            ):  # small: at first the result is near the up-sampled image
                parameter.data.mul_(0.1)

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that weight decay leaves alone, beside biases: the slopes of the PReLUs."""
        slopes = (name for name, module in self.named_modules() if isinstance(module, nn.PReLU))
        return {f"{name}.weight" for name in slopes}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute the perceptrons again in the backward pass instead of keeping their hidden layers."""
        for module in self.modules():
            if isinstance(module, Align):
                module.grad_checkpointing = enable

    def set_place(self, place: Place | None) -> None:
        """Take the images that follow as tiles of a larger one: what lies beyond its border has a position in it.

        Args:
            place: Where the tile lies, `top` and `left` multiples of the scale; None ends it.
        """
        for i, stage in enumerate(self.align):
            if isinstance(stage, Align):
                stage.place = None if place is None else Place(*(-(-x // self.scale) << i for x in place))

    def sharpen(self, ms: Tensor | None, guide: Tensor, ms_up: Tensor) -> Tensor:
        """See `FusionNetwork.forward`; without `ms` (an image that lies on the guide's grid) block means are taken."""
        height, width = guide.shape[2:]
        guide, ms_up = pad_sides(guide, self.scale), pad_sides(ms_up, self.scale)
        if ms is None:
            ms = F.avg_pool2d(ms_up, self.scale)
        spatial = self.spatial_encoder(self.detail(guide, ms_up))
        x = self.spectral_encoder(ms)
        for i, stage in enumerate(self.align, 1):
            shrink = self.scale >> i
            x = stage(x, F.max_pool2d(spatial, shrink) if shrink > 1 else spatial)
        sharp: Tensor = (ms_up + x)[..., :height, :width]
        return sharp


@register_model
def ramsf(**kwargs: Any) -> RAMSF:
    """RAMSF of the release: 8 bands, PAN, ratio 4; 666 350 parameters."""
    return RAMSF(**kwargs)
