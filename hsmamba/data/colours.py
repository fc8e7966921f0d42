"""Colours of classes, the same in pictures and in the colour tables of rasters."""

from __future__ import annotations

import colorsys

import numpy as np
from numpy.typing import NDArray

# The twenty tones known as tab20: ten hues, a dark and a light one of each. All dark ones come first, so that few
# classes are far apart.
_DARK = ["1f77b4", "ff7f0e", "2ca02c", "d62728", "9467bd", "8c564b", "e377c2", "7f7f7f", "bcbd22", "17becf"]
_LIGHT = ["aec7e8", "ffbb78", "98df8a", "ff9896", "c5b0d5", "c49c94", "f7b6d2", "c7c7c7", "dbdb8d", "9edae5"]
_TONES = np.array([list(bytes.fromhex(tone)) for tone in _DARK + _LIGHT]) / 255
_GOLDEN = (5**0.5 - 1) / 2  # of a turn between neighbours keeps any number of hues apart
_DEPTHS = ((0.85, 0.95), (0.55, 0.75), (0.45, 1.0), (0.95, 0.6))  # saturation, value


def class_colours(num_classes: int) -> NDArray[np.float64]:
    """Give every class a colour of its own: (K + 1, 3) RGB in 0..1; row 0, unlabelled, is black."""
    tones = _TONES[:num_classes]
    if num_classes > len(_TONES):
        tones = np.array([colorsys.hsv_to_rgb(k * _GOLDEN % 1, *_DEPTHS[k % len(_DEPTHS)]) for k in range(num_classes)])
    return np.vstack([np.zeros(3), tones])
