"""What an evaluation found, as figures and as the table that the field prints: of a classifier, of a fusion network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hsmamba._html import table, titled
from hsmamba.metrics.classification import confusion_matrix

HEADLINES = ("oa", "aa", "kappa", "mean_f1")  # of a classifier, the figures that papers compare
_COLUMNS = ("OA", "AA", "kappa x 100", "mean F1")  # their titles
Figures: TypeAlias = "dict[str, float]"


@dataclass(frozen=True)
class ClassificationReport:
    """Metrics of a classification; `str()` is the table that the field prints.

    All figures are fractions in 0..1 and computed from `confusion` alone. A class without true pixels has the accuracy
    and the F1 NaN and is left out of AA and of the mean F1. Without any pixel every figure is NaN.

    Attributes:
        confusion: (K, K + 1) counts as `confusion_matrix` gives them.
        class_names: K names.
        regularised: Whether the probabilities were diffused over the image before the labels were taken.
        baselines: What classical classifiers gave on the same pixels, by name; empty where none were asked for.
    """

    confusion: NDArray[np.int64]
    class_names: tuple[str, ...]
    regularised: bool = False
    baselines: Mapping[str, ClassificationReport] = field(default_factory=dict)

    @classmethod
    def from_labels(
        cls, truth: NDArray[Any], predicted: NDArray[Any], class_names: Sequence[str]
    ) -> ClassificationReport:
        """Compare labels; arguments as for `confusion_matrix`, K being the number of names."""
        return cls(confusion_matrix(truth, predicted, len(class_names)), tuple(class_names))

    @property
    def support(self) -> NDArray[np.int64]:
        """(K,) true pixels of each class."""
        support: NDArray[np.int64] = self.confusion.sum(1)
        return support

    @property
    def per_class(self) -> NDArray[np.float64]:
        """(K,) accuracy (recall) of each class."""
        with np.errstate(invalid="ignore"):
            recall: NDArray[np.float64] = np.diagonal(self.confusion) / self.support
        return recall

    @property
    def oa(self) -> float:
        """Overall accuracy: the share of pixels that are right."""
        return float(np.trace(self.confusion) / self.support.sum()) if self.support.any() else float("nan")

    @property
    def aa(self) -> float:
        """Average accuracy: the mean of `per_class`."""
        return float(np.nanmean(self.per_class)) if self.support.any() else float("nan")

    @property
    def kappa(self) -> float:
        """Cohen's kappa: agreement beyond chance, (OA - p) / (1 - p) with p from the margins."""
        if not self.support.any():
            return float("nan")
        total = int(self.confusion.sum())
        chance = float(self.support @ self.confusion[:, :-1].sum(0)) / total**2
        return (self.oa - chance) / (1 - chance) if chance < 1 else 1.0

    @property
    def f1(self) -> NDArray[np.float64]:
        """(K,) harmonic mean of precision and recall of each class; NaN for a class without pixels."""
        found = self.confusion[:, :-1].sum(0)
        with np.errstate(invalid="ignore"):
            f1: NDArray[np.float64] = np.where(
                self.support > 0, 2 * np.diagonal(self.confusion) / (self.support + found), np.nan
            )
        return f1

    @property
    def mean_f1(self) -> float:
        """Mean of `f1` over the classes that have pixels."""
        return float(np.nanmean(self.f1)) if self.support.any() else float("nan")

    def __repr__(self) -> str:
        """Say the headline figures; `print` shows the table."""
        named = zip(_COLUMNS, self.percent().values(), strict=True)
        figures = ", ".join(f"{title} {value:.2f}" for title, value in named)
        return f"ClassificationReport({figures}; {int(self.confusion.sum())} pixels of {len(self.class_names)} classes)"

    def _repr_html_(self) -> str:
        """Show the table of classes and the headline figures, in notebooks."""
        rows = zip(self.class_names, self.support, self.per_class, self.f1, strict=True)
        body = [(name, n, f"{100 * acc:.2f}", f"{100 * f1:.2f}") for name, n, acc, f1 in rows]
        others = [(name, *report.percent().values()) for name, report in self.baselines.items()]
        beside = table([("this model", *self.percent().values()), *others], ("", *_COLUMNS))
        return titled(repr(self), table(body, ("class", "pixels", "accuracy", "F1")), beside)

    def percent(self) -> dict[str, float]:
        """Return the figures of `HEADLINES` in percent with two digits, as results and records hold them."""
        return {key: round(100 * getattr(self, key), 2) for key in HEADLINES}

    def to_dict(self) -> dict[str, Any]:
        """Return every figure as plain numbers and lists, NaN as None."""
        plain = {key: [_number(value) for value in getattr(self, key)] for key in ("per_class", "f1")}
        return {
            **{key: _number(getattr(self, key)) for key in HEADLINES},
            "pixels": int(self.confusion.sum()),
            **plain,
            "support": self.support.tolist(),
            "confusion": self.confusion.tolist(),
            "class_names": list(self.class_names),
            "regularised": self.regularised,
            "baselines": {name: report.to_dict() for name, report in self.baselines.items()},
        }

    def to_json(self) -> str:
        """Return `to_dict` as JSON."""
        return json.dumps(self.to_dict())

    def __str__(self) -> str:
        width = max([len(name) for name in self.class_names] + [len("mean F1")]) + 2
        rows = zip(self.class_names, self.support, self.per_class, self.f1, strict=True)
        without = [name for name, pixels in zip(self.class_names, self.support, strict=True) if not pixels]
        note = f"no pixel of {', '.join(without)}: left out of AA and mean F1"
        return "\n".join(
            [
                f"{'class':<{width}}{'pixels':>8}{'accuracy':>10}{'F1':>8}",
                *(f"{name:<{width}}{n:>8}{100 * acc:>10.2f}{100 * f1:>8.2f}" for name, n, acc, f1 in rows),
                f"{'OA':<{width}}{int(self.confusion.sum()):>8}{100 * self.oa:>10.2f}",
                f"{'AA':<{width}}{'':>8}{100 * self.aa:>10.2f}",
                f"{'kappa x 100':<{width}}{'':>8}{100 * self.kappa:>10.2f}",
                f"{'mean F1':<{width}}{'':>8}{'':>10}{100 * self.mean_f1:>8.2f}",
                *([note] if without else []),
                *(["of probabilities diffused over the image (regularise)"] if self.regularised else []),
                *(["", self._beside()] if self.baselines else []),
            ]
        )

    def _beside(self) -> str:
        """Write the figures in percent beside those of the classical classifiers, best first."""
        ranked = sorted(self.baselines.items(), key=lambda item: -item[1].oa)
        rows = {"this model": self.percent(), **{name: report.percent() for name, report in ranked}}
        return "beside classical classifiers, fitted on the same training pixels\n" + _table(
            {name: dict(zip(_COLUMNS, row.values(), strict=True)) for name, row in rows.items()}, digits=2
        )


def _number(value: float) -> float | None:
    """Return a figure as JSON takes it."""
    return None if np.isnan(value) else float(value)


@dataclass(frozen=True)
class FusionReport:
    """Figures by image and method.

    Attributes:
        model: Name under which the network stands among the methods.
        reduced: Image -> method -> metric, where the truth is known.
        full: The same at full resolution, without truth.
    """

    model: str
    reduced: dict[str, dict[str, Figures]]
    full: dict[str, dict[str, Figures]] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Say the network's figures at reduced resolution; `print` shows the tables."""
        figures = ", ".join(f"{key} {value:.4g}" for key, value in self.mean().get(self.model, {}).items())
        return f"FusionReport({self.model!r}: {figures or 'no figures'}; {len(self.reduced)} images)"

    def _repr_html_(self) -> str:
        """Show both tables, means over the images, in notebooks."""
        parts = []
        for title, full in (("reduced resolution", False), ("full resolution", True)):
            if means := self.mean(full=full):
                columns = list(next(iter(means.values())))
                rows = [(name, *(f"{row[column]:.4f}" for column in columns)) for name, row in means.items()]
                parts.append(table(rows, (title, *columns)))
        return titled(repr(self), *parts)

    def mean(self, *, full: bool = False) -> dict[str, Figures]:
        """Average over the images, by method."""
        images = list((self.full if full else self.reduced).values())
        return {
            method: {
                metric: sum(image[method][metric] for image in images) / len(images) for metric in images[0][method]
            }
            for method in (images[0] if images else {})
        }

    def to_dict(self) -> dict[str, Any]:
        """Return every figure as plain numbers, by resolution, image and method."""
        return asdict(self)

    def __str__(self) -> str:
        """Write both tables, means over the images."""
        parts = []
        for title, full in (("reduced resolution", False), ("full resolution", True)):
            if means := self.mean(full=full):
                count = len(self.full if full else self.reduced)
                parts.append(f"{title}, mean of {count} image{'s' * (count != 1)}\n{_table(means)}")
        return "\n\n".join(parts)


def _table(means: dict[str, Figures], digits: int = 4) -> str:
    columns = list(next(iter(means.values())))
    width = max(len(name) for name in means)
    lines = [" " * width + "".join(f"{column:>12}" for column in columns)]
    for name, figures in means.items():
        lines.append(f"{name:<{width}}" + "".join(f"{figures[column]:12.{digits}f}" for column in columns))
    return "\n".join(lines)
