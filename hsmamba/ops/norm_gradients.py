"""Batch norm and ReLU in training, of maps whose channels are neighbours in memory and several of which share a norm.

Torch norms such channels as maps that follow each other, which costs a copy there and back.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hsmamba.ops import inference
from hsmamba.ops.rows import RowProgram

_sums = RowProgram("s = total(x)", "s")
_squares = RowProgram("c = x - mean; s = total(c * c)", "s")
_rectified = RowProgram("y = relu(x * scale + shift)", "y")
_slopes = RowProgram("r = g * positive(x * scale + shift); a = total(r); b = total(r * (x - mean))", "a", "b")
_back = RowProgram("y = (g * positive(x * scale + shift) - a - (x - mean) * b) * scale", "y")


def takes(norm: nn.Module, *tensors: Tensor) -> bool:
    """Whether `trainable_norm` may take the place of a batch norm of what is made of these tensors."""
    if type(norm) not in (nn.BatchNorm2d, nn.BatchNorm3d) or not inference.trains(*tensors):
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
        count = x.numel() // len(weight)

        def mean_of(totals: Tensor) -> Tensor:
            return (totals.sum((0, 1), dtype=torch.float64).view(-1, share).sum(1) / count).float()

        mean = mean_of(_sums(x=x))
        variance = mean_of(_squares(x=x, mean=mean.repeat_interleave(share)))
        rate = torch.rsqrt(variance + eps)
        scale = weight * rate
        columns = [t.repeat_interleave(share) for t in (mean, scale, bias - mean * scale)]
        ctx.save_for_backward(x, weight, bias, rate, *columns)
        ctx.eps, ctx.share = eps, share
        ctx.mark_non_differentiable(mean, variance)
        return _rectified(x=x, scale=columns[1], shift=columns[2]), mean, variance

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, weight, bias, rate, mean, scale, shift = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient is to be differentiated in its turn
            maps = x.unflatten(-1, (-1, ctx.share)).movedim(-2, 1)
            y = F.batch_norm(maps, None, None, weight, bias, True, 0.0, ctx.eps).movedim(1, -2).flatten(-2)
            found = torch.autograd.grad(F.relu(y), (x, weight, bias), grad, create_graph=True)
            return *found, None, None
        count = x.numel() // len(weight)
        sums = _slopes(x=x, g=grad, mean=mean, scale=scale, shift=shift)
        dbias, along = (total.sum((0, 1)).view(-1, ctx.share).sum(1) for total in sums)
        a, b = ((t / count).repeat_interleave(ctx.share) for t in (dbias, along * rate**2))
        return _back(x=x, g=grad, mean=mean, scale=scale, shift=shift, a=a, b=b), along * rate, dbias, None, None
