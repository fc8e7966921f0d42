"""The detail of a guide that belongs into each band: low-pass guides and the gains of their regression."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from hsmamba.data.degrade import KERNEL_SIZE, decimate, degrade_ms, degrade_pan, filter_bands, mtf_kernels, upsample
from hsmamba.data.sensors import Sensor
from hsmamba.ops.resampling import interp23_inside, upsample_reach

FLAT = 1e-6  # an image that varies less than this share of its largest value is constant but for rounding
_DEPENDENT = 1e-9  # singular values below this share of the largest are rounding


class LowPass:
    """What a guide is without the detail that the coarse bands lack: MTF, decimation, up-sampling.

    Bands of one MTF share the result.

    Args:
        sensor: Whose MTF.
        bands: Bands C of the coarse image.
        ratio: Scale ratio.
        bright: Leave a flat image as bright as it is. The kernels of the protocol of simulated pairs have a sum of
            1 only to some thousandths, and what they made is undone by them alone; a sensor keeps the brightness.

    Attributes:
        kinds: int64 (C,), which of the K different MTFs each band has.
        kernels: (K, 41, 41) float64; of sum 1 where `bright`.

    Raises:
        SceneError: The sensor has other bands.
        ValueError: An unknown sensor, or a ratio below 2.
    """

    def __init__(self, sensor: str | Sensor, bands: int, ratio: int, *, bright: bool = True) -> None:
        kernels, self.kinds = torch.unique(mtf_kernels(sensor, bands, ratio=ratio), dim=0, return_inverse=True)
        self.kernels = kernels / kernels.sum(dim=(1, 2), keepdim=True) if bright else kernels
        self.ratio = ratio

    def __call__(self, guide: Tensor) -> Tensor:
        """Filter a guide (B, G, H, W) by each MTF: (B, K, G, H, W)."""
        versions = [decimate(filter_bands(guide, kernel[None]), self.ratio) for kernel in self.kernels]
        return torch.stack([upsample(version, self.ratio) for version in versions], dim=1)

    @property
    def reach(self) -> int:
        """Coarse pixels that `with_border` looks on each side."""
        return -(-(KERNEL_SIZE // 2) // self.ratio) + upsample_reach(self.ratio)

    def with_border(self, guide: Tensor) -> Tensor:
        """Filter as a call does, the border repeated where that wraps around, so that tiles can be filtered alone."""
        height, width = guide.shape[2:]
        even = F.pad(guide, [0, -width % self.ratio, 0, -height % self.ratio], mode="replicate")
        versions = [
            self.up(decimate(filter_bands(even, kernel[None]), self.ratio))[..., :height, :width]
            for kernel in self.kernels
        ]
        return torch.stack(versions, dim=1)

    def down(self, image: Tensor) -> Tensor:
        """Bring an image (B, C, r h, r w) to the coarse grid as the sensor would, each band by its MTF."""
        return decimate(filter_bands(image, self.kernels[self.kinds]), self.ratio)

    def kept(self, lms: Tensor) -> Tensor:
        """Take the samples (B, C, h, w) of an up-sampled image (B, C, r h, r w) that were not interpolated."""
        return decimate(lms, self.ratio)

    def up(self, coarse: Tensor) -> Tensor:
        """Up-sample a coarse image (B, C, h, w), the border repeated."""
        return up_with_border(coarse, self.ratio)

    def of_bands(self, pan: Tensor) -> Tensor:
        """Filter PAN (B, 1, H, W) by the MTF of every band: (B, C, H, W)."""
        return self(pan)[:, self.kinds, 0]

    def combined(self, gains: Tensor, low: Tensor) -> Tensor:
        """Combine the channels of low-pass guides (B, K, G, H, W) with the gains (B, C, G) of each band."""
        images = gains.new_empty(*gains.shape[:2], *low.shape[-2:])
        for kind in range(low.shape[1]):
            own = self.kinds == kind
            images[:, own] = torch.einsum("bcg,bghw->bchw", gains[:, own], low[:, kind])
        return images


def up_with_border(coarse: Tensor, ratio: int) -> Tensor:
    """Up-sample a coarse image (B, C, h, w) to (B, C, r h, r w) as `upsample` does, the border repeated.

    `interp23` takes what lies beyond a border from the opposite one, which nothing on the ground is like.
    """
    reach = upsample_reach(ratio)
    near = F.pad(coarse, [reach] * 4, mode="replicate")
    if not ratio & (ratio - 1):
        return interp23_inside(near, ratio)
    first = reach * ratio
    fine = upsample(near, ratio)
    return fine[..., first : fine.shape[-2] - first, first : fine.shape[-1] - first]


def scale_below(lms: Tensor, guide: Tensor, ratio: int, sensor: str | Sensor) -> tuple[Tensor, Tensor, Tensor]:
    """Bring images a scale down by Wald's protocol, where the coarse image is the truth.

    Args:
        lms: Up-sampled coarse image (B, C, H, W), H and W multiples of the ratio's square.
        guide: (B, G, H, W).
        ratio: Scale ratio r.
        sensor: Whose MTF blurs the coarse image.

    Returns:
        The coarse image (B, C, H / r, W / r), the same degraded (B, C, H / r^2, W / r^2), the guide degraded
        (B, G, H / r, W / r).
    """
    truth = decimate(lms, ratio)
    return truth, degrade_ms(truth, ratio=ratio, sensor=sensor), degrade_pan(guide, ratio=ratio)


@dataclass(frozen=True)
class Moments:
    """Sums over the pixels of images, float64; those of parts add up to those of the whole.

    Attributes:
        count: Pixels n.
        bands: Sums (B, C) of the up-sampled bands; `bands_squared` of their squares.
        bands_squared: See `bands`.
        guide: Sums (B, G) of the guide; `guide_squared` of its squares.
        guide_squared: See `guide`.
        low: Sums (B, K, G) of its low-pass versions; `low_squared` (B, K, G, G) of the products of their channels.
        low_squared: See `low`.
        with_bands: Sums (B, G, C) of the products of guide and bands.
        with_low: Sums (B, K, G, G) of those of guide and low-pass guide.
    """

    count: int
    bands: Tensor
    bands_squared: Tensor
    guide: Tensor
    guide_squared: Tensor
    low: Tensor
    low_squared: Tensor
    with_bands: Tensor
    with_low: Tensor

    @classmethod
    def of(cls, lms: Tensor, guide: Tensor, low: Tensor) -> Moments:
        """Sum over up-sampled bands (B, C, H, W), a guide (B, G, H, W) and its low-pass versions (B, K, G, H, W)."""
        y, g, k = lms.double().flatten(2), guide.double().flatten(2), low.double().flatten(3)
        return cls(
            y.shape[2], y.sum(2), y.square().sum(2), g.sum(2), g.square().sum(2), k.sum(3),
            k @ k.transpose(2, 3), g @ y.transpose(1, 2), g[:, None] @ k.transpose(2, 3),
        )  # fmt: skip

    def __add__(self, other: Moments) -> Moments:
        """Sum over the pixels of both."""
        return Moments(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    def of_kind(self, kind: int) -> Moments:
        """Return those with one of the K low-pass versions alone."""
        low, squared, with_low = (x[:, kind : kind + 1] for x in (self.low, self.low_squared, self.with_low))
        return replace(self, low=low, low_squared=squared, with_low=with_low)

    @property
    def levels(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Means and standard deviations of the bands (B, C) and of the guide (B, G)."""
        pairs = (self.bands, self.bands_squared), (self.guide, self.guide_squared)
        (m, s), (n, t) = ((first / self.count, second / self.count) for first, second in pairs)
        return m, (s - m.square()).clamp_min(0).sqrt(), n, (t - n.square()).clamp_min(0).sqrt()

    def of_low(self, gains: Tensor, kinds: Tensor) -> tuple[Tensor, Tensor]:
        """Find mean and standard deviation of combinations of the low-pass guide's channels, one for each band.

        Args:
            gains: (B, C, G), of the channels.
            kinds: int64 (C,), which of the K low-pass versions each band has.

        Returns:
            Two of (B, C).
        """
        first, second = self.low[:, kinds] / self.count, self.low_squared[:, kinds] / self.count  # (B, C, G), (.., G)
        mean = (gains * first).sum(dim=2)
        square = torch.einsum("bcg,bcgh,bch->bc", gains, second, gains)
        return mean, (square - mean.square()).clamp_min(0).sqrt()

    def gains(self, kinds: Tensor) -> Tensor:
        """Find how much of the detail of each channel of the guide belongs into each band, by regression at full scale.

        For each band b the gains c solve `sum_h cov(G_g, L_h) c_h = cov(G_g, b)` over the channels g, G being the
        guide, L its low-pass version by the MTF of b, and b the up-sampled band; for PAN alone
        `cov(P, b) / cov(P, P_low)` (Vivone, Restaino, Chanussot, IEEE TIP 27(7), 2018, the full-scale regression).
        Channels that are constant have the gain 0; those that depend on each other share it.

        Args:
            kinds: int64 (C,), which of the K low-pass versions each band has.

        Returns:
            (B, C, G).
        """
        _, _, mean, spread = self.levels
        usable = spread > FLAT * (self.guide_squared / self.count).sqrt()
        unit = torch.where(usable, 1 / torch.where(usable, spread, 1.0), 0.0)
        right = unit[..., None] * (self.with_bands / self.count - mean[..., None] * self.bands[:, None] / self.count)
        left = self.with_low / self.count - mean[:, None, :, None] * self.low[:, :, None] / self.count
        left = unit[:, None, :, None] * left * unit[:, None, None]
        gains = torch.empty_like(right)  # (B, G, C)
        for kind in range(left.shape[1]):
            chosen = kinds == kind
            gains[..., chosen] = torch.linalg.pinv(left[:, kind], rtol=_DEPENDENT) @ right[..., chosen]
        return (unit[..., None] * gains).transpose(1, 2)


@dataclass(frozen=True)
class Scatter:
    """How the channels of images vary together; those of parts add up to that of the whole.

    Attributes:
        count: Pixels n.
        mean: Of each channel, (B, C) float64.
        products: Sums (B, C, C) of the products of what two channels are above their means.
    """

    count: int
    mean: Tensor
    products: Tensor

    @classmethod
    def of(cls, image: Tensor) -> Scatter:
        """Sum over an image (B, C, H, W)."""
        values = image.double().flatten(2)
        mean = values.mean(dim=2)
        above = values - mean[..., None]
        return cls(values.shape[2], mean, above @ above.transpose(1, 2))

    def __add__(self, other: Scatter) -> Scatter:
        """Sum over the pixels of both (Chan, Golub, LeVeque, COMPSTAT 1982, the pairwise update)."""
        count = self.count + other.count
        step = other.mean - self.mean
        between = step[:, :, None] * step[:, None] * (self.count * other.count / count)
        return Scatter(count, self.mean + step * (other.count / count), self.products + other.products + between)

    @property
    def size(self) -> Tensor:
        """Root of the mean square of each channel, (B, C)."""
        return (self.products.diagonal(dim1=1, dim2=2) / self.count + self.mean.square()).sqrt()


def quotient(numerator: Tensor, denominator: Tensor, *, ratio: int) -> Tensor:
    """Pixel-wise quotient, 1 where the denominator is not positive, of at most r^2 in size.

    That of a pixel that alone is bright among the r^2 of a coarse one; a low-pass guide near 0 gives any number.
    """
    positive = denominator > 0
    found = torch.where(positive, numerator / torch.where(positive, denominator, 1.0), 1.0)
    return found.clamp(-float(ratio**2), float(ratio**2))
