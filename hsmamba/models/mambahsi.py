"""MambaHSI: scans over all pixels of an image and over the channels of each, from a whole image to its class map.

Paper: Li, Luo, Zhang, Wang, Du, "MambaHSI: Spatial-Spectral Mamba for Hyperspectral Image Classification", IEEE TGRS 62
(2024), 1-16, doi 10.1109/TGRS.2024.3430985, arXiv 2501.04944.

What it is, by the paper and by the settings of its program:

- Embedding: a 1x1 convolution to `dim` channels, group norm, SiLU.
- `depth` encoders, each on half the side of the one before it (means of 2 x 2 pixels; an odd row or column falls out).
  An encoder is x + w1 spatial(x) + w2 spectral(x), (w1, w2) the softmax of two learned numbers.
- Spatial block: x + SiLU(GN(Mamba(all pixels, row by row))).
- Spectral block: the channels of a pixel are a sequence of `tokens` groups: x + SiLU(GN(Mamba(groups))).
- Head: a 1x1 convolution to `neck_dim` channels, group norm, SiLU, a linear layer; logits are interpolated to the size
  of the image, bilinear with corners aligned.

Here the features are interpolated before the linear layer, which is the same. Images of a batch are sequences of their
own, where the program, which only knows one, would join them. Images with a side below 2^(depth - 1) are continued by
their last row and column.

Written from the equations; the code is ours.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hsmamba.layers.mamba import Mamba
from hsmamba.layers.ssm import no_weight_decay_names
from hsmamba.models._dense import DenseClassifier
from hsmamba.models._registry import ModelCfg, register_model

default_cfgs = {
    "mambahsi": ModelCfg(
        summary="MambaHSI: a whole image in, a class map out",
        citation="Li, Luo, Zhang, Wang, Du: MambaHSI: Spatial-Spectral Mamba for Hyperspectral Image Classification. "
        "IEEE TGRS 62, 1-16 (2024). doi:10.1109/TGRS.2024.3430985, arXiv:2501.04944",
        tiny={"in_chans": 6, "dim": 8, "neck_dim": 8, "d_state": 4},
    )
}


def norm_act(groups: int, dim: int) -> nn.Sequential:
    """Group norm and SiLU of maps (B, dim, H, W)."""
    return nn.Sequential(nn.GroupNorm(groups, dim), nn.SiLU())


class SpatialBlock(nn.Module):
    """SpaMB: all pixels of a map are one sequence, row by row.

    Shape: (B, D, H, W) -> (B, D, H, W).
    """

    def __init__(self, dim: int, groups: int, **mamba: int) -> None:
        super().__init__()
        self.mamba = Mamba(dim, **mamba)
        self.norm = norm_act(groups, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Mix over space."""
        y = self.mamba(x.flatten(2).mT).mT  # (B, D, H W)
        out: Tensor = x + self.norm(y.reshape(x.shape))
        return out


class SpectralBlock(nn.Module):
    """SpeMB: the channels of each pixel are a sequence of groups.

    Shape: (B, D, H, W) -> (B, D, H, W).
    """

    def __init__(self, dim: int, groups: int, tokens: int, **mamba: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.mamba = Mamba(dim // tokens, **mamba)
        self.norm = norm_act(groups, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Mix over channels."""
        b, d, h, w = x.shape
        pixels = x.permute(0, 2, 3, 1).reshape(b * h * w, self.tokens, d // self.tokens)
        y = self.mamba(pixels).reshape(b, h, w, d).permute(0, 3, 1, 2)
        out: Tensor = x + self.norm(y)
        return out


class Encoder(nn.Module):
    """Both blocks side by side, weighed by two learned numbers, beside the input.

    Shape: (B, D, H, W) -> (B, D, H, W).
    """

    def __init__(self, dim: int, groups: int, tokens: int, **mamba: int) -> None:
        super().__init__()
        self.spatial = SpatialBlock(dim, groups, **mamba)
        self.spectral = SpectralBlock(dim, groups, tokens, **mamba)
        self.mix = nn.Parameter(torch.full((2,), 0.5))
        self.grad_checkpointing = False

    def forward(self, x: Tensor) -> Tensor:
        """Mix over space and over channels."""
        if self.grad_checkpointing and torch.is_grad_enabled():
            out: Tensor = checkpoint(self._run, x, use_reentrant=False)
            return out
        return self._run(x)

    def _run(self, x: Tensor) -> Tensor:
        share = self.mix.softmax(0)
        out: Tensor = x + share[0] * self.spatial(x) + share[1] * self.spectral(x)
        return out


class MambaHSI(DenseClassifier):
    """MambaHSI classifier of the pixels of a hyperspectral image.

    Args:
        in_chans: Bands of the image.
        num_classes: Classes K; 0 leaves the head out.
        dim: Width of the encoders, a multiple of `groups` and of `tokens`.
        depth: Encoders.
        tokens: Groups of channels that a spectral scan goes over.
        groups: Of the norms.
        neck_dim: Width of the features in front of the head, a multiple of `groups`.
        d_state: States of the scans.
        d_conv: Steps that the convolution before a scan sees.
        expand: Inner width of the scans as a multiple of theirs.
        drop_rate: Dropout before the head.
        window: See `hsmamba.models.Classifier`.

    Raises:
        ValueError: Sizes that do not go together.
    """

    layer_groups = {"embed": r"^embed", "encoders": r"^encoders\.(\d+)", "neck": r"^neck"}

    def __init__(
        self,
        in_chans: int = 103,
        num_classes: int = 9,
        *,
        dim: int = 128,
        depth: int = 3,
        tokens: int = 4,
        groups: int = 4,
        neck_dim: int = 128,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        drop_rate: float = 0.0,
        window: int = 1024,
    ) -> None:
        super().__init__(in_chans, num_classes, window=window)
        if min(dim, depth, tokens, groups, neck_dim) < 1 or dim % groups or neck_dim % groups or dim % tokens:
            raise ValueError(
                f"dim={dim} must be a multiple of groups={groups} and of tokens={tokens}, neck_dim={neck_dim} of "
                f"groups, and depth={depth} at least 1"
            )
        mamba = {"d_state": d_state, "d_conv": d_conv, "expand": expand}
        self.embed = nn.Sequential(nn.Conv2d(in_chans, dim, 1), *norm_act(groups, dim))
        self.encoders = nn.ModuleList([Encoder(dim, groups, tokens, **mamba) for _ in range(depth)])
        self.neck = nn.Sequential(nn.Conv2d(dim, neck_dim, 1), *norm_act(groups, neck_dim))
        self.add_head(neck_dim, drop_rate)

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that weight decay leaves alone, beside biases and norms."""
        return no_weight_decay_names(self, "mix")

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute encoders again in the backward pass instead of keeping what is inside them."""
        for module in self.modules():
            if isinstance(module, Encoder):
                module.grad_checkpointing = enable

    def forward_features(self, hsi: Tensor, aux: Tensor | None = None) -> Tensor:
        """Compute the features of every pixel, (B, in_chans, H, W) -> (B, neck_dim, H, W)."""
        self.check_inputs(hsi, aux)
        height, width = hsi.shape[2:]
        least = 2 ** (len(self.encoders) - 1)
        if min(height, width) < least:
            hsi = F.pad(hsi, (0, max(0, least - width), 0, max(0, least - height)), mode="replicate")
        x = self.embed(hsi)
        for i, encoder in enumerate(self.encoders):
            x = encoder(F.avg_pool2d(x, 2) if i else x)
        x = F.interpolate(self.neck(x), hsi.shape[2:], mode="bilinear", align_corners=True)
        return x[..., :height, :width]


@register_model
def mambahsi(**kwargs: Any) -> MambaHSI:
    """MambaHSI as its program has it for Pavia University: 103 bands, 9 classes, 128 channels, three encoders."""
    return MambaHSI(**kwargs)
