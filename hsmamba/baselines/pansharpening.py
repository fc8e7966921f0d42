"""Classical pansharpening and hypersharpening, by their papers; Vivone et al., IEEE GRSM 9(1), 2021, compares them.

All have one signature:

    method(ms, guide, *, ratio=4, sensor="generic", wrap=True) -> fused

`ms` (B, C, h, w) and `guide` (B, G, r h, r w) are floating-point tensors; `fused` is (B, C, r h, r w) in the dtype of
`ms`, not clipped. Statistics are taken over each image of the batch, in float64. All raise `SceneError` where the grids
do not fit (the text names both shapes and the ratio) or where the sensor has other bands, `TypeError` for integers and
`ValueError` for a ratio below 2 or an unknown sensor. The up-sampling of the field's toolbox, of powers of two, takes
what lies beyond a border from the opposite one; with `wrap=False` the border is repeated instead, which is better where
an image is small or its border matters.

A guide of one channel is PAN. Of a guide of several channels each band gets a PAN of its own, the combination of the
channels that explains the band best (`hsmamba.baselines.regression`), and is sharpened with that: hypersharpening
(Selva, Aiazzi, Butera, Chiarantini, Baronti, IEEE JSTARS 8(6), 2015). Brovey's one intensity has no place for it.

Each is a pass that sums over pixels and one that sharpens pixel by pixel with what the sums say (`METHODS`), so that an
image of any size is sharpened part by part with the statistics of all of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from hsmamba.baselines.regression import FLAT, LowPass, Moments, Scatter, quotient, up_with_border
from hsmamba.data.degrade import check_grids, decimate, filter_bands, mtf_kernels, upsample
from hsmamba.data.sensors import Sensor
from hsmamba.errors import SceneError


def exp(ms: Tensor, guide: Tensor, *, ratio: int = 4, sensor: str | Sensor = "generic", wrap: bool = True) -> Tensor:
    """Up-sample MS by `interp23` and leave the guide out: the floor that every method must beat."""
    return _by("EXP", ms, guide, ratio, sensor, wrap)


def brovey(ms: Tensor, guide: Tensor, *, ratio: int = 4, sensor: str | Sensor = "generic", wrap: bool = True) -> Tensor:
    """Brovey transform: every band times PAN / I, I the mean of the bands, PAN matched to the mean and spread of I.

    Gillespie et al., Remote Sensing of Environment 22(3), 1987. Keeps the spectral angle of the up-sampled MS. Where I
    is not positive the up-sampled MS stays as it is. Raises `SceneError` for a guide of several channels.
    """
    return _by("Brovey", ms, guide, ratio, sensor, wrap)


def gsa(ms: Tensor, guide: Tensor, *, ratio: int = 4, sensor: str | Sensor = "generic", wrap: bool = True) -> Tensor:
    """Adaptive Gram-Schmidt: the intensity is the combination of bands that best explains the low-resolution PAN.

    Aiazzi et al., IEEE TGRS 45(10), 2007. PAN is reduced by the mean MTF of the MS bands and the protocol's decimation,
    so that the regression sees PAN and MS in the same phase (a bicubic reduction would be half a PAN pixel beside).
    Bands that depend on each other are handled by the pseudo-inverse.
    """
    return _by("GSA", ms, guide, ratio, sensor, wrap)


def mtf_glp_hpm(
    ms: Tensor, guide: Tensor, *, ratio: int = 4, sensor: str | Sensor = "generic", wrap: bool = True
) -> Tensor:
    """MTF-matched generalised Laplacian pyramid with high-pass modulation: every band times PAN / low-pass PAN.

    Aiazzi et al., PE&RS 72(5), 2006. PAN is matched to each band by mean and spread, the spread of PAN being that of
    its low-pass version; low-pass is the band's MTF, decimation and up-sampling. Where the low-pass PAN is not
    positive the up-sampled MS stays as it is; where it is near 0 the quotient is held at r^2 in size.
    """
    return _by("MTF-GLP-HPM", ms, guide, ratio, sensor, wrap)


def mtf_glp_fs(
    ms: Tensor, guide: Tensor, *, ratio: int = 4, sensor: str | Sensor = "generic", wrap: bool = True
) -> Tensor:
    """Regression-based GLP: to every band the detail of the guide times gains found by regression at full scale.

    Vivone, Restaino, Chanussot, IEEE TIP 27(7), 2018, for PAN. Detail is guide minus low-pass guide, low-pass being the
    band's MTF, decimation and up-sampling. A guide of several channels has a gain a channel and band. Neither the
    guide's unit nor its offset matters, and that of every band of MS is its own.
    """
    return _by("MTF-GLP-FS", ms, guide, ratio, sensor, wrap)


def mtf_glp_hpm_r(
    ms: Tensor, guide: Tensor, *, ratio: int = 4, sensor: str | Sensor = "generic", wrap: bool = True
) -> Tensor:
    """`mtf_glp_hpm` with PAN matched to each band by the regression of `mtf_glp_fs` instead of mean and spread.

    Vivone, Restaino, Chanussot, IEEE TGRS 56(2), 2018.
    """
    return _by("MTF-GLP-HPM-R", ms, guide, ratio, sensor, wrap)


BASELINES: dict[str, Callable[..., Tensor]] = {
    "EXP": exp,
    "Brovey": brovey,
    "GSA": gsa,
    "MTF-GLP-HPM": mtf_glp_hpm,
    "MTF-GLP-FS": mtf_glp_fs,
    "MTF-GLP-HPM-R": mtf_glp_hpm_r,
}
OF_PAN_ALONE = ("Brovey",)


def _by(name: str, ms: Tensor, guide: Tensor, ratio: int, sensor: str | Sensor, wrap: bool) -> Tensor:
    """Sharpen whole images by a method of `METHODS`."""
    check_grids(ms, guide, ratio)
    check_guide(name, guide)
    lms = (upsample if wrap else up_with_border)(ms.double(), ratio)
    pair = Pair(lms, guide.double(), ratio, sensor, wrap)
    method = METHODS[name]
    return method.sharpen(pair, method.measure(pair)).to(ms.dtype)


def check_guide(name: str, guide: Tensor) -> None:
    """Raise `SceneError` where a method does not take a guide (B, G, H, W) of so many channels."""
    if name in OF_PAN_ALONE and guide.shape[1] != 1:
        raise SceneError(
            f"the guide has shape {tuple(guide.shape)}, Brovey's transform takes a single channel: average the "
            "channels with .mean(1, keepdim=True), or take mtf_glp_fs, which gives every band a combination of its own"
        )


@dataclass(frozen=True)
class Pair:
    """Images of one ground on the guide's grid, float64: whole ones, or parts with what filters look at around them.

    Attributes:
        lms: Up-sampled MS (B, C, H, W).
        guide: (B, G, H, W).
        ratio: Scale ratio.
        sensor: Whose MTF.
        wrap: Whether the low-pass guide wraps around at the border of a whole image, where else it repeats it.
        core: Rows and columns of a part that are its own; None for whole images.
    """

    lms: Tensor
    guide: Tensor
    ratio: int
    sensor: str | Sensor
    wrap: bool = True
    core: tuple[slice, slice] | None = None

    @cached_property
    def low_pass(self) -> LowPass:
        """Filter of the sensor."""
        return LowPass(self.sensor, self.lms.shape[1], self.ratio)

    @cached_property
    def low(self) -> Tensor:
        """Low-pass guide by each MTF, (B, K, G, H, W)."""
        return (self.low_pass if self.wrap else self.low_pass.with_border)(self.guide)

    def own(self, image: Tensor, ratio: int = 1) -> Tensor:
        """Cut what lies around a part off an image (..., H / ratio, W / ratio)."""
        if self.core is None:
            return image
        rows, columns = (slice(part.start // ratio, part.stop // ratio) for part in self.core)
        return image[..., rows, columns]

    @property
    def moments(self) -> Moments:
        """Sums over up-sampled MS, guide and low-pass guide."""
        return Moments.of(self.own(self.lms), self.own(self.guide), self.own(self.low))

    def synthesised(self, moments: Moments) -> tuple[Tensor, Tensor]:
        """Combine the guide's channels to a PAN for each band; return it and its low-pass version, less PAN's mean.

        Both are (B, C, H, W).
        """
        gains = moments.gains(self.low_pass.kinds)
        centre = moments.levels[2][..., None, None]  # of the guide
        pans = torch.einsum("bcg,bghw->bchw", gains, self.guide - centre)
        return pans, self.low_pass.combined(gains, self.low - centre[:, None])


@dataclass(frozen=True)
class Method:
    """A classical method in two passes.

    Attributes:
        measure: Sums over the pixels of a pair; those of parts add up to those of the whole.
        sharpen: Gives a pair's fused image (B, C, H, W), of the pair and the sums over the whole image.
    """

    measure: Callable[[Pair], Any]
    sharpen: Callable[[Pair, Any], Tensor]


def _sum_nothing(pair: Pair) -> int:
    return 0


def _exp(pair: Pair, sums: int) -> Tensor:
    return pair.lms


def _scatter_of_both(pair: Pair) -> Scatter:
    """Bands, then the guide's channels."""
    return Scatter.of(torch.cat([pair.own(pair.lms), pair.own(pair.guide)], dim=1))


def _brovey(pair: Pair, sums: Scatter) -> Tensor:
    bands = pair.lms.shape[1]
    means = sums.mean[:, :bands].mean(dim=1), sums.mean[:, bands]
    products = sums.products[:, :bands, :bands].mean(dim=(1, 2)), sums.products[:, bands, bands]
    spread, own = ((x / sums.count).sqrt() for x in products)  # of the intensity and of PAN
    usable = own > FLAT * sums.size[:, bands]
    gain = torch.where(usable, spread / torch.where(usable, own, 1.0), 0.0)
    level, centre, gain = (x[:, None, None, None] for x in (*means, gain))
    intensity = pair.lms.mean(dim=1, keepdim=True)
    return pair.lms * quotient((pair.guide - centre) * gain + level, intensity, ratio=pair.ratio)


@dataclass(frozen=True)
class _OfGsa:
    """What GSA sums over.

    Attributes:
        coarse: Bands and guide on the coarse grid.
        fine: The same on the guide's.
        moments: Of a guide of several channels; None for PAN.
    """

    coarse: Scatter
    fine: Scatter
    moments: Moments | None

    def __add__(self, other: _OfGsa) -> _OfGsa:
        moments = None if self.moments is None or other.moments is None else self.moments + other.moments
        return _OfGsa(self.coarse + other.coarse, self.fine + other.fine, moments)


def _measure_gsa(pair: Pair) -> _OfGsa:
    kernel = mtf_kernels(pair.sensor, pair.lms.shape[1], ratio=pair.ratio).mean(dim=0, keepdim=True)
    guide = decimate(filter_bands(pair.guide, kernel), pair.ratio)
    coarse = torch.cat([decimate(pair.lms, pair.ratio), guide], dim=1)  # up-sampling keeps the samples of MS
    moments = pair.moments if pair.guide.shape[1] > 1 else None
    return _OfGsa(Scatter.of(pair.own(coarse, pair.ratio)), _scatter_of_both(pair), moments)


def _gsa(pair: Pair, sums: _OfGsa) -> Tensor:
    bands, fine, products = pair.lms.shape[1], sums.fine, sums.coarse.products
    if sums.moments is None:
        shares = pair.guide.new_ones(len(pair.guide), 1, 1)
        pans = pair.guide - fine.mean[:, bands:, None, None]
    else:
        shares, pans = sums.moments.gains(pair.low_pass.kinds), pair.synthesised(sums.moments)[0]
    explained = products[:, :bands, bands:] @ shares.transpose(1, 2)  # (B, C, P), P the number of PANs: 1 or C
    weights: Tensor = torch.linalg.pinv(products[:, :bands, :bands], hermitian=True) @ explained
    intensity = torch.einsum("bkp,bkhw->bphw", weights, pair.lms - fine.mean[:, :bands, None, None])  # of each PAN
    # Covariance over variance of the intensity; a constant intensity explains nothing of PAN and injects no detail.
    shared = fine.products[:, :bands, :bands] / fine.count @ weights  # of bands and intensities
    variance = (weights * shared).sum(dim=1)  # (B, P)
    usable = variance > (FLAT * fine.size[:, :bands].amax(dim=1, keepdim=True)).square()
    covariance = shared[..., 0] if sums.moments is None else shared.diagonal(dim1=1, dim2=2)  # (B, C)
    gains = torch.where(usable, covariance / torch.where(usable, variance, 1.0), 0.0)
    return pair.lms + gains[..., None, None] * (pans - intensity)


def _hpm(pair: Pair, sums: Moments) -> Tensor:
    level, spread, centre, _ = sums.levels
    kinds = pair.low_pass.kinds
    gains = pair.guide.new_ones(len(pair.guide), len(kinds), 1)
    if pair.guide.shape[1] > 1:
        gains = sums.gains(kinds)
    pans = torch.einsum("bcg,bghw->bchw", gains, pair.guide - centre[..., None, None])
    low = pair.low_pass.combined(gains, pair.low - centre[:, None, :, None, None])
    mean, own = sums.of_low(gains, kinds)  # of the low-pass PAN of each band
    usable = own > FLAT * mean.hypot(own)
    gain = torch.where(usable, spread / torch.where(usable, own, 1.0), 0.0)[..., None, None]
    level = level[..., None, None]
    return pair.lms * quotient(pans * gain + level, low * gain + level, ratio=pair.ratio)


def _fs(pair: Pair, sums: Moments) -> Tensor:
    pans, low = pair.synthesised(sums)
    return pair.lms + pans - low


def _hpm_r(pair: Pair, sums: Moments) -> Tensor:
    pans, low = pair.synthesised(sums)
    level = sums.levels[0][..., None, None]
    return pair.lms * quotient(pans + level, low + level, ratio=pair.ratio)


def _moments(pair: Pair) -> Moments:
    return pair.moments


METHODS: dict[str, Method] = {
    "EXP": Method(_sum_nothing, _exp),
    "Brovey": Method(_scatter_of_both, _brovey),
    "GSA": Method(_measure_gsa, _gsa),
    "MTF-GLP-HPM": Method(_moments, _hpm),
    "MTF-GLP-FS": Method(_moments, _fs),
    "MTF-GLP-HPM-R": Method(_moments, _hpm_r),
}
