"""Whether the numbers of an image are of the units that a weight was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hsmamba.data.sensors import get_sensor

Maximum: TypeAlias = "float | tuple[float, float] | str"

QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)
_MOST = 20_000  # pixels that are looked at


@dataclass(frozen=True, eq=False)
class Range:
    """How the numbers of training pixels are distributed.

    Attributes:
        before: Quantiles (5, B) of every band that a transform reads: 1, 25, 50, 75 and 99 %.
        after: The same (5, C) of every channel that it gives.
        means: Lowest and highest mean (2, C) of a training image in every channel that it gives, as `robust_mean` has
            it; None where that is not on record.
    """

    before: npt.NDArray[np.float64]
    after: npt.NDArray[np.float64]
    means: npt.NDArray[np.float64] | None = None

    @classmethod
    def of(cls, before: npt.NDArray[Any], after: npt.NDArray[Any]) -> Range:
        """Measure pixels (N, B) and the same transformed (N, C), evenly thinned out to 20 000."""
        return cls(quantiles(before), quantiles(after))


def thinned(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Take of pixels (N, B) at most 20 000, evenly spread, which `quantiles` are measured of."""
    return pixels[:: -(-len(pixels) // _MOST)]


def quantiles(pixels: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return the quantiles (5, B) of pixels (N, B)."""
    return np.quantile(thinned(pixels).astype(np.float64), QUANTILES, axis=0)


def robust_mean(pixels: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return the mean of each channel of pixels (N, C), what lies beyond the 1 and 99 % quantiles taken as these.

    NaN where there is no pixel.
    """
    if not len(pixels):
        return np.full(pixels.shape[1], np.nan)
    values = pixels.astype(np.float64)
    return np.asarray(values.clip(*np.quantile(values, [QUANTILES[0], QUANTILES[-1]], axis=0)).mean(axis=0))


_LEVEL = 4.0  # the median band may be so many times brighter or darker; other places of a sensor are within 2
_BANDS = 4  # of which a spectrum has at least so many
_SHAPE = 2.5  # how far the logarithms of the bands' ratios may lie apart (10 to 90 %) in one and the same spectrum
_FLOOR = 1e-6
_FINE_BANDS, _FINE_PIXELS = 30, 40  # that a spectrum's peaks and dips are told from
_LIKENESS = 0.4  # scenes of one sensor agree by 0.7 and more, other bands by 0.3 and less
_OWN_LIKENESS = 0.8
_SPREAD = 20.0
_DISPLACED = 2.5, 1.0  # training spreads (1 to 99 %) by which the channels lie off: refused, told


@dataclass(frozen=True)
class Doubt:
    """What makes numbers look like those of another unit.

    Attributes:
        figures: In words, with the numbers.
        factor: By what to multiply the image's numbers so that they are of the training's size; None where that alone
            would not mend it.
        sure: Whether no image of the same unit and bands would look so.
    """

    figures: str
    factor: float | None
    sure: bool


def doubt(known: Range, before: npt.NDArray[Any], after: npt.NDArray[Any]) -> Doubt | None:
    """Compare pixels of an image with those that a weight was trained on.

    Medians and the range from 1 to 99 % decide, so that no single pixel does.

    Args:
        known: Of the training pixels.
        before: (N, B) valid pixels of the image, the bands that the transform reads.
        after: (N, C) the same transformed.

    Returns:
        What is odd; None where nothing is.
    """
    here, there = quantiles(before), known.before
    level = _level(here, there)
    off, spread = _displacement(known.after, quantiles(after))
    likeness = _likeness(before, there[2])
    if level is None and off <= _DISPLACED[1] and spread <= _SPREAD and likeness is None:
        return None
    figures = (
        f"median of its middle band {np.median(here[2]):.4g}, in training {np.median(there[2]):.4g}; after the "
        f"transform its channels lie {off:.3g} training ranges off and spread {spread:.3g} times as far"
    )
    if likeness is not None:
        figures += f"; peaks and dips from band to band are others (rank correlation {likeness:.2f})"
    factor = None if level is None or level <= 2 * _FLOOR else _round(1 / level)
    most = _DISPLACED[0 if likeness is None else 1]
    return Doubt(figures, factor, level is not None or off > most or spread > _SPREAD)


def _level(here: npt.NDArray[np.float64], there: npt.NDArray[np.float64]) -> float | None:
    """By what factor the spectrum of an image is that of the training, where that is too much for one unit.

    Another unit changes all bands alike; dark water is darker than land, too, but not alike in all bands. None also for
    numbers that have no level, such as decibels, and for a few bands, such as heights, which have no spectrum.
    """
    for lower, compared in ((1, 2), (2, 3), (3, 4)):  # medians, or what lies above the dark part of the training
        lit = there[lower] > 0
        if lit.sum() >= max(_BANDS, lit.size / 2):
            ratios = np.log(np.maximum(here[compared, lit] / there[compared, lit], _FLOOR))
            level = float(np.exp(np.median(ratios)))
            unlike = np.subtract(*np.percentile(ratios, [90, 10])) > _SHAPE
            return None if unlike or 1 / _LEVEL <= level <= _LEVEL else level
    return None


def _likeness(pixels: npt.NDArray[Any], there: npt.NDArray[np.float64]) -> float | None:
    """How like the training's the peaks and dips of an image's spectrum are, where they tell that its bands are others.

    Absorption by the air and the sensor's own bands mark the same bands in every scene. None where they are alike, for
    a few bands or pixels, and where halves of the image do not agree on them: then they are noise.
    """
    if len(there) < _FINE_BANDS or len(pixels) < _FINE_PIXELS:
        return None
    one, two = (_peaks(np.median(half, axis=0)) for half in (pixels[::2], pixels[1::2]))
    likeness = _rank_correlation(_peaks(np.median(pixels, axis=0)), _peaks(there))
    return likeness if _rank_correlation(one, two) >= _OWN_LIKENESS and likeness < _LIKENESS else None


def _peaks(spectrum: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Second difference of a spectrum, relative to its level."""
    level = np.abs(spectrum[1:-1].astype(np.float64))
    return np.asarray(np.diff(spectrum.astype(np.float64), 2) / np.maximum(level, max(1e-3 * np.median(level), 1e-30)))


def _rank_correlation(one: npt.NDArray[np.float64], two: npt.NDArray[np.float64]) -> float:
    return float(np.corrcoef(one.argsort().argsort(), two.argsort().argsort())[0, 1])


def _displacement(there: npt.NDArray[np.float64], here: npt.NDArray[np.float64]) -> tuple[float, float]:
    """How far the medians lie apart (root mean square over channels) and how far the numbers spread, in ranges."""
    span = there[4] - there[0]
    moves = span > 1e-9 * np.abs(there).max(initial=0)  # not what was constant in training
    if not moves.any():
        return 0.0, 1.0
    apart = (here[2] - there[2])[moves] / span[moves]
    return float(np.sqrt(np.mean(apart**2))), float(np.median((here[4] - here[0])[moves] / span[moves]))


def _round(factor: float) -> float:
    """The power of ten where the factor is within 2 of one: units mostly differ by such."""
    power = 10.0 ** round(np.log10(factor))
    return float(power if 0.5 <= factor / power <= 2 else np.float64(f"{factor:.2g}"))


def top(pixels: npt.NDArray[Any]) -> float:
    """Return the 99 % quantile of the brightest band of pixels (N, B), leaving out NaN; 0 where there is none."""
    good = pixels[np.isfinite(pixels).all(axis=1)]
    return float(quantiles(good)[-1].max()) if len(good) else 0.0


def maxima(maximum: Maximum) -> tuple[float, float]:
    """Return what is 1 in the coarse image and in the guide of a fusion, as a caller says it.

    Args:
        maximum: One number for both, a pair (of `ms`, of the guide), or the name of a sensor.

    Raises:
        ValueError: It is none of these, not above 0, or the sensor's largest number is not known.
    """
    given: Any = maximum
    if isinstance(maximum, str):
        sensor = get_sensor(maximum)
        if sensor.maximum is None:
            raise ValueError(f"the largest number of sensor {sensor.name!r} is not known; give maximum= as a number")
        given = sensor.maximum
    pair = tuple(given) if isinstance(given, (tuple, list)) else (given, given)
    if len(pair) != 2 or not all(_is_number(value) and np.isfinite(value) and value > 0 for value in pair):
        raise ValueError(f"maximum is {maximum!r}; expected a number above 0, a pair (of ms, of guide), or a sensor")
    return float(pair[0]), float(pair[1])


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def likely(peak: float, shown: float | None = None) -> float:
    """Return the number that is usually 1 where numbers are as large as these.

    Args:
        peak: How large they are, as `top` measures it.
        shown: What this was in training, after scaling, which decides where it is known.
    """
    usual = (1.0, 255.0, 1023.0, 2047.0, 4095.0, 10000.0, 16383.0, 65535.0)
    if shown is not None and shown > 0 and peak > 0:
        return min(usual, key=lambda one: abs(np.log(peak / one / shown)))
    return next((one for one in usual if peak <= one), usual[-1])
