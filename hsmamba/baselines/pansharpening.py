"""Classical pansharpening and hypersharpening, by their papers; Vivone et al., IEEE GRSM 9(1), 2021, compares them.

All have one signature:

    method(ms, guide, *, ratio=4, sensor="generic") -> fused

`ms` (B, C, h, w) and `guide` (B, G, r h, r w) are floating-point tensors; `fused` is (B, C, r h, r w) in the dtype of
`ms`, not clipped. Statistics are taken over each image of the batch, in float64. All raise `SceneError` where the grids
do not fit (the text names both shapes and the ratio) or where the sensor has other bands, `TypeError` for integers and
`ValueError` for a ratio below 2 or an unknown sensor.

A guide of one channel is PAN. Of a guide of several channels each band gets a PAN of its own, the combination of the
channels that explains the band best (`hsmamba.baselines.regression`), and is sharpened with that: hypersharpening
(Selva, Aiazzi, Butera, Chiarantini, Baronti, IEEE JSTARS 8(6), 2015). Brovey's one intensity has no place for it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hsmamba.baselines.regression import FLAT, LowPass, Moments, quotient
from hsmamba.data.degrade import check_grids, decimate, filter_bands, mtf_kernels, upsample
from hsmamba.data.sensors import Sensor
from hsmamba.errors import SceneError

_AXES = (2, 3)


def exp(ms: Tensor, guide: Tensor, *, ratio: int = 4, sensor: str | Sensor = "generic") -> Tensor:
    """Up-sample MS by `interp23` and leave the guide out: the floor that every method must beat."""
    lms, _ = _prepare(ms, guide, ratio)
    return lms.to(ms.dtype)


def brovey(ms: Tensor, guide: Tensor, *, ratio: int = 4, sensor: str | Sensor = "generic") -> Tensor:
    """Brovey transform: every band times PAN / I, I the mean of the bands, PAN matched to the mean and spread of I.

    Gillespie et al., Remote Sensing of Environment 22(3), 1987. Keeps the spectral angle of the up-sampled MS. Where I
    is not positive the up-sampled MS stays as it is. Raises `SceneError` for a guide of several channels.
    """
    lms, p = _prepare(ms, guide, ratio)
    if p.shape[1] != 1:
        raise SceneError(
            f"the guide has shape {tuple(guide.shape)}, Brovey's transform takes a single channel: average the "
            "channels with .mean(1, keepdim=True), or take mtf_glp_fs, which gives every band a combination of its own"
        )
    intensity = lms.mean(dim=1, keepdim=True)
    matched = _centred(p) * _gain(intensity, p) + intensity.mean(dim=_AXES, keepdim=True)
    return (lms * quotient(matched, intensity, ratio=ratio)).to(ms.dtype)


def gsa(ms: Tensor, guide: Tensor, *, ratio: int = 4, sensor: str | Sensor = "generic") -> Tensor:
    """Adaptive Gram-Schmidt: the intensity is the combination of bands that best explains the low-resolution PAN.

    Aiazzi et al., IEEE TGRS 45(10), 2007. PAN is reduced by the mean MTF of the MS bands and the protocol's decimation,
    so that the regression sees PAN and MS in the same phase (a bicubic reduction would be half a PAN pixel beside).
    Bands that depend on each other are handled by the pseudo-inverse.
    """
    lms, p = _prepare(ms, guide, ratio)
    pans = _centred(p) if p.shape[1] == 1 else _synthesised(lms, p, ratio, sensor)[0]  # (B, 1 or C, r h, r w)
    kernel = mtf_kernels(sensor, ms.shape[1], ratio=ratio).mean(dim=0, keepdim=True)
    coarse_pans = _centred(decimate(filter_bands(pans, kernel), ratio)).flatten(2)  # (B, 1 or C, n)
    coarse_ms = _centred(ms.double()).flatten(2)  # (B, C, n)
    gram = coarse_ms @ coarse_ms.transpose(1, 2)
    weights: Tensor = torch.linalg.pinv(gram, hermitian=True) @ (coarse_ms @ coarse_pans.transpose(1, 2))
    bands = _centred(lms)
    intensity = torch.einsum("bkp,bkhw->bphw", weights, bands)  # of each PAN
    # Covariance over variance of the intensity; a constant intensity explains nothing of PAN and injects no detail.
    scale = lms.abs().amax(dim=(1, 2, 3), keepdim=True)
    variance = intensity.square().mean(dim=_AXES, keepdim=True)
    usable = variance > (FLAT * scale).square()
    gains = torch.where(usable, (intensity * bands).mean(dim=_AXES, keepdim=True) / variance, 0.0)
    return (lms + gains * (pans - intensity)).to(ms.dtype)


def mtf_glp_hpm(ms: Tensor, guide: Tensor, *, ratio: int = 4, sensor: str | Sensor = "generic") -> Tensor:
    """MTF-matched generalised Laplacian pyramid with high-pass modulation: every band times PAN / low-pass PAN.

    Aiazzi et al., PE&RS 72(5), 2006. PAN is matched to each band by mean and spread, the spread of PAN being that of
    its low-pass version; low-pass is the band's MTF, decimation and up-sampling. Where the low-pass PAN is not
    positive the up-sampled MS stays as it is; where it is near 0 the quotient is held at r^2 in size.
    """
    lms, p = _prepare(ms, guide, ratio)
    # Filters are linear, so the low-pass PAN of each band is made before the match and matched like PAN itself.
    if p.shape[1] == 1:
        low, centre = LowPass(sensor, ms.shape[1], ratio).of_bands(p), p.mean(dim=_AXES, keepdim=True)
        gain, pan, low = _gain(lms, low), p - centre, low - centre
    else:
        pan, low = _synthesised(lms, p, ratio, sensor)
        gain = _gain(lms, low)
    mean = lms.mean(dim=_AXES, keepdim=True)
    return (lms * quotient(pan * gain + mean, low * gain + mean, ratio=ratio)).to(ms.dtype)


def mtf_glp_fs(ms: Tensor, guide: Tensor, *, ratio: int = 4, sensor: str | Sensor = "generic") -> Tensor:
    """Regression-based GLP: to every band the detail of the guide times gains found by regression at full scale.

    Vivone, Restaino, Chanussot, IEEE TIP 27(7), 2018, for PAN. Detail is guide minus low-pass guide, low-pass being the
    band's MTF, decimation and up-sampling. A guide of several channels has a gain a channel and band. Neither the
    guide's unit nor its offset matters, and that of every band of MS is its own.
    """
    lms, p = _prepare(ms, guide, ratio)
    pans, low = _synthesised(lms, p, ratio, sensor)
    return (lms + pans - low).to(ms.dtype)


def mtf_glp_hpm_r(ms: Tensor, guide: Tensor, *, ratio: int = 4, sensor: str | Sensor = "generic") -> Tensor:
    """`mtf_glp_hpm` with PAN matched to each band by the regression of `mtf_glp_fs` instead of mean and spread.

    Vivone, Restaino, Chanussot, IEEE TGRS 56(2), 2018.
    """
    lms, p = _prepare(ms, guide, ratio)
    pans, low = _synthesised(lms, p, ratio, sensor)
    mean = lms.mean(dim=_AXES, keepdim=True)
    return (lms * quotient(pans + mean, low + mean, ratio=ratio)).to(ms.dtype)


BASELINES: dict[str, Callable[..., Tensor]] = {
    "EXP": exp,
    "Brovey": brovey,
    "GSA": gsa,
    "MTF-GLP-HPM": mtf_glp_hpm,
    "MTF-GLP-FS": mtf_glp_fs,
    "MTF-GLP-HPM-R": mtf_glp_hpm_r,
}
OF_PAN_ALONE = ("Brovey",)


def _prepare(ms: Tensor, guide: Tensor, ratio: int) -> tuple[Tensor, Tensor]:
    """Check the pair; return the up-sampled MS and the guide, both (B, ., r h, r w) float64."""
    check_grids(ms, guide, ratio)
    return upsample(ms.double(), ratio), guide.double()


def _synthesised(lms: Tensor, guide: Tensor, ratio: int, sensor: str | Sensor) -> tuple[Tensor, Tensor]:
    """Combine the guide's channels to a PAN for each band; return it and its low-pass version, less the mean of PAN.

    Both are (B, C, r h, r w).
    """
    low_pass = LowPass(sensor, lms.shape[1], ratio)
    low = low_pass(guide)
    gains = Moments.of(lms, guide, low).gains(low_pass.kinds)
    centre = guide.mean(dim=_AXES, keepdim=True)
    pans = torch.einsum("bcg,bghw->bchw", gains, guide - centre)
    return pans, low_pass.combined(gains, low - centre[:, None])


def _centred(image: Tensor) -> Tensor:
    return image - image.mean(dim=_AXES, keepdim=True)


def _gain(target: Tensor, image: Tensor) -> Tensor:
    """Ratio of the standard deviations of two images, (B, C, 1, 1); 0 where `image` is constant."""
    spread = image.std(dim=_AXES, keepdim=True)
    usable = spread > FLAT * image.abs().amax(dim=_AXES, keepdim=True)
    return torch.where(usable, target.std(dim=_AXES, keepdim=True) / spread, 0.0)
