"""A scene at a glance: its composite, spectra and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsmamba.data import Scene
from hsmamba.data.colours import class_colours
from hsmamba.data.composites import composite
from hsmamba.data.validity import valid_mask
from hsmamba.viz.style import mark_place, new_figure, palette_of, show, styled

_SAMPLE = 20_000  # pixels that statistics are taken of
_GAP = 3.0  # times the usual step between bands: a line is broken there
_FEW = 20  # bands that stand for themselves, as points: lines between them are a help to the eye


@styled
def spectra(scene: Scene, *, title: str = "", palette: str | None = "auto") -> Any:
    """Draw the mean spectrum of every class, with its standard deviation as a band; of an unlabelled scene, of all.

    Bad bands and gaps between the bands are left out of the lines.

    Args:
        scene: The scene.
        title: Above it.
        palette: As for `classification_map`.
    """
    figure = new_figure(7, 4)
    _draw_spectra(figure.subplots(), scene, palette)
    figure.legend(loc="outside right upper", fontsize="small")
    figure.suptitle(title)
    return figure


@styled
def overview(scene: Scene, *, bands: Sequence[int] | None = None, title: str = "") -> Any:
    """Draw a scene at a glance: composite, labels (where it has any), spectra and the distribution of its numbers.

    Args:
        scene: The scene; a sample of its pixels is read beside three bands.
        bands: Of the composite, see `composite`.
        title: Above all.
    """
    height, width = scene.shape
    tall = float(np.clip(4.2 * height / width, 2.2, 7))
    figure = new_figure(9, tall + 3.2)
    top, bottom = figure.subfigures(2, 1, height_ratios=(tall, 3.0))
    images = top.subplots(1, 1 if scene.labels is None else 2, squeeze=False)[0]
    show(images[0], composite(scene.hsi, bands, scene.wavelengths), "composite")
    mark_place(images[0], scene.hsi)
    if scene.labels is not None:
        colours = class_colours(scene.num_classes, palette_of(scene.name, scene.num_classes, "auto"))
        show(images[1], colours[np.asarray(scene.labels)], "labels")
    lines, counts = bottom.subplots(1, 2, width_ratios=(3, 2))
    _draw_spectra(lines, scene, "auto")
    bottom.legend(loc="outside right upper", fontsize="x-small")
    values = _pixels(scene)[:, scene.good_bands]
    if values.size:
        low, high = np.percentile(values, (0.1, 99.9))
        counts.hist(values.ravel(), bins=80, range=(low, high) if high > low else None, color="0.45")
    counts.set(xlabel="value", ylabel="count", title="numbers of the good bands", yticks=[])
    figure.suptitle(title)
    return figure


def _draw_spectra(axes: Any, scene: Scene, palette: str | None) -> None:
    if scene.labels is None or not np.any(np.asarray(scene.labels)):
        groups = [("all pixels", "0.3", _pixels(scene))]
    else:
        count = scene.num_classes
        names = scene.class_names or tuple(f"class {k}" for k in range(1, count + 1))
        colours = class_colours(count, palette_of(scene.name, count, palette))
        groups = [(name, colours[k], _pixels(scene, k)) for k, name in enumerate(names, 1)]
    known = scene.wavelengths is not None and bool(np.isfinite(scene.wavelengths).all())
    x = np.asarray(scene.wavelengths) if known else np.arange(scene.num_bands, dtype=float)
    order = np.argsort(x, kind="stable")
    for name, colour, pixels in groups:
        if len(pixels):
            mean, spread = pixels.mean(0), pixels.std(0)
            if scene.bad_bands is not None:
                mean = np.where(scene.bad_bands, np.nan, mean)
            at, middle, around = _broken(x[order], mean[order], spread[order])
            axes.plot(at, middle, color=colour, label=name, lw=1.2, marker="o" if len(x) <= _FEW else None, ms=3)
            axes.fill_between(at, middle - around, middle + around, color=colour, alpha=0.15, lw=0)
    axes.set(xlabel="wavelength in nm" if known else "band", ylabel="value", title="mean spectra")


def _broken(x: NDArray[Any], mean: NDArray[Any], spread: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """Put a NaN where bands are far apart, so that no line is drawn across."""
    steps = np.diff(x)
    far = np.flatnonzero(steps > _GAP * np.median(steps)) + 1 if len(x) > _FEW else np.empty(0, int)
    return tuple(np.insert(values, far, fill) for values, fill in ((x, x[far - 1]), (mean, np.nan), (spread, np.nan)))


def _pixels(scene: Scene, label: int | None = None) -> NDArray[np.float64]:
    """Return valid pixels (N, B) of a class or of all, evenly spread where they are many."""
    step = max(1, int(np.ceil(np.sqrt(scene.shape[0] * scene.shape[1] / _SAMPLE)))) if label is None else 1
    if label is None:
        part = scene.hsi[::step, ::step]
        values = np.asarray(part, np.float64)
        good = valid_mask(part, "mask", bands=scene.good_bands)
    else:
        values = np.asarray(scene.hsi, np.float64)
        good = valid_mask(scene.hsi, "mask", bands=scene.good_bands) & (np.asarray(scene.labels) == label)
    found: NDArray[np.float64] = values[good]
    return found
