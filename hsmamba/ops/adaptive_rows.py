"""Adaptive convolutions in training, of maps whose channels are neighbours in memory.

The kernel brings a block of pixels into columns, taps times pixels, and multiplies them while they are in a cache. In
the library of the scan, on a CPU in float32; see `hsmamba.layers.adaptive_conv`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hsmamba.ops import cpu, inference

_PIXELS = 64  # of a block, csrc/adaptive_rows.h
_MOST_INPUTS = 1024  # of a product: a panel of more weights falls out of the second cache
_int = ctypes.c_int64
_ptr = ctypes.c_void_p


class _AdaptiveRows(ctypes.Structure):
    _fields_ = [
        *((name, _int) for name in ("images", "height", "width", "kernel", "channels", "outputs", "pitch")),
        *((name, _ptr) for name in ("x", "taps", "weights", "turned", "out")),
        ("slots", _int),
        *((name, _ptr) for name in ("dtaps", "dx", "dweights", "scratch")),
        *((name, _int) for name in ("scratch_floats", "next_thread", "next_task")),
    ]


def takes(x: Tensor, taps: Tensor, weight: Tensor) -> bool:
    """Whether `convolve` may take the place of a convolution in training.

    Args:
        x: (B, C, H, W).
        taps: (B, k^2, H, W).
        weight: (M, C, k, k).
    """
    if not inference.trains(x, taps, weight):  # first: what follows cannot be traced
        return False
    inputs = weight[0].numel()
    if not x.numel() or not weight.numel() or x.shape[1] % cpu.WIDEST or inputs > _MOST_INPUTS:
        return False
    return not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)


def convolve(x: Tensor, taps: Tensor, weight: Tensor, plain: Callable[..., Tensor]) -> Tensor:
    """Convolve, with gradients; arguments are those of `takes`.

    Args:
        x: See there.
        taps: See there.
        weight: See there.
        plain: Computes the same in torch operations, for gradients of gradients.

    Returns:
        (B, M, H, W), channels neighbours in memory.
    """
    out: Tensor = _Convolution.apply(x, taps, weight, plain)
    return out


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, taps: Tensor, weight: Tensor, plain: Callable[..., Tensor]) -> Tensor:
        ctx.save_for_backward(x, taps, weight)
        ctx.plain = plain
        outputs = len(weight)
        pixels, scales = (y.permute(0, 2, 3, 1).contiguous() for y in (x, taps))
        out = pixels.new_empty(*pixels.shape[:3], outputs)
        turned = weight.permute(2, 3, 1, 0).flatten(0, 2)
        turned = (F.pad(turned, (0, -outputs % cpu.WIDEST)) if outputs % cpu.WIDEST else turned).contiguous()
        _run("adaptive_rows", weight, _PIXELS * len(turned), x=pixels, taps=scales, turned=turned, out=out)
        return out.permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, taps, weight = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient is to be differentiated in its turn
            asked = [y for y, needed in zip((x, taps, weight), ctx.needs_input_grad, strict=False) if needed]
            made = ctx.plain(x, taps, weight)
            found = iter(torch.autograd.grad(made, asked, grad, create_graph=True))
            return tuple(next(found) if needed else None for needed in ctx.needs_input_grad)
        pixels, scales, slopes = (y.permute(0, 2, 3, 1).contiguous() for y in (x, taps, grad))
        matrix = weight.permute(0, 2, 3, 1).flatten(1).contiguous()
        threads = _threads(pixels, weight)
        dx, dmatrix = pixels.new_zeros(threads, *pixels.shape), matrix.new_zeros(threads, *matrix.shape)
        dtaps = torch.empty_like(scales)
        given = {"x": pixels, "taps": scales, "weights": matrix, "out": slopes}
        made = {"dx": dx, "dweights": dmatrix, "dtaps": dtaps}
        _run("adaptive_rows_backward", weight, 2 * _PIXELS * matrix.shape[1], threads, **given, **made)
        dx, dmatrix = (y[0] if threads == 1 else y.sum(0) for y in (dx, dmatrix))
        kernel = weight.shape[-1]
        dweight = dmatrix.view(-1, kernel, kernel, weight.shape[1]).permute(0, 3, 1, 2)
        return dx.permute(0, 3, 1, 2), dtaps.permute(0, 3, 1, 2), dweight, None


def _threads(pixels: Tensor, weight: Tensor) -> int:
    return torch.get_num_threads() if pixels.numel() * len(weight) * weight[0, 0].numel() > cpu.SMALL else 1


def _run(name: str, weight: Tensor, floats: int, slots: int = 0, **held: Tensor) -> None:
    images, height, width, channels = held["x"].shape
    outputs, pitch = len(weight), -(-len(weight) // cpu.WIDEST) * cpu.WIDEST
    threads = _threads(held["x"], weight)
    scratch = held["x"].new_empty(threads * floats + cpu.WIDEST)
    sizes = images, height, width, weight.shape[-1], channels, outputs, pitch
    arguments = _AdaptiveRows(*sizes, **{key: x.data_ptr() for key, x in held.items()})
    arguments.slots, arguments.scratch_floats = slots, floats
    arguments.scratch = -(-scratch.data_ptr() // 64) * 64
    cpu.run_team(cpu.kernel(name), arguments, threads, (held, scratch))
