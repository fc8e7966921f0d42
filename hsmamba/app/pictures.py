"""Pictures of images and maps for the page, as PNG files of a bounded size."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hsmamba.data.composites import rgb_bands, stretched

MOST = 1600  # pixels on a side
# From little to much, light enough for each to be told from the ground: a few of the colours of matplotlib's "viridis".
_RAMP = np.array([(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)], np.float64)


def step_of(shape: Sequence[int]) -> int:
    """Every how many rows and columns are shown of an image."""
    return max(1, -(-max(shape[:2]) // MOST))


def three_bands(image: Any, bands: Sequence[int] | None, wavelengths: Any) -> NDArray[np.float32]:
    """Read three bands as far as they are shown, (h, w, 3); the default is that of `composite`."""
    step = step_of(image.shape)
    chosen = rgb_bands(int(image.shape[2]), bands, wavelengths)
    return np.asarray(image[::step, ::step, chosen], np.float32)  # at once: files hold the bands of a pixel together


def limits(image: NDArray[np.float32], clip: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """Darkest and brightest number of each band: so many percent of the pixels are beyond each of them."""
    values = np.where(np.isfinite(image) & (np.abs(image) < 1e30), image, np.nan)
    if np.isnan(values).all():
        return np.zeros(image.shape[2]), np.ones(image.shape[2])
    low, high = np.nanpercentile(values, (clip, 100 - clip), axis=(0, 1))
    return low, high


def picture(image: NDArray[np.float32], low: NDArray[Any], high: NDArray[Any]) -> bytes:
    """Draw three bands between two numbers each; what is no number is black."""
    with np.errstate(invalid="ignore", over="ignore"):
        shown = np.nan_to_num(stretched(image, low, high))
    return _png(Image.fromarray(np.rint(255 * shown).astype(np.uint8)))


def class_picture(labels: NDArray[Any], colours: NDArray[np.float64], *, sparse: bool = False) -> bytes:
    """Draw classes in their colours, 0 clear.

    Args:
        labels: (H, W) integers 0..K.
        colours: (K + 1, 3) RGB in 0..1.
        sparse: Show the highest class of the pixels that one pixel stands for, so that none is lost.
    """
    step = step_of(labels.shape)
    if sparse and step > 1:
        padded = np.pad(labels, [(0, -size % step) for size in labels.shape])
        height, width = padded.shape
        shown = padded.reshape(height // step, step, width // step, step).max(axis=(1, 3))
    else:
        shown = labels[::step, ::step]
    image = Image.fromarray(shown.astype(np.uint8))
    image.putpalette(np.rint(255 * colours).astype(np.uint8).tobytes())
    return _png(image, transparency=0)


def confidence_picture(confidence: NDArray[np.float32]) -> bytes:
    """Draw confidence, 0 to 1, from dark to light; clear where there is none."""
    step = step_of(confidence.shape)
    values = np.asarray(confidence[::step, ::step], np.float64)
    known = np.isfinite(values)
    level = np.clip(np.nan_to_num(values), 0, 1) * (len(_RAMP) - 1)
    colours = np.stack([np.interp(level, range(len(_RAMP)), _RAMP[:, k]) for k in range(3)], axis=-1)
    return _png(Image.fromarray(np.dstack([colours, 255 * known]).astype(np.uint8), "RGBA"))


def _png(image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1, **options)
    return file.getvalue()
