"""Linear maps in training by kernels that use the whole width of a processor's vectors.

Torch gives products of float32 on a CPU to its BLAS, in most builds MKL. On processors of another maker than its own,
MKL computes in vectors of 8 numbers where there are such of 16, at half the rate of the kernels in the library of the
scan, which take all gradients of some rows at once, while these are in a cache.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hsmamba.ops import cpu, inference
from hsmamba.ops.normed_products import product_gradients
from hsmamba.ops.products import MOST_INPUTS, map_rows

_SMALL = 1 << 20  # products under which the way there costs more than it gives


def trainable_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str = "") -> Tensor:
    """Map rows: activation(x W^T + b).

    Args:
        x: (..., K).
        weight: (M, K).
        bias: (M,).
        activation: "", "relu" or "softplus".

    Returns:
        (..., M).
    """
    if not _trains(x, weight, bias) or x.numel() * len(weight) < _SMALL:  # a traced graph may keep any number of rows
        made = F.linear(x, weight, bias)
        return getattr(F, activation)(made) if activation else made
    out: Tensor = _Linear.apply(x, weight, bias, activation)
    return out


def _trains(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    if not inference.trains(x, weight, *([] if bias is None else [bias])):  # first: what follows cannot be traced
        return False
    return cpu.level() == "avx512" and x.shape[-1] <= MOST_INPUTS


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
        out = x.new_empty(*x.shape[:-1], len(weight))
        map_rows(_rows(x), weight, bias, out, activation)
        ctx.save_for_backward(x, weight, out if activation else None)
        ctx.activation = activation
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, out = ctx.saved_tensors
        of_x, of_weight, of_bias, _ = ctx.needs_input_grad
        if torch.is_grad_enabled() or not of_weight:  # the former: the gradient is to be differentiated in its turn
            if out is not None:
                grad = grad * (out > 0 if ctx.activation == "relu" else -torch.expm1(-out))
            rows, slopes = x.flatten(0, -2), grad.flatten(0, -2)
            dx = (slopes @ weight).view(x.shape) if of_x else None
            return dx, slopes.mT @ rows if of_weight else None, slopes.sum(0) if of_bias else None, None
        dx = x.new_empty(x.shape) if of_x else None
        y = None if out is None else _rows(out)
        return dx, *product_gradients(_rows(grad), _rows(x), weight, dx, y, ctx.activation, biased=of_bias), None


def _rows(x: Tensor) -> Tensor:
    """(..., K) -> (M, K), columns neighbours in memory."""
    rows = x.flatten(0, -2)
    return rows if rows.stride(1) == 1 else rows.contiguous()
