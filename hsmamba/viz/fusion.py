"""Sharpened images beside what they were made of, and before and after in one picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsmamba.data import FusionPair
from hsmamba.data.composites import composite, rgb_bands
from hsmamba.data.composites import stretched as to_range
from hsmamba.viz.style import mark_place, new_figure, show, styled


@styled
def swipe(
    before: Any,
    after: Any,
    *,
    share: float = 0.5,
    bands: Sequence[int] | None = None,
    wavelengths: Any = None,
    titles: tuple[str, str] = ("before", "after"),
) -> Any:
    """Draw one image of which the left part is before and the right one after, in one stretch.

    Args:
        before: (h, w, C), as the coarse image; its pixels are repeated to the grid of `after`.
        after: (H, W, C), as the sharpened image; a DataArray with a place has a scale bar and a north arrow.
        share: Where the line between them is, 0 to 1 from left to right.
        bands: Of the composite, see `composite`.
        wavelengths: (C,) in nm, see `composite`.
        titles: Of both parts.

    Raises:
        ValueError: `share` is outside of 0..1, the images differ in bands, or `bands` are not three of them.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share!r}; it is a number from 0 to 1")
    if before.shape[2] != after.shape[2]:
        raise ValueError(
            f"before has {before.shape[2]} bands and after {after.shape[2]}; give images of the same bands"
        )
    chosen = rgb_bands(int(after.shape[2]), bands, wavelengths)
    coarse, sharp = (
        np.stack([np.asarray(image[:, :, k], np.float64) for k in chosen], -1) for image in (before, after)
    )
    low, high = np.nanpercentile(coarse, (2, 98), axis=(0, 1))
    height, width = sharp.shape[:2]
    rows, columns = (np.arange(n) * m // n for n, m in zip((height, width), coarse.shape[:2], strict=True))
    image = np.nan_to_num(to_range(sharp, low, high))
    edge = round(share * width)
    image[:, :edge] = np.nan_to_num(to_range(coarse[rows][:, columns[:edge]], low, high))
    figure = new_figure(7, 7 * height / width + 0.4)
    axes = figure.subplots()
    show(axes, image, "")
    axes.axvline(edge - 0.5, color="white", lw=1.5)
    for at, title, side in ((0.0, titles[0], "left"), (1.0, titles[1], "right")):
        axes.text(at, 1.01, title, transform=axes.transAxes, ha=side, va="bottom")
    mark_place(axes, after)
    return figure


@styled
def fusion_comparison(pair: FusionPair, fused: Any, *, bands: Sequence[int] | None = None, title: str = "") -> Any:
    """Draw guide, coarse image, fused image and, where the truth is known, truth and error, one above the other.

    Composites share the stretch of the truth (of the coarse image where there is none), so that colours compare. The
    error is the root mean square over the bands, in the unit of the pair times 100.

    Args:
        pair: The images, see `hsmamba.data.wald_pairs`.
        fused: (C, r h, r w), what a network made of them (`hsmamba.engine.fusion.evaluate.predict`).
        bands: Of the composites, see `composite`.
        title: Above all.

    Raises:
        ValueError: `fused` has another shape than the up-sampled coarse image, or `bands` are not three of them.
    """
    sharp = np.asarray(fused)
    if sharp.shape != tuple(pair.ms_up.shape):
        raise ValueError(f"fused is {sharp.shape}; this pair needs {tuple(pair.ms_up.shape)}")
    truth = None if pair.gt is None else pair.gt.numpy()
    model = (truth if truth is not None else pair.ms_up.numpy()).transpose(1, 2, 0)
    if bands is None:
        bands = [len(sharp) // 2, len(sharp) // 3, len(sharp) // 6]
    composite(model, bands)  # says what is wrong with the bands
    low, high = np.percentile(model[..., list(bands)], (2, 98), axis=(0, 1))

    def stretched(image: NDArray[Any]) -> NDArray[Any]:
        return to_range(image[list(bands)].transpose(1, 2, 0), low, high)

    guide = pair.guide.numpy()
    shown = guide.mean(0) if len(guide) != 3 else guide.transpose(1, 2, 0) / guide.max()
    pictures = [(shown, "guide"), (stretched(pair.ms.numpy()), "coarse image"), (stretched(sharp), "fused")]
    if truth is not None:
        pictures.append((stretched(truth), "truth"))
    height, width = sharp.shape[1:]
    rows = len(pictures) + (truth is not None)
    figure = new_figure(7, rows * (7 * height / width + 0.3) + 0.3)
    axes = np.atleast_1d(figure.subplots(rows, 1))
    for place, (image, name) in zip(axes, pictures, strict=False):
        show(place, image, name, **({"cmap": "gray"} if image.ndim == 2 else {}))
    if truth is not None:
        error = 100 * np.sqrt(np.mean((sharp - truth) ** 2, axis=0))
        drawn = show(axes[-1], error, "error x 100", cmap="magma", vmin=0, vmax=float(np.percentile(error, 99)))
        figure.colorbar(drawn, ax=axes[-1], fraction=0.046)
    figure.suptitle(title)
    return figure
