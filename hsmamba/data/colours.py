"""Colours of classes, the same in pictures and in the colour tables of rasters."""

from __future__ import annotations

import colorsys

import numpy as np
from numpy.typing import NDArray

# The first seven are those of Okabe and Ito (Color Universal Design, 2008), which people of all kinds of colour vision
# tell apart. Each further one is the colour of a grid of 16 steps a channel that is farthest from those before it and
# from black: the least of its distances in CIELAB, as seen with normal vision, protanopia and deuteranopia by the
# matrices of Machado, Oliveira and Fernandes (IEEE TVCG 15(6), 2009), among those of a lightness from 32 to 94.
_SAFE = (
    "e69f00 56b4e9 009e73 f0e442 0072b2 d55e00 cc79a7 "
    "0000ff bbffaa 7766ff 992222 ddeeff 773366 66bb66 aaddbb 1144aa 6699ff ccee77 883344 3333cc"
)  # fmt: skip
_GOLDEN = (5**0.5 - 1) / 2  # of a turn between neighbours keeps any number of hues apart
_DEPTHS = ((0.85, 0.95), (0.55, 0.75), (0.45, 1.0), (0.95, 0.6))  # saturation, value

# Colours that papers draw a data set in, by its name: those of Indian Pines are of the function label2color, which the
# code of many papers on spectral-spatial classification shares, as that of Pavia University and Salinas shares theirs.
PALETTES = {
    "indian_pines": (
        "8c432e 0000ff ff6400 00ff7b a44b9b 65aeff 76feac 3c5b70 ffff00 ffff7d ff00ff 6400ff 00acfe 00ff00 abaf50 "
        "65c13c"
    ),
    "pavia_university": "c0c0c0 00ff00 00ffff 008000 ff00ff a55229 800080 ff0000 ffff00",
    "salinas": (
        "0000ff ff6400 00ff86 964696 6496ff 3c5a72 ffff7d ff00ff 6400ff 01aaff 00ff00 afaf52 64be38 8c432e 73ffac "
        "ffff00"
    ),
}  # fmt: skip


def _read(tones: str) -> NDArray[np.float64]:
    return np.array([list(bytes.fromhex(tone)) for tone in tones.split()]) / 255


def class_colours(num_classes: int, palette: str | None = None) -> NDArray[np.float64]:
    """Give every class a colour of its own.

    Args:
        num_classes: Classes K.
        palette: Name in `PALETTES` of a data set whose usual colours to take; None for colours that are told apart
            with any colour vision, as far as twenty classes go.

    Returns:
        (K + 1, 3) RGB in 0..1; row 0, unlabelled, is black.

    Raises:
        ValueError: There is no such palette, or it has fewer colours.
    """
    if palette is not None:
        if palette not in PALETTES:
            raise ValueError(f"there is no palette {palette!r}; choose {', '.join(PALETTES)}, or leave it out")
        tones = _read(PALETTES[palette])
        if len(tones) < num_classes:
            raise ValueError(
                f"the palette {palette!r} has {len(tones)} colours for {num_classes} classes; leave it out"
            )
        return np.vstack([np.zeros(3), tones[:num_classes]])
    tones = _read(_SAFE)[:num_classes]
    if num_classes > len(tones):
        tones = np.array([colorsys.hsv_to_rgb(k * _GOLDEN % 1, *_DEPTHS[k % len(_DEPTHS)]) for k in range(num_classes)])
    return np.vstack([np.zeros(3), tones])
