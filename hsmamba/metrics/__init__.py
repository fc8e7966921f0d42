"""Metrics: of classification (OA, AA, kappa, F1), of fusion (`hsmamba.metrics.fusion`, `.rsmif`), and their reports."""

from hsmamba.metrics.classification import confusion_matrix
from hsmamba.metrics.report import ClassificationReport, FusionReport

__all__ = ["ClassificationReport", "FusionReport", "confusion_matrix"]
