"""How a map becomes a sequence and back: each function here moves pixels and changes none.

A function `f` of maps (..., H, W) has its inverse `f_back` beside it where a network needs one. Applied to
`index_map(H, W)` it gives the permutation that it stands for: entry t is the row-major index of the pixel that step t
visits. They are views and flips, not gathers: a gather's gradient costs several times more. A scan backwards in time is
`sequence.flip(-1)`, its own inverse.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor

# How a scan goes over a map; "back" is backwards in time.
Order: TypeAlias = Literal["rows", "columns", "rows back", "columns back"]
CROSS: tuple[Order, ...] = ("rows", "columns", "rows back", "columns back")


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


def read(x: Tensor, orders: Sequence[Order]) -> Tensor:
    """Read a map in K orders: (B, K or 1, C, H, W), one map for each order or for all, -> (B, K, C, H W)."""
    x = x.expand(-1, len(orders), -1, -1, -1)
    if set(orders) == {"rows"}:
        return rows(x)
    maps = zip(x.unbind(1), orders, strict=True)
    sequences = [(rows if order.startswith("rows") else columns)(one) for one, order in maps]
    return torch.stack(_in_time(sequences, orders), dim=1)


def put_back(sequences: Tensor, orders: Sequence[Order], height: int, width: int) -> list[Tensor]:
    """Undo `read`: (B, K, C, H W) -> K maps (B, C, H, W)."""
    forward = zip(_in_time(sequences.unbind(1), orders), orders, strict=True)
    return [(rows_back if order.startswith("rows") else columns_back)(one, height, width) for one, order in forward]


def _in_time(sequences: Sequence[Tensor], orders: Sequence[Order]) -> list[Tensor]:
    """Turn those round that are read backwards."""
    return [x.flip(-1) if order.endswith("back") else x for x, order in zip(sequences, orders, strict=True)]


@functools.lru_cache(maxsize=64)
def order_table(orders: tuple[Order, ...], height: int, width: int) -> Tensor:
    """Tell which pixel of a map, by its row-major index, each scan visits at each step: (K, H W), int32."""
    with torch.inference_mode(False):
        pixels = index_map(height, width)[None, None, None]
        return read(pixels, orders)[0, :, 0].to(torch.int32)


def snake(x: Tensor) -> Tensor:
    """Read row by row, rows 1, 3, 5, ... from right to left: (..., H, W) -> (..., H W)."""
    odd = torch.arange(x.shape[-2], device=x.device) % 2 == 1
    return torch.where(odd[:, None], x.flip(-1), x).flatten(-2)


def quarter_turn(x: Tensor) -> Tensor:
    """Turn a map clockwise: (..., H, W) -> (..., W, H), entry (i, j) from (H - 1 - j, i)."""
    return x.flip(-2).mT
