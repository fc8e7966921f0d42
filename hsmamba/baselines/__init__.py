"""Classical methods, to hold networks against."""

from hsmamba.baselines.classification import (
    CLASSIFIERS,
    ClassicalCfg,
    ClassicalClassifier,
    discriminants,
    gather_features,
    make_classifier,
)
from hsmamba.baselines.pansharpening import BASELINES, brovey, exp, gsa, mtf_glp_hpm

__all__ = [
    "BASELINES",
    "CLASSIFIERS",
    "ClassicalCfg",
    "ClassicalClassifier",
    "brovey",
    "discriminants",
    "exp",
    "gather_features",
    "gsa",
    "make_classifier",
    "mtf_glp_hpm",
]
