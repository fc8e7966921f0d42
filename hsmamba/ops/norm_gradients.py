"""Batch norm and ReLU in training, of maps whose channels are neighbours in memory and several of which share a norm.

Torch norms such channels as maps that follow each other, which costs a copy there and back.
"""

from __future__ import annotations

import ctypes
from typing import Any, TypeAlias, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hsmamba.ops import cpu, inference

BatchNorm: TypeAlias = "nn.BatchNorm2d | nn.BatchNorm3d"
SUMS, STATISTICS, APPLY, SLOPES, GRADIENTS, BACK = range(6)  # the works of csrc/norms.h


class Norms(ctypes.Structure):
    """Of csrc/norms.h."""

    _fields_ = [
        *(
            (name, ctypes.c_int64)
            for name in ("work", "rows", "columns", "share", "pitch", "x_row", "grad_row", "slots")
        ),
        *((name, ctypes.c_double) for name in ("eps", "momentum")),
        *((name, ctypes.c_void_p) for name in ("x", "grad", "pivot", "weight", "bias", "sums", "table", "taken")),
        *((name, ctypes.c_void_p) for name in ("running_mean", "running_var", "found", "out")),
        ("next_slot", ctypes.c_int64),
    ]


def takes(norm: nn.Module, *tensors: Tensor) -> bool:
    """Whether the kernels may take the place of a batch norm of what is made of these tensors."""
    if type(norm) not in (nn.BatchNorm2d, nn.BatchNorm3d) or not inference.trains(*tensors):
        return False
    if torch._C._len_torch_function_stack():  # what several processes share is taken where torch norms
        return False
    fits = norm.training and norm.affine and norm.track_running_stats and norm.momentum is not None
    return bool(fits) and norm.weight.dtype is cast(Tensor, norm.running_mean).dtype is torch.float32


def trainable_norm(maps: Tensor, norm: BatchNorm, share: int = 1) -> Tensor:
    """Norm maps over the batch as the layer does in training, its statistics with it, and put them through a ReLU.

    Args:
        maps: (B, C S, H, W), float32, channels neighbours in memory.
        norm: Of C channels.
        share: S: so many channels of the maps are one to the norm.

    Returns:
        The same shape and order.

    Raises:
        ValueError: There is one number for each channel, which has no variance.
    """
    made: Tensor = _Norm.apply(maps, norm.weight, norm.bias, norm, share)
    return made


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, maps: Tensor, weight: Tensor, bias: Tensor, norm: BatchNorm, share: int) -> Tensor:
        rows, out = rows_of(maps), like(maps, maps.shape[1])
        norms = norms_of(rows, share)
        norms.pivot = norms.x
        table, held = fill_in(norms, norm, weight, bias)
        run(norms, SUMS, (rows, held))
        run(norms, STATISTICS, (rows, held))
        norms.out = out.data_ptr()
        run(norms, APPLY, (rows, held, out))
        ctx.save_for_backward(maps, weight, bias, table)
        ctx.eps, ctx.share = norm.eps, share
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        maps, weight, bias, table = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient is to be differentiated in its turn
            y = plain_norm(maps, weight, bias, ctx.eps, ctx.share)
            return *torch.autograd.grad(y, (maps, weight, bias), grad, create_graph=True), None, None
        rows, slopes, dx = rows_of(maps), rows_of(grad), like(maps, maps.shape[1])
        norms = norms_of(rows, ctx.share)
        found, held = slopes_of(norms, slopes, table)
        run(norms, SLOPES, (rows, held))
        run(norms, GRADIENTS, (rows, held))
        norms.out = dx.data_ptr()
        run(norms, BACK, (rows, held, dx))
        return dx, *found, None, None


def plain_norm(maps: Tensor, weight: Tensor, bias: Tensor, eps: float, share: int = 1) -> Tensor:
    """Compute the norm and the ReLU in operations that can be differentiated twice."""
    apart = maps.unflatten(1, (-1, share))  # type: ignore[no-untyped-call]
    return F.relu(F.batch_norm(apart, None, None, weight, bias, True, 0.0, eps)).flatten(1, 2)


def rows_of(maps: Tensor) -> Tensor:
    """(B, C, H, W) -> (B H W, C), columns neighbours in memory."""
    rows = maps.permute(0, 2, 3, 1).flatten(0, 2)
    return rows if rows.stride(1) == 1 else rows.contiguous()


def like(maps: Tensor, channels: int) -> Tensor:
    """New maps (B, channels, H, W), channels neighbours in memory."""
    batch, _, height, width = maps.shape
    return maps.new_empty(batch, height, width, channels).permute(0, 3, 1, 2)


def norms_of(x: Tensor, share: int, inputs: int = 1) -> Norms:
    """Describe rows (R, C S) for the kernel, what a product of so many inputs gives."""
    (rows, columns), threads = x.shape, torch.get_num_threads() if x.numel() * inputs > cpu.SMALL else 1
    pitch = -(-columns // cpu.WIDEST) * cpu.WIDEST
    slots = min(rows, cpu.RUNS_PER_THREAD * threads) if threads > 1 else 1
    return Norms(rows=rows, columns=columns, share=share, pitch=pitch, x_row=x.stride(0), slots=slots, x=x.data_ptr())


def fill_in(norms: Norms, norm: BatchNorm, weight: Tensor, bias: Tensor) -> tuple[Tensor, object]:
    """Say what is the layer's, and where sums go and the table that is made of them; that table, and what to hold."""
    if norms.rows * norms.share == 1:
        raise ValueError(
            "batch norm in training got one number for each channel and needs more: take a larger batch or patch"
        )
    running = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    table = weight.new_zeros(4 + 2 * norms.slots, norms.pitch)
    norms.table, norms.sums = table.data_ptr(), table[4:].data_ptr()
    norms.eps, norms.momentum = norm.eps, norm.momentum
    norms.weight, norms.bias = weight.data_ptr(), bias.data_ptr()
    norms.running_mean, norms.running_var = (x.data_ptr() for x in running)
    cast(Tensor, norm.num_batches_tracked).add_(1)
    return table, (table, weight, bias, running)


def slopes_of(norms: Norms, slopes: Tensor, table: Tensor) -> tuple[Tensor, object]:
    """Say what gradients are made of; those of weight and bias (2, C), which `GRADIENTS` fills in, and what to hold."""
    sums = table.new_zeros(2 + 2 * norms.slots, norms.pitch)
    found = table.new_empty(2, norms.columns // norms.share)
    norms.grad, norms.grad_row, norms.table = slopes.data_ptr(), slopes.stride(0), table.data_ptr()
    norms.taken, norms.sums, norms.found = sums.data_ptr(), sums[2:].data_ptr(), found.data_ptr()
    return found, (slopes, table, sums, found)


def run(norms: Norms, work: int, held: object, name: str = "norms", arguments: ctypes.Structure | None = None) -> None:
    """Do one work, on a team of threads where it is cut into tasks; `arguments` are those the norm's are a part of."""
    norms.work, norms.next_slot = work, 0
    threads = 1 if norms.slots == 1 or work in (STATISTICS, GRADIENTS) else torch.get_num_threads()
    cpu.run_team(cpu.kernel(name), norms if arguments is None else arguments, threads, held)
