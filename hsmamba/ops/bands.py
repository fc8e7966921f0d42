"""3-D convolution over bands, rows and columns in training: a compiled kernel whose vectors hold neighbouring bands.

Torch convolves one channel with a few filters at a small part of the machine's rate, and the 2-D convolution of all
bands that stands for it multiplies by zeros for the most part. In the library of the scan, on a CPU in float32.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hsmamba.ops import cpu, inference

_Bands = ctypes.c_int64 * 14  # of csrc/bands.h, whose fields have 64 bits each
_Images = ctypes.c_int64 * 13  # likewise


def takes(conv: nn.Conv3d, images: Tensor) -> bool:
    """Whether `trainable_bands` may convolve images (B, D, H, W), whose gradient nobody asks for."""
    if images.requires_grad or not inference.trains(images, conv.weight) or conv.bias is not None:
        return False
    if conv.in_channels != 1 or conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        return False
    plain = conv.stride == conv.dilation == (1, 1, 1)
    return plain and images.numel() > 0


def trainable_bands(images: Tensor, conv: nn.Conv3d) -> Tensor:
    """Convolve images of one channel.

    Args:
        images: (B, D, H, W), float32.
        conv: With F filters, stride 1 and no bias.

    Returns:
        (B, H', W', F D'), bands innermost.
    """
    made: Tensor = _Convolved.apply(images, conv.weight, conv.padding)
    return made


def _padded(images: Tensor, padding: tuple[int, int, int], pitch: int) -> Tensor:
    """Put bands innermost, `pitch` numbers a pixel, with zeros around: (B, D, H, W) -> (B, H', W', pitch)."""
    images = images if images.stride(3) == 1 else images.contiguous()
    (count, _, height, width), (front, above, aside) = images.shape, padding
    x = images.new_zeros(count, height + 2 * above, width + 2 * aside, pitch)
    inside = x[:, above:, aside:, front:]
    arguments = _Images(
        *images.shape, *images.stride()[:3], *inside.stride()[:3], images.data_ptr(), inside.data_ptr(), 0
    )
    cpu.run_team(cpu.kernel("band_images"), arguments, torch.get_num_threads(), (images, x))
    return x


class _Convolved(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, padding: tuple[int, int, int]) -> Tensor:
        filters, _, taps, down, across = weight.shape
        bands, height, width = (
            n + 2 * more - side + 1
            for n, more, side in zip(images.shape[1:], padding, (taps, down, across), strict=True)
        )
        pitch = -(-bands // cpu.WIDEST) * cpu.WIDEST + taps - 1
        x = _padded(images, padding, pitch)
        y = images.new_empty(len(images), height, width, filters * bands)
        ordered = weight.squeeze(1).permute(2, 3, 1, 0).contiguous()  # (h, w, k, F)
        ctx.sizes = len(images), filters, bands, height, width, taps, down, across, pitch
        arguments = _Bands(*ctx.sizes, 1, x.data_ptr(), ordered.data_ptr(), y.data_ptr(), 0)
        threads = torch.get_num_threads() if y.numel() * ordered[..., 0].numel() > cpu.SMALL else 1
        cpu.run_team(cpu.kernel("bands"), arguments, threads, (x, ordered, y))
        ctx.save_for_backward(images, weight, x)
        ctx.padding = padding
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        images, weight, x = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient is to be differentiated in its turn
            y = F.conv3d(images.unsqueeze(1), weight, padding=ctx.padding).permute(0, 3, 4, 1, 2).flatten(3)
            return None, *torch.autograd.grad(y, weight, grad, create_graph=True), None
        grad, sizes = grad.contiguous(), ctx.sizes
        count, filters, _, _, _, taps, down, across, _ = sizes
        threads = torch.get_num_threads() if grad.numel() * weight[0].numel() > cpu.SMALL else 1
        slots = min(count, cpu.RUNS_PER_THREAD * threads) if threads > 1 else 1
        room = x.new_zeros(slots * down * across * taps * filters * cpu.WIDEST + cpu.WIDEST)
        sums = room[-(room.data_ptr() // 4) % cpu.WIDEST :][: room.numel() - cpu.WIDEST]  # aligned to whole vectors
        arguments = _Bands(*sizes, slots, x.data_ptr(), sums.data_ptr(), grad.data_ptr(), 0)
        cpu.run_team(cpu.kernel("band_gradients"), arguments, threads, (x, sums, grad))
        found = sums.view(slots, down, across, taps, filters, cpu.WIDEST).sum((0, 5))
        return None, found.permute(3, 2, 0, 1).unsqueeze(1), None
