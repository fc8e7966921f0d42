"""Linear maps in training by kernels that use the whole width of a processor's vectors.

Torch gives products of float32 on a CPU to its BLAS, in most builds MKL. On processors of another maker than its own,
MKL computes in vectors of 8 numbers where there are such of 16, at half the rate of oneDNN, to which convolutions go,
and so do short rows and those with a bias here. Longer rows and the weights' gradients, small matrices that are sums
over very many rows, are the kernels' in the library of the scan.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hsmamba.ops import cpu, inference
from hsmamba.ops.products import MOST_INPUTS, kernel, linear_gradients, multiplied

_SHORT = 64  # inputs, LINEAR_SHORT of csrc/linear.h; of longer rows the kernel fetches the next ones and is the faster
_SMALL = 1 << 20  # products under which the way there costs more than it gives


def trainable_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Map rows: x W^T + b, as `torch.nn.functional.linear`.

    Args:
        x: (..., K).
        weight: (M, K).
        bias: (M,).

    Returns:
        (..., M).
    """
    if not _trains(x, weight, bias) or x.numel() * len(weight) < _SMALL:  # a traced graph may keep any number of rows
        return F.linear(x, weight, bias)
    out: Tensor = _Linear.apply(x.flatten(0, -2), weight, bias)
    return out.unflatten(0, x.shape[:-1]) if x.ndim != 2 else out  # type: ignore[no-untyped-call]


def _trains(*tensors: Tensor | None) -> bool:
    if not inference.trains(*(x for x in tensors if x is not None)):  # first: what follows cannot be traced
        return False
    return cpu.level() == "avx512" and bool(torch.backends.mkldnn.enabled and torch._C._has_mkldnn)


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    outputs, inputs = weight.shape
    fits = bias is None and outputs % cpu.WIDEST == 0 and _SHORT < inputs <= MOST_INPUTS
    if fits and kernel() is not None:
        return multiplied(x[None], weight.mT.contiguous()[None])[0]
    made: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight.contiguous(), bias, "none", [], "")
    return made


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        if torch.is_grad_enabled():  # the gradient is to be differentiated in its turn
            return grad @ weight, grad.mT @ x, grad.sum(0) if of_bias else None
        dx = _product(grad, weight.mT) if of_x else None
        if not of_weight:
            return dx, None, grad.sum(0) if of_bias else None
        return dx, *linear_gradients(grad, x, biased=of_bias)
