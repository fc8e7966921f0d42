"""Spatially disjoint splits: training pixels from whole tiles, chosen so that much is left to test."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from hsmamba.data.image import pixel_mask, windows_around
from hsmamba.data.splits.pixels import Indices, Labels, check_amount, check_labels, quota
from hsmamba.data.splits.split import Split
from hsmamba.errors import HsmambaWarning, SplitError

_LAYOUTS = 64
_PROPOSALS = 8  # candidates compared for each tile: more of them keep more test pixels but leave less to chance


def block_split(
    labels: Labels,
    *,
    patch_size: int,
    fraction: float,
    block_size: int | None = None,
    seed: int = 0,
    strict: bool = True,
) -> Split:
    """Draw training pixels from compact blocks, and test only where no training patch reaches.

    The scene is tiled from a random offset. Tiles go to the training side, rarest class first, until each class has
    max(1, floor(fraction * n)) pixels there; each tile is the one of eight random candidates that costs the test side
    least. Every labelled pixel inside a training patch is dropped, all the others test, so `leakage` is 0 at this
    patch size. Layouts that leave a class without test pixels are drawn again, up to 64 times.

    Args:
        labels: (H, W) integer, 0 = unlabelled, 1..K.
        patch_size: Side P of the patches that will be used: it sets the guard between the sides.
        fraction: Share of each class to train on, in (0, 1).
        block_size: Side of a tile in pixels. By default ceil(sqrt(N / K)) for N training pixels of K classes: one
            tile holds what an average class needs, so large classes are drawn from several places. Larger tiles
            leave more to test and make the training side less varied.
        seed: Seed of the draw.
        strict: Raise where a class has no test pixel. False warns instead and lets the class train only; a class no
            wider than half a patch cannot be on both sides.

    Returns:
        The split, without validation pixels; `with_validation` keeps the guard.

    Raises:
        SplitError: No class has pixels, or one cannot be tested (`strict`), or nothing is left to test.
        ValueError: A number out of range.
    """
    check_amount(fraction, None)
    if patch_size < 1 or (block_size is not None and block_size < 1):
        raise ValueError(f"patch_size is {patch_size}, block_size {block_size}; expected 1 or more pixels")
    values, sizes = check_labels(labels)
    quotas = np.array([0, *(quota(int(size), fraction, None) for size in sizes[1:])])
    side = block_size or int(np.ceil(np.sqrt(quotas.sum() / np.count_nonzero(sizes[1:]))))
    train, tested = _disjoint_layout(values, quotas, patch_size, side, np.random.default_rng(seed))
    missing = sorted(set(np.unique(values).tolist()) - set(np.unique(tested).tolist()) - {0})
    if not tested.any():
        raise SplitError(
            f"patches of {patch_size} x {patch_size} around {train.size} training pixels cover every labelled pixel, "
            "so none is left to test; lower patch_size or fraction"
        )
    if missing:
        text = (
            f"no test pixel of class {', '.join(map(str, missing))} is left beyond the training patches of "
            f"{patch_size} x {patch_size} pixels"
        )
        if strict:
            raise SplitError(
                f"{text}; give strict=False to let such classes train only, or lower patch_size or fraction"
            )
        warnings.warn(f"{text}: it trains only", HsmambaWarning, stacklevel=2)
    name = f"block{side}-patch{patch_size}-{fraction:g}-seed{seed}"
    return Split(train, np.flatnonzero(tested), np.empty(0, np.int64), (values.shape[0], values.shape[1]), name)


def _disjoint_layout(
    values: Indices, quotas: Indices, patch_size: int, side: int, generator: np.random.Generator
) -> tuple[Indices, Indices]:
    """Return the training pixels (N,) and the labels (H, W) of the test side of a layout that serves every class.

    A class too compact to be on both sides is not waited for. Where no layout serves every other class, it is the one
    with the fewest classes missing, and among those the one with most test pixels.
    """
    confined = _confined_classes(values, patch_size)
    best = ((-len(quotas) - 1, 0), values, values)
    for _ in range(_LAYOUTS):
        train = _draw_training_pixels(values, quotas, patch_size, side, generator)
        tested = np.where(windows_around(pixel_mask(train, (values.shape[0], values.shape[1])), patch_size), 0, values)
        missing = set(np.unique(values).tolist()) - set(np.unique(tested).tolist()) - {0}
        score = (-len(missing), int(np.count_nonzero(tested)))
        if score > best[0]:
            best = (score, train, tested)
        if missing <= confined:
            return train, tested
    return best[1], best[2]


def _confined_classes(labels: Indices, patch_size: int) -> set[int]:
    """Find the classes so compact that the patch of any of their pixels covers them all: they cannot also test."""
    reach = (patch_size - 1) // 2
    boxes = enumerate(ndimage.find_objects(labels), start=1)
    return {k for k, box in boxes if box is not None and max(s.stop - s.start for s in box) <= reach + 1}


def _draw_training_pixels(
    labels: Indices, quotas: Indices, patch_size: int, side: int, generator: np.random.Generator
) -> Indices:
    """Draw the training pixels (N,) of each class from few tiles.

    Class by class, the rarest first, tiles go to the training side until the class has its quota there; tiles that
    are there already serve first. A tile that holds more pixels of the class than are still wanted gives those
    nearest to a random one of them. Each tile is the cheapest of several random candidates, where the cost is the
    share of every class that its patches take from the test side, for each training pixel won.
    """
    width = labels.shape[1]
    offsets = (_pick(side, generator), _pick(side, generator))
    rows, columns = ((np.arange(size) + offset) // side for size, offset in zip(labels.shape, offsets, strict=True))
    tile_of = (rows[:, None] * (columns[-1] + 1) + columns).ravel()
    totals = np.bincount(labels.ravel(), minlength=len(quotas))
    ground = _Ground(labels, patch_size, totals, totals.copy(), np.zeros(labels.shape, dtype=bool))
    chosen: set[int] = set()
    train = []
    for k in np.argsort(totals[1:], kind="stable") + 1:
        free, need = np.flatnonzero(labels == k), int(quotas[k])
        while need > 0:
            tiles = np.unique(tile_of[free])
            ready = tiles[np.isin(tiles, list(chosen))]
            candidates = ready if ready.size else tiles
            proposals = []
            for _ in range(_PROPOSALS):
                members = free[tile_of[free] == candidates[_pick(candidates.size, generator)]]
                anchor = members[_pick(members.size, generator)]
                proposals.append(_nearest(members, anchor, need, width))
            pixels = min(proposals, key=ground.cost)
            ground.take(pixels)
            chosen.add(int(tile_of[pixels[0]]))
            train.append(pixels)
            free = np.setdiff1d(free, pixels, assume_unique=True)
            need -= pixels.size
    return np.concatenate(train)


@dataclass
class _Ground:
    """What the training patches cover so far, and what that leaves of each class."""

    labels: Indices
    patch_size: int
    totals: npt.NDArray[Any]
    left: npt.NDArray[Any]
    near: npt.NDArray[np.bool_]

    def cost(self, pixels: Indices) -> float:
        """Return the shares of the classes that these pixels take from the test side, for each of the pixels."""
        _, _, lost = self._loss(pixels)
        shares = lost[1:] / np.maximum(self.totals[1:], 1)
        wiped_out = (lost[1:] == self.left[1:]) & (lost[1:] > 0)  # counts as much as a whole class
        return float(shares.sum() + wiped_out.sum()) / pixels.size

    def take(self, pixels: Indices) -> None:
        """Put these pixels on the training side."""
        window, patches, lost = self._loss(pixels)
        self.near[window] |= patches
        self.left = self.left - lost

    def _loss(self, pixels: Indices) -> tuple[tuple[slice, slice], npt.NDArray[np.bool_], Indices]:
        """Look at the window around the pixels only, so that the scene's size does not matter."""
        places = np.divmod(pixels, self.labels.shape[1])
        starts = [max(int(place.min()) - self.patch_size, 0) for place in places]
        window = tuple(slice(start, int(p.max()) + self.patch_size) for start, p in zip(starts, places, strict=True))
        centres = np.zeros(self.labels[window].shape, dtype=bool)
        centres[places[0] - starts[0], places[1] - starts[1]] = True
        patches = windows_around(centres, self.patch_size)
        lost = np.bincount(self.labels[window][patches & ~self.near[window]], minlength=len(self.totals))
        return (window[0], window[1]), patches, lost


def _pick(size: int, generator: np.random.Generator) -> int:
    """Draw from 0..size - 1 by a uniform number: that stream is the same in every numpy release."""
    return int(generator.random() * size)


def _nearest(members: Indices, anchor: np.int64, count: int, width: int) -> Indices:
    rows, columns = np.divmod(members, width)
    distance = np.maximum(abs(rows - anchor // width), abs(columns - anchor % width))
    return members[np.argsort(distance, kind="stable")[:count]]
