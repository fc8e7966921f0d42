"""Sharpen a coarse image with a guide, whatever its size: tile by tile, in the units and on the grid of the input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hsmamba.data.files.lazy import as_image
from hsmamba.data.image import VALID, Array, NanPolicy, is_dataarray, keep_crs, result_attributes
from hsmamba.data.units import Maximum
from hsmamba.data.validity import check_policy
from hsmamba.data.windows import Within
from hsmamba.engine.chunked import is_chunked
from hsmamba.engine.fusion.adapt import Adaptation, adapt_to
from hsmamba.engine.fusion.asked import Adapt
from hsmamba.engine.fusion.chunked import fuse_chunks
from hsmamba.engine.fusion.consistency import made_consistent
from hsmamba.engine.fusion.gains import Gains, check_gains, with_gains
from hsmamba.engine.fusion.images import Image, Images
from hsmamba.engine.fusion.inputs import (
    check_bands,
    check_grids,
    check_ground,
    matched,
    samples,
    sized,
    units_of,
    warn_of_shift,
)
from hsmamba.engine.fusion.overlap import is_official, usual_overlap
from hsmamba.engine.fusion.tiles import Advance, Running, Write, fuse_images
from hsmamba.engine.running import evaluating, progress_bar
from hsmamba.errors import SceneError
from hsmamba.models import FusionNetwork, as_fusion_network

_FINISHED = 2**20  # values that are brought to their units at once, in double precision


def fuse(
    model: nn.Module,
    ms: Array | None,
    guide: Array,
    *,
    ms_up: Array | None = None,
    maximum: Maximum | None = None,
    tile: int | None = None,
    overlap: int | None = None,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
    nan: NanPolicy = "raise",
    gains: Gains = "match",
    consistent: bool | None = None,
    adapt: float | Adapt | None = None,
    progress: bool = True,
) -> Array:
    """Sharpen a coarse image with a guide of the same ground.

    Memory beyond the result grows with the tile and the width of the image, not with its height; lazy DataArrays and
    memory maps are read window by window. A network that looks no further than its `margin` gives the result of the
    whole image. A global one (`margin` is None: LE-Mamba, MMAPP, CF2N) is run in windows of about the size of its
    training's crops, which pass into each other where they overlap.

    Of DataArrays that dask holds the result is one that dask holds, too: block by block with the network's margin or
    windows, equal to that of the images in memory, computed when it is asked for (`docs/cluster.md`).

    Args:
        model: A fusion network; its mode and device are left as they were.
        ms: Coarse image (h, w, C) or (h, w), numpy or DataArray with dims (y, x[, band]), or (band, y, x) as rioxarray
            opens it; None where there is `ms_up`
            alone, for networks that can do with it.
        guide: Sharp image (r h, r w, G) or (r h, r w) of the same ground, r the model's `scale`.
        ms_up: The coarse image on the guide's grid; default `ms` up-sampled as the network's training has it.
        maximum: Number that is 1 to the network: one for both images, a pair (of `ms`, of `guide`), or a sensor
            ("WV3"). Default what came with the weights; without such, images up to about 1 are taken as they are, and
            of others the bits that their values need, with a warning.
        tile: Side of a tile in pixels of `ms`, default 512 pixels of the guide; of a window of a global network,
            default the network's `window`. One as large as the image runs the network once, on the whole.
        overlap: Pixels of `ms` that neighbouring windows of a global network share at least, at most half of a window;
            default an eighth. Three quarters of a window are the tiling of LE-Mamba's authors, which computes each
            pixel 16 times: the mean of the windows that have it in their middle half.
        batch_size: Windows of a global network at a time; default 8, on a GPU up to 64 that have half a million pixels.
        device: Where to compute; default where the model is.
        nan: "raise" refuses invalid pixels: NaN, infinite or, in a DataArray with that attribute, `_FillValue`. "mask"
            makes the result invalid where an image is (NaN; for integers the `_FillValue` of `ms`, or 0) and fills
            such pixels from near ones, so that they spoil none of their neighbours.
        gains: "match" multiplies MS and the guide to the mean brightness of the images that the weight was trained on
            before the network, and divides after (`hsmamba.engine.fusion.gains.with_gains`), where that is on record;
            None leaves them as they are.
        consistent: Bring the network's result to agree with both images: with those channels of the guide that are sums
            of the bands (the RGB of a hyperspectral image) by projection, with MS by a correction of the spectra, which
            is fitted to windows of the images beforehand, and by back-projection through the MTF of the weight's sensor
            (`hsmamba.engine.fusion.consistency`). None does so for weights whose record says it, which those of CAVE
            do; with `adapt`, which looks at back-projection itself, for none.
        adapt: Tune on these images before they are sharpened, for so many seconds, or as `Adapt` says; see there and
            `docs/fusion.md`. Pairs of the reduced scale are made of the images by Wald's protocol, on whose held-out
            tiles the network as it is, a tuned copy of it and the classical methods are compared by SAM, ERGAS and
            Q2n; the result is made by what wins, which is never worse there than the best classical method. The log
            says it, and `prepare_fusion(...).adaptation.report` has the figures.
        progress: Show a progress bar.

    Returns:
        (r h, r w, C), or (r h, r w) for an `ms` of two axes, in the units and the dtype of `ms` (rounded and clipped
        for integers); a DataArray on the grid and with the CRS of the guide where the guide is one.

    Raises:
        SceneError: Grids, bands, ground or units do not fit each other or the model, or there are invalid pixels with
            `nan="raise"`; images that are too small to `adapt` to, or an `ms_up` beside it; images that dask holds for
            `adapt` or `residual`, which look at the whole image.
        TypeError: The model is no fusion network, or an image no array.
        ValueError: An argument out of its range.

    Warns:
        HsmambaWarning: The images look misregistered by more than half a pixel of `ms` (the text has the shift), or
            `maximum` had to be guessed.
    """
    options: dict[str, Any] = {"maximum": maximum, "tile": tile, "overlap": overlap, "batch_size": batch_size}
    options |= {"device": device, "ms_up": ms_up, "nan": nan, "gains": gains, "adapt": adapt, "progress": progress}
    options["consistent"] = consistent
    if is_chunked(ms, guide, ms_up):
        lazy: Array = fuse_chunks(prepare_fusion, model, ms, guide, **options)
        return lazy
    job = prepare_fusion(model, ms, guide, **options)
    result = np.empty(job.shape, job.dtype)

    def keep(top: int, rows: NDArray[Any]) -> None:
        result[top : top + len(rows)] = rows

    job.run(keep)
    return job.on_grid(result)


@dataclass(frozen=True)
class FusionJob:
    """A checked fusion, ready to run; `prepare_fusion` makes it.

    Attributes:
        model: The network.
        images: What it gets.
        coarse: The image whose units, dtype and bands the result has.
        tile: See `fuse`; None for the default.
        overlap: See `fuse`; None for the default.
        batch_size: See `fuse`.
        device: See `fuse`.
        mask: Whether invalid pixels are masked.
        progress: See `fuse`.
        dims: Of the coarse image as it came, which those of the result are.
        adaptation: What was found by tuning on the images, with its report; None without `adapt`.
        wanted: Tells which pixels of a window of the result are made; the others are invalid. None for all.
    """

    model: FusionNetwork
    images: Images
    coarse: Image
    tile: int | None
    overlap: int | None
    batch_size: int | None
    device: torch.device | str | None
    mask: bool
    progress: bool
    dims: tuple[str, ...]
    adaptation: Adaptation | None = None
    wanted: Within | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Rows, columns and bands of the result."""
        return (*self.images.size, int(self.coarse.array.shape[2]))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the result."""
        native: np.dtype[Any] = np.dtype(self.coarse.array.dtype).newbyteorder("=")
        return native

    @property
    def fill_value(self) -> float | None:
        """What stands for "no data" in the result; None where it has none."""
        if not self.mask and self.wanted is None:
            return self.coarse.nodata
        missing = np.nan if self.dtype.kind == "f" else 0
        return self.coarse.nodata if self.coarse.nodata is not None else missing

    def run(self, write: Callable[[int, NDArray[Any]], None], *, start: int = 0) -> None:
        """Fuse.

        Args:
            write: Gets the first row and finished rows (n, W, C) of the result, from top to bottom.
            start: Row to go on with, as many as an earlier run of this very job has written; the rows that follow are
                those of a whole run bit for bit.

        Raises:
            ValueError: A `start` for a job that was tuned on its images, which comes out otherwise each time.
        """
        if start and self.adaptation is not None:
            raise ValueError(f"start is {start}, but what was tuned to images is another each time; leave start out")
        height, width = self.images.size
        step = max(1, _FINISHED // (width * self.shape[2]))

        def finish(top: int, rows: Tensor) -> None:
            for first in range(max(top, start), top + rows.shape[1], step):
                part = rows[:, first - top : first - top + step]
                seen = slice(first, first + part.shape[1])
                write(first, self.finished(part, self._valid(seen)))

        with progress_bar(height * width, "fuse", self.progress) as bar:
            bar.update(start * width)
            self._sharpen(finish, bar.update, start)

    def _valid(self, rows: slice) -> NDArray[np.bool_] | None:
        """Which pixels of some rows are valid and wanted; None where all are."""
        valid = self.images.valid_rows(rows) if self.mask else None
        if self.wanted is None:
            return valid
        inside = self.wanted(rows, slice(0, self.shape[1]))
        return inside if valid is None else valid & inside

    def _sharpen(self, write: Write, advance: Advance, start: int) -> None:
        options: dict[str, Any] = {"tile": self.tile, "overlap": self.overlap, "batch_size": self.batch_size}
        if self.adaptation is not None:
            self.adaptation.sharpen(self.images, write, advance, device=self.device, **options)
            return
        with evaluating(self.model, self.device) as where:
            images = replace(self.images, dtype=next(self.model.parameters()).dtype, device=where)
            fuse_images(self.model, images, write, advance, start=start, wanted=self.wanted, **options)

    def finished(self, rows: Tensor, valid: NDArray[np.bool_] | None) -> NDArray[Any]:
        """Bring the network's output (C, h, w) to units, dtype and mask (h, w) of the result, (h, w, C)."""
        values = rows.permute(1, 2, 0).double().numpy()
        values = values - self.coarse.offset  # the one copy: what follows is done in place
        values /= self.coarse.factor
        nodata = self.fill_value
        if self.dtype.kind == "f":
            result = values.astype(self.dtype)
        else:
            low, high = _limits(self.dtype)
            rounded = np.clip(np.rint(values, out=values), low, high, out=values)
            if nodata is not None:  # a valid pixel must not become an invalid one
                rounded[rounded == nodata] += 1 if nodata < high else -1
            result = rounded.astype(self.dtype)
        if valid is not None:
            result[~valid] = self.fill_value
        return result

    def on_grid(self, result: NDArray[Any]) -> Array:
        """Give a result the grid of the guide, where the guide is a DataArray, and the attributes of `ms`."""
        template, values = self.images.guide.array, self.coarse.array
        flat = "band" not in self.dims
        result = result[..., 0] if flat else result
        if not is_dataarray(template):
            return result
        coords = {k: v for k, v in template.coords.items() if set(v.dims) <= {"y", "x"} and k != VALID}
        attrs = result_attributes(template, values)
        name = None
        if is_dataarray(values):
            coords |= {key: value for key, value in values.coords.items() if set(value.dims) == {"band"} and not flat}
            name = values.name
        if self.fill_value is not None:
            attrs["_FillValue"] = self.fill_value
        dims = ("y", "x") if flat else ("y", "x", "band")
        on_grid = type(template)(result, dims=dims, coords=coords, attrs=attrs, name=name)
        turned: Array = keep_crs(template, on_grid.transpose(*self.dims))
        return turned


def _limits(dtype: np.dtype[Any]) -> tuple[float, float]:
    """Smallest and largest float64 that an integer dtype holds."""
    info = np.iinfo(dtype)
    high = float(info.max)
    return float(info.min), high if int(high) <= info.max else float(np.nextafter(high, 0))


def prepare_fusion(
    model: nn.Module,
    ms: Array | None,
    guide: Array,
    *,
    ms_up: Array | None = None,
    maximum: Maximum | None = None,
    tile: int | None = None,
    overlap: int | None = None,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
    nan: NanPolicy = "raise",
    gains: Gains = "match",
    consistent: bool | None = None,
    adapt: float | Adapt | None = None,
    wanted: Within | None = None,
    progress: bool = True,
) -> FusionJob:
    """Check a fusion, and tune it where `adapt` says so, without running it; the words are those of `fuse`.

    Those pixels alone are made that `wanted`, a function from rows and columns of a window of the result (two slices)
    to its pixels (h, w), has True; tiles without such a pixel are not read.

    Returns:
        The fusion; `run` gives its rows one after the other, for results that are to be written and not held.
    """
    network = as_fusion_network(model)
    how = None if adapt is None else Adapt.of(adapt)
    _check_arguments(network, tile, overlap, batch_size, nan)
    check_gains(gains)
    if how is not None and consistent:
        raise ValueError("consistent is True beside adapt, which tries back-projection itself; leave one of them out")
    given = {"ms": ms, "guide": guide, "ms_up": ms_up}
    arrays = {name: as_image(name, array) for name, array in given.items() if array is not None}
    if "guide" not in arrays:
        raise SceneError("there is no guide; pass the sharp image (PAN, RGB, SAR) of the same ground")
    if (coarse := next((name for name in ("ms", "ms_up") if name in arrays), None)) is None:
        raise SceneError("neither ms nor ms_up is given; pass the coarse image as ms, or up-sampled as ms_up")
    if how is not None and set(arrays) != {"ms", "guide"}:
        raise SceneError("adapt makes its pairs of ms and up-samples them itself; pass ms and guide, without ms_up")
    network = sized(network, arrays)
    ratio = network.scale
    check_grids(ratio, arrays)
    arrays = matched(network, arrays)
    check_bands(network, arrays)
    check_ground(arrays)
    middle = samples(arrays, ratio)
    units = units_of(network, middle, maximum)
    found = {name: Image(arrays[name], *units[name]) for name in arrays}
    images = checked_images(found, ratio, nan)
    warn_of_shift(middle, ratio)
    if gains == "match":
        images = with_gains(network, images)
    dims = dims_of(given[coarse])
    scaled: Image = getattr(images, coarse)
    if how is None:
        network = made_consistent(network, images, consistent, Running(tile, overlap, batch_size, device))
    sizes = tile, overlap, batch_size
    job = FusionJob(network, images, scaled, *sizes, device, nan == "mask", progress, dims, None, wanted)
    return job if how is None else replace(job, adaptation=adapt_to(network, images, how, device=device))


def _check_arguments(
    model: FusionNetwork, tile: int | None, overlap: int | None, batch_size: int | None, nan: str
) -> None:
    check_policy(nan)
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; expected 1 or more")
    if tile is not None and tile < 1:
        raise ValueError(f"tile is {tile}; expected a number of pixels of ms, 1 or more")
    if overlap is None:
        return
    if model.margin is not None:
        raise ValueError(
            f"overlap is {overlap}, but {type(model).__name__} needs no overlapping windows: its tiles are read with "
            "their margin; leave overlap out"
        )
    window = tile or model.window
    if not (0 <= overlap <= window // 2 or is_official(window, overlap)):
        raise ValueError(
            f"overlap is {overlap}; of windows of {window} pixels of ms it is 0 to {window // 2}, or three quarters of "
            f"a window whose side is a multiple of 4: pass overlap={usual_overlap(window)}, or leave it out"
        )


def checked_images(found: dict[str, Image], ratio: int, nan: NanPolicy) -> Images:
    """Put the images of a fusion together; with `nan="raise"` refuse invalid pixels."""
    images = Images(found.get("ms"), found["guide"], found.get("ms_up"), ratio, fill=nan == "mask")
    if nan == "raise":
        _refuse_invalid(images)
    return images


def dims_of(image: Any) -> tuple[str, ...]:
    """Return the dimensions of an image as it came, which the result gets, too."""
    dims: tuple[str, ...] = getattr(image, "dims", ("y", "x", "band")[: getattr(image, "ndim", 3)])
    return dims


def _refuse_invalid(images: Images) -> None:
    for name, (count, (row, column)) in images.count_invalid().items():
        image: Image = getattr(images, name)
        height, width = image.array.shape[:2]
        raise SceneError(
            f"{count} of {height * width} pixels of {name} hold {image.validity.in_words()}, the first at row {row}, "
            f'column {column}; pass nan="mask" (--nan mask) to leave them out'
        )
