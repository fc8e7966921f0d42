"""Depthwise convolution whose gradients a compiled kernel computes: torch's take many times as long on a CPU.

In the library of the scan, for CPU tensors in float32; everything else is torch's own convolution.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hsmamba.ops import cpu, inference

_int = ctypes.c_int64
_ptr = ctypes.c_void_p
FEW = 25  # taps up to which torch is as fast
_SMALL = 1 << 20  # products under which a second thread costs more than it gives


class _Depthwise(ctypes.Structure):
    _fields_ = [
        *((name, _int) for name in ("images", "channels", "height", "width", "rows", "columns", "dilation", "row")),
        *((name, _ptr) for name in ("x", "weights", "y")),
        ("next_task", _int),
    ]


def trainable_depthwise(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """Convolve (B, C, H, W) with a depthwise layer: what `conv(x)` gives, its gradients faster where the kernel serves.

    It serves large or dilated kernels that keep the size, in training.
    """
    out: Tensor
    if not torch.is_grad_enabled() or not _takes(x, conv):
        out = conv(x)
    elif inference.trains(x, conv.weight, *([] if conv.bias is None else [conv.bias])):
        out = _Convolution.apply(x, conv.weight, conv.bias, conv.dilation[0])  # an operator takes 0.1 ms more
    else:
        out = depthwise_op(x, conv.weight, conv.bias, conv.dilation[0])
    return out


def _takes(x: Tensor, conv: nn.Conv2d) -> bool:
    if torch.compiler.is_compiling() or torch.onnx.is_in_onnx_export() or torch._C._are_functorch_transforms_active():
        return False
    if inference.is_plain() or torch.autograd.forward_ad._current_level >= 0 or torch.is_autocast_enabled("cpu"):
        return False
    if cpu.unavailable():
        return False
    fits = all(t.device.type == "cpu" and t.dtype == torch.float32 for t in (x, conv.weight))
    rows, columns = conv.kernel_size
    keeps = conv.padding in ("same", (conv.dilation[0] * (rows // 2), conv.dilation[0] * (columns // 2)))
    plain = conv.stride == (1, 1) and conv.dilation[0] == conv.dilation[1] and conv.padding_mode == "zeros"
    odd = rows % 2 == columns % 2 == 1 and conv.groups == x.shape[1] == len(conv.weight)
    large = rows * columns > FEW or conv.dilation[0] > 1
    return fits and keeps and plain and odd and large and x.numel() > 0


@torch.library.custom_op("hsmamba::depthwise", mutates_args=())
def depthwise_op(x: Tensor, weight: Tensor, bias: Tensor | None, dilation: int) -> Tensor:
    """Convolve x (B, C, H, W) with weight (C, 1, rows, columns), both odd, zeros around the image."""
    padding = [dilation * (side // 2) for side in weight.shape[2:]]
    return F.conv2d(x, weight, bias, padding=padding, dilation=dilation, groups=len(weight))


@depthwise_op.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None, dilation: int) -> Tensor:
    padding = [dilation * (side // 2) for side in weight.shape[2:]]
    return F.conv2d(x, weight, bias, padding=padding, dilation=dilation, groups=len(weight))


@torch.library.custom_op("hsmamba::depthwise_backward", mutates_args=())
def _depthwise_backward_op(grad: Tensor, x: Tensor, weight: Tensor, dilation: int) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, whose channels are neighbours in memory, of the weight and of the bias."""
    return _gradients(grad, x, weight, dilation)


def _gradients(grad: Tensor, x: Tensor, weight: Tensor, dilation: int) -> tuple[Tensor, Tensor, Tensor]:
    batch, chans, height, width = x.shape
    rows, columns = weight.shape[2:]
    taps = F.pad(weight.flatten(1).T, (0, -chans % cpu.WIDEST)).contiguous()  # (rows columns, C)
    row = taps.shape[1]
    aside, above = dilation * (columns // 2), dilation * (rows // 2)
    around = (0, row - chans, aside, aside, above, above)
    pixels, slopes = (F.pad(t.permute(0, 2, 3, 1), around) for t in (x, grad))
    inside = slopes[:, above:, aside:]
    dx, dtaps, turned = grad.new_empty(batch, height, width, chans), torch.zeros_like(taps), taps.flip(0)
    sizes = batch, chans, height, width, rows, columns, dilation, row
    threads = torch.get_num_threads() if x.numel() * rows * columns > _SMALL else 1
    for name, held in (("depthwise_image", (slopes, turned, dx)), ("depthwise_weights", (pixels, dtaps, inside))):
        arguments = _Depthwise(*sizes, *(t.data_ptr() for t in held), 0)
        cpu.run_team(cpu.kernel(name), arguments, threads, held)
    dweight = dtaps[:, :chans].T.reshape(weight.shape)
    return dx.permute(0, 3, 1, 2), dweight, slopes.sum((0, 1, 2))[:chans].clone()


@_depthwise_backward_op.register_fake
def _(grad: Tensor, x: Tensor, weight: Tensor, dilation: int) -> tuple[Tensor, Tensor, Tensor]:
    batch, chans, height, width = x.shape
    dx = grad.new_empty(batch, height, width, chans).permute(0, 3, 1, 2)
    return dx, weight.new_empty(weight.shape), weight.new_empty(chans)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, bias, ctx.dilation = inputs
    ctx.biased = bias is not None
    ctx.save_for_backward(x, weight)


def _backward(ctx: Any, grad: Tensor, compute: Any = _depthwise_backward_op) -> tuple[Tensor | None, ...]:
    x, weight = ctx.saved_tensors
    if torch.is_grad_enabled():  # the gradient is to be differentiated in its turn: torch's can be
        padding = [ctx.dilation * (side // 2) for side in weight.shape[2:]]
        options = ([len(weight)], [1, 1], padding, [ctx.dilation] * 2, False, [0, 0], len(weight), [True] * 3)
        dx, dweight, dbias = torch.ops.aten.convolution_backward(grad, x, weight, *options)
    else:
        dx, dweight, dbias = compute(grad, x, weight, ctx.dilation)
    return dx, dweight, dbias if ctx.biased else None, None


depthwise_op.register_autograd(_backward, setup_context=_setup_context)


class _Convolution(torch.autograd.Function):
    """The operator where nothing traces it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, dilation: int) -> Tensor:
        _setup_context(ctx, (x, weight, bias, dilation), x)
        padding = [dilation * (side // 2) for side in weight.shape[2:]]
        return F.conv2d(x, weight, bias, padding=padding, dilation=dilation, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return _backward(ctx, grad, _gradients)
