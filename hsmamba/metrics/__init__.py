"""Metrics: classification (OA, AA, kappa, F1) and fusion (in `hsmamba.metrics.fusion`)."""

from hsmamba.metrics.classification import ClassificationReport, confusion_matrix

__all__ = ["ClassificationReport", "confusion_matrix"]
