"""Gains that bring the images of a fusion to the brightness of the weight's training, without reading any truth.

A network of detail is sensitive to how bright MS and guide are beside each other, which differs from scene to scene and
from product to product of one sensor. So MS is multiplied by one number and the guide by another (each channel by its
own) before the network, and the result divided by that of MS. One number for all bands of MS leaves the colours as
they are; a band whose share of the light is far from that of the training is brought nearer by a number of its own.
"""

from __future__ import annotations

import logging
import warnings
from dataclasses import replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hsmamba.data.units import robust_mean
from hsmamba.engine.fusion.images import Image, Images
from hsmamba.errors import HsmambaWarning
from hsmamba.models import FusionNetwork

Gains: TypeAlias = 'Literal["match"] | None'

_ROWS, _COLUMNS = 256, 1024  # of an image, evenly spread, that its means are of
_COLOUR = 1.6  # times the share of the light that a band may have more or less than in training
_ABOUT = 1.02  # times as bright is as bright
_logger = logging.getLogger(__name__)


def check_gains(gains: Gains) -> None:
    """Raise ValueError for what is neither "match" nor None."""
    if gains not in ("match", None):
        raise ValueError(f'gains is {gains!r}; expected "match" (to the training of the weight) or None (as they are)')


def with_gains(model: FusionNetwork, images: Images) -> Images:
    """Multiply images to the mean brightness of a weight's training images.

    Means are those of up to 256 x 1024 valid pixels spread evenly over the whole image, so that they do not depend on
    tiles; a hundredth at either end counts as the quantile there, and pixels that are 0 in all bands do not count. An
    image that is as bright as one of several training images, or between two of them, stays as it is. Without means on
    record (an official checkpoint, a weight of an older version) all stay as they are.

    Args:
        model: The network, with the transform of its training.
        images: What it is to get, in its units.

    Returns:
        The images with other factors.

    Warns:
        HsmambaWarning: The mean of a band is not above 0, so that no factor brings it to that of the training.
    """
    wanted = _means_of_training(model)
    coarse = images.ms or images.ms_up
    if coarse is None or wanted is None:
        return images
    found = mean_of(coarse), mean_of(images.guide)
    if not all(bool((means > 0).all()) for means in (*found, *wanted)):
        warnings.warn(
            f"the brightness is not matched to that of the training: the means of a channel must be above 0, and are "
            f"{', '.join(f'{mean:.3g}' for mean in found[0])} in ms and {', '.join(f'{m:.3g}' for m in found[1])} in "
            f"the guide. gains=None (--gains none) says the same without this warning",
            HsmambaWarning,
            stacklevel=4,
        )
        return images
    low, high = _coloured(_ratios(found[0], wanted[0])), _ratios(found[1], wanted[1])
    _logger.info("gains to the brightness of the training: ms %s, guide %s", low.round(3), high.round(3))
    return replace(
        images,
        guide=_scaled(images.guide, high),
        ms=images.ms and _scaled(images.ms, low),
        ms_up=images.ms_up and _scaled(images.ms_up, low),
    )


def _means_of_training(model: FusionNetwork) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Lowest and highest mean of each channel (2, C) of the coarse training images and of their guides."""
    if model.transform is None:
        return None
    low, high = (getattr(model.transform.range(on), "means", None) for on in ("hsi", "aux"))
    return None if low is None or high is None else (low, high)


def mean_of(image: Image) -> NDArray[np.float64]:
    """Mean of each channel (C,) of an image's evenly spread valid pixels, scaled, as `robust_mean` takes it."""
    places, columns = spread(image.array.shape)
    parts = []
    for row in places:
        rows = slice(int(row), int(row) + 1)
        window = np.asarray(image.array[rows])
        valid = image.validity(window, rows) if image.may_be_invalid else np.ones(window.shape[:2], bool)
        parts.append(window[0, columns][valid[0, columns]])
    pixels = np.concatenate(parts)
    lit = pixels[(pixels != 0).any(axis=1)].astype(np.float64)
    return robust_mean(lit * image.factor + image.offset)


def spread(shape: tuple[int, ...]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of an image (H, W, ...) whose pixels its means are of."""
    rows, columns = (
        np.unique(np.linspace(0, length - 1, min(length, most)).round().astype(np.int64))
        for length, most in zip(shape, (_ROWS, _COLUMNS), strict=False)
    )
    return rows, columns


def _ratios(found: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """What brings means (C,) to the nearest between the lowest and the highest of the training (2, C), or about it."""
    return np.asarray(np.clip(found, wanted[0] / _ABOUT, wanted[1] * _ABOUT) / found)


def _coloured(ratios: NDArray[np.float64]) -> NDArray[np.float64]:
    """One gain for all bands, their geometric mean; more or less for those that are far from it."""
    common = np.exp(np.log(ratios).mean())
    colour = ratios / common
    return np.asarray(common * colour / np.clip(colour, 1 / _COLOUR, _COLOUR))


def _scaled(image: Image, gains: NDArray[np.float64]) -> Image:
    return replace(image, factor=image.factor * gains, offset=image.offset * gains)
