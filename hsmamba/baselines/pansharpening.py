"""Four classical pansharpening methods, by their papers; Vivone et al., IEEE GRSM 9(1), 2021, compares them all.

All have one signature:

    method(ms, pan, *, ratio=4, sensor="generic") -> fused

`ms` (B, C, h, w) and `pan` (B, 1, r h, r w) are floating-point tensors in one unit (digital numbers or scaled alike);
`fused` is (B, C, r h, r w) in the dtype of `ms`, not clipped. Statistics are taken over each image of the batch, in
float64. All raise `SceneError` where the grids do not fit (the text names both shapes and the ratio), where PAN has
several channels or where the sensor has other bands, `TypeError` for integers and `ValueError` for a ratio below 2 or
an unknown sensor.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hsmamba.data.degrade import check_grids, decimate, filter_bands, mtf_kernels, upsample
from hsmamba.data.sensors import Sensor
from hsmamba.errors import SceneError

_AXES = (2, 3)
FLAT = 1e-6  # an image that varies less than this share of its largest value is constant but for rounding


def exp(ms: Tensor, pan: Tensor, *, ratio: int = 4, sensor: str | Sensor = "generic") -> Tensor:
    """Up-sample MS by `interp23` and leave PAN out: the floor that every method must beat."""
    lms, _ = _prepare(ms, pan, ratio)
    return lms.to(ms.dtype)


def brovey(ms: Tensor, pan: Tensor, *, ratio: int = 4, sensor: str | Sensor = "generic") -> Tensor:
    """Brovey transform: every band times PAN / I, I the mean of the bands, PAN matched to the mean and spread of I.

    Gillespie et al., Remote Sensing of Environment 22(3), 1987. Keeps the spectral angle of the up-sampled MS. Where I
    is not positive the up-sampled MS stays as it is.
    """
    lms, p = _prepare(ms, pan, ratio)
    intensity = lms.mean(dim=1, keepdim=True)
    matched = _centred(p) * _gain(intensity, p) + intensity.mean(dim=_AXES, keepdim=True)
    return (lms * _ratio(matched, intensity)).to(ms.dtype)


def gsa(ms: Tensor, pan: Tensor, *, ratio: int = 4, sensor: str | Sensor = "generic") -> Tensor:
    """Adaptive Gram-Schmidt: the intensity is the combination of bands that best explains the low-resolution PAN.

    Aiazzi et al., IEEE TGRS 45(10), 2007. PAN is reduced by the mean MTF of the MS bands and the protocol's decimation,
    so that the regression sees PAN and MS in the same phase (a bicubic reduction would be half a PAN pixel beside).
    Bands that depend on each other are handled by the pseudo-inverse.
    """
    lms, p = _prepare(ms, pan, ratio)
    kernel = mtf_kernels(sensor, ms.shape[1], ratio=ratio).mean(dim=0, keepdim=True)
    coarse_pan = _centred(decimate(filter_bands(p, kernel), ratio)).flatten(2)  # (B, 1, n)
    coarse_ms = _centred(ms.double()).flatten(2)  # (B, C, n)
    gram = coarse_ms @ coarse_ms.transpose(1, 2)
    weights: Tensor = torch.linalg.pinv(gram, hermitian=True) @ (coarse_ms @ coarse_pan.transpose(1, 2))  # (B, C, 1)
    bands = _centred(lms)
    intensity = (weights[..., None] * bands).sum(dim=1, keepdim=True)
    # Covariance over variance of the intensity; a constant intensity explains nothing of PAN and injects no detail.
    scale = lms.abs().amax(dim=(1, 2, 3), keepdim=True)
    variance = intensity.square().mean(dim=_AXES, keepdim=True)
    usable = variance > (FLAT * scale).square()
    gains = torch.where(usable, (intensity * bands).mean(dim=_AXES, keepdim=True) / variance, 0.0)
    return (lms + gains * (_centred(p) - intensity)).to(ms.dtype)


def mtf_glp_hpm(ms: Tensor, pan: Tensor, *, ratio: int = 4, sensor: str | Sensor = "generic") -> Tensor:
    """MTF-matched generalised Laplacian pyramid with high-pass modulation: every band times PAN / low-pass PAN.

    Aiazzi et al., PE&RS 72(5), 2006. PAN is matched to each band by mean and spread, the spread of PAN being that of
    its low-pass version; low-pass is the band's MTF, decimation and up-sampling. Where the low-pass PAN is not
    positive the up-sampled MS stays as it is.
    """
    lms, p = _prepare(ms, pan, ratio)
    kernels = mtf_kernels(sensor, ms.shape[1], ratio=ratio)
    kernels = kernels / kernels.sum(dim=(1, 2), keepdim=True)  # flat PAN must have the ratio 1
    # Filters are linear, so the low-pass PAN of each band is made before the match and matched like PAN itself.
    low = upsample(decimate(filter_bands(p.expand_as(lms), kernels), ratio), ratio)
    gain = _gain(lms, low)
    mean = lms.mean(dim=_AXES, keepdim=True)
    centre = p.mean(dim=_AXES, keepdim=True)
    return (lms * _ratio((p - centre) * gain + mean, (low - centre) * gain + mean)).to(ms.dtype)


BASELINES: dict[str, Callable[..., Tensor]] = {"EXP": exp, "Brovey": brovey, "GSA": gsa, "MTF-GLP-HPM": mtf_glp_hpm}


def _prepare(ms: Tensor, pan: Tensor, ratio: int) -> tuple[Tensor, Tensor]:
    """Check the pair; return the up-sampled MS and PAN, both (B, ., r h, r w) float64."""
    check_grids(ms, pan, ratio)
    if pan.shape[1] != 1:
        raise SceneError(
            f"pan has shape {tuple(pan.shape)}, expected a single channel: average a guide of several channels with "
            ".mean(1, keepdim=True)"
        )
    return upsample(ms.double(), ratio), pan.double()


def _centred(image: Tensor) -> Tensor:
    return image - image.mean(dim=_AXES, keepdim=True)


def _gain(target: Tensor, image: Tensor) -> Tensor:
    """Ratio of the standard deviations of two images, (B, C, 1, 1); 0 where `image` is constant."""
    spread = image.std(dim=_AXES, keepdim=True)
    usable = spread > FLAT * image.abs().amax(dim=_AXES, keepdim=True)
    return torch.where(usable, target.std(dim=_AXES, keepdim=True) / spread, 0.0)


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Pixel-wise ratio, 1 where the denominator is not positive."""
    positive = denominator > 0
    return torch.where(positive, numerator / torch.where(positive, denominator, 1.0), 1.0)
