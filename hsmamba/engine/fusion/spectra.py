"""What fused spectra lack, as a smooth function of the spectrum, learnt where the coarse image tells it.

A network that has not seen a material, or not in such light, makes the same error wherever it meets it. On the coarse
grid the error is known: MS less the result brought to that grid. A Gaussian process (Rasmussen and Williams, Gaussian
Processes for Machine Learning, 2006, section 8.3.1, subset of regressors) is fitted to it there as a function of the
result's own spectrum, and tells it of every pixel of the fine grid, where back-projection would spread it over what
lies near.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hsmamba.baselines.regression import FLAT

_COMPONENTS = 10  # of the spectra that the function depends on
_FLATNESS = 0.25  # power of a component's variance that it is divided by; 0.5 would make all of them alike
_WIDTH = 4.0  # of the kernel, where a component has the deviation 1 in the mean
_NOISE = 0.003  # variance of what is no function of the spectrum, where that of the function is 1
_CENTRES, _PIXELS = 600, 2**14  # pixels that the function is made of, and that it is fitted to, at most
_FEWEST = 32  # pixels that anything is fitted to
_AT_ONCE = 2**10  # pixels that are corrected at a time: 2 MB, which stay in the cache


@dataclass(frozen=True)
class SpectralCorrection:
    """What is added to a spectrum.

    Attributes:
        mean: (C,) float64, of the square roots of the spectra.
        basis: (K, C) float64, which brings these roots to scaled components.
        centres: (n, K) float64, components that the function is known at.
        weights: (n, C) float64, share of each in what is added.
    """

    mean: Tensor
    basis: Tensor
    centres: Tensor
    weights: Tensor

    def __call__(self, fused: Tensor) -> Tensor:
        """Correct images (B, C, H, W), in their dtype."""
        mean, basis, centres, weights = (x.to(fused) for x in (self.mean, self.basis, self.centres, self.weights))
        flat = fused.flatten(2)
        corrected = torch.empty_like(flat)
        for images, results in zip(flat, corrected, strict=True):
            for start in range(0, flat.shape[2], _AT_ONCE):
                image, out = (x[:, start : start + _AT_ONCE] for x in (images, results))  # (C, n)
                components = basis @ _root(image, mean[:, None])
                torch.addmm(image, weights.T, _kernel(components.T, centres).T, out=out)
        return corrected.view(fused.shape)


def fit_correction(low: Tensor, ms: Tensor) -> SpectralCorrection | None:
    """Fit what a result lacks on the coarse grid to its spectra there.

    It is fitted to one half of the pixels and judged on the other, band by band, before it is fitted to all: the share
    of it is used that explains most there, so that noise of MS, which no spectrum tells, gives nothing.

    Args:
        low: The result brought to the coarse grid, (n, C).
        ms: The coarse image, (n, C).

    Returns:
        The correction; None where there are fewer than 32 pixels or nothing that it explains.
    """
    low, ms = (x[:: -(-len(x) // _PIXELS)].double() for x in (low, ms))
    if len(low) < _FEWEST:
        return None
    roots = _root(ms, torch.zeros_like(ms[0]))
    mean = roots.mean(dim=0)
    variances, vectors = torch.linalg.eigh((roots - mean).T @ (roots - mean) / len(roots))
    kept = variances > (FLAT * roots.max()) ** 2
    variances, vectors = (x[..., kept][..., -_COMPONENTS:] for x in (variances, vectors))
    if not len(variances):
        return None
    scale = variances**_FLATNESS
    basis = (vectors / scale).T / (variances.sqrt() / scale).mean()
    components, lacking = _root(low, mean) @ basis.T, ms - low
    centres, weights = _fitted(components[::2], lacking[::2])
    found, there = _kernel(components[1::2], centres) @ weights, lacking[1::2]
    squares = found.square().sum(dim=0).clamp_min(torch.finfo(found.dtype).tiny)
    share = ((found * there).sum(dim=0) / squares).clamp(0, 1)
    if not share.any():
        return None
    centres, weights = _fitted(components, lacking)
    return SpectralCorrection(mean, basis, centres, weights * share)


def _root(pixels: Tensor, mean: Tensor) -> Tensor:
    """Roots of spectra, whose noise grows with their brightness, less a mean."""
    return pixels.clamp_min(0).sqrt() - mean


def _kernel(components: Tensor, centres: Tensor) -> Tensor:
    """How alike spectra (n, K) are to centres (m, K): (n, m), 1 where they are the same.

    The exponent -|x - c|^2 / (2 w^2) is one product, of x with its square and of c: |x|^2 - 2 x c + |c|^2.
    """
    factor = -1 / (2 * _WIDTH**2)
    x = torch.cat([components, components.square().sum(dim=1, keepdim=True)], dim=1)
    c = torch.cat([-2 * factor * centres, torch.full_like(centres[:, :1], factor)], dim=1)
    return torch.addmm(factor * centres.square().sum(dim=1), x, c.T).exp_()


def _fitted(components: Tensor, lacking: Tensor) -> tuple[Tensor, Tensor]:
    """Fit what is lacking (n, C) by components (n, K): centres, spread evenly over the pixels, and their weights."""
    centres = components[:: -(-len(components) // _CENTRES)]
    alike, among = _kernel(components, centres), _kernel(centres, centres)
    # A small ridge, because spectra that occur twice make the system singular.
    system = alike.T @ alike + _NOISE * among + 1e-6 * torch.eye(len(centres), dtype=among.dtype)
    return centres, torch.linalg.solve(system, alike.T @ lacking)
