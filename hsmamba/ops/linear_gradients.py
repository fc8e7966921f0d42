"""Linear maps in training by oneDNN, whose products use the whole width of a processor's vectors.

Torch gives products of float32 on a CPU to its BLAS, in most builds MKL. On processors of another maker than its own,
MKL computes in vectors of 8 numbers where there are such of 16, at half the rate of oneDNN, to which convolutions go.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hsmamba.ops import cpu, inference

_SMALL = 1 << 20  # products under which the way there costs more than it gives
_IMAGES = (64, 32, 16)  # torch gives 1x1 convolutions of so many images to oneDNN on one thread, too


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
        dbias = grad.sum(0) if of_bias else None
        if torch.is_grad_enabled():  # the gradient is to be differentiated in its turn
            return grad @ weight, grad.mT @ x, dbias
        dx = _product(grad, weight.mT) if of_x else None
        return dx, _weight_gradient(grad, x) if of_weight else None, dbias


def _weight_gradient(grad: Tensor, x: Tensor) -> Tensor:
    """Compute grad^T x of rows, as that of a 1x1 convolution where they can be images."""
    images = next((n for n in _IMAGES if len(x) % n == 0), 0)
    if not images:
        return grad.mT @ x
    grad, x = (rows.reshape(images, -1, rows.shape[1]).mT.unsqueeze(2) for rows in (grad, x))
    weight = x.new_empty(grad.shape[1], x.shape[1], 1, 1)
    options = None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [False, True, False]
    found: Tensor = torch.ops.aten.convolution_backward(grad, x, weight, *options)[1]
    return found.flatten(1)
