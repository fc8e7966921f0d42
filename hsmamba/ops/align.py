"""RAMSF's alignment in training: a perceptron that looks from each fine pixel at its four nearest coarse ones.

What is between its layers is several times as large as the second cache and, of a whole map, goes to memory and back
for each operation. The compiled kernel takes a few pixels through all layers, forward and back, and keeps the second
layer alone. In the library of the scan, on a CPU in float32.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hsmamba.ops import cpu, inference
from hsmamba.ops.linear_gradients import trainable_linear

_PIXELS = 16  # of a block, csrc/align.h
_RECTIFIED = 5  # csrc/linear.h
_MOST_INPUTS = 1024  # of a layer: a panel of more weights falls out of the second cache
_int = ctypes.c_int64
_ptr = ctypes.c_void_p
Layer = tuple[Tensor, Tensor]


class _Align(ctypes.Structure):
    _fields_ = [
        *((name, _int) for name in ("images", "rows", "width", "hidden", "second", "answers", "pitch")),
        *((name, _ptr) for name in ("fine", "coarse", "weights", "turned", "last", "last_turned", "bias", "last_bias")),
        *((name, _ptr) for name in ("rectified", "z", "o", "out", "dfine")),
        ("slots", _int),
        *((name, _ptr) for name in ("dcoarse", "dweights", "dlast", "dbias", "dlast_bias", "scratch")),
        *((name, _int) for name in ("scratch_floats", "next_thread", "next_task")),
    ]


def align(fine: Tensor, coarse: Tensor, layers: Sequence[Layer]) -> Tensor:
    """Average what the four neighbours answer, o = layers(relu(fine + coarse)), by a softmax of the last entry of o.

    Args:
        fine: What the first layer makes of fine pixels, (B, 2 R, 2 w, M).
        coarse: What it makes of coarse ones, with one more around them, (B, R + 2, w + 2, M).
        layers: Weight (N, M) and bias (N,) of the layers behind the first, a ReLU between each two.

    Returns:
        (B, 2 R, 2 w, O), O one less than the last layer has outputs.
    """
    tensors = fine, coarse, *itertools.chain(*layers)
    if inference.trains(*tensors) and _fits(fine, layers):
        (weight, bias), (last, last_bias) = layers
        out: Tensor = _Aligned.apply(fine, coarse, weight, bias, last, last_bias)
        return out
    return _plain(_Neighbours.apply(fine, coarse), layers)


def _fits(fine: Tensor, layers: Sequence[Layer]) -> bool:
    hidden = fine.shape[-1]
    if len(layers) != 2 or not fine.numel() or max(hidden, len(layers[0][0])) > _MOST_INPUTS:
        return False
    return hidden % cpu.WIDEST == len(layers[0][0]) % cpu.WIDEST == 0 and len(layers[1][0]) > 1


def _plain(hidden: Tensor, layers: Sequence[Layer]) -> Tensor:
    """Do the same from the first layer on, (2, 2, 2, 2, B, R, w, M), by one product a layer for all neighbours."""
    z = hidden.flatten(0, -2)
    for i, (weight, bias) in enumerate(layers, 1):
        z = trainable_linear(z, weight, bias)
        z = z if i == len(layers) else F.relu(z)
    o = z.view(2, 2, 4, *hidden.shape[4:-1], -1)
    o = (o[..., -1:].softmax(2) * o[..., :-1]).sum(2)
    _, _, batch, rows, width, outputs = o.shape
    found: Tensor = o.permute(2, 3, 0, 4, 1, 5).reshape(batch, 2 * rows, 2 * width, outputs)
    return found


def _corners(fine: Tensor) -> Tensor:
    """(B, 2 R, 2 w, M) by row and column in a block: (2, 2, B, R, w, M)."""
    batch, rows, width, hidden = fine.shape
    return fine.view(batch, rows // 2, 2, width // 2, 2, hidden).permute(2, 4, 0, 1, 3, 5)


def _shifted(coarse: Tensor, down: int, across: int) -> Tensor:
    """Cut from (B, R + 2, w + 2, M) what lies so many pixels further: (B, R, w, M)."""
    rows, width = coarse.shape[1] - 2, coarse.shape[2] - 2
    return coarse[:, down : down + rows, across : across + width]


class _Neighbours(torch.autograd.Function):
    """The first layer of each fine pixel, seen from its four nearest coarse ones.

    Shape: (B, 2 R, 2 w, M) and (B, R + 2, w + 2, M) -> (2, 2, 2, 2, B, R, w, M): row and column of a fine pixel in its
    block, row and column of the neighbour among the four.
    """

    @staticmethod
    def forward(ctx: Any, fine: Tensor, coarse: Tensor) -> Tensor:
        here = _corners(fine)
        out = fine.new_empty(2, 2, 2, 2, *here.shape[2:])
        for i, j, a, b in itertools.product(range(2), repeat=4):
            torch.add(here[i, j], _shifted(coarse, i + a, j + b), out=out[i, j, a, b]).relu_()
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        (out,) = ctx.saved_tensors
        batch, rows, width, hidden = out.shape[4:]
        dfine = grad.new_zeros(2, 2, batch, rows, width, hidden)
        dcoarse = grad.new_zeros(batch, rows + 2, width + 2, hidden)
        for i, j, a, b in itertools.product(range(2), repeat=4):
            slope = torch.ops.aten.threshold_backward(grad[i, j, a, b], out[i, j, a, b], 0)
            dfine[i, j] += slope
            _shifted(dcoarse, i + a, j + b).add_(slope)
        return dfine.permute(2, 3, 0, 4, 1, 5).reshape(batch, 2 * rows, 2 * width, hidden), dcoarse


class _Aligned(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> Tensor:
        fine, _, weight, _, last, _ = tensors = tuple(x.contiguous() for x in tensors)
        images, rows, width, hidden = fine.shape
        rows, width = rows // 2, width // 2
        blocks = images * -(-rows * width // _PIXELS)
        second, answers = len(weight), len(last)
        pitch = -(-answers // cpu.WIDEST) * cpu.WIDEST
        z, o = (fine.new_empty(blocks, 4, 4 * _PIXELS, n) for n in (second, pitch))
        out = fine.new_empty(images, 2 * rows, 2 * width, answers - 1)
        sizes = images, rows, width, hidden, second, answers, pitch
        threads = torch.get_num_threads() if z.numel() > cpu.SMALL else 1
        _run("align", sizes, tensors, threads, 4 * _PIXELS * hidden, z=z, o=o, out=out)
        ctx.save_for_backward(*tensors, z, o)
        ctx.sizes, ctx.threads = sizes, threads
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        *tensors, z, o = ctx.saved_tensors
        fine, coarse, weight, bias, last, last_bias = tensors
        if torch.is_grad_enabled():  # the gradient is to be differentiated in its turn
            here = _corners(fine)
            hidden = torch.stack(
                [here[i, j] + _shifted(coarse, i + a, j + b) for i, j, a, b in itertools.product(range(2), repeat=4)]
            ).view(2, 2, 2, 2, *here.shape[2:])
            made = _plain(hidden.relu(), ((weight, bias), (last, last_bias)))
            asked = [x for x, needed in zip(tensors, ctx.needs_input_grad, strict=True) if needed]
            found = iter(torch.autograd.grad(made, asked, grad, create_graph=True))
            return tuple(next(found) if needed else None for needed in ctx.needs_input_grad)
        *_, hidden, second, _, pitch = ctx.sizes
        dfine = torch.empty_like(fine)
        sums = {
            "dcoarse": coarse.new_zeros(ctx.threads, *coarse.shape),
            "dweights": weight.new_zeros(ctx.threads, *weight.shape),
            "dbias": bias.new_zeros(ctx.threads, second),
            "dlast": last.new_zeros(ctx.threads, *last.shape),
            "dlast_bias": bias.new_zeros(ctx.threads, pitch),
        }
        floats = 4 * _PIXELS * (2 * hidden + second + pitch)
        more = {"z": z, "o": o, "out": grad.contiguous(), "dfine": dfine, **sums}
        _run("align_backward", ctx.sizes, tensors, ctx.threads, floats, slots=ctx.threads, **more)
        dcoarse, dweight, dbias, dlast, dlast_bias = (x[0] if len(x) == 1 else x.sum(0) for x in sums.values())
        return dfine, dcoarse, dweight, dbias, dlast, dlast_bias[: len(last)].clone()


def _run(
    name: str,
    sizes: tuple[int, ...],
    tensors: Sequence[Tensor],
    threads: int,
    floats: int,
    slots: int = 0,
    **more: Tensor,
) -> None:
    fine, coarse, weight, bias, last, last_bias = tensors
    second, answers, pitch = sizes[-3:]
    wide = pitch - answers
    scratch = fine.new_empty(threads * floats + cpu.WIDEST)
    held = {
        **{"fine": fine, "coarse": coarse, "weights": weight, "turned": weight.mT.contiguous(), "last": last},
        **{
            "last_turned": F.pad(last.mT, (0, wide)).contiguous(),
            "bias": bias,
            "last_bias": F.pad(last_bias, (0, wide)),
        },
        "rectified": torch.full((second // cpu.WIDEST,), _RECTIFIED, dtype=torch.int32),
        **more,
    }
    arguments = _Align(*sizes, **{key: x.data_ptr() for key, x in held.items()})
    arguments.slots, arguments.scratch_floats = slots, floats
    arguments.scratch = -(-scratch.data_ptr() // 64) * 64
    cpu.run_team(cpu.kernel(name), arguments, threads, (held, scratch))
