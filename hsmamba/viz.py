"""Pictures: label maps with legend, false-colour composites, confusion matrices, training curves.

Every function returns a `matplotlib.figure.Figure` (save it with `figure.savefig(path)`); none touches pyplot's state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsmamba._optional import optional_import
from hsmamba.data import Scene
from hsmamba.metrics import ClassificationReport

_TRUE_COLOUR_NM = (650.0, 550.0, 450.0)


def class_colours(num_classes: int) -> NDArray[np.float64]:
    """Give every class a colour of its own.

    Args:
        num_classes: K.

    Returns:
        (K + 1, 3) RGB in 0..1; row 0, unlabelled, is black.
    """
    colormaps = optional_import("matplotlib", "to draw").colormaps
    if num_classes <= 20:
        # tab20 pairs a dark and a light tone of each hue: all dark ones first keeps few classes far apart.
        tones = colormaps["tab20"](np.r_[0:20:2, 1:20:2])[:num_classes, :3]
    else:
        tones = colormaps["turbo"](np.linspace(0.03, 0.97, num_classes))[:, :3]
    return np.vstack([np.zeros(3), tones])


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
    count = hsi.shape[2]
    if bands is None and wavelengths is not None:
        bands = [int(np.abs(np.asarray(wavelengths) - nm).argmin()) for nm in _TRUE_COLOUR_NM]
    elif bands is None:
        bands = [count // 2, count // 3, count // 6]
    if len(bands) != 3 or not all(0 <= band < count for band in bands):
        raise ValueError(f"bands is {list(bands)!r}; it takes three indices from 0 to {count - 1}")
    image = np.stack([np.asarray(hsi[:, :, band], np.float32) for band in bands], axis=-1)
    image[~np.isfinite(image)] = np.nan
    low, high = np.nanpercentile(image, (2, 98), axis=(0, 1))
    stretched = np.clip((image - low) / np.maximum(high - low, 1e-12), 0, 1)
    return np.asarray(np.nan_to_num(stretched), np.float32)


def _figure(width: float, height: float) -> Any:
    return optional_import("matplotlib.figure", "to draw").Figure(figsize=(width, height), layout="constrained")


def _show(axes: Any, image: NDArray[Any], title: str, **kwargs: Any) -> Any:
    shown = axes.imshow(image, interpolation="nearest", **kwargs)
    axes.set_title(title)
    axes.set_axis_off()
    return shown


def _legend(figure: Any, class_names: Sequence[str], columns: int) -> None:
    patch = optional_import("matplotlib.patches", "to draw").Patch
    colours = class_colours(len(class_names))
    handles = [patch(color=colours[k], label=name) for k, name in enumerate(class_names, 1)]
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize="small")


def label_map(labels: Any, class_names: Sequence[str], *, title: str = "") -> Any:
    """Draw labels with a legend.

    Args:
        labels: (H, W) integers, 0 = unlabelled (black), 1..K.
        class_names: K names.
        title: Above the map.

    Returns:
        A matplotlib Figure.
    """
    labels = np.asarray(labels)
    height, width = labels.shape
    figure = _figure(6, 6 * height / width + 1.2)
    _show(figure.subplots(), class_colours(len(class_names))[labels], title)
    _legend(figure, class_names, columns=3)
    return figure


def classification_map(
    scene: Scene, labels: Any, confidence: Any, *, bands: Sequence[int] | None = None, title: str = ""
) -> Any:
    """Draw composite, truth (if the scene has labels), map and confidence side by side.

    Args:
        scene: The scene.
        labels: (H, W) classes as `classify` gives them.
        confidence: (H, W) as `classify` gives it.
        bands: Of the composite, see `composite`.
        title: Above all.

    Returns:
        A matplotlib Figure.
    """
    names = scene.class_names or tuple(f"class {k}" for k in range(1, int(np.max(labels)) + 1))
    colours = class_colours(len(names))
    pictures = [(composite(scene.hsi, bands, scene.wavelengths), "composite")]
    if scene.labels is not None:
        pictures.append((colours[np.asarray(scene.labels)], "truth"))
    pictures.append((colours[np.asarray(labels)], "map"))
    height, width = scene.shape
    columns = len(pictures) + 1
    figure = _figure(3.6 * columns + 0.6, 3.6 * height / width + 1.6)
    axes = figure.subplots(1, columns)
    for place, (image, name) in zip(axes, pictures, strict=False):
        _show(place, image, name)
    shown = _show(axes[-1], np.asarray(confidence), "confidence", cmap="viridis", vmin=0, vmax=1)
    figure.colorbar(shown, ax=axes[-1], fraction=0.046)
    _legend(figure, names, columns=-(-len(names) // 3))
    figure.suptitle(title)
    return figure


def confusion(report: ClassificationReport) -> Any:
    """Draw the confusion matrix of a report, each row as shares of the true class.

    Args:
        report: Metrics of `evaluate`.

    Returns:
        A matplotlib Figure.
    """
    counts = report.confusion[:, :-1]
    shares = counts / np.maximum(report.support[:, None], 1)
    size = 2.5 + 0.4 * len(report.class_names)
    figure = _figure(size + 1, size)
    axes = figure.subplots()
    shown = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ticks = range(len(report.class_names))
    axes.set_xticks(ticks, report.class_names, rotation=90)
    axes.set_yticks(ticks, report.class_names)
    axes.set(xlabel="predicted", ylabel="true", title=f"OA {100 * report.oa:.2f}, kappa x 100 {100 * report.kappa:.2f}")
    for row, column in zip(*np.nonzero(counts), strict=True):
        tone = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, counts[row, column], ha="center", va="center", color=tone, fontsize="x-small")
    figure.colorbar(shown, ax=axes, fraction=0.046)
    return figure


def training_curves(history: Sequence[dict[str, float]]) -> Any:
    """Draw loss and accuracy by epoch.

    Args:
        history: Records of `finetune` (`FinetuneResult.history`).

    Returns:
        A matplotlib Figure.
    """
    figure = _figure(9, 3.4)
    epochs = [record["epoch"] for record in history]
    for axes, keys, label in zip(
        figure.subplots(1, 2),
        (("loss", "val_loss"), ("train_oa", "val_oa", "val_aa")),
        ("loss", "accuracy"),
        strict=True,
    ):
        for key in keys:
            if key in history[0]:
                axes.plot(epochs, [record[key] for record in history], label=key.replace("_", " "))
        axes.set(xlabel="epoch", ylabel=label)
        axes.legend(frameon=False)
    return figure
