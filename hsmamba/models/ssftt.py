"""SSFTT: spectral-spatial features become a few tokens, which a transformer mixes.

Paper: Sun, Zhao, Zheng, Wu, "Spectral-Spatial Feature Tokenization Transformer for Hyperspectral Image Classification",
IEEE TGRS 60 (2022), 1-14, doi 10.1109/TGRS.2022.3144158.

The official program (github zgr6010/HSI_SSFTT, Indian Pines alone) has eight heads, and divides the products of queries
and keys by the root of the whole width instead of a head's. Here there are four heads and the usual division; the
program's network is `ssftt(num_heads=8, scale_by="width")`, and its checkpoints are read so.

Written from the equations; the code is ours.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hsmamba.layers.conv_bn import ConvBN
from hsmamba.layers.linear import Linear
from hsmamba.models._base import Classifier
from hsmamba.models._registry import ModelCfg, register_model

default_cfgs = {
    "ssftt": ModelCfg(
        summary="SSFTT, convolutions, four tokens and a transformer block",
        citation=(
            "Sun, Zhao, Zheng, Wu: Spectral-Spatial Feature Tokenization Transformer for Hyperspectral Image "
            "Classification. IEEE TGRS 60, 1-14 (2022). doi:10.1109/TGRS.2022.3144158"
        ),
        tiny={"in_chans": 8, "patch_size": 7, "dim": 16, "filters": 2},
    )
}
_LARGEST = 99  # side of a patch: one beyond any paper's, for no tensor would show that a file's is absurd


class FeatureExtractor(nn.Module):
    """3-D convolution over (band, row, column), filters and bands merged (filter outermost), 2-D convolution to `dim`.

    Both are 3 wide, without padding, with batch norm and ReLU. Shape: (B, D, P, P) -> (B, dim, P - 4, P - 4).
    """

    def __init__(self, in_chans: int, filters: int, dim: int) -> None:
        super().__init__()
        self.conv3d = ConvBN(nn.Conv3d(1, filters, 3))
        self.conv2d = ConvBN(nn.Conv2d(filters * (in_chans - 2), dim, 3))

    def forward(self, hsi: Tensor) -> Tensor:
        """Extract spectral-spatial features."""
        x: Tensor = self.conv2d(self.conv3d(hsi.unsqueeze(1)).flatten(1, 2))
        return x


class GaussianTokenizer(nn.Module):
    """T = softmax(W_a X^T) X W_v: each token is a mean of the positions, by its own weights; both W begin Gaussian.

    Shape: positions (B, L, C) -> tokens (B, T, C).
    """

    def __init__(self, dim: int, num_tokens: int) -> None:
        super().__init__()
        # The official deviations, which are those of Xavier's rule for the program's arrays of three axes.
        self.assign = nn.Parameter(torch.randn(num_tokens, dim) * (2 / ((num_tokens + 1) * dim)) ** 0.5)
        self.value = nn.Parameter(torch.randn(dim, dim) * (2 / ((dim + 1) * dim)) ** 0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Mix positions into tokens."""
        return (self.assign @ x.mT).softmax(-1) @ (x @ self.value)


class Attention(nn.Module):
    """Multi-head self-attention. Shape: (B, N, C) -> the same."""

    def __init__(self, dim: int, num_heads: int, scale_by: str, drop: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.scale = (dim if scale_by == "width" else dim // num_heads) ** -0.5
        self.qkv = Linear(dim, 3 * dim)
        self.proj = Linear(dim, dim)
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        """Attend."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)  # (B, heads, N, C / heads)
        x = ((q * self.scale) @ k.mT).softmax(-1) @ v
        x = self.drop(self.proj(x.transpose(1, 2).flatten(2)))
        return x


class Block(nn.Module):
    """Encoder block: attention, then two linear layers with GELU, each behind a layer norm and added to its input.

    Shape: (B, N, C) -> the same.
    """

    def __init__(self, dim: int, num_heads: int, mlp_dim: int, scale_by: str, drop: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = Attention(dim, num_heads, scale_by, drop)
        self.norm2 = nn.LayerNorm(dim)
        self.fc1 = Linear(dim, mlp_dim)
        self.fc2 = Linear(mlp_dim, dim)
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        """Encode."""
        x = x + self.attn(self.norm1(x))
        x = x + self.drop(self.fc2(self.drop(F.gelu(self.fc1(self.norm2(x))))))
        return x


class SSFTT(Classifier):
    """SSFTT classifier of hyperspectral patches.

    Args:
        in_chans: Bands (PCA components) D of the patch, at least 3.
        num_classes: Classes K; 0 leaves the head out.
        patch_size: Side P of the patch, 5 to 99. No tensor depends on it.
        dim: Width C of features and tokens.
        filters: Number of 3-D filters.
        num_tokens: Tokens, beside the class token.
        depth: Encoder blocks.
        num_heads: Attention heads, a divisor of `dim`.
        mlp_dim: Inner width of the blocks' linear layers.
        scale_by: "head" divides the products of queries and keys by the root of a head's width, "width" by that of
            `dim`, as the official program does.
        proj_drop_rate: Dropout of tokens, attention and linear layers.
        drop_rate: Dropout before the head.

    Raises:
        ValueError: Sizes that do not go together.
    """

    layer_groups = {"stem": r"^extractor", "tokens": r"^(?:tokenizer|cls_token|pos_embed)", "blocks": r"^blocks\.(\d+)"}

    def __init__(
        self,
        in_chans: int = 30,
        num_classes: int = 16,
        patch_size: int = 13,
        *,
        dim: int = 64,
        filters: int = 8,
        num_tokens: int = 4,
        depth: int = 1,
        num_heads: int = 4,
        mlp_dim: int = 8,
        scale_by: Literal["head", "width"] = "head",
        proj_drop_rate: float = 0.1,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__(in_chans, num_classes, patch_size)
        if in_chans < 3 or not 5 <= patch_size <= _LARGEST:
            raise ValueError(
                f"the convolutions are not padded and need in_chans >= 3 and patch_size >= 5, and patches end at "
                f"{_LARGEST}; got in_chans={in_chans}, patch_size={patch_size}"
            )
        if min(num_heads, num_tokens, depth) < 1 or dim % num_heads:
            raise ValueError(
                f"num_heads must divide dim, num_tokens and depth be at least 1; got dim={dim}, "
                f"num_heads={num_heads}, num_tokens={num_tokens}, depth={depth}"
            )
        if scale_by not in ("head", "width"):
            raise ValueError(f"scale_by is {scale_by!r}; it is 'head' or 'width'")
        self.extractor = FeatureExtractor(in_chans, filters, dim)
        self.tokenizer = GaussianTokenizer(dim, num_tokens)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.randn(1, num_tokens + 1, dim) * 0.02)
        self.pos_drop = nn.Dropout(proj_drop_rate)
        self.blocks = nn.Sequential(*(Block(dim, num_heads, mlp_dim, scale_by, proj_drop_rate) for _ in range(depth)))
        self.shared_rim = 2
        self.add_head(dim, drop_rate)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that weight decay leaves alone, beside biases and norms."""
        return {"cls_token", "pos_embed"}

    def shared_maps(self, hsi: Tensor, aux: Tensor | None = None) -> tuple[Tensor, ...]:
        """Extract spectral-spatial features, (B, in_chans, P, P) -> (B, dim, P - 4, P - 4)."""
        return (self.extractor(hsi),)

    def from_maps(self, *maps: Tensor) -> Tensor:
        """Compute the encoded class token, (B, dim, P - 4, P - 4) -> (B, dim)."""
        tokens = self.tokenizer(maps[0].flatten(2).mT)
        x = torch.cat([self.cls_token.expand(tokens.shape[0], -1, -1), tokens], dim=1) + self.pos_embed
        encoded: Tensor = self.blocks(self.pos_drop(x))[:, 0]
        return encoded


@register_model
def ssftt(**kwargs: Any) -> SSFTT:
    """SSFTT as the paper has it: 153 224 parameters with 16 classes."""
    return SSFTT(**kwargs)
