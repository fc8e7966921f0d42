"""One level of the Haar wavelet transform, orthonormal, as RAMSF and CF2N use it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def haar(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Transform each channel of (B, C, H, W), sides even.

    Sub-bands are LL, HL (horizontal variation), LH (vertical variation) and HH, each (B, C, H / 2, W / 2).
    """
    x = x / 2
    top, below = x[..., ::2, :], x[..., 1::2, :]
    total, rise = top + below, below - top
    left, right = total[..., ::2], total[..., 1::2]
    rise_left, rise_right = rise[..., ::2], rise[..., 1::2]
    return left + right, right - left, rise_left + rise_right, rise_right - rise_left


def inverse_haar(ll: Tensor, hl: Tensor, lh: Tensor, hh: Tensor) -> Tensor:
    """Undo `haar`: four sub-bands (B, C, h, w) -> (B, C, 2 h, 2 w)."""
    left, right = (ll - hl) / 2, (ll + hl) / 2
    rise_left, rise_right = (lh - hh) / 2, (lh + hh) / 2
    corners = (left - rise_left, right - rise_right, left + rise_left, right + rise_right)
    return F.pixel_shuffle(torch.stack(corners, dim=2).flatten(1, 2), 2)
