"""The compiled kernels of depthwise convolutions of small maps: channels last, on a CPU in float32.

Torch's take several times as long, backward above all, and put the channels in another order on the way.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hsmamba.ops import cpu, inference
from hsmamba.ops.rows import RowProgram

_slope = RowProgram("r = sigmoid(y); g = g * (r * (y - y * r + 1.0))", "g")  # of SiLU
_BAND = 16  # rows that a thread takes at once
_int = ctypes.c_int64


class Grid(ctypes.Structure):
    """Maps (B, H, W, C), channels neighbours in memory: csrc/depthwise.h."""

    _fields_ = [("data", ctypes.c_void_p), ("image", _int), ("row", _int), ("pixel", _int)]


class _Depthwise(ctypes.Structure):
    _fields_ = [
        *((name, _int) for name in ("images", "channels", "height", "width", "in_height", "in_width")),
        *((name, _int) for name in ("taps_down", "taps_across", "stride", "top", "left", "pitch", "silu")),
        *((name, Grid) for name in ("x", "out")),
        *((name, ctypes.c_void_p) for name in ("weights", "bias")),
        ("band", _int),
        ("next", ctypes.c_void_p),
        ("next_task", _int),
    ]


class _DepthwiseBackward(ctypes.Structure):
    _fields_ = [
        *((name, _int) for name in ("images", "channels", "height", "width", "in_height", "in_width")),
        *((name, _int) for name in ("taps_down", "taps_across", "stride", "top", "left", "pitch", "slots")),
        *((name, Grid) for name in ("x", "grad", "base", "dx")),
        *((name, ctypes.c_void_p) for name in ("weights", "sums")),
        ("sums_slot", _int),
        ("next", ctypes.c_void_p),
        ("next_task", _int),
    ]


def trains(*tensors: Tensor) -> bool:
    """Whether `trainable` may convolve these tensors, parameters among them."""
    return inference.trains(*tensors) and tensors[0].numel() > 0


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
    arguments.pitch, arguments.silu, arguments.band = weights.shape[1], silu, _BAND
    arguments.x, arguments.out = grid(x), grid(out)
    arguments.weights, arguments.bias = weights.data_ptr(), shift.data_ptr()
    threads = torch.get_num_threads() if out.numel() * down * across > cpu.SMALL else 1
    cpu.run_team(cpu.kernel("depthwise"), arguments, threads, (x, out, weights, shift))
    return out


def trainable(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int = 1,
    padding: tuple[int, int] = (0, 0),
    silu: bool = False,
) -> Tensor:
    """Convolve maps as `convolve` does, with gradients.

    Args:
        x: See `convolve`, as the others.
        weight: See above.
        bias: See above.
        stride: See above.
        padding: See above.
        silu: See above.

    Returns:
        (B, H', W', C).
    """
    made: Tensor = _Convolved.apply(x, weight, bias, stride, padding, silu)
    return made


def together(weights: Sequence[Tensor]) -> Tensor:
    """Bring several kernels (C, 1, h, w) into the order of `arranged`, one behind the other."""
    taps = (
        torch.cat([weight.detach().flatten(1) for weight in weights], 1) if len(weights) > 1 else weights[0].flatten(1)
    )
    return F.pad(taps.t(), (0, cpu.WIDEST))


def beside(maps: Tensor, weights: Sequence[Tensor], taps: Tensor) -> tuple[Any, object]:
    """Describe convolutions that keep the size of maps (B, H, W, C), for a kernel that runs them; and what they hold.

    Args:
        maps: The maps.
        weights: Of the convolutions.
        taps: These in the order of `together`.
    """
    images, height, width, channels = maps.shape
    chain, shift, at = (_Depthwise * len(weights))(), taps.new_zeros(taps.shape[1]), taps.data_ptr()
    for i, weight in enumerate(weights):
        down, across = weight.shape[2:]
        chain[i] = _Depthwise(images, channels, *2 * (height, width), down, across, 1, *_same(weight))
        chain[i].pitch, chain[i].x, chain[i].weights, chain[i].bias = taps.shape[1], grid(maps), at, shift.data_ptr()
        at += down * across * taps.shape[1] * taps.itemsize
        if i:
            chain[i - 1].next = ctypes.addressof(chain[i])
    return chain, (maps, taps, shift)


def grid(maps: Tensor) -> Grid:
    """Describe maps (B, H, W, C)."""
    return Grid(maps.data_ptr(), *maps.stride()[:3])


class _Convolved(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: tuple[int, int], silu: bool
    ) -> Tensor:
        ctx.save_for_backward(x, weight, bias)
        ctx.options = {"stride": stride, "padding": padding}
        ctx.silu = silu
        return convolve(x, weight, bias, silu=silu, **ctx.options)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient is to be differentiated in its turn
            y = F.conv2d(x.permute(0, 3, 1, 2), weight, bias, groups=len(weight), **ctx.options).permute(0, 2, 3, 1)
            needed = [t for t, need in zip((x, weight, bias), ctx.needs_input_grad, strict=False) if need]
            found = iter(torch.autograd.grad(F.silu(y) if ctx.silu else y, needed, grad, create_graph=True))
            return *(next(found) if need else None for need in ctx.needs_input_grad[:3]), None, None, None
        if ctx.silu:
            grad = _slope(y=convolve(x, weight, bias, **ctx.options), g=grad)
        dx = x.new_empty(x.shape) if ctx.needs_input_grad[0] else None
        dweight, dbias = _gradients(x, grad, weight, dx, **ctx.options)
        return dx, dweight, None if bias is None else dbias, None, None, None


def _same(weight: Tensor) -> tuple[int, int]:
    """Rows and columns of zeros with which a convolution keeps the size of a map."""
    return weight.shape[2] // 2, weight.shape[3] // 2


def _gradients(
    x: Tensor, grad: Tensor, weight: Tensor, dx: Tensor | None, *, stride: int, padding: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Compute the gradients of weight and bias of a convolution, and into dx, if it is there, that of the maps x."""
    x, grad = (t if t.stride(3) == 1 or t.shape[3] == 1 else t.contiguous() for t in (x, grad))
    threads = torch.get_num_threads() if grad.numel() * weight[0].numel() > cpu.SMALL else 1
    slots = min(len(x), cpu.RUNS_PER_THREAD * threads) if threads > 1 else 1
    chain, sums, held = gradients_beside(
        x, [weight], together([weight]), dx, slots, stride=stride, padding=padding, size=grad.shape[1:3]
    )
    chain[0].grad, chain[0].base = grid(grad), Grid()
    cpu.run_team(cpu.kernel("depthwise_back"), chain, threads, (grad, held))
    return found(sums, [weight])[0]


def gradients_beside(
    x: Tensor,
    weights: Sequence[Tensor],
    taps: Tensor,
    dx: Tensor | None,
    slots: int,
    *,
    stride: int = 1,
    padding: tuple[int, int] | None = None,
    size: Sequence[int] | None = None,
) -> tuple[Any, Tensor, object]:
    """Describe the gradients of convolutions of the same maps, for a kernel that runs them.

    Args:
        x: (B, H, W, C), the maps.
        weights: Of the convolutions.
        taps: These in the order of `together`.
        dx: Takes the gradient of x, if it is asked for.
        slots: Tasks that the images are cut into.
        stride: Of all convolutions.
        padding: Likewise; default what keeps the size of the maps.
        size: Rows and columns of what they make; default the maps'.

    Returns:
        The chain, without gradients of what the convolutions make and what dx is added to; sums, from which `found`
        makes gradients; and what the chain holds.
    """
    images, *sides, channels = x.shape
    pitch = taps.shape[1]
    sums = taps.new_zeros(slots, len(taps) + len(weights), pitch)
    chain, at, to = (_DepthwiseBackward * len(weights))(), taps.data_ptr(), sums.data_ptr()
    for i, weight in enumerate(weights):
        down, across = weight.shape[2:]
        places = down, across, stride, *(_same(weight) if padding is None else padding), pitch, slots
        chain[i] = _DepthwiseBackward(images, channels, *(size or sides), *sides, *places)
        chain[i].x = grid(x)
        if dx is not None:
            chain[i].dx = chain[i].base = grid(dx)
        chain[i].weights, chain[i].sums, chain[i].sums_slot = at, to, sums.stride(0)
        at += down * across * pitch * taps.itemsize
        to += (down * across + 1) * pitch * taps.itemsize
        if i:
            chain[i - 1].next = ctypes.addressof(chain[i])
    return chain, sums, (x, dx, taps, sums)


def found(sums: Tensor, weights: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Give the gradients of weight and bias of each convolution, which a kernel summed."""
    whole, made = sums.sum(0) if len(sums) > 1 else sums[0], []
    for weight in weights:
        count = weight[0].numel()
        made.append((whole[:count, : len(weight)].t().reshape(weight.shape), whole[count, : len(weight)]))
        whole = whole[count + 1 :]
    return made
