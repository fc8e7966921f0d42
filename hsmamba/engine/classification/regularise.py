"""Edge-aware diffusion of class probabilities on the image's own graph, in windows that equal the whole.

Every pixel that has probabilities is joined to its eight neighbours with the weight exp(-d^2 / m): d is the distance of
the two in the leading principal components of the standardised bands, m the median of d^2 over neighbours of the scene.
With P, the weights divided by their sum in each row, the diffused probabilities p of the network's p0 solve

    p = a P p + (1 - a) p0,

the fixed point of a random walk that starts anew with probability 1 - a, here 1 % (Zhou, Bousquet, Lal, Weston,
Schoelkopf, "Learning with local and global consistency", NIPS 16 (2003), section 2, with the random walk's P).

The solver is Chebyshev's semi-iteration (Golub and Varga, Numerische Mathematik 3 (1961), 147-156) with a fixed number
of steps: that needs no sums over the image, keeps the sum over the classes, and looks as many pixels far as it takes
steps, so that a window with that margin has the result of the whole image. It converges in the norm that weighs a pixel
by its sum of weights, and so is least exact where a pixel is unlike all others; a few steps of the plain iteration at
the end give such pixels what their neighbours have.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from hsmamba.data import PCA, Compose, Scene, SelectBands, Standardise
from hsmamba.data.image import Array
from hsmamba.data.splits.pixels import draw
from hsmamba.data.transforms.gathering import gather

Regularise: TypeAlias = Literal["off", "on", "auto"]
Floats: TypeAlias = "NDArray[np.float32]"

DIFFUSION = 0.99  # a
_FAST = 96  # they leave at most 1 / T_96(1 / a) = 2.4e-6 of the distance to the solution, T being Chebyshev's
_PLAIN = 8
STEPS = _FAST + _PLAIN  # and so the margin of a window in pixels; probabilities are exact to about 1e-5
_COMPONENTS = 12
_SAMPLE = 4096  # pixels that components and median are taken from
_LEAST_SHARE = 1e-12  # of a neighbour; products with less fall among numbers that are slow and mean nothing
_ROWS, _COLUMNS = 256, 1024  # of a window, without its margins
_EIGHT = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]  # and the pixel itself, by rising index


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
    def fit(cls, hsi: Array, valid: NDArray[np.bool_], bands: NDArray[np.int64] | None) -> Graph:
        """Take components and scale from a sample of a scene that is always the same.

        Args:
            hsi: (H, W, B).
            valid: (H, W), the pixels that have data.
            bands: Indices of the bands that count; None for all.
        """
        items = np.sort(draw(np.flatnonzero(valid), _SAMPLE, np.random.default_rng(0)))
        used = np.arange(hsi.shape[2]) if bands is None else bands
        count = min(_COMPONENTS, used.size, items.size - 1)
        if count < 1:
            return cls(None, 1.0)
        spectra, pairs = gather([Scene(hsi)], items, {"hsi": used}, {"hsi": 3}, "mask")
        components = Compose([SelectBands(used), Standardise(), PCA(count)]).fit(spectra["hsi"])
        first, second = np.moveaxis(components(pairs["hsi"]), 1, 0)
        return cls(components, _middle(_squared(first, second)))

    def features(self, cube: NDArray[np.generic]) -> Floats:
        """Return what the weights are made of, rows (n, W, B) -> (n, W, C): exp(-d^2) of it are they."""
        if self.components is None:
            return np.zeros((*cube.shape[:2], 0), np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # of what is invalid
            features: Floats = self.components(cube) / np.float32(np.sqrt(self.scale))
        return features


def check_regularise(value: str, allowed: tuple[str, ...] = get_args(Regularise)) -> None:
    """Raise ValueError unless `regularise` is one of the words."""
    if value not in allowed:
        raise ValueError(f"regularise is {value!r}; expected one of {', '.join(allowed)}")


def diffused_rows(strips: Iterable[tuple[Floats, Floats]], height: int) -> Iterator[tuple[int, Floats]]:
    """Diffuse the probabilities of a scene whose rows come strip by strip.

    Args:
        strips: Probabilities (n, W, K), NaN where a pixel takes no part, and features (n, W, C), from top to bottom.
        height: Rows of the scene.

    Yields:
        First row, and diffused probabilities (m, W, K), from top to bottom; the strips decide nothing about them.
    """
    first = done = 0  # row of the scene that the held rows begin with; rows that were given
    held: tuple[Floats, ...] = ()
    for strip in strips:
        held = tuple(map(np.concatenate, zip(held, strip, strict=True))) if held else strip
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
    walk = _transitions(features, there.reshape(scores.shape[:2]))
    walk.data *= np.float32(DIFFUSION)
    fed = np.float32(1 - DIFFUSION) * start
    before, now, weight = start, walk @ start + fed, 2 / (2 - DIFFUSION**2)
    for _ in range(_FAST - 1):
        after = walk @ now
        after += fed
        after -= before
        after *= np.float32(weight)
        after += before
        before, now, weight = now, after, 1 / (1 - DIFFUSION**2 * weight / 4)
    for _ in range(_PLAIN):
        now = walk @ now
        now += fed
    result: Floats = now.clip(0, 1).reshape(scores.shape)
    return result


def _transitions(features: Floats, there: NDArray[np.bool_]) -> sparse.csr_array:
    """Make P: float32 (H W, H W), its rows sum to 1; a pixel without neighbours stays with itself."""
    height, width = there.shape
    weights = np.zeros((height, width, 9))
    for k, (down, right) in enumerate(_EIGHT[5:], start=5):  # the other four are these from the other side
        here = slice(0, height - down), slice(max(0, -right), width - max(0, right))
        beyond = slice(down, height), slice(max(0, right), width + min(0, right))
        with np.errstate(over="ignore", invalid="ignore"):
            like = np.exp(-_squared(features[here], features[beyond]))
        weights[..., k][here] = weights[..., 8 - k][beyond] = np.where(there[here] & there[beyond], like, 0)
    total = weights.sum(axis=2)
    weights[..., 4] = there & (total == 0)
    weights /= np.where(total == 0, 1, total)[..., None]
    joined = weights > _LEAST_SHARE
    size = height * width
    offsets = np.array([down * width + right for down, right in _EIGHT], np.int32)  # of a window, which is small
    indices = (np.arange(size, dtype=np.int32).reshape(height, width, 1) + offsets)[joined]
    ends = np.concatenate([[0], joined.sum(axis=2).ravel().cumsum()]).astype(np.int32)
    return sparse.csr_array((weights[joined].astype(np.float32), indices, ends), shape=(size, size))


def _squared(one: Floats, other: Floats) -> NDArray[np.float64]:
    """Squared distances over the last axis; 0 where there is none."""
    difference = one - other
    return np.asarray(np.einsum("...c,...c->...", difference, difference, dtype=np.float64))


def _middle(distances: NDArray[np.float64]) -> float:
    """Their median; their mean where more than half are 0, as of repeated pixels, and 1 where all are."""
    found = (np.median(distances), distances.mean()) if distances.size else ()
    return next((float(value) for value in found if value > 0), 1.0)
