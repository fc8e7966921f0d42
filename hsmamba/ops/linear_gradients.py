"""Linear maps in training by kernels that use the whole width of a processor's vectors.

Torch gives products of float32 on a CPU to its BLAS, in most builds MKL. On processors of another maker than its own,
MKL computes in vectors of 8 numbers where there are such of 16, at half the rate of the kernels in the library of the
scan, which take all gradients of some rows at once, while these are in a cache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hsmamba.ops import cpu, inference
from hsmamba.ops.normed_products import TOLD, product_gradients
from hsmamba.ops.products import MOST_INPUTS, map_rows

APPLIED: dict[str, Callable[[Tensor], Tensor]] = {
    "": lambda x: x,
    "silu": F.silu,
    "softplus": F.softplus,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
}
_SMALL = 1 << 20  # products under which the way there costs more than it gives


def trainable_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str = "") -> Tensor:
    """Map rows: activation(x W^T + b).

    Args:
        x: (..., K).
        weight: (M, K).
        bias: (M,).
        activation: "", "silu", or one of `TOLD`.

    Returns:
        (..., M).
    """
    return shared_linear(x, weight, bias, activation)[0]


def shared_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str = "") -> tuple[Tensor, Tensor]:
    """Do the same, and give x back for what else is made of it, whose gradient is added in the kernel.

    Args:
        x: See `trainable_linear`, as the others.
        weight: (M, K).
        bias: (M,).
        activation: See there.

    Returns:
        (..., M), and x.
    """
    inside = activation if activation in TOLD else ""
    if not _trains(x, weight, bias) or x.numel() * len(weight) < _SMALL:  # a traced graph may keep any number of rows
        out, inside = F.linear(x, weight, bias), ""
    else:
        out, x = _Linear.apply(x, weight, bias, inside)
    return out if inside else APPLIED[activation](out), x


def _trains(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    if not inference.trains(x, weight, *([] if bias is None else [bias])):  # first: what follows cannot be traced
        return False
    return cpu.level() == "avx512" and x.shape[-1] <= MOST_INPUTS


_SLOPES: dict[str, Callable[[Tensor], Tensor]] = {  # by the results
    "relu": lambda y: (y > 0).to(y),
    "softplus": lambda y: -torch.expm1(-y),
    "tanh": lambda y: 1 - y * y,
    "sigmoid": lambda y: y * (1 - y),
}


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> tuple[Tensor, Tensor]:
        out = x.new_empty(*x.shape[:-1], len(weight))
        map_rows(_rows(x), weight, bias, out, activation)
        ctx.save_for_backward(x, weight, out if activation else None)
        ctx.activation = activation
        ctx.set_materialize_grads(False)
        return out, x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, more: Tensor | None) -> tuple[Tensor | None, ...]:
        x, weight, out = ctx.saved_tensors
        of_x, of_weight, of_bias, _ = ctx.needs_input_grad
        if grad is None:
            return more, None, None, None
        if torch.is_grad_enabled() or not of_weight:  # the former: the gradient is to be differentiated in its turn
            if out is not None:
                grad = grad * _SLOPES[ctx.activation](out)
            rows, slopes = x.flatten(0, -2), grad.flatten(0, -2)
            dx = (slopes @ weight).view(x.shape) if of_x else None
            dx = dx if dx is None or more is None else dx + more
            return dx, slopes.mT @ rows if of_weight else None, slopes.sum(0) if of_bias else None, None
        dx = x.new_empty(x.shape) if of_x else None
        y, add = None if out is None else _rows(out), None if more is None or dx is None else more.contiguous()
        given = _rows(grad), _rows(x), weight, dx, y, ctx.activation
        return dx, *product_gradients(*given, biased=of_bias, add=add), None


def _rows(x: Tensor) -> Tensor:
    """(..., K) -> (M, K), columns neighbours in memory."""
    rows = x.flatten(0, -2)
    return rows if rows.stride(1) == 1 else rows.contiguous()
