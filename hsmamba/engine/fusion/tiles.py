"""Fusing an image of any size: tiles with their margin, or overlapping windows of a global network."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from hsmamba.data.windows import Within
from hsmamba.engine.captured import Captured, can_be_captured
from hsmamba.engine.fusion.images import Images
from hsmamba.engine.fusion.overlap import Windows, windows_over
from hsmamba.engine.running import in_turn, keeping_memory, placed, team
from hsmamba.layers.fusion import Place, pad_sides
from hsmamba.models import FusionNetwork

Write = Callable[[int, Tensor], None]  # gets the first row and the finished rows (C, n, W), from top to bottom
Advance = Callable[[int], object]  # gets the number of pixels that are done
# Number of a row of windows, what is read of the images, and the first coarse column there and the weights of windows.
_Part: TypeAlias = "tuple[int, tuple[Tensor | None, ...], list[tuple[int, NDArray[Any]]]]"

TILE = 512  # pixels of the guide, side of a tile
_MARGINS = 3  # that a side has at least: margins are computed again for each tile
_BAND = 2**27  # bytes of a row of tiles; wide images have less tall ones
_WINDOWS, _WINDOWS_OF_A_GPU = 8, 64  # at a time
_PIXELS_OF_A_GPU = 2**19  # of the guide, at a time: what large windows have
_PARTS_PER_THREAD = 3  # at least, into which windows are cut

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Running:
    """How networks run; see `fuse_images`."""

    tile: int | None = None
    overlap: int | None = None
    batch_size: int | None = None
    device: torch.device | str | None = None


def fuse_images(
    model: FusionNetwork,
    images: Images,
    write: Write,
    advance: Advance,
    *,
    tile: int | None = None,
    overlap: int | None = None,
    batch_size: int | None = None,
    start: int = 0,
    wanted: Within | None = None,
) -> None:
    """Fuse in tiles, or in windows where the network's `margin` is None and the image is larger than one.

    Tiles are less tall than wide where a row of them would have more than 2^27 bytes.

    Args:
        model: A network in evaluation mode.
        images: What to fuse.
        write: Takes the result.
        advance: Takes the progress.
        tile: Side of a tile or a window in coarse pixels; None for `usual_tile` or the network's window.
        overlap: Of windows; see `windows_over`.
        batch_size: Windows at a time; None for the default.
        start: First row that is asked for; of rows above only those come that lie in its tiles.
        wanted: Tells which pixels of a window of the result are asked for; 0 is written where tiles have none.
    """
    margin = model.margin
    whole = measured(model, images)
    longest = max(images.coarse_size)
    if margin is not None:
        side = tile or usual_tile(margin, images.ratio)
        row = images.ratio * images.size[1] * model.in_chans * images.dtype.itemsize
        tall = min(side, max(1, _BAND // row))
        with keeping_memory(large=True):
            fuse_tiles(model, images, (tall, side), margin, write, advance, whole, start, wanted)
    elif (window := tile or model.window) >= longest:
        fuse_tiles(model, images, (longest, longest), 0, write, advance, whole, start, wanted)
    else:
        _logger.info(
            "%s sees the whole image at once: fused in overlapping windows of %d x %d coarse pixels",
            type(model).__name__, window, window,
        )  # fmt: skip
        area = slice(start // images.ratio, images.coarse_size[0]), slice(0, images.coarse_size[1])
        windows = windows_over(images.coarse_size, window, overlap, images.ratio)
        fuse_windows(model, images, windows, batch_size, write, advance, area, whole, wanted)


def usual_tile(margin: int, ratio: int) -> int:
    """Return the side of a tile where none is asked for, in coarse pixels, as the margin around it is."""
    return max(1, TILE // ratio, _MARGINS * margin)


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


def fuse_windows(
    model: FusionNetwork,
    images: Images,
    windows: Windows,
    batch_size: int | None,
    write: Write,
    advance: Advance,
    area: tuple[slice, slice],
    whole: Any = None,
    wanted: Within | None = None,
) -> None:
    """Fuse in overlapping windows, each pixel the mean of those that have it by their weights.

    Args:
        model: A network in evaluation mode.
        images: What to fuse.
        windows: Where they lie.
        batch_size: Windows at a time; None for the default.
        write: Takes the result: all columns of the area, and rows above and below it too, which are not whole.
        advance: Takes the progress.
        area: Coarse rows and columns that are asked for; nothing further is read than the windows that meet them.
        whole: What `measured` found.
        wanted: See `fuse_images`.
    """
    ratio, (height, width) = images.ratio, images.size
    rows, columns = windows.rows, windows.columns
    side, there = columns.side // ratio, columns.meeting(area[1])
    across = slice(columns.starts[there[0]], columns.starts[there[-1]] + side)
    asked = slice((area[1].start - across.start) * ratio, min(area[1].stop * ratio, width) - across.start * ratio)
    count = torch.zeros(rows.side, (across.stop - across.start) * ratio, dtype=images.dtype, device=images.device)
    total = count.new_zeros(model.in_chans, *count.shape)

    # Networks of the zoo are shared by threads; what was measured of the image is told to one call at a time.
    alone = whole is not None or count.device.type != "cpu" or not isinstance(model, FusionNetwork)
    threads = 1 if alone else torch.get_num_threads()
    largest = batch_size or _at_a_time(columns.side, count.device)
    captured = whole is None and can_be_captured(model, count.device)
    network = Captured(model, count.device) if captured else model
    wanted_parts = -(-_PARTS_PER_THREAD * threads // len(rows.meeting(area[0])))  # of a row of windows

    def parts() -> Iterator[_Part]:
        """Read the windows row by row; a row of which none is asked for has an empty part."""
        for i in rows.meeting(area[0]):
            here = slice(rows.starts[i], rows.starts[i] + rows.side // ratio)
            chosen = [
                (columns.starts[j] - across.start, weights)
                for j in there
                if _asked(wanted, here, slice(columns.starts[j], columns.starts[j] + side), ratio, images.size)
                and (weights := windows.weights(i, j)).any()
            ]
            ms, *fine = images.window(here, across) if chosen else (None,)
            read = (ms, *(pad_sides(x, ratio) for x in fine))  # where there is no ms, the last coarse pixel may be cut
            if not chosen:
                yield i, read, chosen
                continue
            # Even parts, and enough of them that no thread waits long for the last one.
            most = min(largest, -(-len(chosen) // wanted_parts)) if threads > 1 else largest
            for part in even_parts(len(chosen), most):
                yield i, read, chosen[part]

    def sharpen(part: _Part) -> Tensor | None:
        _, read, chosen = part
        if not chosen:
            return None
        with placed(model, None, whole) if whole is not None else nullcontext():
            fused: Tensor = network(*_cut(read, [place for place, _ in chosen], side, ratio))
        return fused

    with team(threads) as submit:
        found = in_turn(submit, sharpen, parts(), 2 * threads if threads > 1 else 0)
        for i, of_row in itertools.groupby(found, key=lambda one: one[0][0]):
            for (_, _, chosen), fused in of_row:
                for (place, weights), result in zip(chosen, () if fused is None else fused, strict=True):
                    put = slice(place * ratio, (place + side) * ratio)
                    share = torch.from_numpy(weights).to(count)
                    total[:, :, put] += result * share
                    count[:, put] += share
            top = rows.starts[i]
            end = rows.side if rows.is_last(i) else (rows.starts[i + 1] - top) * ratio
            if end:
                done = min(end, height - top * ratio)
                mean = total[:, :done, asked] / count[:done, asked].where(count[:done, asked] > 0, 1)
                write(top * ratio, mean.cpu())
                advance(done * (asked.stop - asked.start))
                total, count = (F.pad(x[..., end:, :], (0, 0, 0, end)) for x in (total, count))


def _at_a_time(side: int, device: torch.device) -> int:
    """Choose how many windows, of so many pixels of the guide a side, a network gets at a time."""
    if device.type == "cpu":
        return _WINDOWS
    return max(1, min(_WINDOWS_OF_A_GPU, _PIXELS_OF_A_GPU // side**2))


def _cut(band: tuple[Tensor | None, ...], places: list[int], side: int, ratio: int) -> tuple[Tensor | None, ...]:
    """Cut windows out of a band of rows and stack them."""
    return tuple(
        None if x is None else torch.cat([x[..., p * zoom : (p + side) * zoom] for p in places])
        for x, zoom in zip(band, (1, ratio, ratio), strict=True)
    )
