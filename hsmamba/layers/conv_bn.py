"""Convolution and batch norm as one convolution, wherever the statistics are fixed."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hsmamba.ops import inference, norm_gradients, normed_products
from hsmamba.ops.linear_gradients import trainable_linear
from hsmamba.ops.products import MOST_INPUTS

_CONVOLUTIONS = {nn.Conv2d: F.conv2d, nn.Conv3d: F.conv3d}
_NORMS = {nn.Conv2d: nn.BatchNorm2d, nn.Conv3d: nn.BatchNorm3d}


class ConvBN(nn.Sequential):
    """Convolution, batch norm and, unless told otherwise, ReLU.

    In evaluation the norm is a scale and a shift for each channel, which go into the kernel and the bias before the
    convolution: the same numbers to rounding, without two more passes over the map.

    Args:
        conv: `nn.Conv2d` or `nn.Conv3d`.
        act: Put a ReLU at the end.

    Shape:
        As of the convolution.
    """

    def __init__(self, conv: nn.Conv2d | nn.Conv3d, *, act: bool = True) -> None:
        norm = _NORMS[type(conv)](conv.out_channels)
        super().__init__(conv, norm, *([nn.ReLU()] if act else []))

    def folded(self) -> tuple[Tensor, Tensor]:
        """Return kernel and bias of the convolution with the norm of evaluation in them."""
        conv, norm = cast("nn.Conv2d", self[0]), cast("nn.BatchNorm2d", self[1])
        mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
        weights = conv.weight, conv.bias, norm.weight, norm.bias, mean, variance
        if torch.is_grad_enabled():
            return _folded(*weights, eps=norm.eps)
        return inference.prepared(_folded, *weights, eps=norm.eps)

    def forward(self, input: Tensor) -> Tensor:
        """Convolve, normalise, activate."""
        conv, norm = cast("nn.Conv2d", self[0]), cast("nn.BatchNorm2d", self[1])
        if norm.training or norm.running_var is None or norm.running_mean is None:
            is_product, normed, bias = _is_product(conv, input), len(self) > 2, unlearned(conv.bias)
            if is_product and normed and norm_gradients.takes(norm, input, conv.weight):
                return normed_products.trainable_product(input, conv, norm)
            if is_product:
                rows = trainable_linear(input.permute(0, 2, 3, 1), conv.weight.flatten(1), bias)
                x = rows.permute(0, 3, 1, 2)
            else:
                x = _convolved(conv, input, conv.weight, bias)
            if normed and has_neighbours(x) and norm_gradients.takes(norm, x):
                return norm_gradients.trainable_norm(x, norm)
            x = norm(x)
            return F.relu(x, inplace=True) if normed else x
        kernel, shift = self.folded()
        x = _convolved(conv, input, kernel, shift)
        return F.relu(x, inplace=True) if len(self) > 2 else x


def _convolved(conv: nn.Conv2d | nn.Conv3d, input: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve as a layer does, by another kernel and bias."""
    return _CONVOLUTIONS[type(conv)](input, kernel, bias, conv.stride, conv.padding, conv.dilation, conv.groups)


def unlearned(bias: Tensor | None) -> Tensor | None:
    """Return a bias, of any shape, that a norm over the batch takes away again: its gradient is exactly 0.

    Rounding would leave noise in its place, of which an optimizer like AdamW makes steps as large as any. No loss in
    training tells, but running means come after such steps, so that evaluation would depend on the machine.
    """
    return None if bias is None else bias.detach() + 0 * bias


def _is_product(conv: nn.Conv2d | nn.Conv3d, maps: Tensor) -> bool:
    """Whether a convolution is one product of matrices, of maps whose channels are neighbours in memory."""
    return (
        has_neighbours(maps)
        and conv.kernel_size == conv.stride == (1, 1)
        and conv.groups == 1
        and conv.padding in ("same", (0, 0))
        and conv.in_channels <= MOST_INPUTS
    )


def has_neighbours(maps: Tensor) -> bool:
    """Whether the channels of a pixel of (B, C, H, W) are neighbours in memory."""
    return maps.ndim == 4 and not maps.is_contiguous() and maps.is_contiguous(memory_format=torch.channels_last)


def _folded(
    kernel: Tensor, bias: Tensor | None, weight: Tensor, shift: Tensor, mean: Tensor, variance: Tensor, *, eps: float
) -> tuple[Tensor, Tensor]:
    scale = weight * torch.rsqrt(variance + eps)
    shift = shift - scale * (mean if bias is None else mean - bias)
    return kernel * scale.view(-1, *[1] * (kernel.ndim - 1)), shift
