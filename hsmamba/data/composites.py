"""Images of three bands for the eye, and small pictures of them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_TRUE_COLOUR_NM = (650.0, 550.0, 450.0)
_SIDE = 240  # pixels of a thumbnail


def composite(hsi: Any, bands: Sequence[int] | None = None, wavelengths: NDArray[Any] | None = None) -> NDArray[Any]:
    """Make an RGB image of three bands, each stretched between its 2nd and 98th percentile.

    Args:
        hsi: (H, W, B) image.
        bands: Indices of the red, green and blue band. Default: the bands nearest to 650, 550 and 450 nm if the
            wavelengths are known, else the bands at one half, one third and one sixth of the range.
        wavelengths: (B,) in nm.

    Returns:
        (H, W, 3) float32 in 0..1; not finite pixels are black.

    Raises:
        ValueError: `bands` are not three indices below B.
    """
    chosen = rgb_bands(int(hsi.shape[2]), bands, wavelengths)
    image = np.stack([np.asarray(hsi[:, :, band], np.float32) for band in chosen], axis=-1)
    image[~np.isfinite(image)] = np.nan
    if np.isnan(image).all():
        return np.zeros(image.shape, np.float32)
    low, high = np.nanpercentile(image, (2, 98), axis=(0, 1))
    return np.asarray(np.nan_to_num(stretched(image, low, high)), np.float32)


def rgb_bands(count: int, bands: Sequence[int] | None = None, wavelengths: Any = None) -> list[int]:
    """Choose the three bands of `composite`, whose words these are, out of so many."""
    if bands is None and wavelengths is not None:
        bands = [int(np.nanargmin(np.abs(np.asarray(wavelengths) - nm))) for nm in _TRUE_COLOUR_NM]
    elif bands is None:
        bands = [count // 2, count // 3, count // 6]
    if len(bands) != 3 or not all(0 <= band < count for band in bands):
        raise ValueError(f"bands is {list(bands)!r}; it takes three indices from 0 to {count - 1}")
    return list(bands)


def stretched(image: NDArray[Any], low: NDArray[Any], high: NDArray[Any]) -> NDArray[Any]:
    """Bring numbers from low to high to 0..1, and clip the others."""
    return np.asarray(np.clip((image - low) / np.maximum(high - low, 1e-12), 0, 1))


def thumbnail(hsi: Any, wavelengths: NDArray[Any] | None = None) -> bytes:
    """Make a PNG of every n-th pixel, 240 at most on a side; nothing else is read of a lazy image."""
    from PIL import Image

    step = max(1, -(-max(hsi.shape[:2]) // _SIDE))
    chosen = rgb_bands(int(hsi.shape[2]), None, wavelengths)
    small = np.stack([np.asarray(hsi[::step, ::step, band], np.float32) for band in chosen], axis=-1)
    larger = max(1, _SIDE // max(small.shape[:2]))
    image = Image.fromarray(np.rint(255 * composite(small, (0, 1, 2))).astype(np.uint8))
    file = io.BytesIO()
    image.resize((image.width * larger, image.height * larger), Image.Resampling.NEAREST).save(file, "PNG")
    return file.getvalue()
