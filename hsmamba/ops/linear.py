"""The compiled kernel of linear layers: bias, activation and what is added go in while a product is in registers.

It takes a processor's widest vectors whoever made it, and weights in an order of its own, which is made once a job. In
float32 on a CPU, for inference; in training see `hsmamba.ops.linear_gradients`, elsewhere torch operations.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hsmamba.ops import cpu, inference
from hsmamba.ops.linear_gradients import APPLIED, shared_linear, trainable_linear
from hsmamba.ops.products import ACTIVATIONS, MOST_INPUTS, LinearArguments, multiplied

PANEL = 48  # of csrc/linear.h
_FEWEST_OUTPUTS = 6  # a vector of fewer is mostly empty


def takes(x: Tensor, weight: Tensor, *others: Tensor | None) -> bool:
    """Whether the kernel may compute with these tensors, and is made for such sizes."""
    outputs, inputs = weight.shape[:-1].numel(), weight.shape[-1]
    if x.ndim < 2 or inputs > MOST_INPUTS or outputs < _FEWEST_OUTPUTS:
        return False
    return inference.takes(x, weight, *(y for y in others if y is not None))


def linear(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str = "", *, add: Tensor | None = None
) -> Tensor:
    """Compute activation(x W^T + b) + add.

    Args:
        x: (..., K).
        weight: (N, K), as torch's layer has it, or (..., K) with N numbers along the other axes.
        bias: (N,), or with those axes.
        activation: "", "silu", "softplus", "tanh", "sigmoid" or "relu".
        add: (..., N).

    Returns:
        (..., N).
    """
    if takes(x, weight, bias, add):
        return _run(x, weight, bias, ((weight.shape[:-1].numel(), activation),), add)
    y = trainable_linear(x, weight.flatten(0, -2), None if bias is None else bias.flatten(), activation)
    return y if add is None else y + add


def linear_shared(x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str = "") -> tuple[Tensor, Tensor]:
    """Compute `linear`, and give x back for what else is made of it.

    In training the gradient of the rest is then added to that of the product in the kernel, not in a pass of its own.

    Args:
        x: See `linear`, as the others.
        weight: See there.
        bias: See there.
        activation: See there.

    Returns:
        (..., N), and x.
    """
    if takes(x, weight, bias):
        return _run(x, weight, bias, ((weight.shape[:-1].numel(), activation),), None), x
    return shared_linear(x, weight.flatten(0, -2), None if bias is None else bias.flatten(), activation)


def linear_parts(x: Tensor, weight: Tensor, bias: Tensor | None, *parts: tuple[int, str]) -> tuple[Tensor, ...]:
    """Compute the parts of a linear layer's outputs, each with an activation of its own.

    Args:
        x: (..., K).
        weight: (N, K), as torch's layer has it.
        bias: (N,).
        *parts: Outputs n and activation of each part; see `linear`. Together they are N.

    Returns:
        (..., n) for each part; their columns are neighbours in memory.
    """
    sizes = [size for size, _ in parts]
    if takes(x, weight, bias):
        widths = [-(-size // cpu.WIDEST) * cpu.WIDEST for size in sizes[:-1]] + sizes[-1:]
        whole = _run(x, weight, bias, parts, None)
        return tuple(y[..., :size] for y, size in zip(torch.split(whole, widths, -1), sizes, strict=True))
    ys = torch.split(trainable_linear(x, weight, bias), sizes, -1)
    return tuple(APPLIED[activation](y) for y, (_, activation) in zip(ys, parts, strict=True))


def product(a: Tensor, b: Tensor) -> Tensor:
    """Multiply matrices, sample by sample, where it may by the kernel.

    Args:
        a: (B, M, K).
        b: (B, K, N).

    Returns:
        (B, M, N).
    """
    if inference.takes(a, b):  # first: a graph that is traced may keep any number of samples
        fits = b.shape[2] % cpu.WIDEST == 0 and 0 < a.shape[2] <= MOST_INPUTS and len(a) == len(b)
        return multiplied(a, b) if fits else a @ b
    if inference.trains(a, b) and len(a) == len(b) and a.numel() * b.shape[2] > cpu.SMALL:
        made: Tensor = _Product.apply(a, b)
        return made
    return a @ b


class _Product(torch.autograd.Function):
    """Products, sample by sample, whose gradients are such products, too."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return multiplied(a, b)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b = ctx.saved_tensors
        of_a, of_b = ctx.needs_input_grad
        if torch.is_grad_enabled():  # the gradient is to be differentiated in its turn
            return grad @ b.mT, a.mT @ grad
        # the smaller one of two is put in the order of its transpose
        turned = grad.numel() < b.numel() and grad.shape[1] % cpu.WIDEST == 0
        of_a = (multiplied(b, grad.mT).mT if turned else multiplied(grad, b.mT)) if of_a else None
        return of_a, multiplied(a.mT, grad) if of_b else None


def packed(
    weight: Tensor, bias: Tensor | None, *, parts: tuple[tuple[int, str], ...]
) -> tuple[int, Tensor, Tensor, Tensor]:
    """Put weights in the order that the kernel reads them in.

    Args:
        weight: (..., K).
        bias: The same without K.
        parts: See `linear_parts`.

    Returns:
        Outputs, of which each part begins with a vector; weights (panels, K, 48); bias; a number for the activation of
        each `WIDEST` outputs.
    """
    rows = weight.detach().flatten(0, -2)
    shift = rows.new_zeros(len(rows)) if bias is None else bias.detach().flatten()
    more = [*(-size % cpu.WIDEST for size, _ in parts[:-1]), 0]
    outputs = len(rows) + sum(more)
    more[-1] = -outputs % PANEL
    sizes = [size for size, _ in parts]
    apart = [F.pad(part, (0, 0, 0, n)) for part, n in zip(torch.split(rows, sizes), more, strict=True)]
    shifts = [F.pad(part, (0, n)) for part, n in zip(torch.split(shift, sizes), more, strict=True)]
    numbers = [
        ACTIVATIONS.index(name)
        for (size, name), n in zip(parts, more, strict=True)
        for _ in range(0, size + n, cpu.WIDEST)
    ]
    whole = torch.cat(apart)
    if (
        -(-outputs // cpu.WIDEST) % 3 == 1 and outputs > PANEL
    ):  # the last two panels share what is left: see linear_start
        shared = len(whole) - 2 * PANEL + torch.arange(2 * PANEL)
        shared[PANEL:] -= cpu.WIDEST
        whole = torch.cat([whole[: -2 * PANEL], whole[shared]])
    panels = whole.view(-1, PANEL, rows.shape[1]).mT.contiguous()
    return outputs, panels, torch.cat(shifts), torch.tensor(numbers, dtype=torch.int32)


def _run(
    x: Tensor, weight: Tensor, bias: Tensor | None, parts: tuple[tuple[int, str], ...], add: Tensor | None
) -> Tensor:
    outputs, panels, shift, numbers = inference.prepared(packed, weight, bias, parts=parts)
    out = x.new_empty(*x.shape[:-1], outputs)
    if not out.numel():
        return out
    rows, before = _rows(x), None if add is None else _rows(add.expand(out.shape))
    row, data = (0, 0) if before is None else (before.stride(0), before.data_ptr())
    pointers = rows.data_ptr(), panels.data_ptr(), shift.data_ptr(), data, numbers.data_ptr(), out.data_ptr()
    strides = rows.stride(0), 1, row, outputs
    arguments = LinearArguments(len(rows), x.shape[-1], outputs, *strides, 1, 0, 0, 0, 0, *pointers, 0)
    threads = torch.get_num_threads() if out.numel() * x.shape[-1] > cpu.SMALL else 1
    cpu.run_team(cpu.kernel("linear"), arguments, threads, (rows, panels, shift, before, numbers, out))
    return out


def _rows(x: Tensor) -> Tensor:
    """(..., K) -> (M, K), columns neighbours in memory; a view where it can be one."""
    rows = x.flatten(0, -2)
    return rows if rows.stride(1) == 1 else rows.contiguous()
