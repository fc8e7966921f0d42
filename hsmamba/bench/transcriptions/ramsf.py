"""RAMSF by its equations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hsmamba.bench.transcriptions.rsanet import Config, Shapes, State, conv, conv_shapes

RELEASED: dict[str, Any] = {
    "n_bands": 8,
    "n_guide": 1,
    "scale_ratio": 4,
    "n_stages": 2,
    "feat_dim": 64,
    "align_dim": 33,
    "mlp_dim": [256, 128],
}


def haar(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sub-bands LL, HL, LH and HH, (N, C, H / 2, W / 2) each."""
    a, b, c, d = (x[..., i::2, j::2] / 2 for i, j in ((0, 0), (1, 0), (0, 1), (1, 1)))
    return a + b + c + d, -a - b + c + d, -a + b - c + d, a - b - c + d


def inverse_haar(x: Tensor) -> Tensor:
    """Undo `haar` of sub-bands that are consecutive quarters of the channels: (N, 4 C, h, w) -> (N, C, 2 h, 2 w)."""
    quarter = x.shape[1] // 4
    ll, hl, lh, hh = (x[:, i * quarter : (i + 1) * quarter] / 2 for i in range(4))
    out = x.new_zeros(x.shape[0], quarter, 2 * x.shape[2], 2 * x.shape[3])
    out[..., 0::2, 0::2] = ll - hl - lh + hh
    out[..., 1::2, 0::2] = ll - hl + lh - hh
    out[..., 0::2, 1::2] = ll + hl - lh - hh
    out[..., 1::2, 1::2] = ll + hl + lh + hh
    return out


def _stem(x: Tensor, state: State, name: str) -> Tensor:
    return F.prelu(conv(x, state, f"{name}.0", 1), state[f"{name}.1.weight"])


def _res_block(x: Tensor, state: State, name: str) -> Tensor:
    return x + conv(F.leaky_relu(conv(x, state, f"{name}.conv0", 1), 0.01), state, f"{name}.conv1", 1)


def _mlp(x: Tensor, state: State, name: str, count: int) -> Tensor:
    for i in range(count):
        x = F.linear(x, state[f"{name}.layers.{2 * i}.weight"], state[f"{name}.layers.{2 * i}.bias"])
        x = torch.relu(x) if i < count - 1 else x
    return x


def _align(z: Tensor, guide: Tensor, state: State, name: str, count: int) -> Tensor:
    """One stage: four queries of the perceptron for each fine pixel."""
    n, _, h, w = z.shape
    height, width = guide.shape[2:]
    rows = (-1 + (2 * torch.arange(height, dtype=z.dtype) + 1) / height)[:, None].expand(height, width)
    columns = (-1 + (2 * torch.arange(width, dtype=z.dtype) + 1) / width)[None].expand(height, width)
    tokens = guide.flatten(2).transpose(1, 2)
    answers = []
    for vy in (-1, 1):
        for vx in (-1, 1):
            i = torch.round(((rows + vy / h + 1) * h - 1) / 2).long()
            j = torch.round(((columns + vx / w + 1) * w - 1) / 2).long()
            inside = (i >= 0) & (i < h) & (j >= 0) & (j < w)
            index = (i.clamp(0, h - 1) * w + j.clamp(0, w - 1)).flatten()
            features = z.flatten(2)[:, :, index] * inside.flatten()
            qy = torch.where(inside, -1 + (2 * i.to(z.dtype) + 1) / h, 0.0)
            qx = torch.where(inside, -1 + (2 * j.to(z.dtype) + 1) / w, 0.0)
            relative = torch.stack([(rows - qy) * h, (columns - qx) * w], -1).reshape(1, -1, 2).to(z.dtype)
            query = torch.cat([features.transpose(1, 2), tokens, relative.expand(n, -1, -1)], -1)
            answers.append(_mlp(query, state, name, count))
    stacked = torch.stack(answers)
    weights = torch.softmax(stacked[..., -1:], 0)
    return (weights * stacked[..., :-1]).sum(0).transpose(1, 2).reshape(n, -1, height, width)


def ramsf(pan: Tensor, lms: Tensor, ms: Tensor, state: State, cfg: Config) -> Tensor:
    """Sharpen: pan (N, P, H, W), lms (N, B, H, W) and ms (N, B, H / r, W / r) -> (N, B, H, W)."""
    ll, hl, lh, hh = haar(_res_block(_stem(pan, state, "blk_1_32"), state, "DE_pan"))
    _, hl_m, lh_m, hh_m = haar(_res_block(_stem(lms, state, "blk_8_32"), state, "DE_lms"))
    f_hl = _res_block(hl + hl_m, state, "DE_HL")
    f_lh = _res_block(lh + lh_m, state, "DE_LH")
    f_hh = _res_block(hh + hh_m, state, "DE_HH")
    f = _res_block(_res_block(f_hl + f_lh, state, "DE_HH_HH") + f_hh, state, "DE_PAN")
    spatial = _stem(inverse_haar(f + ll), state, "spatial_encoder")
    z = _stem(ms, state, "spectral_encoder")
    stages = cfg["n_stages"]
    for t in range(1, stages + 1):
        size = [side // 2 ** (stages - t) for side in pan.shape[2:]]
        guide = F.adaptive_max_pool2d(spatial, size)
        z = _align(z, guide, state, f"imnet_{64 * 2 ** (t - 1)}", len(cfg["mlp_dim"]) + 1)
    return lms + z


def ramsf_shapes(
    n_bands: int,
    n_guide: int,
    scale_ratio: int,
    n_stages: int,
    feat_dim: int,
    align_dim: int,
    mlp_dim: Sequence[int],
) -> Shapes:
    """Shapes of the official state by name."""
    d = feat_dim
    shapes: Shapes = {}
    stems = {"blk_1_32": n_guide, "blk_8_32": n_bands, "spatial_encoder": d // 4, "spectral_encoder": n_bands}
    for name, chans in stems.items():
        shapes |= conv_shapes(f"{name}.0", chans, d, 3) | {f"{name}.1.weight": (1,)}
    for name in ("DE_pan", "DE_lms", "DE_HL", "DE_LH", "DE_HH", "DE_HH_HH", "DE_PAN"):
        for part in ("conv0", "conv1"):
            shapes |= conv_shapes(f"{name}.{part}", d, d, 3)
    for t in range(n_stages):
        chans = d if t == 0 else align_dim - 1
        out = n_bands + 1 if t == n_stages - 1 else align_dim
        widths = [chans + d + 2, *mlp_dim, out]
        for i in range(len(widths) - 1):
            name = f"imnet_{64 * 2**t}.layers.{2 * i}"
            shapes |= {f"{name}.weight": (widths[i + 1], widths[i]), f"{name}.bias": (widths[i + 1],)}
    return shapes
