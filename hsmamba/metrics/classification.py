"""The field's classification metrics, from a confusion matrix: OA, AA, kappa, per-class accuracy, F1."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


def confusion_matrix(truth: NDArray[Any], predicted: NDArray[Any], num_classes: int) -> NDArray[np.int64]:
    """Count pixels by true and predicted class.

    Args:
        truth: (N,) integers, classes 1..K; 0 (unlabelled) is left out.
        predicted: (N,) integers, classes 1..K; 0 (not classified) counts as wrong, in no column.
        num_classes: K.

    Returns:
        (K, K + 1) counts, rows true, columns predicted; the last column holds what was not classified.

    Raises:
        ValueError: Shapes differ, or a class is outside 0..K.
    """
    truth, predicted = np.asarray(truth).ravel(), np.asarray(predicted).ravel()
    if truth.shape != predicted.shape:
        raise ValueError(f"truth has {truth.size} pixels and predicted {predicted.size}; they must be the same pixels")
    for name, values in (("truth", truth), ("predicted", predicted)):
        if values.size and not (values.min() >= 0 and values.max() <= num_classes):
            raise ValueError(f"{name} holds classes {values.min()}..{values.max()}, expected 0..{num_classes}")
    labelled = truth > 0
    columns = np.where(predicted == 0, num_classes + 1, predicted)[labelled].astype(np.int64) - 1
    cells = (truth[labelled].astype(np.int64) - 1) * (num_classes + 1) + columns
    counts = np.bincount(cells, minlength=num_classes * (num_classes + 1))
    return counts.reshape(num_classes, num_classes + 1).astype(np.int64)


@dataclass(frozen=True)
class ClassificationReport:
    """Metrics of a classification; `str()` is the table that the field prints.

    All figures are fractions in 0..1 and computed from `confusion` alone. A class without pixels has the accuracy
    NaN and is left out of AA and of the mean F1.

    Attributes:
        confusion: (K, K + 1) counts as `confusion_matrix` gives them.
        class_names: K names.
    """

    confusion: NDArray[np.int64]
    class_names: tuple[str, ...]

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
        return float(np.trace(self.confusion) / max(self.confusion.sum(), 1))

    @property
    def aa(self) -> float:
        """Average accuracy: the mean of `per_class`."""
        return float(np.nanmean(self.per_class)) if self.support.any() else 0.0

    @property
    def kappa(self) -> float:
        """Cohen's kappa: agreement beyond chance, (OA - p) / (1 - p) with p from the margins."""
        total = max(int(self.confusion.sum()), 1)
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
        return float(np.nanmean(self.f1)) if self.support.any() else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return every figure as plain numbers and lists, NaN as None."""
        plain = {key: [None if np.isnan(v) else float(v) for v in getattr(self, key)] for key in ("per_class", "f1")}
        return {
            "oa": self.oa,
            "aa": self.aa,
            "kappa": self.kappa,
            "mean_f1": self.mean_f1,
            "pixels": int(self.confusion.sum()),
            **plain,
            "support": self.support.tolist(),
            "confusion": self.confusion.tolist(),
            "class_names": list(self.class_names),
        }

    def to_json(self) -> str:
        """Return `to_dict` as JSON."""
        return json.dumps(self.to_dict())

    def __str__(self) -> str:
        width = max([len(name) for name in self.class_names] + [len("mean F1")]) + 2
        rows = zip(self.class_names, self.support, self.per_class, self.f1, strict=True)
        return "\n".join(
            [
                f"{'class':<{width}}{'pixels':>8}{'accuracy':>10}{'F1':>8}",
                *(f"{name:<{width}}{n:>8}{100 * acc:>10.2f}{100 * f1:>8.2f}" for name, n, acc, f1 in rows),
                f"{'OA':<{width}}{int(self.confusion.sum()):>8}{100 * self.oa:>10.2f}",
                f"{'AA':<{width}}{'':>8}{100 * self.aa:>10.2f}",
                f"{'kappa x 100':<{width}}{'':>8}{100 * self.kappa:>10.2f}",
                f"{'mean F1':<{width}}{'':>8}{'':>10}{100 * self.mean_f1:>8.2f}",
            ]
        )
