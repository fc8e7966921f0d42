"""MiM, Mamba-in-Mamba: centralised cross scans in a tokenised Mamba for hyperspectral patches.

Paper: Zhou, Kamata, Wang, Wong, Hou, "Mamba-in-Mamba: Centralized Mamba-Cross-Scan in Tokenized Mamba Model for
Hyperspectral Image Classification", Neurocomputing 613 (2025) 128751, arXiv 2405.12003.

The official repository (zhouweilian1904/Mamba-in-Mamba) holds three versions, none of which is what the paper draws.
Its code was not copied: `mim_v1`, `mim_v2` (= `mim`) and `mim_v3` are written from a description and agree with the
released ones to rounding. `mim_paper` follows the paper: half sequences that meet at the centre pixel, masks that work,
a prediction at every scale. The masks of v1 and v2 are nearly flat, so that their scans hardly reach the logits:
docs/models/mim.md has the figures.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hsmamba.layers.linear import Linear
from hsmamba.layers.ssm import no_weight_decay_names
from hsmamba.models._base import Classifier, TrainingLogits
from hsmamba.models._registry import ModelCfg, register_model
from hsmamba.models.mim_blocks import (
    SCANS,
    MixerPaper,
    MixerV1,
    MixerV2,
    Residual,
    VimV3,
    four_scans,
    scanned,
    token_embedding,
)
from hsmamba.ops import inference

_CITATION = (
    "Zhou, Kamata, Wang, Wong, Hou: Mamba-in-Mamba: Centralized Mamba-Cross-Scan in Tokenized Mamba Model for "
    "Hyperspectral Image Classification. Neurocomputing 613, 128751 (2025). arXiv:2405.12003"
)
_DEFAULT_TAGS = {"mim": "indian_pines", "mim_v3": "indian_pines"}
default_cfgs = {
    name: ModelCfg(
        summary=summary,
        citation=_CITATION,
        default_tag=_DEFAULT_TAGS.get(name),
        tiny={"in_chans": 12, "patch_size": 5, "dim": 16},
    )
    for name, summary in {
        "mim": "Mamba-in-Mamba, four stages: the released version closest to the paper (mim_v2)",
        "mim_v1": "Mamba-in-Mamba as released, version 1: one stage",
        "mim_v2": "Mamba-in-Mamba as released, version 2: four stages",
        "mim_v3": "Mamba-in-Mamba as released, version 3: one vision Mamba block, light",
        "mim_paper": "Mamba-in-Mamba as the paper draws it: scans to the centre pixel, multi-scale loss",
    }.items()
}


class MiM(Classifier):
    """What the versions of MiM share: four scans, their weighted fusion (WMF), the head.

    A version implements `forward_features(hsi) -> (B, dim)`.

    Args:
        in_chans: Bands (PCA components) C of the patch.
        num_classes: Classes K; 0 leaves the head out. The official networks count the background as a class.
        patch_size: Side S of the patch.
        dim: Width D.
        drop_rate: Dropout in the network and before the head.
    """

    layer_groups = {
        "stem": r"^(?:stem|embed|pos_embed|depthwise|pointwise)",
        "blocks": [(r"^(?:blocks|stages)\.(\d+)", None), (r"^vim", (0,))],
        "features": r"^(?:norm|k_weights|fc)\b",
    }
    variant: str  # of the official configuration; "paper" where there is none

    def __init__(self, in_chans: int, num_classes: int, patch_size: int, dim: int, drop_rate: float) -> None:
        super().__init__(in_chans, num_classes, patch_size)
        if patch_size < 2:
            raise ValueError(f"patch_size is {patch_size}; MiM scans towards a centre and needs at least 2")
        self.k_weights = nn.Parameter(torch.full((SCANS,), 1 / SCANS))
        self.fc = Linear(dim, dim)
        self.add_head(dim, drop_rate)

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that weight decay leaves alone, beside biases and norms."""
        return no_weight_decay_names(self, "pos_embed", "k_weights", "conv_bias")

    def fits(self, shape: torch.Size) -> bool:
        """Whether patches of this shape are what the network takes: any height and width with the right product."""
        pixels = (self.patch_size or 0) ** 2
        return len(shape) == 4 and (shape[1], shape[2] * shape[3]) == (self.in_chans, pixels)

    def scan(self, embed: nn.Module, maps: Tensor) -> Tensor:
        """Read maps by the four scans and embed the tokens: (B, C, H, W) -> (4 B, H W, D)."""
        if not inference.takes(maps, of=embed):
            return cast(Tensor, embed(four_scans(maps)))
        return scanned(embed(maps.flatten(2).mT), *maps.shape[2:])  # each pixel once

    def fuse(self, tokens: Tensor) -> Tensor:
        """WMF: the mean token of each scan, weighted by softmax(k_weights): (4 B, T, D) -> (B, D)."""
        scans = tokens.mean(1).reshape(SCANS, -1, self.num_features)
        return (self.k_weights.softmax(0)[:, None, None] * scans).sum(0)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Classify features: (B, dim) -> (B, num_classes), or (B, dim) with `pre_logits`."""
        return super().forward_head(self.fc(x).tanh(), pre_logits)


class MiMv1(MiM):
    """Version 1: tokens of the four scans, `depth` times a chain of `depth` Mamba blocks that leave 49 tokens.

    Args:
        dim: Width D; the scans are 2 D wide.
        depth: Blocks in the chain, and passes through it.
        embed: Embed the bands; without it they must be `dim`.

    Raises:
        ValueError: Sizes that do not go together.
    """

    variant = "1"
    TOKENS = 49

    def __init__(
        self,
        in_chans: int = 60,
        num_classes: int = 16,
        patch_size: int = 7,
        *,
        dim: int = 64,
        depth: int = 1,
        drop_rate: float = 0.1,
        embed: bool = True,
    ) -> None:
        super().__init__(in_chans, num_classes, patch_size, dim, drop_rate)
        if not embed and in_chans != dim:
            raise ValueError(f"without an embedding in_chans must be dim; got in_chans={in_chans} and dim={dim}")
        self.embed = token_embedding(in_chans, dim) if embed else nn.Identity()
        self.pos_embed = nn.Parameter(torch.randn(1, patch_size**2, dim))
        self.blocks = nn.ModuleList(
            Residual(dim, self.TOKENS, MixerV1(dim, self.TOKENS, drop_rate)) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim)

    def forward_features(self, hsi: Tensor, aux: Tensor | None = None) -> Tensor:
        """Compute the fused features, (B, in_chans, S, S) -> (B, dim)."""
        self.check_inputs(hsi, aux)
        x = self.scan(self.embed, hsi) + self.pos_embed  # (4 B, S S, D)
        for _ in self.blocks:
            for block in self.blocks:
                x = block(x)  # (4 B, 49, D)
        return self.fuse(self.norm(x).tanh())


class MiMv2(MiM):
    """Version 2: four stages, S^2 -> S^2 -> 25 -> 9 -> 1 tokens, whose fused features are summed.

    Args:
        dim: Width D.
        re_embed: Embed the tokens anew in every stage. The released code does so where the number of bands happens to
            be `dim`.

    Raises:
        ValueError: Sizes that do not go together.
    """

    variant = "2"

    def __init__(
        self,
        in_chans: int = 60,
        num_classes: int = 16,
        patch_size: int = 7,
        *,
        dim: int = 128,
        drop_rate: float = 0.0,
        re_embed: bool = False,
    ) -> None:
        super().__init__(in_chans, num_classes, patch_size, dim, drop_rate)
        lengths = (patch_size**2, patch_size**2, 25, 9, 1)
        self.embed = Linear(in_chans, dim)
        self.stages = nn.ModuleList(
            Residual(dim, tokens, MixerV2(dim, length, tokens, drop_rate, re_embed=re_embed))
            for length, tokens in pairwise(lengths)
        )

    def forward_features(self, hsi: Tensor, aux: Tensor | None = None) -> Tensor:
        """Compute the sum of the stages' fused features, (B, in_chans, S, S) -> (B, dim)."""
        self.check_inputs(hsi, aux)
        x = self.scan(self.embed, hsi)  # (4 B, S S, D)
        features = hsi.new_zeros(())
        for stage in self.stages:
            x = stage(x)
            features = features + self.fuse(x)
        return features


class MiMv3(MiM):
    """Version 3: a stem on cells of the patch, and one vision Mamba block that is applied `depth` times.

    Args:
        dim: Width D; also the number of states and the rank of the scans.
        depth: Passes through the block.
        cell_size: Side p of the cells that become tokens; larger ones need `in_chans` = `dim`.

    Raises:
        ValueError: Sizes that do not go together.
    """

    variant = "3"

    def __init__(
        self,
        in_chans: int = 60,
        num_classes: int = 16,
        patch_size: int = 7,
        *,
        dim: int = 64,
        depth: int = 2,
        drop_rate: float = 0.0,
        cell_size: int = 1,
    ) -> None:
        super().__init__(in_chans, num_classes, patch_size, dim, drop_rate)
        if patch_size % cell_size or (cell_size > 1 and in_chans != dim):
            raise ValueError(
                f"cell_size must divide patch_size, and cells of more than a pixel need in_chans = dim; got "
                f"cell_size={cell_size}, patch_size={patch_size}, in_chans={in_chans}, dim={dim}"
            )
        self.depth, self.cell_size = depth, cell_size
        self.stem = token_embedding(in_chans * cell_size**2, in_chans)
        self.embed = token_embedding(in_chans, dim) if cell_size == 1 else nn.Identity()
        self.pos_embed = nn.Parameter(torch.randn(1, (patch_size // cell_size) ** 2, dim))
        self.drop = nn.Dropout(drop_rate)
        self.vim = VimV3(dim)
        self.norm = nn.LayerNorm(dim)

    def forward_features(self, hsi: Tensor, aux: Tensor | None = None) -> Tensor:
        """Compute the fused features, (B, in_chans, S, S) -> (B, dim)."""
        self.check_inputs(hsi, aux)
        p = self.cell_size
        b, chans, height, width = hsi.shape
        if height % p or width % p:
            raise ValueError(f"hsi is {tuple(hsi.shape)}; height and width must be divisible by {p}, the cells' side")
        cells = hsi.reshape(b, chans, height // p, p, width // p, p).permute(0, 2, 4, 3, 5, 1).flatten(3)
        grid = self.stem(cells).permute(0, 3, 1, 2)  # (B, C, H / p, W / p)
        x = self.drop(self.scan(self.embed, grid) + self.pos_embed)  # (4 B, L, D)
        if inference.takes(x, of=self.vim):
            return self.fuse(self.norm(self.vim.repeated(x, self.depth)).tanh())
        for _ in range(self.depth):
            x = self.vim(x)
        return self.fuse(self.norm(x).tanh())


class MultiScaleLogits(NamedTuple):
    """What `MiMPaper` gives in training."""

    logits: Tensor  # (B, K), the mean of the stages' logits, which is what evaluation gives
    stage_logits: Tensor  # (B, n, K), one prediction for each stage

    def loss(self, target: Tensor, **kwargs: Any) -> Tensor:
        """Multi-scale loss of the paper: the mean over the stages of the cross entropy of their predictions.

        Args:
            target: Classes (B,), int64, or probabilities (B, K).
            **kwargs: Of `torch.nn.functional.cross_entropy`: weight, label_smoothing, ...

        Returns:
            Scalar, computed in float32 or wider.
        """
        stages = self.stage_logits.movedim(1, -1)  # (B, K, n)
        stages = stages.to(torch.promote_types(stages.dtype, torch.float32))
        return F.cross_entropy(stages, target.unsqueeze(-1).expand(*target.shape, stages.shape[-1]), **kwargs)


class MiMPaper(MiM):
    """MiM as the paper describes it, for training anew: no official weights exist.

    A depthwise convolution with a skip and a pointwise convolution; four snakes; stages that take a token grid of side
    s to s - 2 down to one token, each with scans of both halves towards the centre (`MixerPaper`); WMF with ReLU; every
    stage's features are classified by the same head. Where the description leaves a choice ours is: widths and states
    as in v1, no position embedding, the mean of the stages' logits as the prediction.

    Args:
        patch_size: Side S of the patch, odd, at least 3; there are (S - 1) / 2 stages.
        dim: Width D; the scans are 2 D wide.

    Shape:
        hsi: (B, in_chans, S, S), float. Output: logits (B, num_classes); in training `MultiScaleLogits`.

    Raises:
        ValueError: Sizes that do not go together.
    """

    variant = "paper"

    def __init__(
        self,
        in_chans: int = 60,
        num_classes: int = 16,
        patch_size: int = 7,
        *,
        dim: int = 64,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__(in_chans, num_classes, patch_size, dim, drop_rate)
        if patch_size % 2 == 0:
            nearest = f"are {patch_size - 1} and {patch_size + 1}" if patch_size > 2 else "is 3"
            raise ValueError(f"patch_size is {patch_size}, and a centre pixel needs an odd one: the nearest {nearest}")
        self.depthwise = nn.Conv2d(in_chans, in_chans, 3, padding=1, groups=in_chans)
        self.pointwise = nn.Conv2d(in_chans, dim, 1)
        tokens = [side**2 for side in range(patch_size - 2, 0, -2)]
        self.stages = nn.ModuleList(Residual(dim, t, MixerPaper(dim, t, drop_rate)) for t in tokens)

    def forward_features(self, hsi: Tensor, aux: Tensor | None = None) -> Tensor:
        """Compute the fused features of each of the n stages, (B, in_chans, S, S) -> (B, n, dim)."""
        self.check_inputs(hsi, aux)
        x = four_scans(self.pointwise(hsi + self.depthwise(hsi)))  # (4 B, S S, D)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(self.fuse(x.relu()))
        return torch.stack(features, dim=1)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Classify features: (B, n, dim) -> (B, num_classes), or (B, dim) with `pre_logits`."""
        x = super().forward_head(x, pre_logits=True).mean(1)
        return x if pre_logits else self.head(x)

    def forward(self, hsi: Tensor, aux: Tensor | None = None) -> Tensor | TrainingLogits:
        """Classify patches; see `Classifier.forward`. In training the prediction of every stage comes along."""
        if not self.training:
            return super().forward(hsi, aux)
        stage_logits = self.head(super().forward_head(self.forward_features(hsi), pre_logits=True))
        return MultiScaleLogits(stage_logits.mean(1), stage_logits)


@register_model
def mim(**kwargs: Any) -> MiMv2:
    """MiM: version 2, the released one that is closest to the paper."""
    return MiMv2(**kwargs)


@register_model
def mim_v1(**kwargs: Any) -> MiMv1:
    """MiM as released, version 1: one stage of 49 tokens."""
    return MiMv1(**kwargs)


@register_model
def mim_v2(**kwargs: Any) -> MiMv2:
    """MiM as released, version 2: four stages down to one token."""
    return MiMv2(**kwargs)


@register_model
def mim_v3(**kwargs: Any) -> MiMv3:
    """MiM as released, version 3: light, one vision Mamba block twice."""
    return MiMv3(**kwargs)


@register_model
def mim_paper(**kwargs: Any) -> MiMPaper:
    """MiM as the paper describes it: scans towards the centre pixel, working masks, multi-scale loss."""
    return MiMPaper(**kwargs)
