"""Parts of a user's pair at reduced scale: tiles to tune on and tiles to compare on, no pixel in both.

As in `hsmamba.data.wald`, a part is cut out before anything is filtered, so that no filter reads pixels of another one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hsmamba.baselines.regression import up_with_border
from hsmamba.data.degrade import decimate, degrade_pan, filter_bands, mtf_kernels, upsample
from hsmamba.data.pairs import AnyImage, FusionPair, simulated_pair
from hsmamba.data.rectangles import Box, whole_rectangles
from hsmamba.data.sensors import Sensor
from hsmamba.engine.fusion.images import Image, Images
from hsmamba.engine.fusion.noise import CleanImage, Noise
from hsmamba.engine.fusion.sharpness import blur_of, blurred, relative_mtf
from hsmamba.errors import SceneError

_CELL = 128  # pixels of ms, side of the cells that an image is divided into
_CELLS = 16  # that are looked at, of a large image spread over it
_ONE_IN = 4  # cells is held out
_GUARD = 8  # pixels of ms between a held-out tile and what is tuned on, fewer in a small image
_RECTANGLES = 16  # to tune on
_DAMPING = 1e-3  # of the bands' mean variance: more bands than pixels would explain every guide
_ENOUGH = 2**14  # held-out pixels of ms; where they are fewer, every cell is held out in turn
_LEAST = 4, 2  # blocks of ratio x ratio pixels of ms along the longer and the shorter side


@dataclass(frozen=True)
class Held:
    """A pair to compare on.

    Attributes:
        pair: With its truth (C, H, W).
        fold: (H, W) int64, that whose tuning did not see the pixel. So a small image is compared on as a whole.
    """

    pair: FusionPair
    fold: Tensor


@dataclass(frozen=True)
class Parts:
    """Pairs of the reduced scale, the truth being the image's own MS.

    Guides have three times their channels: as they are, low-pass by the mean MTF of the bands, and what the bands
    explain of that.

    Attributes:
        folds: Pairs to fit and to train on: once where much is held out, else in up to four ways, each with other tiles
            held out. The first is that of the training of networks.
        held: Held-out tiles, or all of a small image.
        every: To fit on at last, where there is more than one fold.
        share: Of the valid pixels of the image that are held out in the first fold.
        sharpness: MTF of MS at its Nyquist frequency relative to the guide on its grid; None where the truth is known,
            so that nothing passes from one scale to another.
        full: What is held out at the full scale, without truth; none where the truth is known.
        noise: Of MS, which is read without it; None where it hardly matters, or the truth is known.
    """

    folds: tuple[tuple[FusionPair, ...], ...]
    held: tuple[Held, ...]
    every: tuple[FusionPair, ...]
    share: float
    sharpness: float | None = None
    full: tuple[FusionPair, ...] = ()
    noise: Noise | None = None

    @property
    def words(self) -> str:
        """What is held out, and how much is tuned on."""
        tiles = ", ".join(f"{part.fold.shape[0]} x {part.fold.shape[1]}" for part in self.held)
        pixels = sum(pair.guide[0].numel() for pair in self.folds[0])
        if len(self.folds) > 1:
            text = f"held out in {len(self.folds)} turns: {tiles} pixels of ms ({100 * self.share:.0f} % of it at once)"
        else:
            text = f"held out: {tiles} pixels of ms ({100 * self.share:.0f} % of it)"
        text += f"; tuned on {pixels}"
        if self.sharpness is None:
            return text
        text += f"; ms has an MTF of {self.sharpness:.2g} beside the guide"
        return text if self.noise is None else f"{text}; {self.noise.words}"


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
    ratio = images.ratio

    def whole(box: Box) -> tuple[Tensor, Tensor]:
        parts = [[slice(x.start * ratio**n, x.stop * ratio**n) for x in box] for n in (1, 2)]
        ms, guide = (_read(x, y, fill=images.fill) for x, y in zip((images.ms, images.guide), parts, strict=True))
        return ms, guide

    def read(box: Box) -> tuple[Tensor, Tensor]:
        """Read MS and the guide on its grid."""
        ms, guide = whole(box)
        return ms, degrade_pan(guide, ratio=ratio)

    def at_full_scale(box: Box, name: str) -> FusionPair:
        ms, guide = whole(box)
        return _guided(FusionPair(name, ms[0], guide[0], upsample(ms, ratio)[0], None), ratio, sensor)

    division = _Division.of(_good_blocks(images), ratio, seed)
    noise = Noise.of([(ms[0], guide[0]) for ms, guide in map(read, division.folds[0])], ratio)
    images = cleaned(images, noise)  # which is what is read from here on
    sharpness = relative_mtf([(ms[0], guide[0]) for ms, guide in map(read, division.folds[0])], ratio)
    generator = torch.Generator().manual_seed(seed)

    def cut(box: Box, name: str) -> FusionPair:
        truth, guide = read(box)
        guide = blurred(guide, blur_of(sharpness, sensor, truth.shape[1]))
        pair = simulated_pair(name, truth[0], guide[0], ratio=ratio, sensor=sensor)
        if noise is not None:
            ms = noise.put_back(pair.ms, mtf_kernels(sensor, len(pair.ms), ratio=ratio), generator)
            pair = pair._replace(ms=ms)
        return _guided(pair, ratio, sensor)

    parts = division.parts(cut, sharpness, _named(at_full_scale, [box for box, _ in division.held]))
    return replace(parts, noise=noise)


def parts_of(image: AnyImage, ratio: int, sensor: Sensor, seed: int) -> Parts:
    """Divide an image whose truth is known; arguments and errors are those of `cut_parts`."""
    height, width = image.gt.shape[1:]

    def cut(box: Box, name: str) -> FusionPair:
        rows, columns = (slice(x.start * ratio, x.stop * ratio) for x in box)
        truth, guide = (x[:, rows, columns] for x in (image.gt, image.guide))
        return _guided(simulated_pair(name, truth, guide, ratio=ratio, sensor=sensor), ratio, sensor)

    division = _Division.of(np.ones((height // ratio, width // ratio), bool), ratio, seed)
    return division.parts(cut)


def cleaned(images: Images, noise: Noise | None) -> Images:
    """Read the coarse image of a pair without its noise."""
    if noise is None or images.ms is None:
        return images
    return replace(images, ms=CleanImage.of(images.ms, noise))


def _named(cut: Callable[[Box, str], FusionPair], boxes: list[Box]) -> tuple[FusionPair, ...]:
    return tuple(cut(box, f"tile {i + 1}") for i, box in enumerate(boxes))


@dataclass(frozen=True)
class _Division:
    """Rectangles of blocks of ratio x ratio pixels.

    Attributes:
        folds: Of each, those to tune on.
        held: Those to compare on, with the fold of each block.
        every: Whether these are all that is looked at.
        share: Of the valid blocks that the first fold holds out.
        ratio: Pixels a block.
    """

    folds: list[list[Box]]
    held: list[tuple[Box, NDArray[np.int64]]]
    every: bool
    share: float
    ratio: int

    @classmethod
    def of(cls, good: NDArray[np.bool_], ratio: int, seed: int) -> _Division:
        """Choose them among blocks (rows, columns) that are valid.

        Raises:
            SceneError: They are too few.
        """
        if max(good.shape) < _LEAST[0] or min(good.shape) < _LEAST[1]:
            height, width = (side * ratio for side in good.shape)
            raise SceneError(
                f"ms has {height} x {width} pixels in whole blocks of the ratio, and adapt compares on tiles of it at "
                f"reduced scale, for which it must be {_LEAST[0] * ratio} x {_LEAST[1] * ratio} at ratio {ratio}: "
                "leave adapt out, or give a larger image"
            )
        divided = [(held, rest) for held, rest in _divided(good, ratio, seed) if held and rest.any()]
        if not divided:
            raise SceneError(
                "too few pixels of ms and guide are valid to tune on some and compare on others: leave adapt out, or "
                "give images with fewer invalid pixels"
            )
        first = divided[0][0]
        count = sum(int(good[box].size) for box in first)
        share = count / int(good.sum())
        folds = [whole_rectangles(rest, _RECTANGLES) for _, rest in divided]
        if len(folds) == 1 or count * ratio**2 >= _ENOUGH:
            return cls(folds[:1], [(box, np.zeros(good[box].shape, np.int64)) for box in first], False, share, ratio)
        fold = np.full(good.shape, -1)
        for number, (held, _) in enumerate(divided):
            for box in held:
                fold[box] = number
        looked_at = whole_rectangles(fold >= 0, _RECTANGLES)
        return cls(folds, [(box, fold[box]) for box in looked_at], True, share, ratio)

    def parts(
        self,
        cut: Callable[[Box, str], FusionPair],
        sharpness: float | None = None,
        full: tuple[FusionPair, ...] = (),
    ) -> Parts:
        """Cut the parts out of an image."""
        pairs = _named(cut, [box for box, _ in self.held])
        folds = [torch.from_numpy(fold.repeat(self.ratio, 0).repeat(self.ratio, 1)) for _, fold in self.held]
        held = tuple(Held(pair, fold) for pair, fold in zip(pairs, folds, strict=True))
        every = pairs if self.every else ()
        return Parts(tuple(_named(cut, fold) for fold in self.folds), held, every, self.share, sharpness, full)


def _good_blocks(images: Images) -> NDArray[np.bool_]:
    """Tell the blocks of ratio x ratio pixels of ms that are valid in both images."""
    ratio = images.ratio
    rows, columns = (side // ratio for side in images.coarse_size)
    if images.ms is None or not (images.fill and any(x.may_be_invalid for x in (images.ms, images.guide))):
        return np.ones((rows, columns), bool)
    step = ratio * ratio
    strips = [images.valid_rows(slice(row * step, (row + 1) * step))[:, : columns * step] for row in range(rows)]
    return np.array([strip.reshape(step, columns, step).all(axis=(0, 2)) for strip in strips]).reshape(rows, columns)


def _divided(good: NDArray[np.bool_], ratio: int, seed: int) -> list[tuple[list[Box], NDArray[np.bool_]]]:
    """Choose tiles to hold out, and tell the blocks that remain to tune on, in as many ways as there are folds."""
    cells = _cells(good.shape, ratio)
    chosen = list(range(len(cells)))
    if len(cells) > _CELLS:
        chosen = sorted(np.random.default_rng(seed).permutation(len(cells))[:_CELLS].tolist())
    looked_at = np.zeros_like(good)
    for index in chosen:
        looked_at[cells[index]] = good[cells[index]]
    guard = [min(-(-_GUARD // ratio), side // 6) for side in good.shape]
    folds = []
    for first in reversed(range(_ONE_IN)):
        held: list[Box] = []
        rest = looked_at.copy()
        for index in chosen[first::_ONE_IN]:
            rows, columns = cells[index]
            if good[rows, columns].any():
                y, x = whole_rectangles(good[rows, columns], 1)[0]
                held.append((_moved(y, rows.start), _moved(x, columns.start)))
            near = (slice(max(0, c.start - g), c.stop + g) for c, g in zip((rows, columns), guard, strict=True))
            rest[tuple(near)] = False
        folds.append((held, rest))
    return folds


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


def _guided(pair: FusionPair, ratio: int, sensor: Sensor) -> FusionPair:
    """Put what is derived of a pair's guide behind it, and up-sample with the border repeated."""
    low = _low_pass(pair.guide[None], sensor, len(pair.ms), ratio)
    explained = _Explained.of([(pair.ms, low[0])])(pair.ms)
    derived = up_with_border(torch.cat([low, explained[None]], dim=1), ratio)
    ms_up = up_with_border(pair.ms[None], ratio)[0]
    return pair._replace(guide=torch.cat([pair.guide, derived[0]]), ms_up=ms_up)


@dataclass(frozen=True)
class _Explained:
    """What the bands of a coarse image explain of the low-pass guide, by regression over all of its pixels.

    Attributes:
        weights: (C, G).
        centre: (C,), mean of the bands.
        level: (G,), mean of the guide.
    """

    weights: Tensor
    centre: Tensor
    level: Tensor

    @classmethod
    def of(cls, strips: Iterable[tuple[Tensor, Tensor]]) -> _Explained:
        """Regress guides (G, n, w) on images (C, n, w)."""
        sums: list[Tensor] = []
        for image, guide in strips:
            x, y = image.flatten(1).double(), guide.flatten(1).double()
            found = [x.sum(1), y.sum(1), x @ x.T, x @ y.T, torch.tensor(float(x.shape[1]))]
            sums = [a + b for a, b in zip(sums, found, strict=True)] if sums else found
        centre, level, squares, products = (total / sums[-1] for total in sums[:-1])
        gram, moment = squares - centre[:, None] * centre, products - centre[:, None] * level
        damping = _DAMPING * gram.diagonal().mean().clamp_min(torch.finfo(gram.dtype).tiny)
        weights = torch.linalg.solve(gram + damping * torch.eye(len(gram), dtype=gram.dtype), moment)
        return cls(weights, centre, level)

    def __call__(self, image: Tensor) -> Tensor:
        """Compute it for an image (C, n, w), (G, n, w)."""
        centred = image.double() - self.centre[:, None, None]
        explained = torch.einsum("cg,chw->ghw", self.weights, centred) + self.level[:, None, None]
        return explained.to(image.dtype)


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
    """Images whose windows have the guide three times: as it is, low-pass, and what the bands explain of that.

    Attributes:
        derived: The latter two on the coarse grid, (h, w, 2 G).
    """

    derived: Image | None = None

    def window(self, rows: slice, columns: slice) -> tuple[Tensor | None, Tensor, Tensor]:
        """See `Images.window`; the guide is (1, 3 G, r h, r w)."""
        ms, guide, ms_up = super().window(rows, columns)
        more = self.up_sampled(self.derived, np.arange(rows.start, rows.stop), np.arange(columns.start, columns.stop))
        return ms, torch.cat([guide, more], dim=1), ms_up


def with_derived(images: Images, sensor: Sensor) -> GuidedImages:
    """Compute what is derived of a whole image's guide, strip by strip; it is as large as some bands of ms."""
    if images.ms is None:
        raise ValueError("there is no coarse image whose MTF the guide could have")
    image, columns = images.ms, slice(0, images.coarse_size[1])
    low = torch.cat(list(_low_strips(images, sensor, int(image.array.shape[2]))), dim=1)
    strips = [slice(top, min(top + _CELL, low.shape[1])) for top in range(0, low.shape[1], _CELL)]
    explained = _Explained.of((_read(image, [rows, columns], fill=images.fill)[0], low[:, rows]) for rows in strips)
    found = torch.cat([explained(_read(image, [rows, columns], fill=images.fill)[0]) for rows in strips], dim=1)
    fields = {name: getattr(images, name) for name in Images.__dataclass_fields__}
    derived = torch.cat([low, found]).permute(1, 2, 0).numpy()
    return replace(GuidedImages(**fields), derived=Image(derived))


def _low_strips(images: Images, sensor: Sensor, bands: int) -> Iterator[Tensor]:
    height, ratio = images.coarse_size[0], images.ratio
    reach = -(-mtf_kernels(sensor, bands, ratio=ratio).shape[-1] // 2 // ratio)
    columns = slice(0, images.size[1])
    for top in range(0, height, _CELL):
        stop = min(top + _CELL, height)
        near = slice(max(0, top - reach), min(height, stop + reach))
        guide = _read(images.guide, [slice(near.start * ratio, near.stop * ratio), columns], fill=images.fill)
        yield _low_pass(guide, sensor, bands, ratio)[0, :, top - near.start : stop - near.start]
