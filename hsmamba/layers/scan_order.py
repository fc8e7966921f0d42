"""How a map becomes a sequence and back: each function here moves pixels and changes none.

A function `f` of maps (..., H, W) has its inverse `f_back` beside it where a network needs one. Applied to
`index_map(H, W)` it gives the permutation that it stands for: entry t is the row-major index of the pixel that step t
visits. They are views and flips, not gathers: a gather's gradient costs several times more. A scan backwards in time is
`sequence.flip(-1)`, its own inverse.
"""

from __future__ import annotations

import torch
from torch import Tensor


def index_map(height: int, width: int) -> Tensor:
    """Number the pixels of a map in row-major order: (H, W), int64."""
    return torch.arange(height * width).view(height, width)


def rows(x: Tensor) -> Tensor:
    """Read row by row: (..., H, W) -> (..., H W)."""
    return x.flatten(-2)


def rows_back(sequence: Tensor, height: int, width: int) -> Tensor:
    """Undo `rows`: (..., H W) -> (..., H, W)."""
    return sequence.reshape(*sequence.shape[:-1], height, width)


def columns(x: Tensor) -> Tensor:
    """Read column by column: (..., H, W) -> (..., H W)."""
    return x.mT.flatten(-2)


def columns_back(sequence: Tensor, height: int, width: int) -> Tensor:
    """Undo `columns`: (..., H W) -> (..., H, W)."""
    return sequence.reshape(*sequence.shape[:-1], width, height).mT


def snake(x: Tensor) -> Tensor:
    """Read row by row, rows 1, 3, 5, ... from right to left: (..., H, W) -> (..., H W)."""
    odd = torch.arange(x.shape[-2], device=x.device) % 2 == 1
    return torch.where(odd[:, None], x.flip(-1), x).flatten(-2)


def quarter_turn(x: Tensor) -> Tensor:
    """Turn a map clockwise: (..., H, W) -> (..., W, H), entry (i, j) from (H - 1 - j, i)."""
    return x.flip(-2).mT
