"""Products of matrices by compiled kernels: rows times weights, sample by sample, and sums of products of rows."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from hsmamba.ops import cpu

ACTIVATIONS = "", "silu", "softplus", "tanh", "sigmoid", "relu"  # in the order of the numbers in csrc/linear.h
MOST_INPUTS = 1024  # a panel of more falls out of the second cache
_BLOCK = 128  # rows, GRADIENT_ROWS of csrc/linear_gradients.h
LinearArguments = ctypes.c_int64 * 19  # of csrc/linear.h, whose fields have 64 bits each
GradientArguments = ctypes.c_int64 * 11  # of csrc/linear_gradients.h, likewise


def filled(b: Tensor) -> Tensor:
    """Bring matrices (..., K, N) into the form that the kernel reads: rows of whole vectors."""
    columns = b.shape[-1]
    if more := -columns % cpu.WIDEST:
        whole = b.new_empty(*b.shape[:-1], columns + more)
        whole[..., :columns], whole[..., columns:] = b, 0.0
        return whole
    return b if b.stride(-1) == 1 and b.stride(-2) > 0 else b.contiguous()


def described(rows: int, inputs: int, outputs: int, x_row: int, weights_row: int, pointers: Sequence[int]) -> Any:
    """Describe one product for the kernel; pointers to rows, weights, bias, what is added, activations and results."""
    strides = x_row, 1, outputs, outputs, 1, 0, 0, 0, weights_row
    return LinearArguments(rows, inputs, outputs, *strides, *pointers, 0)


def map_rows(x: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor, activation: str) -> None:
    """Map rows x (R, K), columns neighbours in memory, by weights (N, K): activation(x W^T + b) into out."""
    matrix, shift = filled(weight.mT), None if bias is None else filled(bias[None])
    (rows, inputs), outputs = x.shape, len(weight)
    number, parts = ACTIVATIONS.index(activation), -(-outputs // cpu.WIDEST)
    activations = torch.full((parts,), number, dtype=torch.int32) if activation else None
    held = x, matrix, shift, None, activations, out
    pointers = [0 if y is None else y.data_ptr() for y in held]
    arguments = described(rows, inputs, outputs, x.stride(0), matrix.stride(0), pointers)
    threads = torch.get_num_threads() if rows * inputs * outputs > cpu.SMALL else 1
    cpu.run_team(cpu.kernel("linear"), arguments, threads, held)


def multiplied(a: Tensor, b: Tensor) -> Tensor:
    """Multiply (B, M, K) by (B, K, N) by the kernel, whatever the strides."""
    (samples, rows, inputs), outputs = a.shape, b.shape[2]
    if inputs > MOST_INPUTS and a.stride(1) == 1:  # sums over many rows, which have a kernel of their own
        return torch.stack([weight_gradient(one.mT, other) for one, other in zip(a, b, strict=True)])
    if not 0 < inputs <= MOST_INPUTS:
        return a @ b
    b = filled(b)
    out = a.new_empty(samples, rows, outputs)
    strides = a.stride(1), a.stride(2), 0, outputs, samples, a.stride(0), b.stride(0), out.stride(0), b.stride(1)
    pointers = a.data_ptr(), b.data_ptr(), 0, 0, 0, out.data_ptr()
    arguments = LinearArguments(rows, inputs, outputs, *strides, *pointers, 0)
    threads = torch.get_num_threads() if out.numel() * inputs > cpu.SMALL else 1
    cpu.run_team(cpu.kernel("linear"), arguments, threads, (a, b, out))
    return out


def weight_gradient(grad: Tensor, x: Tensor) -> Tensor:
    """Compute grad^T x, what the rows of a product give to its weights.

    Args:
        grad: (R, N), float32 on a CPU.
        x: (R, K), likewise.

    Returns:
        (N, K).
    """
    return linear_gradients(grad, x, biased=False)[0]


def linear_gradients(grad: Tensor, x: Tensor, *, biased: bool) -> tuple[Tensor, Tensor | None]:
    """Compute what the rows of a product give to its weights and its bias; see `weight_gradient`.

    Returns:
        grad^T x (N, K), and where there is a bias the sums of grad (N,).
    """
    if cpu.unavailable() or not grad.numel() or not x.numel():
        return grad.mT @ x, grad.sum(0) if biased else None
    grad, x = (rows if rows.stride(1) == 1 else rows.contiguous() for rows in (grad, x))
    (rows, outputs), inputs = grad.shape, x.shape[1]
    threads = torch.get_num_threads() if rows * outputs * inputs > cpu.SMALL else 1
    slots = min(-(-rows // _BLOCK), cpu.RUNS_PER_THREAD * threads) if threads > 1 else 1
    weights, bias = x.new_empty(slots, outputs, inputs), x.new_empty(slots, outputs) if biased else None
    pointers = grad.data_ptr(), x.data_ptr(), weights.data_ptr(), 0 if bias is None else bias.data_ptr()
    arguments = GradientArguments(rows, outputs, inputs, grad.stride(0), x.stride(0), slots, *pointers, 0)
    cpu.run_team(cpu.kernel("linear_gradients"), arguments, threads, (grad, x, weights, bias))
    of_weights, of_bias = (y if y is None else y[0] if slots == 1 else y.sum(0) for y in (weights, bias))
    return cast(Tensor, of_weights), of_bias
