"""A small network that sharpens band by band, so that one weight serves any sensor, ratio and unit.

What classical methods would add to a band is mixed, and a network that sees one band at a time corrects the mixture.
The methods are the regression-based GLP with its detail as it is, modulated by the band, or weighted by the regression
around each pixel (Vivone, Restaino, Chanussot, IEEE TIP 27(7) and TGRS 56(2), 2018; Aiazzi, Alparone, Baronti,
Garzelli, IEEE TGRS 40(10), 2002), MTF-GLP-HPM (Aiazzi et al., PE&RS 72(5), 2006), one quotient of guide and low-pass
guide for all bands, and nothing at all, each made consistent with the coarse band by back-projection (Irani and Peleg,
CVGIP 53(3), 1991). How a band mixes them is found by ridge regression a scale below, where the band itself is the truth
(Wald's protocol), towards usual shares that are trained with the network. How much the sensor blurs a band is told by
the guide: it is the MTF by which the guide explains the band best. The network has no biases, so that its correction
grows with what it is shown (Mohan et al., ICLR 2020): the unit of a band makes no difference. Its parameters know
neither bands nor channels of the guide nor the ratio.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hsmamba.baselines.consistency import filters_of_gain
from hsmamba.baselines.regression import FLAT, Moments, quotient, scale_below, up_with_border
from hsmamba.layers.fusion import box_mean, pad_sides
from hsmamba.models._base import FusionNetwork
from hsmamba.models._registry import ModelCfg, register_model

default_cfgs = {
    "bandwise": ModelCfg(
        task="fusion",
        summary="band by band, for any sensor, ratio and unit: a mixture of classical methods and its correction",
        default_tag="open",
        tiny={"dim": 4, "dilations": [1]},
        can_compile=False,  # the regression is a pseudo-inverse, the filters are Fourier transforms
        can_export=False,
        can_onnx=False,
    )
}
_METHODS, _CONTEXT = 6, 3
_SENSOR = "generic"  # whose MTF, the usual one, blurs what is brought a scale below
_STEP, _USUAL = 1.16, 4
_GAINS = tuple(0.3 * _STEP ** (kind - _USUAL) for kind in range(8))  # at the Nyquist frequency, which a band may have
_SPREAD = 0.2  # of the logarithm of that of sensors, around the usual one
_ERROR = 0.1  # of what the images tell of it, where the guide explains the band
_SHARE = 0.1  # of the pixels that count in that, since what is next to each other is alike
_NEAR = 2  # coarse pixels, half the side of the boxes around a pixel, of which there are two in turn
_DAMPING = 0.05  # times the variance of the whole guide, in the regression around a pixel
_STEEPEST = 3.0  # times the gain of the whole image, that around a pixel
_WORTH = 3000.0  # coarse pixels that the usual shares of the methods count for, beside those of the image
_RIM = 6  # least part of a side, a scale below, that is left out at either end where `ratio` pixels are more
_LEAST = 4  # pixels a side, a scale below, of an image that can tell how to mix
_DEPENDENT = 1e-9  # shares below are rounding
_MOST = 2**20  # pixels of all the bands that are sharpened at once


@dataclass(frozen=True)
class Blur:
    """Sums over coarse pixels, float64, that tell how much a sensor blurs each band: those of parts add up.

    They are of bands, and of the guide as a sensor of each MTF sees it, all less the mean of the 3 x 3 pixels around.

    Attributes:
        count: Pixels.
        bands: Of the squares of bands, (B, C).
        guide: Of the products of channels, (B, K, G, G).
        both: Of the products of channels and bands, (B, K, G, C).
    """

    count: int
    bands: Tensor
    guide: Tensor
    both: Tensor

    @classmethod
    def of(cls, bands: Tensor, guides: Tensor, part: tuple[slice, slice]) -> Blur:
        """Sum over a part of bands (B, C, h, w) and of guides (B, K, G, h, w)."""
        y, x = (image - box_mean(image, 3) for image in (bands, guides.flatten(1, 2)))
        y, x = (image[..., part[0], part[1]].double() for image in (y, x))
        count = y.shape[2] * y.shape[3]
        y, x = y.flatten(2), x.reshape(*guides.shape[:3], count)
        return cls(count, y.square().sum(2), x @ x.transpose(2, 3), x @ y[:, None].transpose(2, 3))

    def __add__(self, other: Blur) -> Blur:
        """Sum over the pixels of both."""
        return Blur(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    def kinds(self, ratio: int) -> Tensor:
        """Find the MTF by which the guide explains each band best, as an index of those there are: int64 (B, C).

        The maximum is drawn towards the usual MTF by what is known of its error: that of few pixels, and that of a
        guide which shows other things than the band, finest ones first, as a blur would; and at a small ratio that of
        bands which are blurred on the guide's grid, too.
        """
        explained = (self.both * (torch.linalg.pinv(self.guide, rtol=_DEPENDENT, hermitian=True) @ self.both)).sum(2)
        varies = self.bands > 0
        share = explained / torch.where(varies, self.bands, 1.0)[:, None]
        left = (1 - share).clamp(_DEPENDENT, 1).log()  # (B, K, C)
        best = left.argmin(1, keepdim=True).clamp(1, len(_GAINS) - 2)
        before, here, after = (left.gather(1, best + step)[:, 0] for step in (-1, 0, 1))
        bend = (before - 2 * here + after).clamp_min(_DEPENDENT)
        top = best[:, 0] - _USUAL + ((before - after) / 2 / bend).clamp(-1, 1)  # of a parabola through three
        step = math.log(_STEP) ** 2
        error = 2 * step / (_SHARE * max(self.count, 1) * bend) + _ERROR**2 + left.amin(1).exp().square()
        error = error + (math.log(_GAINS[_USUAL]) / ratio**2) ** 2
        found = (top * _SPREAD**2 / (_SPREAD**2 + error)).round().long() + _USUAL
        return torch.where(varies, found.clamp(0, len(_GAINS) - 1), _USUAL)


@dataclass(frozen=True)
class Sums:
    """Sums over the pixels of images, float64; those of parts add up to those of the whole.

    Attributes:
        moments: Of bands and guide, whose low-pass versions are those of every MTF.
        blur: What tells which MTF each band has.
        products: (B, C, 6, 6), of what the methods add to each band, two and two, a scale below.
        matches: (B, C, 6), of what they add and what the band lacks there.
        count: Coarse pixels of these.
    """

    moments: Moments
    blur: Blur
    products: Tensor
    matches: Tensor
    count: int

    def __add__(self, other: Sums) -> Sums:
        """Sum over the pixels of both."""
        return Sums(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    def shares(self) -> tuple[Tensor, Tensor]:
        """Find how much of each method a band gets, by least squares drawn towards what is usual.

        Returns:
            (B, C, 6) and (B, C, 6, 6): the former and the latter times what is usual, (6,), are the shares.
        """
        trace = self.products.diagonal(dim1=2, dim2=3).sum(2)[..., None, None]
        ridge = torch.where(trace > 0, _WORTH / max(self.count, 1) * trace / _METHODS, 1.0)
        pulled = ridge * torch.eye(_METHODS, dtype=ridge.dtype, device=ridge.device)
        right = torch.cat([self.matches[..., None], pulled], dim=3)
        found: Tensor = torch.linalg.solve(self.products + pulled, right)
        return found[..., 0], found[..., 1:]

    def mix(self, usual: Tensor) -> Tensor:
        """Find the shares (B, C, 6) where those that are usual are known, (6,)."""
        own, pull = (part.to(usual) for part in self.shares())
        return own + pull @ usual


class Bandwise(FusionNetwork):
    """A mixture of what classical methods add to a band, and its correction, for any bands, guide and ratio.

    sharp = back(ms_up + mixed + f(details, context, mixed)), band by band, with `mixed` the sum of the details by the
    band's shares, `f` a residual network of dilated convolutions whose last layer begins at 0, and `back` rounds of
    back-projection. Means, spreads, gains and shares are those of the images given, each image of a batch for itself;
    `hsmamba.fuse` computes them over the whole image before its tiles (`measure`, `set_image`), the shares in parts of
    512 pixels of the guide.

    Args:
        in_chans: Bands of the coarse image.
        guide_chans: Channels of the guide; of several, each band gets the combination that explains it.
        scale: Ratio r between the grids.
        dim: Feature channels.
        dilations: Of the residual layers, one each.
        rounds: Rounds of back-projection of every method, and of the result.

    Raises:
        ValueError: A size below 1.
    """

    FINE: ClassVar[int] = _METHODS  # channel of what is shown that has the band less its surroundings
    any_sizes = True
    layer_groups = {"head": r"^(?:usual|head)", "layers": r"^layers\.(\d+)", "tail": r"^tail"}

    def __init__(
        self,
        in_chans: int = 8,
        guide_chans: int = 1,
        scale: int = 4,
        *,
        dim: int = 24,
        dilations: tuple[int, ...] = (1, 1, 2, 1),
        rounds: int = 3,
    ) -> None:
        super().__init__(in_chans, guide_chans, scale)
        if min(dim, *dilations, rounds) < 1:
            raise ValueError(f"dim, dilations and rounds must be 1 or more; got {dim}, {list(dilations)}, {rounds}")
        conv = partial(nn.Conv2d, kernel_size=3, padding_mode="replicate", bias=False)
        self.head = conv(_METHODS + _CONTEXT + 1, dim, padding=1)
        self.layers = nn.ModuleList(conv(dim, dim, padding=step, dilation=step) for step in dilations)
        self.tail = conv(dim, 1, padding=1)
        self.usual = nn.Parameter(torch.full((_METHODS,), 1 / _METHODS))
        nn.init.zeros_(self.tail.weight)
        self.rounds = rounds
        self.image: Sums | None = None
        self._looks = 2 + sum(dilations)
        self._fit()

    def _fit(self) -> None:
        """Set what the ratio decides: how far it looks."""
        filters = [filters_of_gain(gain, self.scale, self.rounds) for gain in _GAINS]
        self.low_passes, self.backs = [low for low, _ in filters], [back for _, back in filters]
        self.reach = self.low_passes[0].reach
        around = 2 * _NEAR + -(-self._looks // self.scale)
        self.margin = self.reach + around + 2 * self.backs[0].reach(1)

    def resized(self, in_chans: int, guide_chans: int, scale: int) -> Bandwise:
        """Return the same network for other images, which shares its parameters."""
        other = copy.copy(self)
        other.in_chans, other.guide_chans, other.scale = in_chans, guide_chans, scale
        other.model_args = {**self.model_args, **other.sizes}
        other.image = None
        other._fit()
        return other

    def set_image(self, image: Sums | None) -> None:
        """Take the images that follow as parts of one whose sums are known; None ends it."""
        self.image = image

    def measure(self, guide: Tensor, ms_up: Tensor, part: tuple[slice, slice]) -> Sums:
        """Sum over a part of a window, which has `reach` coarse pixels around it where the image has."""
        guide, ms_up = (pad_sides(image, self.scale) for image in (guide, ms_up))
        return self.measured(self.low_passes[0].kept(ms_up), guide, part)

    def measured(self, ms: Tensor, guide: Tensor, part: tuple[slice, slice] = (slice(None), slice(None))) -> Sums:
        """Sum over a part of a coarse image and its guide, in pixels of the guide."""
        ms_up = up_with_border(ms, self.scale)
        low = torch.cat([low_pass.with_border(guide) for low_pass in self.low_passes], dim=1)
        cut = (..., *part)
        moments = Moments.of(ms_up[cut], guide[cut], low[cut])
        coarse = torch.stack([low_pass.down(guide) for low_pass in self.low_passes], dim=1)
        rows, columns = (slice(*(end and -(-end // self.scale) for end in (one.start, one.stop))) for one in part)
        return Sums(moments, Blur.of(ms, coarse, (rows, columns)), *self._below(guide, ms_up))

    def _below(self, guide: Tensor, ms_up: Tensor) -> tuple[Tensor, Tensor, int]:
        """Sum over what the methods add to the bands a scale below, where these are the truth."""
        rows, columns = (side // self.scale**2 for side in guide.shape[2:])
        products = guide.new_zeros(len(guide), self.in_chans, _METHODS, _METHODS, dtype=torch.float64)
        matches = products[..., 0].clone()
        if min(rows, columns) < _LEAST:
            return products, matches, 0
        whole = (..., slice(rows * self.scale**2), slice(columns * self.scale**2))
        truth, ms, pan = scale_below(ms_up[whole], guide[whole], self.scale, _SENSOR)
        up, low = up_with_border(ms, self.scale), self.low_passes[_USUAL].with_border(pan)
        moments = Moments.of(up, pan, low)
        height, width = truth.shape[2:]
        rim = min(self.scale, min(height, width) // _RIM)
        inner = (..., slice(rim, height - rim), slice(rim, width - rim))
        for bands in self._in_turn(pan, range(self.in_chans)):
            spread = moments.levels[1].to(pan)[:, bands, None, None, None]
            added = self.shown(ms, pan, up, low, moments, _USUAL, bands)[:, :, :_METHODS] * spread
            added, lacks = added[inner].double().flatten(3), (truth - up)[:, bands][inner].double().flatten(2)
            products[:, bands] = added @ added.transpose(2, 3)
            matches[:, bands] = (added @ lacks[..., None])[..., 0]
        return products, matches, height * width

    def _in_turn(self, guide: Tensor, bands: Sequence[int]) -> Iterator[list[int]]:
        """Give as many of some bands at a time as memory takes."""
        most = max(1, _MOST // guide[:, 0].numel())
        yield from (list(bands[first : first + most]) for first in range(0, len(bands), most))

    def sharpen(self, ms: Tensor | None, guide: Tensor, ms_up: Tensor) -> Tensor:
        """See `FusionNetwork.forward`; of `ms_up` the samples that up-sampling keeps are taken, where `ms` is None."""
        height, width = guide.shape[2:]
        if ms is None:
            guide, ms_up = (pad_sides(image, self.scale) for image in (guide, ms_up))
            ms = self.low_passes[0].kept(ms_up)
        if self.image is not None:
            return self._sharp(ms, guide, self.image)[..., :height, :width]
        pairs = [(ms[one : one + 1], guide[one : one + 1]) for one in range(len(ms))]
        each = [self._sharp(*pair, self.measured(*pair)) for pair in pairs]
        return torch.cat(each)[..., :height, :width]

    def _sharp(self, ms: Tensor, guide: Tensor, sums: Sums) -> Tensor:
        """Sharpen parts of one image."""
        mix, spread = sums.mix(self.usual), sums.moments.levels[1].to(guide)[..., None, None]
        fused = up_with_border(ms, self.scale)
        kinds = sums.blur.kinds(self.scale)[0].tolist()
        for kind in sorted(set(kinds)):
            low, moments = self.low_passes[kind].with_border(guide), sums.moments.of_kind(kind)
            for bands in self._in_turn(guide, [band for band in range(self.in_chans) if kinds[band] == kind]):
                shown = self.shown(ms, guide, fused, low, moments, kind, bands)
                sharp = fused[:, bands] + self.added(shown, mix[:, bands]) * spread[:, bands]
                fused[:, bands] = self.backs[kind](sharp, ms[:, bands])
        return fused

    def shown_of(self, ms: Tensor, guide: Tensor, ms_up: Tensor, sums: Sums, band: int) -> Tensor:
        """Compute what the network is shown of one band of an image: (1, 1, 9, r h, r w), see `shown`."""
        kind = int(sums.blur.kinds(self.scale)[0, band])
        low = self.low_passes[kind].with_border(guide)
        return self.shown(ms, guide, ms_up, low, sums.moments.of_kind(kind), kind, [band])

    def added(self, shown: Tensor, mix: Tensor) -> Tensor:
        """Compute what is added to bands.

        Args:
            shown: (B, C, 9, H, W), see there.
            mix: (B, C, 6), shares of the methods.

        Returns:
            (B, C, H, W), in the units of `shown`.
        """
        mixed = torch.einsum("bck,bckhw->bchw", mix, shown[:, :, :_METHODS])
        x = torch.cat([shown, mixed[:, :, None]], dim=2).flatten(0, 1)
        y = F.relu(self.head(x))
        for layer in self.layers:
            y = y + F.relu(layer(y))
        corrected: Tensor = mixed + self.tail(y).view_as(mixed)
        return corrected

    def shown(
        self, ms: Tensor, guide: Tensor, ms_up: Tensor, low: Tensor, moments: Moments, kind: int, bands: list[int]
    ) -> Tensor:
        """Compute what the network is shown of some bands, in units of each band's spread.

        Args:
            ms: (B, C, h, w).
            guide: (B, G, r h, r w).
            ms_up: `ms` up-sampled.
            low: Low-pass guide (B, 1, G, r h, r w).
            moments: Of the whole image, with that low-pass guide alone.
            kind: Which MTF the bands have.
            bands: Of the image.

        Returns:
            (B, bands, 9, r h, r w): what each of six methods adds to the up-sampled band, the band less its
            surroundings, what the guide does not explain of that, and the guide less its surroundings.
        """
        mean, spread, centre, _ = (x.to(guide)[..., None, None] for x in moments.levels)
        mean, spread = mean[:, bands], spread[:, bands]
        usable = spread > FLAT * mean.abs()
        unit = torch.where(usable, 1 / torch.where(usable, spread, 1.0), 0.0)
        gains = moments.gains(torch.zeros(self.in_chans, dtype=torch.int64, device=guide.device))[:, bands]
        deviation = _spread_of(gains, moments).to(guide)[..., None, None] * unit
        gains = gains.to(guide) * unit[..., 0]
        pan, smooth = (torch.einsum("bcg,bghw->bchw", gains, x - centre) for x in (guide, low[:, 0]))
        up, level, coarse = ms_up[:, bands] * unit, mean * unit, ms[:, bands] * unit
        steady = deviation > FLAT
        match = torch.where(steady, 1 / torch.where(steady, deviation, 1.0), 0.0)
        times = partial(quotient, ratio=self.scale)
        methods = [
            pan - smooth,
            self._gain_around(up - level, smooth, deviation) * (pan - smooth),
            up * (times(pan + level, smooth + level) - 1),
            up * (times(pan * match + level, smooth * match + level) - 1),
            up * (times(guide.mean(1, keepdim=True), low[:, 0].mean(1, keepdim=True)) - 1),
            torch.zeros_like(up),
        ]
        sharp = torch.stack([up + one for one in methods], dim=2)
        consistent = self.backs[kind](sharp.flatten(1, 2), coarse.repeat_interleave(_METHODS, dim=1)).view_as(sharp)
        context = torch.stack([x - self._around(x) for x in (up, up - smooth, pan)], dim=2)
        return torch.cat([consistent - up[:, :, None], context], dim=2)

    def _around(self, image: Tensor) -> Tensor:
        """Average over the surroundings of each pixel: a box, twice."""
        side = 2 * (_NEAR * self.scale // 2) + 1
        return box_mean(box_mean(image, side), side)

    def _gain_around(self, band: Tensor, smooth: Tensor, deviation: Tensor) -> Tensor:
        """Regress a band on the low-pass guide around each pixel, drawn towards 1, the gain of the whole image."""
        near, low = self._around(band), self._around(smooth)
        covariance = self._around(band * smooth) - near * low
        variance = self._around(smooth * smooth) - low * low
        damping = _DAMPING * deviation.square()
        usable = damping > FLAT**2
        gain = torch.where(usable, (covariance + damping) / torch.where(usable, variance + damping, 1.0), 1.0)
        return gain.clamp(-_STEEPEST, _STEEPEST)


def _spread_of(gains: Tensor, moments: Moments) -> Tensor:
    """Standard deviation (B, C) of the low-pass guide that each band has by its gains (B, C, G)."""
    mean = moments.low[:, 0] / moments.count
    covariance = moments.low_squared[:, 0] / moments.count - mean[:, :, None] * mean[:, None]
    return torch.einsum("bcg,bgh,bch->bc", gains, covariance, gains).clamp_min(0).sqrt()


@register_model
def bandwise(**kwargs: Any) -> Bandwise:
    """Classical methods mixed and corrected band by band: any sensor, any ratio."""
    return Bandwise(**kwargs)
