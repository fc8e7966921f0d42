"""Classical methods on a user's images: on held-out tiles, and on whole images of any size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from hsmamba.baselines import BASELINES, OF_PAN_ALONE
from hsmamba.data.sensors import Sensor
from hsmamba.engine.fusion.images import Images
from hsmamba.engine.fusion.tiles import Advance, Write

Method = Callable[[Tensor, Tensor], Tensor]  # of ms (1, C, h, w) and guide (1, G, r h, r w)

_MOST = 2**26  # values of a result that is made at once: half a gigabyte in double precision, and some of those
_OVERLAP = 64  # coarse rows in which two parts of a larger one pass into each other


def methods_for(channels: int, ratio: int, sensor: Sensor) -> dict[str, Method]:
    """Classical methods by name that take a guide of so many channels."""
    chosen = {name: method for name, method in BASELINES.items() if channels == 1 or name not in OF_PAN_ALONE}
    return {name: partial(method, ratio=ratio, sensor=sensor) for name, method in chosen.items()}


@dataclass(frozen=True)
class Blocks:
    """How an image is cut into blocks of rows for a method that takes its statistics over what it is given.

    Attributes:
        rows: Coarse rows of a block; all of the image where it is small enough.
        overlap: Coarse rows that a block has in common with the next, in which the results pass into each other.
    """

    rows: int
    overlap: int

    @classmethod
    def of(cls, images: Images, most: int = _MOST) -> Blocks:
        """Choose the largest blocks whose results have at most `most` values."""
        height = images.coarse_size[0]
        bands = images.ms.array.shape[2] if images.ms is not None else 1
        rows = max(4, most // (images.ratio * images.size[1] * bands))
        return cls(height, 0) if rows >= height else cls(rows, min(_OVERLAP, rows // 4))


def sharpen_whole(method: Method, images: Images, write: Write, advance: Advance, blocks: Blocks | None = None) -> None:
    """Sharpen by a classical method, in double precision.

    Args:
        method: Of `methods_for`.
        images: The pair, with `ms`.
        write: Takes the result.
        advance: Takes the progress.
        blocks: Default those that memory asks for: one where the result has at most 2^26 values. Each takes the
            statistics of its own, as the tiles did that the method won on.
    """
    chosen = blocks or Blocks.of(images)
    exact, ratio = replace(images, dtype=torch.float64), images.ratio
    height, width = images.coarse_size
    before: Tensor | None = None
    for top in range(0, max(1, height - chosen.overlap), chosen.rows - chosen.overlap):
        stop = min(top + chosen.rows, height)
        ms, guide, _ = exact.window(slice(top, stop), slice(0, width))
        if ms is None:
            raise ValueError("a classical method needs ms")
        fused = method(ms, guide)[0].cpu()
        if before is not None:
            share = torch.linspace(0, 1, before.shape[1] + 2, dtype=fused.dtype)[1:-1, None]
            common = slice(0, before.shape[1])
            fused[:, common] = share * fused[:, common] + (1 - share) * before
        keep = fused.shape[1] - (chosen.overlap * ratio if stop < height else 0)
        write(top * ratio, fused[:, :keep])
        advance(keep * fused.shape[2])
        before = fused[:, keep:].clone()
        if stop == height:
            break
