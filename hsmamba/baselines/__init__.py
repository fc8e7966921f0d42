"""Classical pansharpening methods as plain functions, to compare with: EXP, Brovey, GSA, MTF-GLP-HPM."""

from hsmamba.baselines.pansharpening import BASELINES, brovey, exp, gsa, mtf_glp_hpm

__all__ = ["BASELINES", "brovey", "exp", "gsa", "mtf_glp_hpm"]
