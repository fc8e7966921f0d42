"""Products of rows in training with what stands before and behind them: each block of rows stays in a cache meanwhile.

Before a product may stand another batch norm and its ReLU, or depthwise convolutions beside the maps, which are made
block by block, and again for the gradients; behind it a batch norm and a ReLU, or a ReLU or a softplus, or nothing.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hsmamba.ops import depthwise
from hsmamba.ops.norm_gradients import (
    APPLY,
    BACK,
    GRADIENTS,
    SLOPES,
    STATISTICS,
    SUMS,
    BatchNorm,
    Norms,
    fill_in,
    like,
    norms_of,
    plain_norm,
    rows_of,
    run,
    slopes_of,
)
from hsmamba.ops.products import GradientArguments, LinearArguments, described, filled

# by what follows a product, of csrc/normed_product.h: activations whose slopes their results tell
_WORKS = {name: BACK + 1 + i for i, name in enumerate(("", "relu", "softplus", "tanh", "sigmoid"))}
TOLD = tuple(_WORKS)[1:]
_MOST_BESIDE = 4  # convolutions, MOST_BESIDE of csrc/normed_product.h
_BLOCK = 128  # rows, GRADIENT_ROWS of csrc/linear_gradients.h


class _Product(ctypes.Structure):
    """NormedProduct of csrc/normed_product.h."""

    _fields_ = [
        ("norm", Norms),
        ("product", LinearArguments),
        ("gradients", GradientArguments),
        *((name, ctypes.c_void_p) for name in ("scratch", "before", "beside", "beside_back", "whole")),
    ]


def trainable_product(
    maps: Tensor,
    conv: nn.Conv2d,
    norm: BatchNorm,
    *,
    before: BatchNorm | None = None,
    beside: Sequence[Tensor] = (),
) -> Tensor:
    """Convolve maps by kernels of size 1, norm them over the batch as the layer does in training, and apply a ReLU.

    Args:
        maps: (B, K, H, W), float32, channels neighbours in memory.
        conv: Of (1 + n) K channels, at most 1024.
        norm: Of the C channels that the convolution makes.
        before: A norm that the maps go through before, and a ReLU; of K channels, or fewer, each of which is that of so
            many neighbours.
        beside: n kernels (K, 1, h, w) of odd sides, at most 4: what they make of the maps, zeros around these, stands
            behind the maps. Not with `before`.

    Returns:
        (B, C, H, W), channels neighbours in memory.

    Raises:
        ValueError: There is one number for each channel, which has no variance; or more stands beside or before the
            maps than the kernel takes.
    """
    if len(beside) > _MOST_BESIDE or (beside and before is not None):
        raise ValueError(
            f"the kernel takes a norm before the maps or up to {_MOST_BESIDE} convolutions beside them, got "
            f"{len(beside)} convolutions{'' if before is None else ' and a norm'}: convolve by torch"
        )
    first = (None, None, None) if before is None else (before.weight, before.bias, before)
    layers = conv.weight, conv.bias, norm.weight, norm.bias, norm, *first
    made: Tensor = _ProductNorm.apply(maps, *layers, *beside)
    return made


class _ProductNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        maps: Tensor,
        kernels: Tensor,
        shift: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        norm: BatchNorm,
        first_weight: Tensor | None,
        first_bias: Tensor | None,
        before: BatchNorm | None,
        *beside: Tensor,
    ) -> Tensor:
        outputs, inputs = kernels.shape[:2]
        y, out, taps = like(maps, outputs), like(maps, outputs), depthwise.together(beside) if beside else None
        arguments, first, held = _arguments(maps, inputs, y, first_weight, beside, taps)
        norms, first_table = arguments.norm, None
        if first is not None:
            first.pivot = first.x
            first_table, more = fill_in(
                first, cast(BatchNorm, before), cast(Tensor, first_weight), cast(Tensor, first_bias)
            )
            held = held, more
            run(first, SUMS, held)
            run(first, STATISTICS, held)
        matrix, shifts = filled(kernels.flatten(1).mT), None if shift is None else filled(shift[None])
        table, more = fill_in(norms, norm, weight, bias)
        x = rows_of(maps)
        x_row = x.stride(0) if arguments.whole is None else inputs
        pointers = [0 if one is None else one.data_ptr() for one in (x, matrix, shifts, None, None, y)]
        arguments.product = described(norms.rows, inputs, outputs, x_row, matrix.stride(0), pointers)
        held = held, more, x, matrix, shifts, out
        run(norms, SUMS, held, "normed_product", arguments)
        norms.pivot, norms.out = arguments.scratch, out.data_ptr()  # the first row, for there is at least one task
        run(norms, STATISTICS, held)
        run(norms, APPLY, held)
        ctx.save_for_backward(
            maps, kernels, shift, y, weight, bias, table, first_weight, first_bias, first_table, taps, *beside
        )
        ctx.eps = norm.eps, None if before is None else before.eps
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        maps, kernels, shift, y, weight, bias, table, *firsts, taps = ctx.saved_tensors[:11]
        (first_weight, first_bias, first_table), beside = firsts, ctx.saved_tensors[11:]
        if torch.is_grad_enabled():  # the gradient is to be differentiated in its turn
            leaves = maps, kernels, shift, weight, bias, None, first_weight, first_bias, None, *beside
            return _differentiable(ctx, grad, leaves)
        arguments, first, held = _arguments(maps, kernels.shape[1], y, first_weight, beside, taps)
        norms, pixels = arguments.norm, maps.permute(0, 2, 3, 1)
        of_norm, more = slopes_of(norms, rows_of(grad), table)
        run(norms, SLOPES, (held, more))
        run(norms, GRADIENTS, (held, more))
        dx = like(maps, maps.shape[1]) if ctx.needs_input_grad[0] or first is not None else None
        held, of_first, of_beside = (held, more), cast(Any, (None, None)), cast(Any, ())
        if first is not None and dx is not None:
            first.slots = norms.slots
            of_first, more = slopes_of(first, rows_of(dx), first_table)
            held = held, more
        if beside:
            to = None if dx is None else dx.permute(0, 2, 3, 1)
            chain, sums, more = depthwise.gradients_beside(pixels, beside, taps, to, norms.slots)
            arguments.beside_back, held = ctypes.addressof(chain), (held, chain, more)
        x, weights = rows_of(maps), kernels.flatten(1)
        x_row = x.stride(0) if arguments.whole is None else len(weights[0])
        of_weights, _ = _gradients(arguments, BACK, weights, x, x_row, dx, len(weights), held, biased=False)
        of_shift = None if shift is None else torch.zeros_like(shift)  # the norm takes it away again
        if first is not None and dx is not None:
            run(first, GRADIENTS, held)
            first.out = dx.data_ptr()  # in the place of what it is made of
            run(first, BACK, held)
        if beside:
            of_beside = [one for one, _ in depthwise.found(sums, beside)]
        return dx, of_weights.view(kernels.shape), of_shift, *of_norm, None, *of_first, None, *of_beside


def _differentiable(ctx: Any, grad: Tensor, leaves: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
    """Compute the gradients by torch's operations."""
    maps, kernels, shift, weight, bias, _, first_weight, first_bias, _, *beside = cast(Any, leaves)
    eps, first_eps = ctx.eps
    if first_weight is not None:
        maps = plain_norm(maps, first_weight, first_bias, first_eps, maps.shape[1] // len(first_weight))
    seen = torch.cat([maps, *(F.conv2d(maps, w, padding="same", groups=len(w)) for w in beside)], 1)
    normed = plain_norm(F.conv2d(seen, kernels, shift), weight, bias, eps)
    needed = [cast(Tensor, x) for x, need in zip(leaves, ctx.needs_input_grad, strict=True) if need]
    given = iter(torch.autograd.grad(normed, needed, grad, create_graph=True))
    return tuple(next(given) if need else None for need in ctx.needs_input_grad)


def product_gradients(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    dx: Tensor | None,
    y: Tensor | None,
    activation: str,
    *,
    biased: bool,
    add: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Compute the gradients of activation(x W^T + b).

    Args:
        grad: (R, N), of the result; float32 on a CPU, columns neighbours in memory, as the others.
        x: (R, K).
        weight: (N, K).
        dx: Takes the gradient of x, if it is asked for; so many numbers, one row after the other.
        y: (R, N), the result where there is an activation.
        activation: "", or one of `TOLD`.
        biased: Whether there is a bias.
        add: What is added to dx, as many numbers, one row after the other.

    Returns:
        Those of weight (N, K) and bias (N,).
    """
    arguments = _Product(norm=norms_of(grad if y is None else y, 1, x.shape[1]))
    norms, scratch, row = arguments.norm, None, grad.stride(0)
    norms.grad, norms.grad_row = grad.data_ptr(), row
    if y is not None:
        row, scratch = norms.columns, grad.new_empty(norms.slots, _BLOCK, norms.pitch)
        arguments.scratch = scratch.data_ptr()
    held = grad, y, scratch, add
    at = 0 if add is None else add.data_ptr()
    return _gradients(arguments, _WORKS[activation], weight, x, x.stride(0), dx, row, held, biased=biased, add=at)


def _arguments(
    maps: Tensor, inputs: int, y: Tensor, first_weight: Tensor | None, beside: Sequence[Tensor], taps: Tensor | None
) -> tuple[_Product, Norms | None, object]:
    """Describe what forward and backward share, and the norm that stands before; and what they hold."""
    arguments = _Product(norm=norms_of(rows_of(y), 1, inputs), gradients=GradientArguments(0, 0, inputs))
    norms, block, first, chain, whole, held = arguments.norm, _BLOCK, None, None, None, None
    if taps is not None:
        norms.slots, block = min(norms.slots, len(maps)), maps[0, 0].numel()
        chain, held = depthwise.beside(maps.permute(0, 2, 3, 1), beside, taps)
        arguments.beside = ctypes.addressof(chain)
    elif first_weight is not None:
        first = norms_of(rows_of(maps), inputs // len(first_weight))
        arguments.before = ctypes.addressof(first)
    if taps is not None or first_weight is not None:
        whole = y.new_empty(norms.slots, 2, block, inputs)
        arguments.whole = whole.data_ptr()
    scratch = y.new_empty(norms.slots, block, norms.pitch)
    arguments.scratch = scratch.data_ptr()
    return arguments, first, (maps, y, scratch, whole, first, chain, held)


def _gradients(
    arguments: _Product,
    work: int,
    weight: Tensor,
    x: Tensor,
    x_row: int,
    dx: Tensor | None,
    row: int,
    held: object,
    *,
    biased: bool,
    add: int = 0,
) -> tuple[Tensor, Tensor | None]:
    """Compute the gradients of a product.

    Args:
        arguments: Of the kernel, so far those of what follows the product, and of what makes its rows.
        work: See csrc/normed_product.h.
        weight: (N, K).
        x: (R, K), or anything where the kernel makes it.
        x_row: From one row of it to the next.
        dx: See `product_gradients`.
        row: From one row of the gradient of the product's rows to the next.
        held: What the arguments point to.
        biased: See `product_gradients`.
        add: Address of what is added to dx, or 0.
    """
    norms, matrix, (outputs, inputs) = arguments.norm, filled(weight), weight.shape
    of_weight = weight.new_empty(norms.slots, outputs, inputs)
    of_bias = weight.new_empty(norms.slots, outputs) if biased else None
    pointers = [0, matrix.data_ptr(), 0, add, 0, 0 if dx is None else dx.data_ptr()]
    arguments.product = described(norms.rows, outputs, inputs, row, matrix.stride(0), pointers)
    places = (0 if one is None else one.data_ptr() for one in (x, of_weight, of_bias))
    arguments.gradients = GradientArguments(norms.rows, outputs, inputs, row, x_row, norms.slots, 0, *places)
    run(norms, work, (held, matrix, x, dx, of_weight, of_bias), "normed_product", arguments)
    dweight, dbias = (y if y is None else y[0] if len(y) == 1 else y.sum(0) for y in (of_weight, of_bias))
    return cast(Tensor, dweight), dbias
