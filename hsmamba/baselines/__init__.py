"""Classical methods, to hold networks against."""

from hsmamba.baselines.pansharpening import BASELINES, brovey, exp, gsa, mtf_glp_hpm

__all__ = ["BASELINES", "brovey", "exp", "gsa", "mtf_glp_hpm"]
