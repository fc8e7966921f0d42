"""The compiled kernel of depthwise convolutions of small maps: channels last, for inference on a CPU in float32."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hsmamba.ops import cpu, inference

_int = ctypes.c_int64


class _Grid(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("image", _int), ("row", _int), ("pixel", _int)]


class _Depthwise(ctypes.Structure):
    _fields_ = [
        *((name, _int) for name in ("images", "channels", "height", "width", "in_height", "in_width")),
        *((name, _int) for name in ("taps_down", "taps_across", "stride", "top", "left", "pitch", "silu")),
        *((name, _Grid) for name in ("x", "out")),
        *((name, ctypes.c_void_p) for name in ("weights", "bias")),
        ("next_task", _int),
    ]


def _kernel() -> Any:
    """The function at this machine's level; None without a library."""
    return getattr(cpu.load(), f"hsmamba_depthwise_{cpu.level()}", None)


def takes(*tensors: Tensor) -> bool:
    """Whether the kernel may convolve these tensors, parameters among them."""
    return inference.takes(*tensors) and _kernel() is not None


def arranged(weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """Bring weights (C, 1, h, w) and bias (C,) into the order that the kernel reads them in: (h w, C + padding)."""
    more = (0, cpu.WIDEST)
    rows = F.pad(weight.detach().float().flatten(1).t(), more).contiguous()
    return rows, rows.new_zeros(rows.shape[1]) if bias is None else F.pad(bias.detach().float(), more)


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int = 1,
    padding: tuple[int, int] = (0, 0),
    silu: bool = False,
    out: Tensor | None = None,
) -> Tensor:
    """Convolve maps, with zeros around them.

    Args:
        x: (B, H, W, C), float32.
        weight: (C, 1, h, w), as torch's layer has it.
        bias: (C,)
        stride: Of both directions.
        padding: Rows above and below, columns on both sides.
        silu: Put what comes out through SiLU.
        out: Takes the result; its channels are neighbours in memory. Default a new tensor.

    Returns:
        (B, H', W', C).
    """
    x = x if x.stride(3) == 1 or x.shape[3] == 1 else x.contiguous()
    images, height, width, channels = x.shape
    down, across = weight.shape[2:]
    rows = (height + 2 * padding[0] - down) // stride + 1
    columns = (width + 2 * padding[1] - across) // stride + 1
    out = x.new_empty(images, rows, columns, channels) if out is None else out
    if not out.numel():
        return out
    weights, shift = inference.prepared(arranged, weight, bias)
    arguments = _Depthwise(images, channels, rows, columns, height, width, down, across, stride, *padding)
    arguments.pitch, arguments.silu = weights.shape[1], silu
    arguments.x, arguments.out = (_Grid(y.data_ptr(), *y.stride()[:3]) for y in (x, out))
    arguments.weights, arguments.bias = weights.data_ptr(), shift.data_ptr()
    threads = torch.get_num_threads() if out.numel() * down * across > cpu.SMALL else 1
    cpu.run_team(_kernel(), arguments, threads, (x, out, weights, shift))
    return out
