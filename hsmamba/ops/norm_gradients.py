"""Batch norm and ReLU in training, of maps whose channels are neighbours in memory and several of which share a norm.

Torch norms such channels as maps that follow each other, which costs a copy there and back.
"""

from __future__ import annotations

import ctypes
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hsmamba.ops import cpu, inference

_SUMS, _STATISTICS, _APPLY, _SLOPES, _GRADIENTS, _BACK = range(6)  # the works of csrc/norms.h


class _Norms(ctypes.Structure):
    """Of csrc/norms.h."""

    _fields_ = [
        *(
            (name, ctypes.c_int64)
            for name in ("work", "rows", "columns", "share", "pitch", "x_row", "grad_row", "slots")
        ),
        ("eps", ctypes.c_double),
        *(
            (name, ctypes.c_void_p)
            for name in ("x", "grad", "weight", "bias", "sums", "table", "taken", "found", "out")
        ),
        ("next_slot", ctypes.c_int64),
    ]


def _kernel() -> Any:
    """The function at this machine's level; None without a library."""
    return getattr(cpu.load(), f"hsmamba_norms_{cpu.level()}", None)


def takes(norm: nn.Module, *tensors: Tensor) -> bool:
    """Whether `trainable_norm` may take the place of a batch norm of what is made of these tensors."""
    if type(norm) not in (nn.BatchNorm2d, nn.BatchNorm3d) or not inference.trains(*tensors) or _kernel() is None:
        return False
    if torch._C._len_torch_function_stack():  # what several processes share is taken where torch norms
        return False
    fits = norm.training and norm.affine and norm.track_running_stats and norm.momentum is not None
    several = min(x.numel() for x in tensors) > cast(int, norm.num_features)  # numbers a channel; torch refuses one
    return bool(fits) and norm.weight.dtype is torch.float32 and several


def trainable_norm(x: Tensor, norm: nn.BatchNorm2d | nn.BatchNorm3d, share: int = 1) -> Tensor:
    """Norm maps over the batch as the layer does in training, its statistics with it, and put them through a ReLU.

    Args:
        x: (B, H, W, C S), float32, channels neighbours in memory.
        norm: Of C channels.
        share: S: so many columns in a row are one channel to the norm.

    Returns:
        The same shape.
    """
    made: Tensor = _Norm.apply(x, norm.weight, norm.bias, norm, share)
    return made


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, norm: nn.BatchNorm2d | nn.BatchNorm3d, share: int
    ) -> Tensor:
        out = x.new_empty(x.shape)
        rows, threads = _rows(x), _threads(x)
        arguments = _arguments(rows, share, threads)
        sums, table, found = _sums(arguments, x), x.new_zeros(4, arguments.pitch), x.new_empty(2, len(weight))
        arguments.eps, arguments.out = norm.eps, out.data_ptr()
        arguments.weight, arguments.bias = weight.data_ptr(), bias.data_ptr()
        arguments.sums, arguments.table, arguments.found = sums.data_ptr(), table.data_ptr(), found.data_ptr()
        _run(arguments, (_SUMS, _STATISTICS, _APPLY), threads, (rows, weight, bias, sums, table, found, out))
        norm.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        norm.running_mean.lerp_(found[0], norm.momentum)  # type: ignore[union-attr, arg-type]
        norm.running_var.lerp_(found[1], norm.momentum)  # type: ignore[union-attr, arg-type]
        ctx.save_for_backward(x, weight, bias, table)
        ctx.eps, ctx.share = norm.eps, share
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, table = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient is to be differentiated in its turn
            maps = x.unflatten(-1, (-1, ctx.share)).movedim(-2, 1)
            y = F.batch_norm(maps, None, None, weight, bias, True, 0.0, ctx.eps).movedim(1, -2).flatten(-2)
            found = torch.autograd.grad(F.relu(y), (x, weight, bias), grad, create_graph=True)
            return *found, None, None
        dx = x.new_empty(x.shape)
        rows, slopes, threads = _rows(x), _rows(grad), _threads(x)
        arguments = _arguments(rows, ctx.share, threads)
        sums, taken, found = _sums(arguments, x), x.new_zeros(2, arguments.pitch), x.new_empty(2, len(weight))
        arguments.grad, arguments.grad_row = slopes.data_ptr(), slopes.stride(0)
        arguments.sums, arguments.table, arguments.found = sums.data_ptr(), table.data_ptr(), found.data_ptr()
        arguments.taken, arguments.out = taken.data_ptr(), dx.data_ptr()
        _run(arguments, (_SLOPES, _GRADIENTS, _BACK), threads, (rows, slopes, sums, table, taken, found, dx))
        return dx, found[0], found[1], None, None


def _rows(x: Tensor) -> Tensor:
    """(B, H, W, C) -> (B H W, C), columns neighbours in memory."""
    rows = x.flatten(0, 2)
    return rows if rows.stride(1) == 1 else rows.contiguous()


def _threads(x: Tensor) -> int:
    return torch.get_num_threads() if x.numel() > cpu.SMALL else 1


def _arguments(x: Tensor, share: int, threads: int) -> _Norms:
    pitch = -(-x.shape[1] // cpu.WIDEST) * cpu.WIDEST
    slots = cpu.RUNS_PER_THREAD * threads if threads > 1 else 1
    return _Norms(
        rows=x.shape[0], columns=x.shape[1], share=share, pitch=pitch, x_row=x.stride(0), slots=slots, x=x.data_ptr()
    )


def _sums(arguments: _Norms, x: Tensor) -> Tensor:
    return x.new_zeros(arguments.slots, 2, arguments.pitch)


def _run(arguments: _Norms, works: tuple[int, int, int], threads: int, held: object) -> None:
    """Do the first and the last on a team of threads, what is between them at once."""
    for work, team in zip(works, (threads, 1, threads), strict=True):
        arguments.work, arguments.next_slot = work, 0
        cpu.run_team(_kernel(), arguments, team, held)
