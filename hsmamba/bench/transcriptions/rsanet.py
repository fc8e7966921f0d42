"""RSANet by its equations; what other networks share with it stands here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

State = Mapping[str, Tensor]  # tensors by official name
Config = Mapping[str, Any]  # the official configuration
Shapes = dict[str, tuple[int, ...]]

RELEASED: dict[str, Any] = {
    "n_bands": 8,
    "n_pan": 1,
    "width": 32,
    "n_blocks": 3,
    "n_recursions": 4,
    "kernel_att": 7,
    "kernel_conv": 3,
    "heads": 3,
}


def conv(x: Tensor, state: State, name: str, padding: int = 0) -> Tensor:
    """Convolve by the layer of this name, with its bias if it has one."""
    return F.conv2d(x, state[f"{name}.weight"], state.get(f"{name}.bias"), padding=padding)


def windowed_attention(q: Tensor, k: Tensor, v: Tensor, state: State, name: str, *, heads: int, window: int) -> Tensor:
    """Attend (N, K, H, W) without the learned rate; q, k, v as the projections give them."""
    n, channels, height, width = q.shape
    d, p = channels // heads, window // 2
    gx = -1 + 2 * torch.arange(width, dtype=q.dtype) / (width - 1)
    gy = -1 + 2 * torch.arange(height, dtype=q.dtype) / (height - 1)
    grid = torch.stack([gx[None, :].expand(height, width), gy[:, None].expand(height, width)])[None]
    pe = conv(grid, state, f"{name}.conv_p")
    neighbours = []
    for x in (k.reshape(n * heads, d, height, width), v.reshape(n * heads, d, height, width), pe):
        windows = F.unfold(F.pad(x, [p] * 4, mode="reflect"), window)
        neighbours.append(windows.reshape(x.shape[0], d, window * window, height, width))
    keys, values, positions = neighbours
    scaled = q.reshape(n * heads, d, 1, height, width) * d**-0.5
    logits = (scaled * (keys + pe[:, :, None] - positions)).sum(1, keepdim=True)
    return (torch.softmax(logits, dim=2) * values).sum(2).reshape(n, channels, height, width)


def adaptive_product(x: Tensor, taps: Tensor, weight: Tensor) -> Tensor:
    """y[m] = sum over c and taps of weight[m, c, tap] taps[tap] shifted x[c]; taps (N, k^2, H, W)."""
    n, channels, height, width = x.shape
    k = weight.shape[-1]
    columns = F.unfold(x, k, padding=k // 2).reshape(n, channels, k * k, height, width)
    scaled = (columns * taps[:, None]).reshape(n, channels * k * k, height * width)
    return (weight.flatten(1) @ scaled).reshape(n, -1, height, width)


def _self_attention(x: Tensor, state: State, name: str, cfg: Config) -> Tensor:
    q, k, v = (conv(x, state, f"{name}.conv{i}") for i in (1, 2, 3))
    attended = windowed_attention(q, k, v, state, name, heads=cfg["heads"], window=cfg["kernel_att"])
    return state[f"{name}.rate1"] * attended


def _rsam(x: Tensor, state: State, name: str, cfg: Config) -> Tensor:
    t = x
    last = 2 * (cfg["n_recursions"] - 1)
    for s in range(0, last + 2, 2):
        t = _self_attention(t, state, f"{name}.attention1.{s}", cfg)
        t = torch.sigmoid(t) if s == last else torch.relu(t)
    return adaptive_product(x, t, state[f"{name}.weight"])


def rsanet(pan: Tensor, lms: Tensor, state: State, cfg: Config) -> Tensor:
    """Sharpen: pan (N, P, H, W) and lms (N, B, H, W) -> (N, B, H, W)."""
    x = torch.relu(_rsam(torch.cat([pan, lms], 1), state, "head_conv.0", cfg))
    for i in range(1, cfg["n_blocks"] + 1):
        x = x + _rsam(torch.relu(_rsam(x, state, f"RB{i}.conv1", cfg)), state, f"RB{i}.conv2", cfg)
    return lms + _rsam(x, state, "tail_conv", cfg)


def random_state(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, Tensor]:
    """A state of these shapes, float64, every value away from its default: matrices of unit gain, vectors about 0."""
    gen = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        fan_in = max(1, torch.Size(shape[1:]).numel())
        spread = 0.3 if len(shape) == 1 else fan_in**-0.5
        state[name] = spread * torch.randn(shape, generator=gen, dtype=torch.float64)
        if name.endswith(("rate1", "rate2")):
            state[name] += 1
    return state


def conv_shapes(name: str, chans: int, out: int, kernel: int = 1) -> Shapes:
    """Shapes of one convolution with a bias."""
    return {f"{name}.weight": (out, chans, kernel, kernel), f"{name}.bias": (out,)}


def attention_shapes(name: str, chans: int, kernel: int, heads: int) -> Shapes:
    """Shapes of one attention layer."""
    taps = kernel**2
    shapes: Shapes = {f"{name}.rate1": (1,)}
    for i in (1, 2, 3):
        shapes |= conv_shapes(f"{name}.conv{i}", chans, taps)
    shapes |= conv_shapes(f"{name}.conv_p", 2, taps // heads)
    return shapes | {f"{name}.dep_conv.weight": (taps, taps, kernel, kernel)}


def rsanet_shapes(
    n_bands: int,
    n_pan: int,
    width: int,
    n_blocks: int,
    n_recursions: int,
    kernel_att: int,
    kernel_conv: int,
    heads: int,
) -> Shapes:
    """Shapes of the official state by name."""
    modules = {"head_conv.0": (n_pan + n_bands, width)}
    for i in range(1, n_blocks + 1):
        modules |= {f"RB{i}.conv1": (width, width), f"RB{i}.conv2": (width, width)}
    modules["tail_conv"] = (width, n_bands)
    shapes: Shapes = {}
    for name, (chans, out) in modules.items():
        shapes[f"{name}.weight"] = (out, chans, kernel_conv, kernel_conv)
        for s in range(n_recursions):
            inputs = kernel_conv**2 if s else chans
            shapes |= attention_shapes(f"{name}.attention1.{2 * s}", inputs, kernel_conv, heads)
    return shapes
