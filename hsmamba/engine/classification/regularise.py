"""Edge-aware diffusion of class probabilities on the image's own graph, in windows that equal the whole.

Every pixel that has probabilities is joined to its eight neighbours with the weight exp(-d^2 / m): d is the distance of
the two in the leading principal components of the standardised bands, m the median of d^2 over neighbours of the scene.
With P, the weights divided by their sum in each row, the diffused probabilities p of the network's p0 solve

    p = a P p + (1 - a) p0,

the fixed point of a random walk that starts anew with probability 1 - a, here 1 % (Zhou, Bousquet, Lal, Weston,
Schoelkopf, "Learning with local and global consistency", NIPS 16 (2003), section 2, with the random walk's P).

The solver (`hsmamba.data.diffusion`) takes a fixed number of steps and looks as many pixels far, so that a window with
that margin has the result of the whole image; it keeps the sum over the classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from hsmamba.data import PCA, Compose, Scene, SelectBands, Standardise
from hsmamba.data.diffusion import PLAIN, middle, settle, squared, transitions
from hsmamba.data.splits.pixels import draw
from hsmamba.data.transforms.gathering import gather
from hsmamba.data.validity import valid_mask
from hsmamba.engine.classification.inputs import Source, Sources

Regularise: TypeAlias = Literal["off", "on", "auto"]
Floats: TypeAlias = "NDArray[np.float32]"

DIFFUSION = 0.99  # a
_FAST = 96  # they leave at most 1 / T_96(1 / a) = 2.4e-6 of the distance to the solution, T being Chebyshev's
STEPS = _FAST + PLAIN  # and so the margin of a window in pixels; probabilities are exact to about 1e-5
_COMPONENTS = 12
_SAMPLE = 4096  # pixels that components and median are taken from
_WHOLE = 2**22  # pixels of a scene that they are drawn from as a whole
_SIDE = 64  # of the windows that they are drawn from in a larger one
_ROWS, _COLUMNS = 256, 1024  # of a window, without its margins


@dataclass(frozen=True)
class Graph:
    """How pixels of a scene resemble each other.

    Attributes:
        components: From the bands to components; None where the scene has too few pixels for any.
        scale: The median squared distance of neighbours, or what stands for it where that is 0.
    """

    components: Compose | None
    scale: float

    @classmethod
    def fit(cls, sources: Sources, bands: Mapping[Source, NDArray[np.int64] | None]) -> Graph:
        """Take components and scale from a sample of a scene that is always the same.

        They are those of 4096 pixels with data, drawn at random from all; in scenes of more than 2^22 pixels, from 256
        windows of 64 x 64 that are spread evenly.

        Args:
            sources: The images (H, W, B), of which the pixels are valid that have data in all.
            bands: Indices of the bands that count for it; None for all.
        """
        hsi = sources["hsi"]
        used = np.arange(hsi.shape[2]) if bands["hsi"] is None else bands["hsi"]
        parts = [{on: array[part] for on, array in sources.items()} for part in _sampled((hsi.shape[0], hsi.shape[1]))]
        masks = [
            np.all([valid_mask(array, "mask", bands=bands[on]) for on, array in part.items()], axis=0) for part in parts
        ]
        valid = np.flatnonzero(np.concatenate([mask.ravel() for mask in masks]))
        items = np.sort(draw(valid, _SAMPLE, np.random.default_rng(0)))
        count = min(_COMPONENTS, used.size, items.size - 1)
        if count < 1:
            return cls(None, 1.0)
        scenes = [Scene(part["hsi"]) for part in parts]
        spectra, pairs = gather(scenes, items, {"hsi": used}, {"hsi": 3}, "mask")
        components = Compose([SelectBands(used), Standardise(), PCA(count)]).fit(spectra["hsi"])
        first, second = np.moveaxis(components(pairs["hsi"]), 1, 0)
        return cls(components, middle(squared(first, second)))

    def features(self, cube: NDArray[np.generic]) -> Floats:
        """Return what the weights are made of, rows (n, W, B) -> (n, W, C): exp(-d^2) of it are they."""
        if self.components is None:
            return np.zeros((*cube.shape[:2], 0), np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # of what is invalid
            features: Floats = self.components(cube) / np.float32(np.sqrt(self.scale))
        return features


def _sampled(shape: tuple[int, int]) -> list[tuple[slice, slice]]:
    """Give the windows that a sample is drawn from: the whole scene, or in a large one some of it."""
    if shape[0] * shape[1] <= _WHOLE:
        return [(slice(None), slice(None))]
    down, across = (
        [
            slice(int(first), int(first) + _SIDE)
            for first in np.unique(np.linspace(0, max(0, side - _SIDE), 16).astype(int))
        ]
        for side in shape
    )
    return [(rows, columns) for rows in down for columns in across]


def check_regularise(value: str, allowed: tuple[str, ...] = get_args(Regularise)) -> None:
    """Raise ValueError unless `regularise` is one of the words."""
    if value not in allowed:
        raise ValueError(f"regularise is {value!r}; expected one of {', '.join(allowed)}")


def diffused_rows(
    strips: Iterable[tuple[int, Floats, Floats]], height: int, start: int = 0
) -> Iterator[tuple[int, Floats]]:
    """Diffuse the probabilities of a scene whose rows come strip by strip.

    Args:
        strips: First row, probabilities (n, W, K), NaN where a pixel takes no part, and features (n, W, C), from top to
            bottom; of the rows above `start` the last `STEPS` at least.
        height: Rows of the scene.
        start: Row to begin with, where an earlier run has given what is above.

    Yields:
        First row, and diffused probabilities (m, W, K), from top to bottom; the strips decide nothing about them.
    """
    done, first = start, max(0, start - STEPS)  # rows that were given; row of the scene that the held rows begin with
    held: tuple[Floats, ...] = ()
    for top, *strip in strips:
        strip = [rows[max(0, first - top) :] for rows in strip]
        held = tuple(map(np.concatenate, zip(held, strip, strict=True))) if held else tuple(strip)
        last = first + len(held[0])
        while done < height and (last == height or last >= done + _ROWS + STEPS):
            bottom = min(done + _ROWS, height)
            window = (rows[: bottom + STEPS - first] for rows in held)
            yield done, _across(*window)[done - first : bottom - first]
            done, kept = bottom, max(0, bottom - STEPS)
            held, first = tuple(rows[kept - first :] for rows in held), kept


def _across(scores: Floats, features: Floats) -> Floats:
    """Diffuse a window of whole rows in parts of some columns."""
    result = np.empty_like(scores)
    for left in range(0, scores.shape[1], _COLUMNS):
        right, begin = left + _COLUMNS, max(0, left - STEPS)
        part = (slice(None), slice(begin, right + STEPS))
        result[:, left:right] = diffuse(scores[part], features[part])[:, left - begin : right - begin]
    return result


def diffuse(scores: Floats, features: Floats) -> Floats:
    """Diffuse the probabilities (H, W, K) of an image on the graph of its features (H, W, C).

    Pixels whose probabilities are not finite take no part and stay NaN.
    """
    start = np.ascontiguousarray(scores.reshape(-1, scores.shape[2]), np.float32)
    there = np.asarray(np.isfinite(start).all(axis=1))
    start = np.where(there[:, None], start, np.float32(np.nan))
    walk = transitions(features, there.reshape(scores.shape[:2]))
    result: Floats = settle(walk, start, DIFFUSION, _FAST).clip(0, 1).reshape(scores.shape)
    return result
