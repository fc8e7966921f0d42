"""How much noise a user's MS has, what of its spectra stands above that, and as much noise at the reduced scale.

Wald's protocol blurs MS before it samples it, which takes most of its noise away. What is chosen on such pairs trusts
the coarse image more than is due: back-projection, which undoes the blur of the sensor, raises the noise of the real
one many times. So the noise is measured, and put back after the blur.

And what of a spectrum is no more than noise need not be sharpened. In units of the noise, the components of the bands
are shrunk by the share of their power that is signal (Wiener's estimate; components in units of the noise: Green,
Berman, Switzer, Craig, IEEE TGRS 26(1), 1988); those that noise alone can have over so many pixels are left out
(Marchenko and Pastur, Mathematics of the USSR-Sbornik 1(4), 1967). A pixel from which more would be taken than noise
is, as from a rare material, stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hsmamba.data.degrade import degrade_pan
from hsmamba.engine.fusion.images import Image

_NEAR = 2  # bands on each side that a band is explained by
_ROUNDS = 4  # of the regression, all but the first without what stands out
_OUTLYING = 2.0  # times the median magnitude
_SIDE = 8  # pixels, of the blocks that are calm or not
_CALM = 0.2  # share of them that is
_OF_THAT = 0.89  # of its deviation has noise in the block at that share: of 64 differences 28 are independent
_MOST = 2**10  # blocks that are looked at, evenly thinned out
_LEAST = 4  # pixels for each number that is fitted
_FLAT = 1e-9  # of the largest value: what varies less is rounding
_LEFT = 0.66  # over the squared ratio: of the variance of noise, after the bicubic reduction
_MATTERS = 0.01  # of the variance of the differences, from which on noise does, in the middle of the bands
_FEWEST = 2**12  # numbers of MS that anything is told from
_RARE = 6.0  # deviations of the energy of noise beyond which a pixel holds something else


@dataclass(frozen=True)
class Noise:
    """The noise of the bands of a coarse image, and what stands above it.

    Attributes:
        deviation: (C,) float64, of the noise of each band in the unit of MS; 0 where it is none.
        level: (C,) float64, means of the bands.
        kept: (C, C) float64: of a spectrum less `level` it keeps what stands above the noise.
        components: How many do.
        energy: What `kept` takes of a pixel in the mean, squared, in units of the noise.
    """

    deviation: Tensor
    level: Tensor
    kept: Tensor
    components: int
    energy: float

    @classmethod
    def of(cls, pairs: Sequence[tuple[Tensor, Tensor]], ratio: int) -> Noise | None:
        """Measure it.

        Args:
            pairs: MS (C, h, w) and the guide on its grid (G, h, w), of each part of an image, whose sides are multiples
                of the ratio.
            ratio: Scale ratio.

        Returns:
            None where the noise hardly matters beside the finest texture, or too little is there to tell.
        """
        if sum(ms.numel() for ms, _ in pairs) < _FEWEST:
            return None
        deviation, finest = noise_of(pairs, ratio)
        if not float((deviation / torch.where(finest > 0, finest, torch.inf)).square().median()) > _MATTERS:
            return None
        pixels = torch.cat([ms.flatten(1) for ms, _ in pairs], dim=1).double()
        level = pixels.mean(dim=1)
        noisy = deviation > 0
        unit = torch.where(noisy, deviation, 1.0)
        white = ((pixels - level[:, None]) / unit[:, None])[noisy]
        count, bands = pixels.shape[1], int(noisy.sum())
        power, directions = torch.linalg.eigh(white @ white.T / max(1, count - 1))
        above = power > (1 + (bands / count) ** 0.5) ** 2
        share = torch.where(above, 1 - 1 / power.clamp_min(1.0), 0.0)
        kept = torch.eye(len(deviation), dtype=torch.float64)
        kept[noisy.outer(noisy)] = ((directions * share) @ directions.T).flatten()
        energy = float(((1 - share).square() * power).sum())
        return cls(deviation, level, unit[:, None] * kept / unit, len(level) - int((~above).sum()), energy)

    @property
    def words(self) -> str:
        """How much there is."""
        share = float((self.deviation / self.level.abs().clamp_min(torch.finfo(torch.float64).tiny)).median())
        return (
            f"ms has noise of {100 * share:.2g} % of its level, in the middle of the bands: {self.components} of "
            f"{len(self.level)} spectral components stand above it and are kept"
        )

    def cleaned(self, spectra: NDArray[np.float64]) -> NDArray[np.float64]:
        """Keep of spectra (..., C) what stands above the noise; all of those from which more than noise would go."""
        kept, level, deviation = (x.numpy() for x in (self.kept, self.level, self.deviation))
        centred = spectra - level
        clean: NDArray[np.float64] = centred @ kept.T
        taken = (centred - clean) / np.where(deviation > 0, deviation, np.inf)
        rare = np.square(taken).sum(axis=-1) > self.energy + _RARE * np.sqrt(2 * self.energy)
        return np.where(rare[..., None], spectra, clean + level)

    def put_back(self, ms: Tensor, kernels: Tensor, generator: torch.Generator) -> Tensor:
        """Add what a blur took away of the noise that `cleaned` leaves.

        Args:
            ms: (C, h, w), cleaned, blurred and sampled.
            kernels: (C, K, K), of the blur.
            generator: Of the numbers that are drawn.
        """
        lost = self.deviation * (1 - kernels.double().square().sum(dim=(1, 2))).clamp_min(0).sqrt()
        drawn = torch.randn(ms.shape, generator=generator, dtype=ms.dtype) * lost.to(ms)[:, None, None]
        return ms + torch.einsum("cd,dhw->chw", self.kept.to(ms), drawn)


@dataclass(frozen=True)
class CleanImage(Image):
    """An image of which what stands above the noise is read.

    Attributes:
        noise: In the unit that the image is read in.
    """

    noise: Noise | None = None

    @classmethod
    def of(cls, image: Image, noise: Noise) -> CleanImage:
        """Read an image so."""
        return cls(image.array, image.factor, image.offset, noise)

    def read(self, rows: NDArray[np.int64], columns: NDArray[np.int64], *, fill: bool) -> NDArray[np.float64]:
        """See `Image.read`."""
        values = super().read(rows, columns, fill=fill)
        return values if self.noise is None else self.noise.cleaned(values)


def noise_of(pairs: Sequence[tuple[Tensor, Tensor]], ratio: int) -> tuple[Tensor, Tensor]:
    """Measure the noise of each band that differs from pixel to pixel.

    It is what neighbouring bands and the guide do not explain of the differences along columns of those along rows, by
    a regression that edges have little say in, in the calmest fifth of the image: noise is everywhere, texture that no
    other band has is not. Each neighbouring band is taken to have as much noise beside its own differences. What looks
    so a scale below as well, where averages leave little noise, is texture and does not count.

    Args:
        pairs: MS (C, h, w) and the guide on its grid (G, h, w), of each part of an image, whose sides are multiples of
            the ratio.
        ratio: Scale ratio.

    Returns:
        (C,) float64: standard deviations in the unit of MS; 0 of bands that do not vary, and where there are too few
        pixels to tell. And (C,): those of these differences, in which noise and texture are as large as there.
    """
    below = [(degrade_pan(ms[None], ratio=ratio)[0], degrade_pan(guide[None], ratio=ratio)[0]) for ms, guide in pairs]
    (here, finest), (there, _) = _apparent(pairs), _apparent(below)
    return ((here.square() - there.square()) / (1 - _LEFT / ratio**2)).clamp_min(0).sqrt(), finest


def _apparent(pairs: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Deviations of what is not explained, and of all that there is."""
    crossed = torch.cat([_blocks(torch.cat(pair)) for pair in pairs], dim=1)  # (C + G, blocks, pixels)
    crossed = crossed[:, :: max(1, -(-crossed.shape[1] // _MOST))]
    bands = len(pairs[0][0])
    if crossed[0].numel() < _LEAST * (2 * _NEAR + len(crossed) - bands):
        return crossed.new_zeros(bands), crossed.new_zeros(bands)
    spread = crossed.square().mean(dim=(1, 2)).sqrt()
    usable = spread > _FLAT * max(float(ms.abs().max()) for ms, _ in pairs)
    unit = crossed / torch.where(usable, spread, 1.0)[:, None, None]
    found = [_unexplained(unit[:bands], band, unit[bands:]) if usable[band] else 0.0 for band in range(bands)]
    return spread[:bands] * torch.tensor(found, dtype=spread.dtype), spread[:bands]


def _unexplained(bands: Tensor, band: int, guide: Tensor) -> float:
    """Deviation of the noise of one of the bands (C, n, m) of unit spread, beside those near it and a guide."""
    near = [index for index in range(max(0, band - _NEAR), min(len(bands), band + _NEAR + 1)) if index != band]
    features, target = torch.cat([bands[near], guide]).flatten(1), bands[band].flatten()
    weight = torch.ones_like(target)
    for _ in range(_ROUNDS):
        weighted = features * weight
        shares = torch.linalg.pinv(weighted @ features.T, hermitian=True) @ (weighted @ target)
        left = target - shares @ features
        middle = float(left.abs().median())
        weight = 1 / (left.abs() / max(middle, _FLAT)).clamp_min(_OUTLYING)
    calm = left.view(bands.shape[1:]).square().mean(dim=1).sqrt().quantile(_CALM)
    fitted = 1 - len(features) / target.numel()  # share of noise that its own regression leaves
    return float(calm) / _OF_THAT / math.sqrt(fitted * (1 + float(shares[: len(near)].square().sum())))


def _blocks(image: Tensor) -> Tensor:
    """Cut the differences along columns of those along rows of an image (C, h, w) into blocks, (C, n, m).

    They have noise as large as the image's own.
    """
    crossed = image.double().diff(dim=-1).diff(dim=-2) / 2
    rows, columns = (min(_SIDE, side) for side in crossed.shape[1:])
    if not rows * columns:
        return crossed.new_zeros(len(image), 0, _SIDE**2)
    return crossed.unfold(1, rows, rows).unfold(2, columns, columns).flatten(3).flatten(1, 2)
