"""Maps of classes: with legend, beside truth and confidence, and where they are wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hsmamba.data import Scene
from hsmamba.data.colours import class_colours
from hsmamba.data.composites import composite
from hsmamba.viz.style import legend, mark_place, new_figure, palette_of, show, styled

_RIGHT, _WRONG = (0.72, 0.78, 0.84), (0.84, 0.37, 0.0)


@styled
def label_map(labels: Any, class_names: Sequence[str], *, title: str = "", palette: str | None = None) -> Any:
    """Draw a map of classes with a legend; with scale bar and north arrow where it has a place.

    Args:
        labels: (H, W) of 0 = unlabelled (black) and 1..K; a DataArray, as `classify` gives it, has a place.
        class_names: K names.
        title: Above it.
        palette: Name of the data set whose usual colours to take (`hsmamba.data.colours.PALETTES`); None for colours
            that are told apart with any colour vision.
    """
    values = np.asarray(labels)
    height, width = values.shape
    colours = class_colours(len(class_names), palette)
    figure = new_figure(6, 6 * height / width + 1.2)
    axes = figure.subplots()
    show(axes, colours[values], title)
    mark_place(axes, labels)
    legend(figure, class_names, colours, columns=3)
    return figure


@styled
def classification_map(
    scene: Scene,
    labels: Any,
    confidence: Any,
    *,
    bands: Sequence[int] | None = None,
    title: str = "",
    palette: str | None = "auto",
) -> Any:
    """Draw composite, truth (if the scene has labels), map and confidence side by side.

    Args:
        scene: The scene; where it has a place the composite has a scale bar and a north arrow.
        labels: (H, W) classes as `classify` gives them.
        confidence: (H, W) as `classify` gives it.
        bands: Of the composite, see `composite`.
        title: Above all.
        palette: As for `label_map`; "auto" takes the usual colours of a data set that is known by its name.
    """
    last = max(int(np.max(labels)), scene.num_classes)
    names = (*scene.class_names, *(f"class {k}" for k in range(len(scene.class_names) + 1, last + 1)))
    colours = class_colours(len(names), palette_of(scene.name, len(names), palette))
    pictures = [(composite(scene.hsi, bands, scene.wavelengths), "composite")]
    if scene.labels is not None:
        pictures.append((colours[np.asarray(scene.labels)], "truth"))
    pictures.append((colours[np.asarray(labels)], "map"))
    height, width = scene.shape
    columns = len(pictures) + 1
    figure = new_figure(3.6 * columns + 0.6, 3.6 * height / width + 1.6)
    axes = figure.subplots(1, columns)
    for place, (image, name) in zip(axes, pictures, strict=False):
        show(place, image, name)
    mark_place(axes[0], scene.hsi)
    shown = show(axes[-1], np.asarray(confidence), "confidence", cmap="viridis", vmin=0, vmax=1)
    figure.colorbar(shown, ax=axes[-1], fraction=0.046)
    legend(figure, names, colours, columns=-(-len(names) // 3))
    figure.suptitle(title)
    return figure


@styled
def error_map(scene: Scene, labels: Any, *, pixels: Any = None, title: str = "") -> Any:
    """Draw where a map is right and where it is wrong, over a dim composite.

    Args:
        scene: Labelled.
        labels: (H, W) classes as `classify` gives them.
        pixels: (N,) flat indices to look at, as a split's `test`; default every labelled pixel.
        title: Above it; the share of pixels that are right follows.

    Raises:
        ValueError: The scene has no labels.
    """
    if scene.labels is None:
        raise ValueError("the scene has no labels to compare with; open it with labels=")
    truth, found = np.asarray(scene.labels), np.asarray(labels)
    looked = truth > 0
    if pixels is not None:
        chosen = np.zeros(truth.shape, bool)
        chosen.ravel()[np.asarray(pixels)] = True
        looked &= chosen
    right = looked & (truth == found)
    image = 0.35 * composite(scene.hsi, None, scene.wavelengths)
    image[right], image[looked & ~right] = _RIGHT, _WRONG
    height, width = scene.shape
    figure = new_figure(6, 6 * height / width + 0.9)
    axes = figure.subplots()
    count = int(looked.sum())
    show(axes, image, f"{title}{': ' * bool(title)}{100 * right.sum() / max(count, 1):.1f} % of {count} pixels right")
    mark_place(axes, scene.hsi)
    names = (f"right ({int(right.sum())})", f"wrong ({count - int(right.sum())})")
    legend(figure, names, np.array([(0, 0, 0), _RIGHT, _WRONG]), columns=2)
    return figure
