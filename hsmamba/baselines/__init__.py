"""Classical methods, to hold networks against."""

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

__all__ = ["BASELINES", "OF_PAN_ALONE", "brovey", "exp", "gsa", "mtf_glp_fs", "mtf_glp_hpm", "mtf_glp_hpm_r"]
