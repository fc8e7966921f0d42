"""Fusing an image of any size: tiles with their margin, or the official overlapping windows of a global network."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from hsmamba.data.windows import Within
from hsmamba.engine.fusion.images import Images
from hsmamba.engine.running import Submit, in_turn, placed, team
from hsmamba.layers.fusion import Place, pad_sides
from hsmamba.models import FusionNetwork

Write = Callable[[int, Tensor], None]  # gets the first row and the finished rows (C, n, W), from top to bottom
Advance = Callable[[int], object]  # gets the number of pixels that are done
_Windows = list[
    tuple[int, NDArray[np.bool_]]
]  # first coarse column of what is read, and which pixels go into the result

TILE = 512  # pixels of the guide, side of a tile
_BAND = 2**25  # values of a row of tiles, 128 MiB; wide images have less tall ones
WINDOW = 16  # coarse pixels, side of the windows of a global network: the usual patches of training

_logger = logging.getLogger(__name__)


def fuse_images(
    model: FusionNetwork,
    images: Images,
    write: Write,
    advance: Advance,
    *,
    tile: int | None = None,
    batch_size: int = 8,
    start: int = 0,
    wanted: Within | None = None,
) -> None:
    """Fuse in tiles, or in windows where the network's `margin` is None and the image is larger than one.

    Tiles are less tall than wide where a row of them would have more than 2^25 values.

    Args:
        model: A network in evaluation mode.
        images: What to fuse.
        write: Takes the result.
        advance: Takes the progress.
        tile: Side of a tile or a window in coarse pixels; None for the default.
        batch_size: Windows at a time.
        start: First row that is asked for; of rows above only those come that lie in its tiles.
        wanted: Tells which pixels of a window of the result are asked for; 0 is written where tiles have none.
    """
    margin = model.margin
    whole = measured(model, images)
    longest = max(images.coarse_size)
    if margin is not None:
        side = tile or max(1, TILE // images.ratio)
        tall = min(side, max(1, _BAND // (images.ratio * images.size[1] * model.in_chans)))
        fuse_tiles(model, images, (tall, side), margin, write, advance, whole, start, wanted)
    elif (window := tile or WINDOW) >= longest:
        fuse_tiles(model, images, (longest, longest), 0, write, advance, whole, start, wanted)
    else:
        _logger.info(
            "%s sees the whole image at once: fused in overlapping windows of %d x %d coarse pixels",
            type(model).__name__, window, window,
        )  # fmt: skip
        area = slice(start // images.ratio, images.coarse_size[0]), slice(0, images.coarse_size[1])
        fuse_windows(model, images, window, batch_size, write, advance, area, whole, wanted)


def measured(model: FusionNetwork, images: Images) -> Any:
    """Measure the whole image tile by tile, for a network that asks for it by `measure`; None for others."""
    if not hasattr(model, "measure"):
        return None
    network: Any = model
    ratio, reach, total = images.ratio, network.reach, None
    parts = [even_parts(side, max(1, TILE // ratio)) for side in images.coarse_size]
    for part in itertools.product(*parts):
        near = [
            slice(max(p.start - reach, 0), min(p.stop + reach, n))
            for p, n in zip(part, images.coarse_size, strict=True)
        ]
        _, guide, ms_up = images.window(*near)
        core = tuple(
            slice((p.start - n.start) * ratio, (p.stop - n.start) * ratio) for p, n in zip(part, near, strict=True)
        )
        found = network.measure(guide, ms_up, core)
        total = found if total is None else total + found
    return total


def fuse_tiles(
    model: FusionNetwork,
    images: Images,
    tile: tuple[int, int],
    margin: int,
    write: Write,
    advance: Advance,
    whole: Any = None,
    start: int = 0,
    wanted: Within | None = None,
) -> None:
    """Fuse tile by tile; each is read with the margin that has a say in it, so that tiles equal the whole image.

    Args:
        model: A network in evaluation mode; it is told where each tile lies.
        images: What to fuse.
        tile: Most rows and columns of a tile in coarse pixels.
        margin: Coarse pixels around it.
        write: Takes the result.
        advance: Takes the progress.
        whole: What `measured` found.
        start: See `fuse_images`.
        wanted: See `fuse_images`.
    """
    ratio, (height, width) = images.ratio, images.size
    for rows in even_parts(images.coarse_size[0], tile[0]):
        tall = min(rows.stop * ratio, height) - rows.start * ratio
        band: Tensor | None = None
        for columns in even_parts(images.coarse_size[1], tile[1]) if rows.stop * ratio > start else ():
            if not _asked(wanted, rows, columns, ratio, images.size):
                advance(tall * (min(columns.stop * ratio, width) - columns.start * ratio))
                continue
            core = fuse_tile(model, images, rows, columns, margin, whole)
            if band is None:
                band = torch.zeros(core.shape[0], tall, width, dtype=core.dtype)
            band[:, :, columns.start * ratio : columns.stop * ratio] = core.cpu()
            advance(core.shape[1] * core.shape[2])
        if rows.stop * ratio > start:
            write(rows.start * ratio, torch.zeros(model.in_chans, tall, width) if band is None else band)


def _asked(wanted: Within | None, rows: slice, columns: slice, ratio: int, size: tuple[int, int]) -> bool:
    """Whether a pixel of a window of coarse rows and columns is asked for."""
    here = (slice(part.start * ratio, min(part.stop * ratio, n)) for part, n in zip((rows, columns), size, strict=True))
    return wanted is None or bool(wanted(*here).any())


def fuse_tile(
    model: FusionNetwork, images: Images, rows: slice, columns: slice, margin: int, whole: Any = None
) -> Tensor:
    """Fuse one tile, some rows and columns of the coarse grid; the rest as for `fuse_tiles`: (C, r h, r w)."""
    ratio, (height, width) = images.ratio, images.size
    near = [
        slice(max(part.start - margin, 0), min(part.stop + margin, side))
        for part, side in zip((rows, columns), images.coarse_size, strict=True)
    ]
    window = images.window(*near)
    with placed(model, Place(near[0].start * ratio, near[1].start * ratio, height, width), whole):
        fused: Tensor = model(*window)[0]
    y, x = (
        slice((part.start - n.start) * ratio, (part.stop - n.start) * ratio)
        for part, n in zip((rows, columns), near, strict=True)
    )
    return fused[:, y, x]


def even_parts(length: int, largest: int) -> list[slice]:
    """Cut 0..length into parts of nearly one size, none above `largest`."""
    count = -(-length // largest)
    edges = [length * i // count for i in range(count + 1)]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


@dataclass(frozen=True)
class _Axis:
    """Windows along one axis: on a grid from 0, and a last one at the end; all lengths in pixels of the guide.

    Attributes:
        starts: First coarse pixel of every window, the last one at the end.
        side: P, of a window.
        step: Q, between windows of the grid.
        seam: First pixel that is the last window's.
    """

    starts: tuple[int, ...]
    side: int
    step: int
    seam: int

    @classmethod
    def of(cls, length: int, window: int, ratio: int) -> _Axis:
        p, q = min(window, length), window // 4
        count, rest = (length - p) // q + 1, (length - p) % q
        grid_end = ((count - 1) * q + p) * ratio
        starts = (*(i * q for i in range(count)), length - p)
        return cls(starts, p * ratio, q * ratio, seam=grid_end - (p - rest) * ratio // 2)

    @property
    def grid_end(self) -> int:
        """End of the windows on the grid."""
        return (len(self.starts) - 2) * self.step + self.side

    def meeting(self, part: slice, ratio: int) -> range:
        """Numbers of the windows that have some of these coarse pixels."""
        there = [i for i, a in enumerate(self.starts) if a < part.stop and a + self.side // ratio > part.start]
        return range(there[0], there[-1] + 1)

    def is_last(self, index: int) -> bool:
        """Whether a window is the one at the end."""
        return index == len(self.starts) - 1

    def masks(self, index: int, ratio: int) -> dict[str, NDArray[np.bool_]]:
        """Tell of the pixels of a window what they are along this axis.

        Returns:
            inner: away from both ends of the grid; middle: in the half of the window that serves the mean; line: taken
            where windows are blended along this axis alone; kept: on this window's side of the seam; first: within
            the first window of the grid.
        """
        local = np.arange(self.side)
        t = local + self.starts[index] * ratio
        at_start, at_end = t < self.step, t >= self.grid_end - self.step
        inner = ~at_start & ~at_end
        middle = (local >= self.step) & (local < self.side - self.step)
        ends = (at_start & (index == 0)) | (at_end & ~at_start & (index == len(self.starts) - 2))
        kept = t >= self.seam if self.is_last(index) else t < self.seam
        line = ends | (inner & middle)
        return {"inner": inner, "middle": middle, "line": line, "kept": kept, "first": t < self.side}


def _weights(rows: _Axis, columns: _Axis, i: int, j: int, ratio: int) -> NDArray[np.bool_]:
    """Tell which pixels (P, P) of window (i, j) go into the mean of the result."""
    y, x = rows.masks(i, ratio), columns.masks(j, ratio)
    if rows.is_last(i):
        taken = np.broadcast_to(True if columns.is_last(j) else x["line"], (rows.side, columns.side))
    elif columns.is_last(j):
        taken = np.broadcast_to(y["line"][:, None], (rows.side, columns.side))
    else:
        along_rows = (x["line"] & ~x["first"]) & (y["first"][:, None] & (i == 0))
        along_columns = y["line"][:, None] & (x["first"] & (j == 0))
        inner = y["inner"][:, None] & x["inner"]
        taken = np.where(inner, y["middle"][:, None] & x["middle"], along_rows | along_columns)
    result: NDArray[np.bool_] = taken & y["kept"][:, None] & x["kept"]
    return result


def fuse_windows(
    model: FusionNetwork,
    images: Images,
    window: int,
    batch_size: int,
    write: Write,
    advance: Advance,
    area: tuple[slice, slice],
    whole: Any = None,
    wanted: Within | None = None,
) -> None:
    """Fuse in overlapping windows of the training size, blended by the rule of LE-Mamba's official tiler.

    Every result pixel is the mean of the windows that have it in their middle half; at the rim of the image, and at the
    seam to the windows that are aligned with its end, as that tiler has it.

    Args:
        model: A network in evaluation mode.
        images: What to fuse.
        window: Side in coarse pixels, a multiple of 4; smaller where the image is.
        batch_size: Windows at a time.
        write: Takes the result: all columns of the area, and rows above and below it too, which are not whole.
        advance: Takes the progress.
        area: Coarse rows and columns that are asked for; nothing further is read than the windows that meet them.
        whole: What `measured` found.
        wanted: See `fuse_images`.
    """
    ratio, (height, width) = images.ratio, images.size
    rows, columns = (_Axis.of(length, window, ratio) for length in images.coarse_size)
    side, there = columns.side // ratio, columns.meeting(area[1], ratio)
    across = slice(columns.starts[there[0]], columns.starts[there[-1]] + side)
    asked = slice((area[1].start - across.start) * ratio, min(area[1].stop * ratio, width) - across.start * ratio)
    count = torch.zeros(rows.side, (across.stop - across.start) * ratio, dtype=images.dtype, device=images.device)
    total: Tensor | None = None
    # Networks of the zoo are shared by threads; what was measured of the image is told to one call at a time.
    alone = whole is not None or count.device.type != "cpu" or not isinstance(model, FusionNetwork)
    threads = 1 if alone else torch.get_num_threads()
    with team(threads) as submit:
        for i in rows.meeting(area[0], ratio):
            top = rows.starts[i]
            here = slice(top, top + rows.side // ratio)
            chosen = [
                (left - across.start, mask)
                for j in there
                if _asked(wanted, here, slice(left := columns.starts[j], left + side), ratio, images.size)
                and (mask := _weights(rows, columns, i, j, ratio)).any()
            ]
            how = submit, threads, batch_size
            for part, fused in _sharpened(model, images, (here, across), chosen, side, whole, how):
                if total is None:
                    total = fused.new_zeros(fused.shape[1], *count.shape)
                for (place, mask), result in zip(part, fused, strict=True):
                    put = slice(place * ratio, (place + side) * ratio)
                    weights = torch.from_numpy(mask).to(count)
                    total[:, :, put] += result * weights
                    count[:, put] += weights
            end = rows.side if rows.is_last(i) else (rows.starts[i + 1] - top) * ratio
            if total is None:
                total = count.new_zeros(model.in_chans, *count.shape)
            if end:
                done = min(end, height - top * ratio)
                write(top * ratio, (total[:, :done, asked] / count[:done, asked].clamp(min=1)).cpu())
                advance(done * (asked.stop - asked.start))
                total, count = (F.pad(x[..., end:, :], (0, 0, 0, end)) for x in (total, count))


def _sharpened(
    model: FusionNetwork,
    images: Images,
    band: tuple[slice, slice],
    windows: _Windows,
    side: int,
    whole: Any,
    how: tuple[Submit, int, int],
) -> Iterator[tuple[_Windows, Tensor]]:
    """Sharpen windows of a band of coarse rows and columns; `how` has the team, its threads and windows at a time."""
    if not windows:
        return
    (submit, threads, size), ratio = how, images.ratio
    ms, *fine = images.window(*band)
    read = (ms, *(pad_sides(x, ratio) for x in fine))  # where there is no ms, the last coarse pixel may be cut

    def sharpen(part: _Windows) -> Tensor:
        with placed(model, None, whole) if whole is not None else nullcontext():
            fused: Tensor = model(*_cut(read, [place for place, _ in part], side, ratio))
        return fused

    parts = [windows[first : first + size] for first in range(0, len(windows), size)]
    yield from in_turn(submit, sharpen, parts, 2 * threads if threads > 1 else 0)


def _cut(band: tuple[Tensor | None, ...], places: list[int], side: int, ratio: int) -> tuple[Tensor | None, ...]:
    """Cut windows out of a band of rows and stack them."""
    return tuple(
        None if x is None else torch.cat([x[..., p * zoom : (p + side) * zoom] for p in places])
        for x, zoom in zip(band, (1, ratio, ratio), strict=True)
    )
