"""Batch norm and ReLU in training, of maps whose channels are neighbours in memory and several of which share a norm.

Torch norms such channels as maps that follow each other, which costs a copy there and back.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hsmamba.ops import cpu, inference

_SUMS, _APPLY, _SLOPES, _BACK = range(4)  # the works of csrc/norms.h
_Norms = ctypes.c_int64 * 17  # of csrc/norms.h, whose fields have 64 bits each


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
    return bool(fits) and norm.weight.dtype is torch.float32


def trainable_norm(x: Tensor, norm: nn.BatchNorm2d | nn.BatchNorm3d, share: int) -> Tensor:
    """Norm maps over the batch as the layer does in training, its statistics with it, and put them through a ReLU.

    Args:
        x: (B, H, W, C S), float32, channels neighbours in memory; S columns in a row are one channel to the norm.
        norm: Of C channels.
        share: S.

    Returns:
        The same shape.
    """
    y, mean, variance = _Norm.apply(x, norm.weight, norm.bias, norm.eps, share)
    count = x.numel() // norm.num_features
    with torch.no_grad():
        norm.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        norm.running_mean.lerp_(mean, norm.momentum)  # type: ignore[union-attr, arg-type]
        norm.running_var.lerp_(variance * (count / max(count - 1, 1)), norm.momentum)  # type: ignore[union-attr, arg-type]
    out: Tensor = y
    return out


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, share: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        rows = _rows(x)
        count = x.numel() // len(weight)
        near = rows[0].detach().clone()  # of the mean: what is summed is small, and its square says the variance
        first, second = _totals(_SUMS, rows, mean=near).double()
        away = near.double() + first / len(rows)  # the mean of each column
        mean = away.view(-1, share).mean(1)
        apart = near.double() - mean.repeat_interleave(share)
        variance = (second + apart * (2 * first + len(rows) * apart)).view(-1, share).sum(1) / count
        mean, variance = mean.float(), variance.float()
        rate = torch.rsqrt(variance + eps)
        scale = weight * rate
        columns = [t.repeat_interleave(share) for t in (mean, scale, bias - mean * scale)]
        ctx.save_for_backward(x, weight, bias, rate, *columns)
        ctx.eps, ctx.share = eps, share
        ctx.mark_non_differentiable(mean, variance)
        made = _mapped(_APPLY, rows, scale=columns[1], shift=columns[2])
        return made.view(x.shape), mean, variance

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, weight, bias, rate, mean, scale, shift = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient is to be differentiated in its turn
            maps = x.unflatten(-1, (-1, ctx.share)).movedim(-2, 1)
            y = F.batch_norm(maps, None, None, weight, bias, True, 0.0, ctx.eps).movedim(1, -2).flatten(-2)
            found = torch.autograd.grad(F.relu(y), (x, weight, bias), grad, create_graph=True)
            return *found, None, None
        count = x.numel() // len(weight)
        rows, slopes = _rows(x), _rows(grad)
        columns = {"mean": mean, "scale": scale, "shift": shift}
        sums = _totals(_SLOPES, rows, slopes, **columns)
        dbias, along = sums.view(2, -1, ctx.share).sum(2)
        a, b = ((t / count).repeat_interleave(ctx.share) for t in (dbias, along * rate**2))
        dx = _mapped(_BACK, rows, slopes, **columns, a=a, b=b)
        return dx.view(x.shape), along * rate, dbias, None, None


def _rows(x: Tensor) -> Tensor:
    """(B, H, W, C) -> (B H W, C), columns neighbours in memory."""
    rows = x.flatten(0, 2)
    return rows if rows.stride(1) == 1 else rows.contiguous()


def _totals(work: int, x: Tensor, grad: Tensor | None = None, **columns: Tensor) -> Tensor:
    """Compute the two sums of each column: (2, C)."""
    pitch = -(-x.shape[1] // cpu.WIDEST) * cpu.WIDEST
    slots = cpu.RUNS_PER_THREAD * torch.get_num_threads() if _threads(x) > 1 else 1
    sums = x.new_zeros(slots, 2, pitch)
    _run(work, x, grad, columns, pitch, slots, sums, None)
    return sums.sum(0)[:, : x.shape[1]]


def _mapped(work: int, x: Tensor, grad: Tensor | None = None, **columns: Tensor) -> Tensor:
    """Compute the result, or the gradient, of each row."""
    out = x.new_empty(x.shape)
    slots = cpu.RUNS_PER_THREAD * torch.get_num_threads() if _threads(x) > 1 else 1
    _run(work, x, grad, columns, -(-x.shape[1] // cpu.WIDEST) * cpu.WIDEST, slots, None, out)
    return out


def _threads(x: Tensor) -> int:
    return torch.get_num_threads() if x.numel() > cpu.SMALL else 1


def _run(
    work: int,
    x: Tensor,
    grad: Tensor | None,
    columns: dict[str, Tensor],
    pitch: int,
    slots: int,
    sums: Tensor | None,
    out: Tensor | None,
) -> None:
    more = pitch - x.shape[1]
    wide = {name: F.pad(t, (0, more)) if more else t.contiguous() for name, t in columns.items()}
    names = "mean", "scale", "shift", "a", "b"
    given = [x, grad, *(wide.get(name) for name in names), sums, out]
    pointers = (0 if t is None else t.data_ptr() for t in given)
    row = 0 if grad is None else grad.stride(0)
    arguments = _Norms(work, *x.shape, pitch, x.stride(0), row, slots, *pointers, 0)
    cpu.run_team(_kernel(), arguments, _threads(x), given)
