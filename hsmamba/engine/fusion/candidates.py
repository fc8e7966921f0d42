"""What `adapt` chooses among: classical methods, networks, mixtures of both, and each made consistent with MS."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from hsmamba.baselines import BackProjection
from hsmamba.data.sensors import Sensor
from hsmamba.engine.fusion.classical import Method, bands_of, sharpen_whole
from hsmamba.engine.fusion.heldout import with_derived
from hsmamba.engine.fusion.images import Images
from hsmamba.engine.fusion.tiles import Advance, Running, Write, fuse_images
from hsmamba.engine.fusion.tuned import Tuned
from hsmamba.engine.running import evaluating
from hsmamba.models import FusionNetwork, as_fusion_network

_HELD = 2**26  # values of an image that is held, 256 MB in single precision
_ROWS = 128  # coarse rows that are made consistent at a time, beside those that they look at


Plain: TypeAlias = "Method | FusionNetwork"


@dataclass(frozen=True)
class Blend:
    """The mean of classical methods and networks, of an image that is small enough to be held.

    Attributes:
        parts: Each with its share.
    """

    parts: tuple[tuple[Plain, float], ...]

    @staticmethod
    def is_for(images: Images) -> bool:
        """Whether the images are small enough."""
        return images.size[0] * images.size[1] * bands_of(images) <= _HELD

    def sharpen(self, images: Images, sensor: Sensor, write: Write, advance: Advance, how: Running) -> None:
        """See `sharpen_by`."""
        *others, (last, share) = self.parts
        held = torch.zeros(bands_of(images), *images.size)

        def add(part: float) -> Write:
            def rows_of(top: int, rows: Tensor) -> None:
                held[:, top : top + rows.shape[1]] += part * rows.float()

            return rows_of

        for method, part in others:
            sharpen_by(method, images, sensor, add(part), lambda _: None, how)

        def give(top: int, rows: Tensor) -> None:
            write(top, held[:, top : top + rows.shape[1]] + share * rows.float())

        sharpen_by(last, images, sensor, give, advance, how)


@dataclass(frozen=True)
class Consistent:
    """Any of the others, and back-projection of what it gives.

    Attributes:
        inner: The other.
        projection: What makes it so.
    """

    inner: Plain | Blend
    projection: BackProjection


Candidate: TypeAlias = "Plain | Blend | Consistent"


def sharpen_by(chosen: Candidate, images: Images, sensor: Sensor, write: Write, advance: Advance, how: Running) -> None:
    """Sharpen images by a candidate.

    Args:
        chosen: The candidate.
        images: The pair, with `ms`.
        sensor: Whose MTF the candidate was tuned with.
        write: Takes the result.
        advance: Takes the progress.
        how: See `Running`.
    """
    if isinstance(chosen, Consistent):
        sharpen_by(chosen.inner, images, sensor, _Projected(chosen.projection, images, write), advance, how)
        return
    if isinstance(chosen, Blend):
        chosen.sharpen(images, sensor, write, advance, how)
        return
    if not isinstance(chosen, nn.Module):
        sharpen_whole(chosen, images, write, advance)
        return
    network = as_fusion_network(chosen)
    guided = with_derived(images, sensor) if isinstance(network, Tuned) else images
    with evaluating(network, how.device) as where:
        placed = replace(guided, dtype=next(network.parameters()).dtype, device=where)
        sizes: dict[str, Any] = {"tile": how.tile, "overlap": how.overlap, "batch_size": how.batch_size}
        fuse_images(network, placed, write, advance, **sizes)


class _Projected:
    """Takes the rows of a result from top to bottom, and gives them on consistent with MS once those below are there.

    So that no more of a result is held than some rows, and all rows are those of the whole image.
    """

    def __init__(self, projection: BackProjection, images: Images, write: Write) -> None:
        if images.ms is None:
            raise ValueError("there is no coarse image that a result could be consistent with")
        self.projection, self.images, self.ms, self.write = projection, images, images.ms, write
        self.reach = projection.reach(int(images.ms.array.shape[2]))
        self.done = 0  # coarse rows that were given on
        self.first = 0  # coarse row that the buffer begins with
        self.buffer: list[Tensor] = []

    def __call__(self, top: int, rows: Tensor) -> None:
        """Take rows (C, n, r w) whose first one is `top`."""
        self.buffer.append(rows)
        height, ratio = self.images.coarse_size[0], self.images.ratio
        there = top + rows.shape[1]
        while self.done < height:
            stop = min(self.done + _ROWS, height)
            if there < min(stop + self.reach, height) * ratio:
                return
            self._give(stop)

    def _give(self, stop: int) -> None:
        ratio, (height, width) = self.images.ratio, self.images.coarse_size
        held = torch.cat(self.buffer, dim=1)
        near = slice(max(0, self.done - self.reach), min(height, stop + self.reach))
        fused = held[:, (near.start - self.first) * ratio : (near.stop - self.first) * ratio]
        values = self.ms.read(np.arange(near.start, near.stop), np.arange(width), fill=self.images.fill)
        ms = torch.from_numpy(values).permute(2, 0, 1)
        better = self.projection(fused[None], ms[None].to(fused))[0]
        core = slice((self.done - near.start) * ratio, (stop - near.start) * ratio)
        self.write(self.done * ratio, better[:, core])
        self.done = stop
        first = max(0, stop - self.reach)
        self.buffer, self.first = [held[:, (first - self.first) * ratio :]], first
