"""Parts of a user's pair at reduced scale: tiles to tune on and tiles to compare on, no pixel in both.

As in `hsmamba.data.wald`, a part is cut out before anything is filtered, so that no filter reads pixels of another one.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hsmamba.data.degrade import decimate, degrade_pan, filter_bands, mtf_kernels, upsample
from hsmamba.data.pairs import FusionPair, simulated_pair
from hsmamba.data.rectangles import Box, whole_rectangles
from hsmamba.data.sensors import Sensor
from hsmamba.engine.fusion.images import Image, Images
from hsmamba.errors import SceneError

_CELL = 128  # pixels of ms, side of the cells that an image is divided into
_CELLS = 16  # that are looked at, of a large image spread over it
_ONE_IN = 4  # cells is held out
_GUARD = 8  # pixels of ms between a held-out tile and what is tuned on, fewer in a small image
_RECTANGLES = 16  # to tune on
_LEAST = 4, 2  # blocks of ratio x ratio pixels of ms along the longer and the shorter side


@dataclass(frozen=True)
class Parts:
    """Pairs of the reduced scale, the truth being the image's own MS.

    Guides have twice their channels: as they are, and low-pass as `with_low_pass` has it.

    Attributes:
        tune: To fit and to train on.
        held: To compare on.
        share: Of the valid pixels of the image that are held out.
    """

    tune: tuple[FusionPair, ...]
    held: tuple[FusionPair, ...]
    share: float

    @property
    def words(self) -> str:
        """What is held out, and how much is tuned on."""
        tiles = ", ".join(f"{pair.guide.shape[-2]} x {pair.guide.shape[-1]}" for pair in self.held)
        pixels = sum(pair.guide[0].numel() for pair in self.tune)
        return f"held out: {tiles} pixels of ms ({100 * self.share:.0f} % of it); tuned on {pixels}"


def cut_parts(images: Images, sensor: Sensor, seed: int) -> Parts:
    """Divide a user's pair and simulate its reduced scale by Wald's protocol.

    Args:
        images: The pair, with `ms`, on the CPU.
        sensor: Whose MTF blurs.
        seed: Of the cells of a large image.

    Returns:
        The parts.

    Raises:
        SceneError: The image is too small, or too few of its pixels are valid.
    """
    good = _good_blocks(images)
    longer, shorter = max(good.shape), min(good.shape)
    least = [count * images.ratio for count in _LEAST]
    if longer < _LEAST[0] or shorter < _LEAST[1]:
        height, width = images.coarse_size
        raise SceneError(
            f"ms is {height} x {width} pixels, and adapt compares on tiles of it at reduced scale, for which it must "
            f"be {least[0]} x {least[1]} at ratio {images.ratio}: leave adapt out, or give a larger image"
        )
    held, rest = _divided(good, images.ratio, seed)
    tuned = whole_rectangles(rest, _RECTANGLES) if rest.any() else []
    if not held or not tuned:
        raise SceneError(
            "too few pixels of ms and guide are valid to tune on some and compare on others: leave adapt out, or "
            "give images with fewer invalid pixels"
        )
    share = sum(int(good[box].size) for box in held) / int(good.sum())
    found = [
        tuple(_reduced(images, sensor, box, f"tile {i + 1}") for i, box in enumerate(part)) for part in (tuned, held)
    ]
    return Parts(found[0], found[1], share)


def _good_blocks(images: Images) -> NDArray[np.bool_]:
    """Tell the blocks of ratio x ratio pixels of ms that are valid in both images."""
    ratio = images.ratio
    rows, columns = (side // ratio for side in images.coarse_size)
    if images.ms is None or not (images.fill and any(x.may_be_invalid for x in (images.ms, images.guide))):
        return np.ones((rows, columns), bool)
    step = ratio * ratio
    strips = [images.valid_rows(slice(row * step, (row + 1) * step))[:, : columns * step] for row in range(rows)]
    return np.array([strip.reshape(step, columns, step).all(axis=(0, 2)) for strip in strips]).reshape(rows, columns)


def _divided(good: NDArray[np.bool_], ratio: int, seed: int) -> tuple[list[Box], NDArray[np.bool_]]:
    """Choose tiles to hold out, and tell the blocks that remain to tune on."""
    cells = _cells(good.shape, ratio)
    chosen = list(range(len(cells)))
    if len(cells) > _CELLS:
        chosen = sorted(np.random.default_rng(seed).permutation(len(cells))[:_CELLS].tolist())
    rest = np.zeros_like(good)
    for index in chosen:
        rest[cells[index]] = good[cells[index]]
    held: list[Box] = []
    guard = [min(-(-_GUARD // ratio), side // 6) for side in good.shape]
    for index in chosen[_ONE_IN - 1 :: _ONE_IN]:
        rows, columns = cells[index]
        if good[rows, columns].any():
            y, x = whole_rectangles(good[rows, columns], 1)[0]
            held.append((_moved(y, rows.start), _moved(x, columns.start)))
        rest[tuple(slice(max(0, c.start - g), c.stop + g) for c, g in zip((rows, columns), guard, strict=True))] = False
    return held, rest


def _moved(part: slice, start: int) -> slice:
    return slice(part.start + start, part.stop + start)


def _cells(shape: tuple[int, ...], ratio: int) -> list[Box]:
    """Divide a grid of blocks into cells, four at least; every fourth of the list lies elsewhere in its row."""
    counts = [max(1, round(side * ratio / _CELL)) for side in shape]
    if counts[0] * counts[1] < _ONE_IN:
        counts = [_ONE_IN, 1] if shape[0] >= shape[1] else [1, _ONE_IN]
    edges = [
        np.linspace(0, side, count + 1).round().astype(int).tolist() for side, count in zip(shape, counts, strict=True)
    ]
    rows, columns = ([slice(a, b) for a, b in itertools.pairwise(line)] for line in edges)
    return [(row, columns[(j + i) % len(columns)]) for i, row in enumerate(rows) for j in range(len(columns))]


def _reduced(images: Images, sensor: Sensor, box: Box, name: str) -> FusionPair:
    """Simulate the pair of a box of blocks; the truth is the box's ms."""
    ratio = images.ratio
    truth, guide = (
        _read(image, part, fill=images.fill)
        for image, part in (
            (images.ms, [slice(x.start * ratio, x.stop * ratio) for x in box]),
            (images.guide, [slice(x.start * ratio**2, x.stop * ratio**2) for x in box]),
        )
    )
    reduced = degrade_pan(guide, ratio=ratio)
    low = upsample(_low_pass(reduced, sensor, truth.shape[1], ratio), ratio)
    return simulated_pair(name, truth[0], torch.cat([reduced, low], dim=1)[0], ratio=ratio, sensor=sensor)


def _read(image: Image | None, box: list[slice], *, fill: bool) -> Tensor:
    if image is None:
        raise ValueError("there is no such image")
    rows, columns = (np.arange(part.start, part.stop) for part in box)
    return torch.from_numpy(image.read(rows, columns, fill=fill)).float().permute(2, 0, 1)[None]


def _low_pass(guide: Tensor, sensor: Sensor, bands: int, ratio: int) -> Tensor:
    """Blur a guide (B, G, H, W) by the mean MTF of the bands and sample it as the coarse image is."""
    kernel = mtf_kernels(sensor, bands, ratio=ratio).mean(dim=0, keepdim=True)
    return decimate(filter_bands(guide, kernel / kernel.sum()), ratio)


@dataclass(frozen=True)
class GuidedImages(Images):
    """Images whose windows have the guide twice: as it is, and low-pass.

    Attributes:
        low: The guide as the coarse image's sensor would see it, (h, w, G).
    """

    low: Image | None = None

    def window(self, rows: slice, columns: slice) -> tuple[Tensor | None, Tensor, Tensor]:
        """See `Images.window`; the guide is (1, 2 G, r h, r w)."""
        ms, guide, ms_up = super().window(rows, columns)
        low = self.up_sampled(self.low, np.arange(rows.start, rows.stop), np.arange(columns.start, columns.stop))
        return ms, torch.cat([guide, low], dim=1), ms_up


def with_low_pass(images: Images, sensor: Sensor) -> GuidedImages:
    """Compute the low-pass guide of a whole image, strip by strip; it is as large as one to a few bands of ms."""
    if images.ms is None:
        raise ValueError("there is no coarse image whose MTF the guide could have")
    bands = int(images.ms.array.shape[2])
    low = np.concatenate(list(_low_strips(images, sensor, bands)))
    fields = {name: getattr(images, name) for name in Images.__dataclass_fields__}
    return replace(GuidedImages(**fields), low=Image(low))


def _low_strips(images: Images, sensor: Sensor, bands: int) -> Iterator[NDArray[np.float32]]:
    height, ratio = images.coarse_size[0], images.ratio
    reach = -(-mtf_kernels(sensor, bands, ratio=ratio).shape[-1] // 2 // ratio)
    columns = slice(0, images.size[1])
    for top in range(0, height, _CELL):
        stop = min(top + _CELL, height)
        near = slice(max(0, top - reach), min(height, stop + reach))
        guide = _read(images.guide, [slice(near.start * ratio, near.stop * ratio), columns], fill=images.fill)
        low = _low_pass(guide, sensor, bands, ratio)[0, :, top - near.start : stop - near.start]
        yield low.permute(1, 2, 0).numpy()
