"""Sharpen images that dask holds, block by block, when the result is asked for, on whatever cluster dask runs on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hsmamba._optional import optional_import
from hsmamba.data.image import Array, is_dataarray
from hsmamba.data.validity import Validity, check_policy
from hsmamba.engine.chunked import Blocks, Sizes, Tags, block_sizes, is_chunked, tagged, with_mask
from hsmamba.engine.fusion.consistency import made_consistent
from hsmamba.engine.fusion.gains import Gains, check_gains, spread, with_gains
from hsmamba.engine.fusion.images import Image, Images
from hsmamba.engine.fusion.overlap import windows_over
from hsmamba.engine.fusion.tiles import Running, even_parts, fuse_tile, fuse_windows, usual_tile
from hsmamba.engine.running import evaluating
from hsmamba.errors import SceneError
from hsmamba.models import FusionNetwork, as_fusion_network
from hsmamba.ops.resampling import upsample_reach

_NAMES = ("ms", "guide", "ms_up")


def fuse_chunks(
    prepare: Callable[..., Any],
    model: nn.Module,
    ms: Array | None,
    guide: Array,
    *,
    nan: str,
    gains: Gains,
    consistent: bool | None,
    adapt: object,
    **options: Any,
) -> Array:
    """Fuse images that dask holds; `hsmamba.fuse` calls this and has the words.

    A network without a margin is run in the windows of the whole image (`fuse_windows`), each in every block that it
    meets. Grids, bands and units are looked at now, on the middle of the images, and their brightness on pixels spread
    over them; invalid pixels with `nan="raise"` are refused when their block is computed.

    Args:
        prepare: `prepare_fusion`.
        model: See `fuse`.
        ms: See `fuse`.
        guide: See `fuse`.
        nan: See `fuse`.
        gains: See `fuse`.
        consistent: See `fuse`; the response of the guide is fitted now, and the network run on windows of the images.
        adapt: None.
        **options: See `fuse`.

    Returns:
        What `fuse` returns, held by dask.

    Raises:
        SceneError: As for `fuse`; or the network (`residual`), or `adapt`, looks at the whole image.
    """
    check_policy(nan)
    check_gains(gains)
    network = as_fusion_network(model)
    if adapt is not None:
        raise SceneError("adapt looks at the whole images at once; load them before with .compute()")
    if hasattr(network, "measure"):
        name = type(network).__name__
        raise SceneError(f"{name} looks at the whole images at once; load them before with .compute()")
    job = prepare(model, ms, guide, nan="mask", gains=None, consistent=False, adapt=None, **options)
    images = _brightened(network, job.images) if gains == "match" else job.images
    masks = nan == "mask"
    job = replace(job, images=replace(images, fill=masks), mask=masks, progress=False)
    how = Running(job.tile, job.overlap, job.batch_size, job.device)
    network = made_consistent(network, job.images, consistent, how)
    job = replace(job, coarse=job.images.ms or job.images.ms_up, model=network)
    plan = _Plan.of(network, job.images, job.tile)
    arrays = [part for name, letter in zip(plan.names, "mgu", strict=False) for part in plan.blocks(job, name, letter)]
    shipped = _without_arrays(job, plan)
    result = plan.fine.each(_fused, arrays, job.dtype, bands=job.shape[2], job=shipped, plan=plan)
    on_grid: Array = job.on_grid(result)
    if is_dataarray(on_grid):  # which else takes dask's name where there is none
        on_grid.name = getattr(job.coarse.array, "name", None)
    return on_grid


def _brightened(model: FusionNetwork, images: Images) -> Images:
    """Multiply the images as `with_gains` does, whose pixels are read in one computation."""
    given = {name: image for name in _NAMES if (image := getattr(images, name)) is not None}
    thin = {name: _thinned(image.array) for name, image in given.items()}
    (loaded,) = optional_import("dask", "to work on images that dask holds").compute(thin)
    found = with_gains(model, replace(images, **{n: replace(image, array=loaded[n]) for n, image in given.items()}))
    return replace(found, **{name: replace(getattr(found, name), array=image.array) for name, image in given.items()})


def _thinned(array: Any) -> Any:
    rows, columns = spread(array.shape)
    return array.isel(y=rows, x=columns) if hasattr(array, "isel") else array[np.ix_(rows, columns)]


@dataclass(frozen=True)
class _Plan:
    """How the blocks are read.

    Attributes:
        coarse: Where the blocks lie on the coarse grid.
        fine: Where they lie on the guide's.
        ratio: Of the grids.
        margin: Coarse pixels around a tile that the network looks at, or within which the windows lie that a pixel is
            the mean of.
        window: Side of the windows of a network without a margin of its own; 0 for others, and where one window has
            all of the image, which is one block then.
        reach: Coarse pixels further that the up-sampling looks at.
        around: Whether the up-sampling goes on at the other side of the image.
        names: Of the images.
        tags: Of the images.
    """

    coarse: Blocks
    fine: Blocks
    ratio: int
    margin: int
    window: int
    reach: int
    around: bool
    names: tuple[str, ...]
    tags: tuple[Tags, ...]

    @classmethod
    def of(cls, model: FusionNetwork, images: Images, tile: int | None) -> _Plan:
        names = tuple(name for name in _NAMES if getattr(images, name) is not None)
        ratio, longest = images.ratio, max(images.coarse_size)
        window = 0 if model.margin is not None else min(tile or model.window, longest)
        one = window == longest
        margin = window if model.margin is None else model.margin
        reach = upsample_reach(ratio) if images.ms_up is None else 0
        arrays: dict[str, Any] = {name: getattr(images, name).array for name in names}
        first = next(name for name in ("guide", *names) if is_chunked(arrays[name]))
        on_fine = 1 if first == "ms" else ratio
        least = longest if one else max(margin + reach, 1)
        sizes = block_sizes(arrays[first].chunks, least * on_fine, on_fine)
        coarse = tuple(tuple(-(-n // on_fine) for n in part) for part in sizes)
        ends = [np.minimum(np.cumsum(part) * ratio, side) for part, side in zip(coarse, images.size, strict=True)]
        fine = tuple(tuple(np.diff(part, prepend=0).tolist()) for part in ends)
        around = not ratio & (ratio - 1)
        tags = tuple(Tags.of(array) for array in arrays.values())
        on_coarse, on_guide = (Blocks(cast(Sizes, sides)) for sides in (coarse, fine))
        return cls(on_coarse, on_guide, ratio, margin, 0 if one else window, reach, around, names, tags)

    def blocks(self, job: Any, name: str, letter: str) -> list[tuple[Any, str]]:
        """Return an image in blocks with what is looked at around them."""
        array = getattr(job.images, name).array
        if name != "ms":
            return with_mask(array, letter, self.fine.sizes, self.margin * self.ratio)
        return with_mask(array, letter, self.coarse.sizes, self.margin + self.reach, around=self.around)

    def part(self, index: tuple[int, int], name: str) -> tuple[tuple[slice, slice], tuple[int, int], tuple[int, int]]:
        """Return the core of a block of an image, the first row and column that are read, and the image's sides."""
        if name != "ms":
            near = self.fine.near(index, self.margin * self.ratio)
            return self.fine.core(index), (near[0].start, near[1].start), self.fine.shape
        core, depth = self.coarse.core(index), self.margin + self.reach
        alone = [len(sizes) == 1 for sizes in self.coarse.sizes]
        starts = [
            0 if one else part.start - depth if self.around else max(part.start - depth, 0)
            for one, part in zip(alone, core, strict=True)
        ]
        return core, (starts[0], starts[1]), self.coarse.shape


def _without_arrays(job: Any, plan: _Plan) -> Any:
    """Leave of the images what is not read block by block: their numbers, dtypes and words for "no data"."""
    blank = {}
    for name, tag in zip(plan.names, plan.tags, strict=True):
        image: Image = getattr(job.images, name)
        nothing = np.empty((0, 0, image.array.shape[2]), image.array.dtype)
        blank[name] = replace(image, array=tag.on(nothing, None))
    images = replace(job.images, **blank)
    return replace(job, images=images, coarse=images.ms or images.ms_up)


class _Part:
    """A part of an image, read by its rows and columns in the image; those beyond a side are of the other one.

    Args:
        values: (h, w, C).
        first: Row and column of the image that the part begins with.
        sides: Rows and columns of the image.
    """

    def __init__(self, values: NDArray[np.float64], first: tuple[int, int], sides: tuple[int, int]) -> None:
        self.values, self.first, self.dtype = values, first, values.dtype
        self.shape = (*sides, values.shape[2])

    def __getitem__(self, key: tuple[slice, slice]) -> NDArray[np.float64]:
        starts = [(part.start - first) % side for part, first, side in zip(key, self.first, self.shape, strict=False)]
        rows, columns = (slice(a, a + part.stop - part.start) for a, part in zip(starts, key, strict=True))
        return self.values[rows, columns]


def _fused(index: tuple[int, int], *arrays: NDArray[Any], job: Any, plan: _Plan) -> NDArray[Any]:
    """Fuse a block that comes with its margin."""
    parts, goods = {}, []
    for name, block in zip(plan.names, tagged(arrays, plan.tags), strict=True):
        core, first, sides = plan.part(index, name)
        inner = tuple(slice(c.start - a, c.stop - a) for c, a in zip(core, first, strict=True))
        validity = Validity.of(block)
        valid = validity(block.values)
        if not job.mask and not valid[inner].all():
            row, column = np.argwhere(~valid[inner])[0] + (core[0].start, core[1].start)
            raise SceneError(
                f"{int((~valid[inner]).sum())} pixels of a block of {name} hold {validity.in_words()}, the first at "
                f'row {row}, column {column}; pass nan="mask" (--nan mask) to leave them out'
            )
        values = block.values.astype(np.float64)
        values[~valid] = np.nan
        parts[name] = replace(getattr(job.images, name), array=_Part(values, first, sides))
        goods.append(valid[inner].repeat(plan.ratio, 0).repeat(plan.ratio, 1) if name == "ms" else valid[inner])
    height, width = (part.stop - part.start for part in plan.fine.core(index))
    good = np.logical_and.reduce([one[:height, :width] for one in goods])
    with evaluating(job.model, job.device) as where:
        dtype = next(job.model.parameters()).dtype
        images = replace(job.images, **parts, dtype=dtype, device=where)
        fused = _windows(job, images, plan, index) if plan.window else _tiles(job, images, plan, index)
    result: NDArray[Any] = job.finished(fused, good if job.mask else None)
    return result


def _tiles(job: Any, images: Images, plan: _Plan, index: tuple[int, int]) -> torch.Tensor:
    """Fuse a block tile by tile."""
    tile = job.tile or usual_tile(plan.margin, plan.ratio)
    rows, columns = (
        [slice(side.start + part.start, side.start + part.stop) for part in even_parts(side.stop - side.start, tile)]
        for side in plan.coarse.core(index)
    )
    lines = [[fuse_tile(job.model, images, y, x, plan.margin).cpu() for x in columns] for y in rows]
    return torch.cat([torch.cat(line, dim=2) for line in lines], dim=1)


def _windows(job: Any, images: Images, plan: _Plan, index: tuple[int, int]) -> torch.Tensor:
    """Fuse a block in those of the whole image's overlapping windows that meet it."""
    rows = plan.fine.core(index)[0]
    parts: list[torch.Tensor] = []

    def keep(top: int, found: torch.Tensor) -> None:
        parts.append(found[:, max(rows.start - top, 0) : max(rows.stop - top, 0)])

    area = plan.coarse.core(index)
    windows = windows_over(images.coarse_size, plan.window, job.overlap, images.ratio)
    fuse_windows(job.model, images, windows, job.batch_size, keep, lambda _: None, area)
    return torch.cat(parts, dim=1)
