"""Classical methods, to hold networks against."""

from hsmamba.baselines.classification import (
    CLASSIFIERS,
    ClassicalCfg,
    ClassicalClassifier,
    discriminants,
    gather_features,
    make_classifier,
)
from hsmamba.baselines.consistency import BackProjection
from hsmamba.baselines.pansharpening import (
    BASELINES,
    OF_PAN_ALONE,
    brovey,
    exp,
    gsa,
    mtf_glp_fs,
    mtf_glp_hpm,
    mtf_glp_hpm_r,
)

__all__ = [
    "BASELINES",
    "CLASSIFIERS",
    "OF_PAN_ALONE",
    "BackProjection",
    "ClassicalCfg",
    "ClassicalClassifier",
    "brovey",
    "discriminants",
    "exp",
    "gather_features",
    "gsa",
    "make_classifier",
    "mtf_glp_fs",
    "mtf_glp_hpm",
    "mtf_glp_hpm_r",
]
