"""One level of the Haar wavelet transform, orthonormal, as RAMSF and CF2N use it."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hsmamba.ops import inference

Bands = tuple[Tensor, Tensor, Tensor, Tensor]


def haar(x: Tensor) -> Bands:
    """Transform each channel of (B, C, H, W), sides even.

    Sub-bands are LL, HL (horizontal variation), LH (vertical variation) and HH, each (B, C, H / 2, W / 2).
    """
    if inference.trains(x):
        ll, hl, lh, hh = _Haar.apply(x)
        return ll, hl, lh, hh
    return _apart(x)


def inverse_haar(ll: Tensor, hl: Tensor, lh: Tensor, hh: Tensor) -> Tensor:
    """Undo `haar`: four sub-bands (B, C, h, w) -> (B, C, 2 h, 2 w)."""
    if inference.trains(ll, hl, lh, hh):
        out: Tensor = _InverseHaar.apply(ll, hl, lh, hh)
        return out
    left, right = (ll - hl) / 2, (ll + hl) / 2
    rise_left, rise_right = (lh - hh) / 2, (lh + hh) / 2
    corners = (left - rise_left, right - rise_right, left + rise_left, right + rise_right)
    return F.pixel_shuffle(torch.stack(corners, dim=2).flatten(1, 2), 2)


def _apart(x: Tensor) -> Bands:
    x = x / 2
    top, below = x[..., ::2, :], x[..., 1::2, :]
    total, rise = top + below, below - top
    left, right = total[..., ::2], total[..., 1::2]
    rise_left, rise_right = rise[..., ::2], rise[..., 1::2]
    return left + right, right - left, rise_left + rise_right, rise_right - rise_left


def _joined(ll: Tensor, hl: Tensor, lh: Tensor, hh: Tensor) -> Tensor:
    """Undo `_apart` without gradients, each number written once; in the layout of memory of the first argument."""
    batch, chans, height, width = ll.shape
    layout = torch.channels_last if ll.stride(1) == 1 < chans else torch.contiguous_format
    out = torch.empty(batch, chans, 2 * height, 2 * width, dtype=ll.dtype, memory_format=layout)
    left, right = ((ll - hl).mul_(0.5), (ll + hl).mul_(0.5))
    rise_left, rise_right = ((lh - hh).mul_(0.5), (lh + hh).mul_(0.5))
    for column, (level, rise) in enumerate(((left, rise_left), (right, rise_right))):
        torch.sub(level, rise, out=out[..., ::2, column::2])
        torch.add(level, rise, out=out[..., 1::2, column::2])
    return out


class _Haar(torch.autograd.Function):
    """The transform, whose gradient is its inverse; torch's, through slices, fills a map with zeros for each."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Bands:
        return _apart(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return inverse_haar(*grads) if torch.is_grad_enabled() else _joined(*grads)


class _InverseHaar(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ll: Tensor, hl: Tensor, lh: Tensor, hh: Tensor) -> Tensor:
        return _joined(ll, hl, lh, hh)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Bands:
        return haar(grad)
