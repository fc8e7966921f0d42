"""Where the next label tells most: where the model is least sure, and where the scene is unlike what is labelled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.distance import cdist

from hsmamba.data import Scene, gather_pixels, valid_mask

Places = list[tuple[int, int]]

_SAMPLE = 10_000  # pixels that are compared
_KNOWN = 2_000  # labelled ones that they are compared with
_COMPONENTS = 8
_ODD = 99.5  # percentile of the distance to the mean beyond which pixels are taken for defects


def least_sure(confidence: NDArray[np.float32], labels: NDArray[np.uint8], count: int = 6) -> Places:
    """Find places of low confidence, apart from each other and from the labels.

    Args:
        confidence: (H, W), NaN where there is none; means over 3 x 3 pixels are looked at, since single ones are noise.
        labels: (H, W), 0 = unlabelled.
        count: How many.

    Returns:
        (row, column) of at most so many, the least sure first.
    """
    known = np.isfinite(confidence)
    weight = ndimage.uniform_filter(known.astype(np.float64), 3)
    smooth = ndimage.uniform_filter(np.where(known, confidence, 0).astype(np.float64), 3) / np.maximum(weight, 1e-9)
    score = np.where(known, smooth, np.inf)
    score[ndimage.binary_dilation(labels > 0, iterations=2)] = np.inf
    apart = max(2, min(labels.shape) // 10)
    found: Places = []
    while len(found) < count and np.isfinite(score).any():
        row, column = (int(k) for k in np.unravel_index(int(np.argmin(score)), score.shape))
        found.append((row, column))
        score[max(0, row - apart) : row + apart + 1, max(0, column - apart) : column + apart + 1] = np.inf
    return found


def most_different(scene: Scene, labels: NDArray[np.uint8], count: int = 6) -> Places:
    """Find pixels whose spectra are farthest from those of every label, and from each other.

    Distances are those of the first eight principal components of the standardised bands, on a sample of the pixels;
    the half percent that is farthest from the mean is left out, since defects are there.

    Args:
        scene: The scene.
        labels: (H, W), 0 = unlabelled.
        count: How many.

    Returns:
        (row, column) of at most so many, the most different first.
    """
    height, width = scene.shape
    step = max(1, int(np.ceil(np.sqrt(height * width / _SAMPLE))))
    part: Any = scene.hsi[::step, ::step]
    good = valid_mask(part, "mask", bands=scene.good_bands)
    spectra = np.asarray(part, np.float64)[good][:, scene.good_bands]
    places = np.argwhere(good) * step
    if len(spectra) < 2:
        return []
    mean, spread = spectra.mean(0), spectra.std(0)
    spread[spread == 0] = 1
    _, _, axes = np.linalg.svd((spectra - mean) / spread, full_matrices=False)
    axes = axes[:_COMPONENTS].T

    def projected(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((values - mean) / spread @ axes)

    points = projected(spectra)
    length = np.linalg.norm(points, axis=1)
    distance = length.copy()
    known = np.flatnonzero(labels)
    if known.size:
        values = gather_pixels(scene.hsi, known[:: -(-known.size // _KNOWN)]).astype(np.float64)[:, scene.good_bands]
        values = values[np.isfinite(values).all(axis=1)]
        if len(values):
            distance = cdist(points, projected(values)).min(axis=1)
    distance[length > np.percentile(length, _ODD)] = 0
    found: Places = []
    while len(found) < count and distance.max() > 0:
        best = int(np.argmax(distance))
        found.append((int(places[best, 0]), int(places[best, 1])))
        distance = np.minimum(distance, np.linalg.norm(points - points[best], axis=1))
    return found
