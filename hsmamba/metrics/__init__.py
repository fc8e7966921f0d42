"""Metrics of classification (OA, AA, kappa, F1); those of fusion are `hsmamba.metrics.fusion` and `.rsmif`."""

from hsmamba.metrics.classification import ClassificationReport, confusion_matrix

__all__ = ["ClassificationReport", "confusion_matrix"]
