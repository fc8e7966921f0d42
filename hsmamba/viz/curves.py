"""What training and evaluation gave: confusion matrices, curves, figures with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hsmamba.metrics import ClassificationReport
from hsmamba.viz.style import new_figure, styled


@styled
def confusion(report: ClassificationReport) -> Any:
    """Draw the confusion matrix of a report of `evaluate`, each row as shares of the true class."""
    counts = report.confusion[:, :-1]
    shares = counts / np.maximum(report.support[:, None], 1)
    size = 2.5 + 0.4 * len(report.class_names)
    figure = new_figure(size + 1, size)
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


@styled
def training_curves(history: Any) -> Any:
    """Draw what `finetune` returned by epoch: loss and accuracy, of fusion the figures of the validation.

    Args:
        history: The result, or its `history`.
    """
    records: Sequence[dict[str, float]] = getattr(history, "history", history)
    epochs = [record["epoch"] for record in records]
    panels = [(("loss", "val_loss"), "loss"), (("train_oa", "val_oa", "val_aa"), "accuracy")]
    if "train_oa" not in records[0]:
        figures = [key for key in records[0] if key.startswith("val_") and key != "val_loss"]
        panels = [panels[0], *(((key,), key.removeprefix("val_")) for key in figures)]
    panels = [(tuple(key for key in keys if key in records[0]), label) for keys, label in panels]
    panels = [(keys, label) for keys, label in panels if keys]
    figure = new_figure(max(4.5, 4.5 * min(len(panels), 3)), 3.4 * -(-len(panels) // 3))
    for place, (keys, label) in zip(
        figure.subplots(-(-len(panels) // 3), min(len(panels), 3), squeeze=False).ravel(), panels, strict=False
    ):
        for key in keys:
            place.plot(epochs, [record[key] for record in records], label=key.replace("_", " "))
        place.set(xlabel="epoch", ylabel=label)
        place.legend()
    return figure


@styled
def intervals(
    figures: Mapping[str, tuple[float, float, float]], *, label: str, title: str = "", reference: float | None = None
) -> Any:
    """Draw figures of methods with their intervals, one below the other, in the order given.

    Args:
        figures: Mean, low and high by method, as the tables of `hsmamba benchmark` have them.
        label: What the figures are, with their unit.
        title: Above it.
        reference: Where to draw a line: 0 for differences.
    """
    figure = new_figure(6, 0.8 + 0.3 * len(figures))
    axes = figure.subplots()
    _draw_intervals(axes, figures, list(figures), reference)
    axes.set(xlabel=label, title=title)
    return figure


@styled
def interval_panels(
    panels: Mapping[str, Mapping[str, tuple[float, float, float]]],
    *,
    label: str,
    title: str = "",
    reference: float | None = None,
) -> Any:
    """Draw figures of methods with their intervals on several data sets, a panel each, up to three side by side.

    Args:
        panels: By the name of the data set, what `intervals` takes; methods that one of them lacks have a gap there.
        label: What the figures are, with their unit.
        title: Above all.
        reference: Where to draw a line: 0 for differences.

    Raises:
        ValueError: There is no panel.
    """
    if not panels:
        raise ValueError("there are no panels to draw; give the figures of at least one data set")
    names = list(dict.fromkeys(name for figures in panels.values() for name in figures))
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    figure = new_figure(2.0 + 2.8 * columns, 0.5 + rows * (0.6 + 0.22 * len(names)))
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes, (name, figures) in zip(grid.ravel(), panels.items(), strict=False):
        _draw_intervals(axes, figures, names, reference)
        axes.set_title(name)
    for axes in grid.ravel()[len(panels) :]:
        axes.set_visible(False)
    figure.supxlabel(label, fontsize="medium")
    figure.suptitle(title)
    return figure


def _draw_intervals(
    axes: Any, figures: Mapping[str, tuple[float, float, float]], names: Sequence[str], reference: float | None
) -> None:
    """Draw figures at the places of their names, the first on top."""
    means, lows, highs = (np.array([figures.get(name, [np.nan] * 3)[k] for name in names], float) for k in range(3))
    rows = np.arange(len(names))[::-1]
    axes.errorbar(means, rows, xerr=np.stack([means - lows, highs - means]), fmt="o", ms=4, capsize=3, lw=1.2)
    axes.set_yticks(rows, names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.grid(axis="x", color="0.88")
    if reference is not None:
        axes.axvline(reference, color="0.4", lw=0.8)
