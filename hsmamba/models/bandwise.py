"""A small network that sharpens band by band, so that one weight serves any sensor, ratio and unit.

What classical methods would add to a band is mixed, and a network that sees one band at a time corrects the mixture.
The methods are the regression-based GLP with its detail as it is, modulated by the band, or weighted by the regression
around each pixel (Vivone, Restaino, Chanussot, IEEE TIP 27(7) and TGRS 56(2), 2018; Aiazzi, Alparone, Baronti,
Garzelli, IEEE TGRS 40(10), 2002), MTF-GLP-HPM (Aiazzi et al., PE&RS 72(5), 2006), one quotient of guide and low-pass
guide for all bands, and nothing at all, each made consistent with the coarse band by back-projection (Irani and Peleg,
CVGIP 53(3), 1991). How a band mixes them is found by ridge regression a scale below, where the band itself is the truth
(Wald's protocol), towards equal parts. The network has no biases, so that its correction grows with what it is shown
(Mohan et al., ICLR 2020): the unit of a band makes no difference. Its parameters know neither bands nor channels of the
guide nor the ratio.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hsmamba.baselines.consistency import BackProjection
from hsmamba.baselines.regression import FLAT, LowPass, Moments, quotient, scale_below
from hsmamba.layers.fusion import box_mean, pad_sides
from hsmamba.models._base import FusionNetwork
from hsmamba.models._registry import ModelCfg, register_model
from hsmamba.ops.resampling import upsample

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
_SENSOR = "generic"  # whose MTF is taken, since the weight is for any
_NEAR = 2  # coarse pixels, half the side of the boxes around a pixel, of which there are two in turn
_DAMPING = 0.05  # times the variance of the whole guide, in the regression around a pixel
_STEEPEST = 3.0  # times the gain of the whole image, that around a pixel
_WORTH = 3000.0  # coarse pixels that equal parts of the methods count for, beside those of the image
_RIM = 6  # least part of a side, a scale below, that is left out at either end where `ratio` pixels are more
_LEAST = 4  # pixels a side, a scale below, of an image that can tell how to mix
_MOST = 2**20  # pixels of all the bands that are sharpened at once


@dataclass(frozen=True)
class Sums:
    """Sums over the pixels of images, float64; those of parts add up to those of the whole.

    Attributes:
        moments: Of bands and guide.
        products: (B, C, 6, 6), of what the methods add to each band, two and two, a scale below.
        matches: (B, C, 6), of what they add and what the band lacks there.
        count: Coarse pixels of these.
    """

    moments: Moments
    products: Tensor
    matches: Tensor
    count: int

    def __add__(self, other: Sums) -> Sums:
        """Sum over the pixels of both."""
        return Sums(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    def mix(self) -> Tensor:
        """Find how much of each method a band gets, (B, C, 6), by least squares drawn towards equal parts."""
        trace = self.products.diagonal(dim1=2, dim2=3).sum(2)[..., None]
        ridge = torch.where(trace > 0, _WORTH / max(self.count, 1) * trace / _METHODS, 1.0)
        unit = torch.eye(_METHODS, dtype=ridge.dtype, device=ridge.device)
        left, right = self.products + ridge[..., None] * unit, self.matches + ridge / _METHODS
        found: Tensor = torch.linalg.solve(left, right)
        return found


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
    layer_groups = {"head": r"^head", "layers": r"^layers\.(\d+)", "tail": r"^tail"}

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
        nn.init.zeros_(self.tail.weight)
        self.rounds = rounds
        self.image: Sums | None = None
        self._looks = 2 + sum(dilations)
        self._fit()

    def _fit(self) -> None:
        """Set what the ratio decides: how far it looks."""
        self.low_pass, self.back = LowPass(_SENSOR, 1, self.scale), BackProjection(_SENSOR, self.scale, self.rounds)
        self.reach = self.low_pass.reach
        around = 2 * _NEAR + -(-self._looks // self.scale)
        self.margin = self.reach + around + 2 * self.back.reach(1)

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
        cut = (..., *part)
        moments = Moments.of(ms_up[cut], guide[cut], self.low_pass.with_border(guide)[cut])
        return Sums(moments, *self._below(guide, ms_up))

    def _below(self, guide: Tensor, ms_up: Tensor) -> tuple[Tensor, Tensor, int]:
        """Sum over what the methods add to the bands a scale below, where these are the truth."""
        rows, columns = (side // self.scale**2 for side in guide.shape[2:])
        products = guide.new_zeros(len(guide), self.in_chans, _METHODS, _METHODS, dtype=torch.float64)
        matches = products[..., 0].clone()
        if min(rows, columns) < _LEAST:
            return products, matches, 0
        whole = (..., slice(rows * self.scale**2), slice(columns * self.scale**2))
        truth, ms, pan = scale_below(ms_up[whole], guide[whole], self.scale, _SENSOR)
        up, low = upsample(ms, self.scale), self.low_pass.with_border(pan)
        moments = Moments.of(up, pan, low)
        height, width = truth.shape[2:]
        rim = min(self.scale, min(height, width) // _RIM)
        inner = (..., slice(rim, height - rim), slice(rim, width - rim))
        for bands in self._in_turn(pan):
            spread = moments.levels[1].to(pan)[:, bands, None, None, None]
            added = self.shown(ms, pan, up, low, moments, bands)[:, :, :_METHODS] * spread
            added, lacks = added[inner].double().flatten(3), (truth - up)[:, bands][inner].double().flatten(2)
            products[:, bands] = added @ added.transpose(2, 3)
            matches[:, bands] = (added @ lacks[..., None])[..., 0]
        return products, matches, height * width

    def _in_turn(self, guide: Tensor) -> Iterator[slice]:
        """Give as many bands at a time as memory takes."""
        most = max(1, _MOST // guide[:, 0].numel())
        yield from (slice(first, first + most) for first in range(0, self.in_chans, most))

    def sharpen(self, ms: Tensor | None, guide: Tensor, ms_up: Tensor) -> Tensor:
        """See `FusionNetwork.forward`; without `ms`, the samples of `ms_up` that up-sampling keeps are taken for it."""
        height, width = guide.shape[2:]
        if ms is None:
            guide, ms_up = (pad_sides(image, self.scale) for image in (guide, ms_up))
            ms = self.low_pass.kept(ms_up)
        low = self.low_pass.with_border(guide)
        sums = self.image
        if sums is None:
            sums = Sums(Moments.of(ms_up, guide, low), *self._below(guide, ms_up))
        mix, spread = sums.mix().to(guide), sums.moments.levels[1].to(guide)[..., None, None]
        fused = ms_up.clone()
        for bands in self._in_turn(guide):
            shown = self.shown(ms, guide, ms_up, low, sums.moments, bands)
            fused[:, bands] += self.added(shown, mix[:, bands]) * spread[:, bands]
        return self.back(fused, ms)[..., :height, :width]

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
        self, ms: Tensor, guide: Tensor, ms_up: Tensor, low: Tensor, moments: Moments, bands: slice = slice(None)
    ) -> Tensor:
        """Compute what the network is shown of some bands, in units of each band's spread.

        Args:
            ms: (B, C, h, w).
            guide: (B, G, r h, r w).
            ms_up: `ms` up-sampled.
            low: Low-pass guide (B, 1, G, r h, r w).
            moments: Of the whole image.
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
        consistent = self.back(sharp.flatten(1, 2), coarse.repeat_interleave(_METHODS, dim=1)).view_as(sharp)
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
