"""Depthwise convolutions of maps whose channels are neighbours in memory."""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from hsmamba.ops import depthwise, inference
from hsmamba.ops.depthwise_gradients import FEW, trainable_depthwise


def depthwise_conv(conv: nn.Conv2d, x: Tensor, *, silu: bool = False, out: Tensor | None = None) -> Tensor:
    """Convolve each channel of maps with its own kernel, by the compiled one where it may run.

    Args:
        conv: A depthwise convolution without dilation.
        x: (B, H, W, C).
        silu: Put what comes out through SiLU.
        out: Takes the result; its channels are neighbours in memory. Default a new tensor.

    Returns:
        (B, H', W', C).
    """
    tensors = x, conv.weight, *([] if conv.bias is None else [conv.bias])
    hooked = conv._forward_hooks or conv._forward_pre_hooks  # by somebody who wants to see the layer's numbers
    large = conv.weight[0].numel() > FEW  # of which another kernel computes the gradients faster
    takes, trains = inference.takes(*tensors), not large and out is None and not hooked and depthwise.trains(*tensors)
    if takes or trains:
        down, across = conv.kernel_size
        padding = (
            ((down - 1) // 2, (across - 1) // 2) if conv.padding == "same" else cast("tuple[int, int]", conv.padding)
        )
        if trains:
            return depthwise.trainable(x, conv.weight, conv.bias, stride=conv.stride[0], padding=padding, silu=silu)
        return depthwise.convolve(x, conv.weight, conv.bias, stride=conv.stride[0], padding=padding, silu=silu, out=out)
    maps = x.permute(0, 3, 1, 2)
    y = (conv(maps) if hooked else trainable_depthwise(maps, conv)).permute(0, 2, 3, 1)
    y = F.silu(y) if silu else y
    return y if out is None else out.copy_(y)
