"""How far two images of one ground lie apart, by phase correlation."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_SIGMA = 1.0  # pixels: width of the correlation peak, by a low pass; aliased detail of the images differs
_BLOCK = 8  # pixels that the bands' correlation with the guide averages over, so that a shift does not spoil it
_MOST_BANDS = 16  # neighbouring bands tell the same
_SIGNIFICANT = 8.0  # peak over the spread of the correlation; noise alone reaches 5


class Shift(NamedTuple):
    """How far the guide's content lies from the coarse image's, in coarse pixels: down, right; and how sure that is.

    Attributes:
        rows: Positive where the guide shows the ground further down.
        columns: Positive where it shows it further right.
        significance: Height of the correlation peak over the spread of the correlation elsewhere.
    """

    rows: float
    columns: float
    significance: float

    @property
    def is_sure(self) -> bool:
        """Whether the peak stands out from noise."""
        return self.significance >= _SIGNIFICANT

    @property
    def length(self) -> float:
        """Of the shift."""
        return float(np.hypot(self.rows, self.columns))


def measure_shift(ms: NDArray[np.float64], guide: NDArray[np.float64]) -> Shift | None:
    """Measure the shift between two images on one grid, to about a tenth of a pixel.

    Bands are weighted by their correlation with the guide, because it shows some of them, and some inverted. Peak: a
    Gaussian through the highest value and its neighbours (phase correlation: Kuglin and Hines, 1975).

    Args:
        ms: (h, w, C), finite.
        guide: (h, w): the guide brought to the grid of `ms`, finite.

    Returns:
        The shift; None where an image is flat or smaller than 16 pixels, so that nothing can be measured.
    """
    height, width = guide.shape
    if min(height, width) < 2 * _BLOCK:
        return None
    flat = _combined(ms, guide)
    window = np.hanning(height + 2)[1:-1, None] * np.hanning(width + 2)[1:-1]
    spectra = [np.fft.rfft2(_standardised(image) * window) for image in (guide, flat)]
    cross = spectra[0] * spectra[1].conj()
    size = np.abs(cross)
    if not size.max() > 0:
        return None
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
    low = np.exp(-2 * (np.pi * _SIGMA) ** 2 * (fy**2 + fx**2))
    correlation = np.fft.irfft2(cross / np.maximum(size, 1e-9 * size.max()) * low, s=(height, width))
    peak = np.unravel_index(int(correlation.argmax()), correlation.shape)
    significance = float((correlation[peak] - correlation.mean()) / correlation.std())
    rows, columns = (_refined(correlation, peak, axis) for axis in (0, 1))
    return Shift(rows, columns, significance)


def _combined(ms: NDArray[np.float64], guide: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of the standardised bands, each weighted by its correlation with the guide, seen coarsely.

    A least-squares fit would resemble the guide more, but differences of bands that lie apart imitate a shift.
    """
    bands = np.stack([_standardised(band) for band in np.moveaxis(ms[..., :: -(-ms.shape[2] // _MOST_BANDS)], 2, 0)])
    coarse = _standardised(_block_means(guide))
    weights = [np.mean(_standardised(_block_means(band)) * coarse) for band in bands]
    combined: NDArray[np.float64] = np.tensordot(np.asarray(weights), bands, 1)
    return combined


def _block_means(image: NDArray[np.float64]) -> NDArray[np.float64]:
    height, width = (side // _BLOCK for side in image.shape)
    cut = image[: height * _BLOCK, : width * _BLOCK]
    means: NDArray[np.float64] = cut.reshape(height, _BLOCK, width, _BLOCK).mean(axis=(1, 3))
    return means


def _standardised(image: NDArray[np.float64]) -> NDArray[np.float64]:
    spread = float(image.std())
    is_flat = spread <= 1e-9 * float(np.abs(image).max())
    result: NDArray[np.float64] = np.zeros_like(image) if is_flat else (image - image.mean()) / spread
    return result


def _refined(correlation: NDArray[np.float64], peak: tuple[np.intp, ...], axis: int) -> float:
    """Position of the peak along an axis, by a parabola through the logarithms; the upper half is negative."""
    side = correlation.shape[axis]
    line = np.take(correlation, int(peak[1 - axis]), axis=1 - axis)
    left, middle, right = (np.log(max(line[(int(peak[axis]) + i) % side], 1e-6 * line.max())) for i in (-1, 0, 1))
    curvature = left - 2 * middle + right
    position = int(peak[axis]) + (float(0.5 * (left - right) / curvature) if curvature < 0 else 0.0)
    return position - side if position > side / 2 else position
