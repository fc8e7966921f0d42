"""Diffusion on an image's own graph: what lies side by side and looks alike is brought together.

Every pixel is joined to its eight neighbours with the weight exp(-d^2), d being the distance of the two in some
features. With P, the weights divided by their sum in each row, the diffused values x of the values x0 solve

    x = a P x + (1 - a) x0,

the fixed point of a random walk that starts anew with probability 1 - a (Zhou, Bousquet, Lal, Weston, Schoelkopf,
"Learning with local and global consistency", NIPS 16 (2003), section 2, with the random walk's P): each pixel gets the
mean of what such walks from it end on. In smooth ground they end about sqrt(0.4 / (1 - a)) pixels away.

The solver is Chebyshev's semi-iteration (Golub and Varga, Numerische Mathematik 3 (1961), 147-156) with a fixed number
of steps, which needs no sums over the image. It converges in the norm that weighs a pixel by its sum of weights, and so
is least exact where a pixel is unlike all others; a few steps of the plain iteration at the end give such pixels what
their neighbours have.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Floats: TypeAlias = "NDArray[np.float32]"

PLAIN = 8  # plain steps, after Chebyshev's
_LEAST_SHARE = 1e-12  # of a neighbour; products with less fall among numbers that are slow and mean nothing
_EIGHT = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]  # and the pixel itself, by rising index


def steps_to(share: float, left: float) -> int:
    """Return how many of Chebyshev's steps leave at most `left` of the distance to the solution for a = `share`."""
    return int(np.ceil(np.arccosh(1 / left) / np.arccosh(1 / share)))


def settle(walk: sparse.csr_array, start: Floats, share: float, steps: int) -> Floats:
    """Diffuse values.

    Args:
        walk: P, float32 (N, N), as `transitions` makes it.
        start: Values (N, K).
        share: a, in (0, 1).
        steps: Of Chebyshev's iteration.
    """
    walk = walk * np.float32(share)
    fed = np.float32(1 - share) * start
    before, now, weight = start, walk @ start + fed, 2 / (2 - share**2)
    for _ in range(steps - 1):
        after = walk @ now
        after += fed
        after -= before
        after *= np.float32(weight)
        after += before
        before, now, weight = now, after, 1 / (1 - share**2 * weight / 4)
    for _ in range(PLAIN):
        now = walk @ now
        now += fed
    return np.asarray(now)


def transitions(features: Floats, there: NDArray[np.bool_]) -> sparse.csr_array:
    """Make P: float32 (H W, H W), its rows sum to 1; a pixel without neighbours stays with itself."""
    height, width = there.shape
    weights = np.zeros((height, width, 9))
    for k, (down, right) in enumerate(_EIGHT[5:], start=5):  # the other four are these from the other side
        here = slice(0, height - down), slice(max(0, -right), width - max(0, right))
        beyond = slice(down, height), slice(max(0, right), width + min(0, right))
        with np.errstate(over="ignore", invalid="ignore"):
            like = np.exp(-squared(features[here], features[beyond]))
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


def squared(one: Floats, other: Floats) -> NDArray[np.float64]:
    """Return squared distances over the last axis; 0 where there is none."""
    difference = one - other
    return np.asarray(np.einsum("...c,...c->...", difference, difference, dtype=np.float64))


def middle(distances: NDArray[np.float64]) -> float:
    """Return the median of distances; their mean where more than half are 0 (repeated pixels), and 1 where all are."""
    found = (np.median(distances), distances.mean()) if distances.size else ()
    return next((float(value) for value in found if value > 0), 1.0)
