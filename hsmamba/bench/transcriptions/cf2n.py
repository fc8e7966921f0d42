"""CF2N by the equations of its reconstruction; no official network was published, so the names are the package's."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hsmamba.bench.transcriptions.ramsf import haar, inverse_haar
from hsmamba.bench.transcriptions.rsanet import State, adaptive_product, conv


def _residual_block(x: Tensor, state: State, name: str) -> Tensor:
    y = conv(x, state, f"{name}.stem", 1)
    return y + conv(F.leaky_relu(conv(y, state, f"{name}.conv1", 1), 0.01), state, f"{name}.conv2", 1)


def _awf(a: Tensor, b: Tensor, state: State, name: str) -> Tensor:
    padding = state[f"{name}.unique.weight"].shape[-1] // 2
    alpha = torch.sigmoid(conv(a - b, state, f"{name}.unique", padding))
    gamma = torch.sigmoid(conv(a + b, state, f"{name}.common", padding))
    return alpha * a + (1 - alpha) * b + (gamma - 0.5) * (a + b)


def _low_and_high(x: Tensor) -> Tensor:
    return torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True).values], 1)


def _depthwise(x: Tensor, state: State, name: str, dilation: int) -> Tensor:
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    return F.conv2d(x, weight, bias, padding=dilation, dilation=dilation, groups=x.shape[1])


def _cross_fusion(x: Tensor, spectral: Tensor, state: State, name: str) -> Tensor:
    # frequency-domain attention
    z = _residual_block(x, state, f"{name}.frequency.block")
    taps = torch.sigmoid(conv(_low_and_high(z), state, f"{name}.frequency.conv", 1))
    # spectral-domain attention
    z = conv(spectral, state, f"{name}.spectral.conv", 1).flatten(2)
    vectors = []
    for v in (z.max(2).values, z.mean(2)):
        hidden = torch.relu(conv(v[..., None, None], state, f"{name}.spectral.bottleneck.0"))
        vectors.append(conv(hidden, state, f"{name}.spectral.bottleneck.2"))
    gain = 2 * torch.sigmoid(_awf(vectors[0], vectors[1], state, f"{name}.spectral.fuse"))
    middle = adaptive_product(gain * x, taps, state[f"{name}.weight1"])
    # frequency selection
    u1 = _depthwise(middle, state, f"{name}.selection.near", 1)
    u2 = _depthwise(u1, state, f"{name}.selection.far", 3)
    a1 = conv(u1, state, f"{name}.selection.half_near")
    a2 = conv(u2, state, f"{name}.selection.half_far")
    w = torch.sigmoid(conv(_low_and_high(torch.cat([a1, a2], 1)), state, f"{name}.selection.select", 3))
    q = _awf(a1 * w[:, 0:1], a2 * w[:, 1:2], state, f"{name}.selection.fuse")
    taps = torch.sigmoid(conv(q, state, f"{name}.selection.to_taps"))
    gain_here = 2 * torch.sigmoid(conv(q, state, f"{name}.selection.to_gain"))
    return adaptive_product(gain * gain_here * middle, taps, state[f"{name}.weight2"])


def _high_pass(x: Tensor) -> Tensor:
    height, width = x.shape[2:]
    padded = F.pad(x, [2, 2, 2, 2], mode="reflect")
    total = torch.zeros_like(x)
    for i in range(5):
        for j in range(5):
            total = total + padded[..., i : i + height, j : j + width]
    return x - total / 25


def cf2n(pan: Tensor, lms: Tensor, state: State, depth: int, residual: bool = True) -> Tensor:
    """Sharpen: pan (N, P, H, W) and lms (N, B, H, W) -> (N, B, H, W)."""
    spectral = _residual_block(lms, state, "head_ms")
    pairs = zip(haar(_residual_block(pan, state, "head_guide")), haar(spectral), strict=True)
    ll, hl, lh, hh = (_awf(p, m, state, f"bands.{i}") for i, (p, m) in enumerate(pairs))
    r2 = _awf(hl + lh, hh, state, "add_hh")
    r3 = _awf(r2, ll, state, "add_ll")
    x = _residual_block(inverse_haar(r3), state, "encode")
    for i in range(depth - 1):
        g = _cross_fusion(x, spectral, state, f"middle.{i}")
        detail_pan = _residual_block(_high_pass(pan), state, f"injections.{i}.guide")
        detail_ms = _residual_block(_high_pass(lms), state, f"injections.{i}.ms")
        x = g + _awf(detail_pan, detail_ms, state, f"injections.{i}.fuse")
    g = _cross_fusion(x, spectral, state, "last")
    return lms + g if residual else g
