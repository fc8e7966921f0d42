"""Linear maps in training by oneDNN, whose products use the whole width of a processor's vectors.

Torch gives products of float32 on a CPU to its BLAS, in most builds MKL. On processors of another maker than its own,
MKL computes in vectors of 8 numbers where there are such of 16, at half the rate of oneDNN, to which convolutions go.
The weights' gradients, small matrices that are sums over very many rows, have a kernel of their own in the library of
the scan.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hsmamba.ops import cpu, inference

_SMALL = 1 << 20  # products under which the way there costs more than it gives
_BLOCK = 128  # rows, GRADIENT_ROWS of csrc/linear_gradients.h
_Gradients = ctypes.c_int64 * 11  # of csrc/linear_gradients.h, whose fields have 64 bits each


def _kernel() -> Any:
    """The function at this machine's level; None without a library."""
    return getattr(cpu.load(), f"hsmamba_linear_gradients_{cpu.level()}", None)


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
        return dx, weight_gradient(grad, x) if of_weight else None, dbias


def weight_gradient(grad: Tensor, x: Tensor) -> Tensor:
    """Compute grad^T x, what the rows of a product give to its weights.

    Args:
        grad: (R, N), float32 on a CPU.
        x: (R, K), likewise.

    Returns:
        (N, K).
    """
    kernel = _kernel()
    if kernel is None or not grad.numel() or not x.numel():
        return grad.mT @ x
    grad, x = (rows if rows.stride(1) == 1 else rows.contiguous() for rows in (grad, x))
    (rows, outputs), inputs = grad.shape, x.shape[1]
    threads = torch.get_num_threads() if rows * outputs * inputs > cpu.SMALL else 1
    slots = min(-(-rows // _BLOCK), cpu.RUNS_PER_THREAD * threads) if threads > 1 else 1
    sums = x.new_empty(slots, outputs, inputs)
    pointers = grad.data_ptr(), x.data_ptr(), sums.data_ptr(), 0
    arguments = _Gradients(rows, outputs, inputs, grad.stride(0), x.stride(0), slots, *pointers, 0)
    cpu.run_team(kernel, arguments, threads, (grad, x, sums))
    return sums[0] if slots == 1 else sums.sum(0)
