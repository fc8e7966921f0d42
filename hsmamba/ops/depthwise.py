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


class _Grid(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("image", _int), ("row", _int), ("pixel", _int)]


class _Depthwise(ctypes.Structure):
    _fields_ = [
        *((name, _int) for name in ("images", "channels", "height", "width", "in_height", "in_width")),
        *((name, _int) for name in ("taps_down", "taps_across", "stride", "top", "left", "pitch", "silu")),
        *((name, _Grid) for name in ("x", "out")),
        *((name, ctypes.c_void_p) for name in ("weights", "bias")),
        *((name, _int) for name in ("band", "next_task")),
    ]


class _DepthwiseBackward(ctypes.Structure):
    _fields_ = [
        *((name, _int) for name in ("images", "channels", "height", "width", "in_height", "in_width")),
        *((name, _int) for name in ("taps_down", "taps_across", "stride", "top", "left", "pitch", "slots")),
        *((name, _Grid) for name in ("x", "grad", "base", "dx")),
        *((name, ctypes.c_void_p) for name in ("weights", "sums", "next")),
        ("next_task", _int),
    ]


def _kernel(name: str = "depthwise") -> Any:
    """The function at this machine's level; None without a library."""
    return getattr(cpu.load(), f"hsmamba_{name}_{cpu.level()}", None)


def takes(*tensors: Tensor) -> bool:
    """Whether the kernel may convolve these tensors, parameters among them."""
    return inference.takes(*tensors) and _kernel() is not None


def trains(*tensors: Tensor) -> bool:
    """Whether `trainable` and `trainable_beside` may convolve these tensors, parameters among them."""
    return inference.trains(*tensors) and _kernel("depthwise_back") is not None and tensors[0].numel() > 0


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
    arguments.x, arguments.out = (_Grid(y.data_ptr(), *y.stride()[:3]) for y in (x, out))
    arguments.weights, arguments.bias = weights.data_ptr(), shift.data_ptr()
    threads = torch.get_num_threads() if out.numel() * down * across > cpu.SMALL else 1
    cpu.run_team(_kernel(), arguments, threads, (x, out, weights, shift))
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


def trainable_beside(x: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Convolve maps with several kernels of odd sides, zeros around them, with gradients.

    Args:
        x: (B, H, W, C), float32.
        weights: n kernels (C, 1, h, w), as torch's layers have them.

    Returns:
        (B, H, W, (1 + n) C): the maps themselves, then what each kernel makes of them.
    """
    made: Tensor = _Beside.apply(x, *weights)
    return made


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
        ((dweight, dbias),) = _gradients(x, [(grad, weight)], dx, **ctx.options)
        return dx, dweight, None if bias is None else dbias, None, None, None


class _Beside(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *weights: Tensor) -> Tensor:
        ctx.save_for_backward(x, *weights)
        channels = x.shape[3]
        out = x.new_empty(*x.shape[:3], (1 + len(weights)) * channels)
        first, *others = torch.split(out, channels, dim=3)
        first.copy_(x)
        for weight, part in zip(weights, others, strict=True):
            convolve(x, weight, padding=_same(weight), out=part)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, *weights = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient is to be differentiated in its turn
            maps = x.permute(0, 3, 1, 2)
            made = [F.conv2d(maps, w, padding="same", groups=len(w)) for w in weights]
            whole = torch.cat([maps, *made], dim=1).permute(0, 2, 3, 1)
            needed = [t for t, need in zip((x, *weights), ctx.needs_input_grad, strict=True) if need]
            found = iter(torch.autograd.grad(whole, needed, grad, create_graph=True))
            return tuple(next(found) if need else None for need in ctx.needs_input_grad)
        grad = grad if grad.stride(3) == 1 else grad.contiguous()
        first, *others = torch.split(grad, x.shape[3], dim=3)
        dx = x.new_empty(x.shape) if ctx.needs_input_grad[0] else None
        pairs: list[tuple[Tensor, Tensor]] = list(zip(others, weights, strict=True))
        return dx, *(dweight for dweight, _ in _gradients(x, pairs, dx, base=first))


def _same(weight: Tensor) -> tuple[int, int]:
    """Rows and columns of zeros with which a convolution keeps the size of a map."""
    return weight.shape[2] // 2, weight.shape[3] // 2


def _gradients(
    x: Tensor,
    pairs: Sequence[tuple[Tensor, Tensor]],
    dx: Tensor | None,
    *,
    stride: int = 1,
    padding: tuple[int, int] | None = None,
    base: Tensor | None = None,
) -> list[tuple[Tensor, Tensor]]:
    """Compute the gradients of weight and bias of convolutions of the same maps.

    Args:
        x: The maps.
        pairs: Gradient of the output, and weight, of each convolution.
        dx: Takes the gradient of x, if it is asked for.
        stride: Of all convolutions.
        padding: Likewise; default what keeps the size of the maps.
        base: What the gradient of x is added to; default zeros.
    """
    x, *grads = (t if t.stride(3) == 1 or t.shape[3] == 1 else t.contiguous() for t in (x, *(g for g, _ in pairs)))
    images, rows, columns, channels = grads[0].shape
    count = sum(weight[0].numel() for _, weight in pairs)
    threads = torch.get_num_threads() if grads[0].numel() * count > cpu.SMALL else 1
    slots = min(images, cpu.RUNS_PER_THREAD * threads) if threads > 1 else 1
    sizes = images, channels, rows, columns, *x.shape[1:3]
    chain = (_DepthwiseBackward * len(pairs))()
    held: list[Tensor] = []
    for i, (grad, (_, weight)) in enumerate(zip(grads, pairs, strict=True)):
        down, across = weight.shape[2:]
        weights, _ = arranged(weight, None)
        pitch = weights.shape[1]
        sums = weights.new_zeros(slots, down * across + 1, pitch)
        chain[i] = _DepthwiseBackward(
            *sizes, down, across, stride, *(_same(weight) if padding is None else padding), pitch, slots
        )
        chain[i].x, chain[i].grad = (_Grid(t.data_ptr(), *t.stride()[:3]) for t in (x, grad))
        if dx is not None:
            chain[i].dx = _Grid(dx.data_ptr(), *dx.stride()[:3])
            onto = dx if i else base
            chain[i].base = _Grid() if onto is None else _Grid(onto.data_ptr(), *onto.stride()[:3])
        chain[i].weights, chain[i].sums = weights.data_ptr(), sums.data_ptr()
        if i:
            chain[i - 1].next = ctypes.addressof(chain[i])
        held += [weights, sums]
    cpu.run_team(_kernel("depthwise_back"), chain, threads, (x, grads, base, dx, held))
    found = [(sums.sum(0)[:, : len(weight)], weight.shape) for sums, (_, weight) in zip(held[1::2], pairs, strict=True)]
    return [(sums[:-1].t().reshape(shape), sums[-1]) for sums, shape in found]
