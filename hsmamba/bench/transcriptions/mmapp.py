"""MMAPP by its equations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hsmamba.bench.transcriptions.rsanet import (
    Config,
    Shapes,
    State,
    adaptive_product,
    attention_shapes,
    conv,
    conv_shapes,
    windowed_attention,
)

RELEASED: dict[str, Any] = {
    "n_bands": 8,
    "n_pan": 1,
    "width": 32,
    "scale_ratio": 4,
    "n_fusion_blocks": 5,
    "kernel_att": 7,
    "kernel_conv": 3,
    "heads": 3,
}
Module = Callable[[Tensor, State, str, Config], Tensor]


def _per_pixel(x: Tensor, state: State, name: str) -> Tensor:
    x = torch.relu(conv(x, state, f"{name}.0", 1))
    return torch.sigmoid(conv(torch.relu(conv(x, state, f"{name}.2")), state, f"{name}.4"))


def _per_image(x: Tensor, state: State, name: str) -> Tensor:
    x = torch.relu(conv(x.mean((2, 3), keepdim=True), state, f"{name}.1"))
    return conv(x, state, f"{name}.3")


def _tsam(x: Tensor, state: State, name: str, cfg: Config) -> Tensor:
    y = adaptive_product(x, _per_pixel(x, state, f"{name}.attention1"), state[f"{name}.weight"])
    return y + _per_image(x, state, f"{name}.attention3")


def _sicm(x: Tensor, state: State, name: str, cfg: Config) -> Tensor:
    taps = _per_image(x, state, f"{name}.attention1")
    taps = taps.expand(-1, -1, *x.shape[2:])
    return adaptive_product(x, taps, state[f"{name}.weight"]) + _per_pixel(x, state, f"{name}.attention3")


def _acmix(x: Tensor, state: State, name: str, cfg: Config) -> Tensor:
    heads = cfg["heads"]
    q, k, v = (conv(x, state, f"{name}.conv{i}") for i in (1, 2, 3))
    attended = windowed_attention(q, k, v, state, name, heads=heads, window=cfg["kernel_att"])
    n, channels, height, width = q.shape
    d = channels // heads
    z = torch.cat([t.reshape(n, heads, d, height * width) for t in (q, k, v)], 1)
    y = F.conv2d(z, state[f"{name}.fc.weight"])  # (N, K, d, H W)
    y = y.permute(0, 2, 1, 3).reshape(n, d * y.shape[1], height, width)
    dep = state[f"{name}.dep_conv.weight"]
    convolved = F.conv2d(y, dep, padding=dep.shape[-1] // 2, groups=d)
    return state[f"{name}.rate1"] * attended + state[f"{name}.rate2"] * convolved


def _afm(x: Tensor, state: State, name: str, cfg: Config) -> Tensor:
    t = torch.relu(_acmix(x, state, f"{name}.attention1.0", cfg))
    t = torch.relu(_acmix(t, state, f"{name}.attention1.2", cfg))
    t = torch.sigmoid(_acmix(t, state, f"{name}.attention1.4", cfg))
    return adaptive_product(x, t * _per_image(x, state, f"{name}.attention2"), state[f"{name}.weight"])


def _residual(x: Tensor, module: Module, state: State, name: str, cfg: Config) -> Tensor:
    return x + module(torch.relu(module(x, state, f"{name}.conv1", cfg)), state, f"{name}.conv2", cfg)


def _shuffle_up(x: Tensor, state: State, name: str) -> Tensor:
    return F.pixel_shuffle(conv(x, state, f"{name}.conv_up1", 1), 2)


def _pan_branch(pan: Tensor, state: State, cfg: Config) -> tuple[Tensor, Tensor]:
    a = torch.relu(_tsam(pan, state, "pb.head_conv", cfg))
    e1 = torch.relu(_residual(a, _tsam, state, "pb.E1.0.SpaRB1", cfg) + a)
    d2 = F.max_pool2d(e1, 2)
    pan_d2 = _tsam(d2, state, "pb.conv_d2_out", cfg)
    c = torch.relu(_tsam(d2, state, "pb.mid_conv", cfg))
    e2 = torch.relu(_residual(c, _tsam, state, "pb.E2.0.SpaRB1", cfg) + d2)
    return pan_d2, _tsam(F.max_pool2d(e2, 2), state, "pb.conv_d4_out", cfg)


def _ms_branch(ms: Tensor, state: State, cfg: Config) -> tuple[Tensor, Tensor]:
    a = torch.relu(_sicm(ms, state, "mb.head_conv", cfg))
    e1 = torch.relu(_residual(a, _sicm, state, "mb.E1.0.SpeRB1", cfg) + a)
    u2 = torch.relu(_shuffle_up(e1, state, "mb.up1"))
    ms_u2 = _sicm(u2, state, "mb.conv_u2_out", cfg)
    c = torch.relu(_sicm(u2, state, "mb.mid_conv", cfg))
    e2 = torch.relu(_residual(c, _sicm, state, "mb.E2.0.SpeRB1", cfg) + u2)
    u4 = torch.relu(_shuffle_up(e2, state, "mb.up2"))
    return ms_u2, _sicm(u4, state, "mb.conv_u4_out", cfg)


def mmapp(ms: Tensor, pan: Tensor, state: State, cfg: Config) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sharpen: ms (N, B, H / 4, W / 4) and pan (N, P, H, W) -> out_d4, out_d2, out (N, B, H, W) and ms_u4."""
    pan_d2, pan_d4 = _pan_branch(pan, state, cfg)
    ms_u2, ms_u4 = _ms_branch(ms, state, cfg)
    f = F.prelu(_afm(torch.cat([ms, pan_d4], 1), state, "head_conv", cfg), state["head_relu.weight"])
    for i in range(1, cfg["n_fusion_blocks"] + 1):
        f = _residual(f, _afm, state, f"F1.0.RB{i}", cfg)
    out_d4 = conv(f, state, "conv_f1", 1)
    f = torch.cat([F.leaky_relu(_shuffle_up(f, state, "up1"), 0.2), ms_u2, pan_d2], 1)
    for i in range(1, cfg["n_fusion_blocks"] + 1):
        f = _residual(f, _afm, state, f"F2.0.RB{i}", cfg)
    out_d2 = conv(f, state, "conv_f2", 1)
    g = conv(F.leaky_relu(_shuffle_up(f, state, "up2"), 0.2), state, "conv_f3", 1)
    t = torch.relu(_afm(torch.cat([g, pan, ms_u4], 1), state, "tail_conv.0", cfg))
    return out_d4, out_d2, _afm(t, state, "tail_conv.2", cfg), ms_u4


def _per_pixel_shapes(name: str, chans: int, out: int) -> Shapes:
    first = conv_shapes(f"{name}.0", chans, out, 3)
    return first | conv_shapes(f"{name}.2", out, out) | conv_shapes(f"{name}.4", out, out)


def _per_image_shapes(name: str, chans: int, out: int) -> Shapes:
    return conv_shapes(f"{name}.1", chans, out) | conv_shapes(f"{name}.3", out, out)


def _module_shapes(kind: str, name: str, chans: int, out: int, kernel: int, heads: int) -> Shapes:
    taps = kernel**2
    shapes: Shapes = {f"{name}.weight": (out, chans, kernel, kernel)}
    if kind == "tsam":
        shapes |= _per_pixel_shapes(f"{name}.attention1", chans, taps)
        return shapes | _per_image_shapes(f"{name}.attention3", chans, out)
    if kind == "sicm":
        shapes |= _per_image_shapes(f"{name}.attention1", chans, taps)
        return shapes | _per_pixel_shapes(f"{name}.attention3", chans, out)
    for s in (0, 2, 4):
        acmix = f"{name}.attention1.{s}"
        shapes |= attention_shapes(acmix, taps if s else chans, kernel, heads)
        shapes |= {f"{acmix}.rate2": (1,), f"{acmix}.fc.weight": (taps, 3 * heads, 1, 1)}
    return shapes | _per_image_shapes(f"{name}.attention2", chans, taps)


def mmapp_shapes(
    n_bands: int,
    n_pan: int,
    width: int,
    scale_ratio: int,
    n_fusion_blocks: int,
    kernel_att: int,
    kernel_conv: int,
    heads: int,
) -> Shapes:
    """Shapes of the official state by name."""
    wide = width + 2 * n_bands
    shapes: Shapes = {}

    def add(kind: str, chans: int, out: int, *names: str) -> None:
        for name in names:
            shapes.update(_module_shapes(kind, name, chans, out, kernel_conv, heads))

    add("afm", 2 * n_bands, width, "head_conv")
    shapes["head_relu.weight"] = (1,)
    for kind, prefix, chans, block, first, second in (
        ("tsam", "pb", n_pan, "SpaRB1", "conv_d2_out", "conv_d4_out"),
        ("sicm", "mb", n_bands, "SpeRB1", "conv_u2_out", "conv_u4_out"),
    ):
        add(kind, chans, width, f"{prefix}.head_conv")
        add(kind, width, width, *(f"{prefix}.E{i}.0.{block}.conv{j}" for i in (1, 2) for j in (1, 2)))
        add(kind, width, n_bands, f"{prefix}.{first}")
        add(kind, width, width, f"{prefix}.mid_conv")
        add(kind, width, n_bands, f"{prefix}.{second}")
    for name, chans in (("mb.up1", width), ("mb.up2", width), ("up1", width), ("up2", wide)):
        shapes |= conv_shapes(f"{name}.conv_up1", chans, 4 * chans, 3)
    for level, chans in (("F1", width), ("F2", wide), ("F3", width)):
        blocks = range(1, n_fusion_blocks + 1)
        add("afm", chans, chans, *(f"{level}.0.RB{i}.conv{j}" for i in blocks for j in (1, 2)))
    for name, chans in (("conv_f1", width), ("conv_f2", wide), ("conv_f3", wide)):
        shapes |= conv_shapes(name, chans, n_bands, 3)
    add("afm", 2 * n_bands + n_pan, n_bands, "tail_conv.0")
    add("afm", n_bands, n_bands, "tail_conv.2")
    return shapes
