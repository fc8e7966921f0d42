"""Pictures: label maps with legend, false-colour composites, fused images, confusion matrices, training curves.

Every function returns a `matplotlib.figure.Figure` (save it with `figure.savefig(path)`); none touches pyplot's state,
and a notebook shows it as it is.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsmamba._optional import optional_import
from hsmamba.data import FusionPair, Scene
from hsmamba.data.colours import class_colours
from hsmamba.metrics import ClassificationReport

_TRUE_COLOUR_NM = (650.0, 550.0, 450.0)


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
    return np.asarray(np.nan_to_num(_stretched(image, low, high)), np.float32)


def _stretched(image: NDArray[Any], low: NDArray[Any], high: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(np.clip((image - low) / np.maximum(high - low, 1e-12), 0, 1))


def _figure(width: float, height: float) -> Any:
    return _figure_class()(figsize=(width, height), layout="constrained")


@functools.cache
def _figure_class() -> Any:
    """Return matplotlib's figure with the picture that notebooks ask for: they know those of pyplot alone."""
    base = optional_import("matplotlib.figure", "to draw").Figure

    def _repr_png_(self: Any) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png", dpi=100)
        return file.getvalue()

    return type("Figure", (base,), {"_repr_png_": _repr_png_, "__module__": __name__})


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
    """Draw labels (H, W), 0 = unlabelled (black), 1..K, with a legend of the K names."""
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
    """
    last = max(int(np.max(labels)), scene.num_classes)
    names = (*scene.class_names, *(f"class {k}" for k in range(len(scene.class_names) + 1, last + 1)))
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
    """Draw the confusion matrix of a report of `evaluate`, each row as shares of the true class."""
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
    """Draw loss and accuracy by epoch out of the records of `finetune` (`TrainingResult.history`)."""
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
        return _stretched(image[list(bands)].transpose(1, 2, 0), low, high)

    guide = pair.guide.numpy()
    shown = guide.mean(0) if len(guide) != 3 else guide.transpose(1, 2, 0) / guide.max()
    pictures = [(shown, "guide"), (stretched(pair.ms.numpy()), "coarse image"), (stretched(sharp), "fused")]
    if truth is not None:
        pictures.append((stretched(truth), "truth"))
    height, width = sharp.shape[1:]
    rows = len(pictures) + (truth is not None)
    figure = _figure(7, rows * (7 * height / width + 0.3) + 0.3)
    axes = np.atleast_1d(figure.subplots(rows, 1))
    for place, (image, name) in zip(axes, pictures, strict=False):
        _show(place, image, name, **({"cmap": "gray"} if image.ndim == 2 else {}))
    if truth is not None:
        error = 100 * np.sqrt(np.mean((sharp - truth) ** 2, axis=0))
        drawn = _show(axes[-1], error, "error x 100", cmap="magma", vmin=0, vmax=float(np.percentile(error, 99)))
        figure.colorbar(drawn, ax=axes[-1], fraction=0.046)
    figure.suptitle(title)
    return figure
