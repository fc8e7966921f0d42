"""Mean and maximum of maps in training, with a gradient of four passes where torch's take ten.

Torch's gradient of a maximum counts its places in whole numbers and turns them into a map of floats twice.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hsmamba.ops import inference


def mean_and_most(x: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Give mean and maximum over axes, which keep one number each; all places of a maximum share its gradient.

    Args:
        x: Of any shape, floating.
        axes: Which go.

    Returns:
        Twice the shape of x, 1 along the axes.
    """
    if inference.trains(x):
        mean, most = _MeanAndMost.apply(x, axes)
        return mean, most
    return x.mean(axes, keepdim=True), x.amax(axes, keepdim=True)


class _MeanAndMost(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        mean, most = x.mean(axes, keepdim=True), x.amax(axes, keepdim=True)
        ctx.save_for_backward(x, most)
        ctx.axes = axes
        return mean, most

    @staticmethod
    def backward(ctx: Any, of_mean: Tensor, of_most: Tensor) -> tuple[Tensor | None, None]:
        x, most = ctx.saved_tensors
        count = x.numel() / max(1, most.numel())
        if torch.is_grad_enabled():  # the gradient is to be differentiated in its turn
            made = x.mean(ctx.axes, keepdim=True), x.amax(ctx.axes, keepdim=True)
            return torch.autograd.grad(made, x, (of_mean, of_most), create_graph=True)[0], None
        places = torch.empty_like(x)
        torch.eq(x, most, out=places)
        share = of_most / places.sum(ctx.axes, keepdim=True)
        return places.mul_(share).add_(of_mean / count), None
