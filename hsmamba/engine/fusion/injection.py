"""A linear fusion whose filters are fitted on pairs with truth: what a network is tuned as a correction of.

To the up-sampled band are added, with weights of its own a band: filtered detail of the guide, detail in proportion to
the band, what of the guide the bands do not explain, and a filter of the band itself. With the middle of the first this
is the regression-based GLP (Vivone, Restaino, Chanussot, IEEE TIP 27(7), 2018), with the second high-pass modulation
(Vivone, Restaino, Chanussot, IEEE TGRS 56(2), 2018, where PAN is matched by regression), with the first and the third
adaptive Gram-Schmidt (Aiazzi et al., IEEE TGRS 45(10), 2007). The weights are those of least squares against the truth
of the reduced scale: of linear estimates that with the least mean square error. A ridge that is the same for all bands
and chosen by four-fold cross-validation draws them towards these classical methods.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hsmamba.data.pairs import FusionPair
from hsmamba.models import FusionNetwork

TAPS = 5  # side of the filters, on the guide's grid
_CENTRE = TAPS * TAPS // 2
_FOLDS = 4
_RIDGES = (100.0, 10.0, 1.0, 1e-1, 1e-2, 1e-3, 1e-4)  # of features of unit spread
_CLASSICAL = 30.0  # times less does the ridge hold back (its root) the features that classical methods have
_AROUND = 16  # pixels on each side that a local spread is of
_CALMEST = 1e-3  # of the mean variance: what varies less counts no more
_MOST = 2**17  # pixels that are fitted on, evenly thinned out
_FLAT = 1e-9  # a feature's share of the largest spread, or less, is rounding
_DARK = 1e-2  # of the brightest, where nothing can be relative to it


class Injection(FusionNetwork):
    """Linear fusion by filters of `TAPS` x `TAPS` pixels; `fit` makes one.

    Args:
        in_chans: Bands C.
        channels: Channels G of the guide; the network takes three times as many: the guide, the same low-pass, and what
            the bands explain of it (`hsmamba.engine.fusion.heldout`).
        scale: Ratio between the grids.

    Attributes:
        guide_taps: (C, G, k, k), on the guide less its low-pass version.
        ms_taps: (C, 1, k, k), on the up-sampled band.
        pointwise: (C, 3 G + 1), on the features of single pixels that `_pointwise` stacks.
        matching: (C, G), of the low-pass guide to each band.
        offset: (C,), of the same.

    Shape:
        ms: (B, C, h, w), which is not looked at; guide: (B, 3 G, r h, r w). Output: (B, C, r h, r w).
    """

    def __init__(self, in_chans: int, channels: int, scale: int) -> None:
        super().__init__(in_chans, 3 * channels, scale)
        self.channels = channels
        self.margin = -(-(TAPS // 2) // scale)
        self.guide_taps = nn.Parameter(torch.zeros(in_chans, channels, TAPS, TAPS))
        self.ms_taps = nn.Parameter(torch.zeros(in_chans, 1, TAPS, TAPS))
        self.pointwise = nn.Parameter(torch.zeros(in_chans, 3 * channels + 1))
        self.register_buffer("matching", torch.zeros(in_chans, channels))
        self.register_buffer("offset", torch.ones(in_chans))

    def sharpen(self, ms: Tensor | None, guide: Tensor, ms_up: Tensor) -> Tensor:
        """See `FusionNetwork.forward`."""
        parts = _Guide.of(guide)
        bands = [
            torch.einsum("f,bfhw->bhw", self.pointwise[band], self._pointwise(parts, ms_up[:, band : band + 1], band))
            for band in range(self.in_chans)
        ]
        own = F.conv2d(_padded(ms_up), self.ms_taps, groups=self.in_chans)
        sharp: Tensor = ms_up + F.conv2d(_padded(parts.detail), self.guide_taps) + torch.stack(bands, dim=1) + own
        return sharp

    def _pointwise(self, parts: _Guide, band: Tensor, index: int) -> Tensor:
        """Stack the features of single pixels of a band (B, 1, H, W): (B, 3 G + 1, H, W)."""
        slopes = self.get_buffer("matching")[index].to(band)[:, None, None]
        level = (slopes * parts.low).sum(1, keepdim=True) + self.get_buffer("offset")[index].to(band)
        matched = band * _over((slopes * parts.detail).sum(1, keepdim=True), level)
        modulated = band * parts.relative
        return torch.cat([modulated, parts.mismatch, band * parts.relative_mismatch, matched], dim=1)

    @torch.no_grad()
    def fit(self, pairs: Sequence[FusionPair]) -> Injection:
        """Fit the weights to pairs with truth, each (C, H, W) and in one unit.

        Returns:
            The network itself.
        """
        guides = [_Guide.of(pair.guide[None].double()) for pair in pairs]
        self._match(pairs, guides)
        step = -(-sum(pair.guide[0].numel() for pair in pairs) // _MOST)
        shared = torch.cat([_shifted(guide.detail)[:, ::step] for guide in guides], dim=1)  # (G k k, N)
        systems = [
            _System.of(torch.cat([shared, features]) * even, target * even, self._freedom)
            for features, target, even in self._samples(pairs, guides, step)
        ]
        ridge = min(_RIDGES, key=lambda ridge: sum(system.error(ridge) for system in systems))
        for band, system in enumerate(systems):
            self._take(band, system.solved(ridge))
        return self

    def _match(self, pairs: Sequence[FusionPair], guides: Sequence[_Guide]) -> None:
        """Find by regression how the low-pass guide is brought to the level of each band."""
        low = torch.cat([guide.low[0].flatten(1) for guide in guides], dim=1)
        bands = torch.cat([pair.ms_up.flatten(1) for pair in pairs], dim=1).double()
        x, y = low - low.mean(1, keepdim=True), bands - bands.mean(1, keepdim=True)
        slopes = (torch.linalg.pinv(x @ x.T, hermitian=True) @ (x @ y.T)).T
        self.get_buffer("matching").copy_(slopes)
        self.get_buffer("offset").copy_(bands.mean(1) - slopes @ low.mean(1))

    def _samples(
        self, pairs: Sequence[FusionPair], guides: Sequence[_Guide], step: int
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Give for each band its own features (K, N), what they shall explain (N,) and how much each pixel counts."""
        for band in range(self.in_chans):
            parts, truth, evenness = [], [], []
            for pair, guide in zip(pairs, guides, strict=True):
                up = pair.ms_up[None, band : band + 1].double()
                around = _without_centre(_shifted(up) - up.flatten(2)[0])
                parts.append(torch.cat([around, self._pointwise(guide, up, band)[0].flatten(1)])[:, ::step])
                evenness.append(_evenness(up).flatten()[::step])
                truth.append((torch.as_tensor(pair.gt)[band].double() - up[0, 0]).flatten()[::step])
            yield torch.cat(parts, dim=1), torch.cat(truth), torch.cat(evenness)

    @property
    def _freedom(self) -> Tensor:
        """How freely each weight may be chosen, in the order of the features."""
        taps = torch.ones(self.channels, TAPS * TAPS, dtype=torch.float64)
        taps[:, _CENTRE] = _CLASSICAL
        point = torch.full((3 * self.channels + 1,), _CLASSICAL, dtype=torch.float64)
        point[-1] = 1.0
        return torch.cat([taps.flatten(), torch.ones(TAPS * TAPS - 1, dtype=torch.float64), point])

    def _take(self, band: int, weights: Tensor) -> None:
        """Put the weights of a band in their places."""
        sizes = [self.channels * TAPS * TAPS, TAPS * TAPS - 1, 3 * self.channels + 1]
        on_guide, around, pointwise = torch.split(weights, sizes)
        own = torch.cat([around[:_CENTRE], -around.sum()[None], around[_CENTRE:]])
        self.guide_taps[band] = on_guide.view(self.channels, TAPS, TAPS)
        self.ms_taps[band] = own.view(1, TAPS, TAPS)
        self.pointwise[band] = pointwise


@dataclass(frozen=True)
class _Guide:
    """What a guide of G channels, its low-pass version and what the bands explain of that are made into, (B, G, H, W).

    Attributes:
        low: Low-pass guide.
        detail: Guide less the low-pass one.
        mismatch: Low-pass guide less what the bands explain of it.
        relative: Detail over the low-pass guide.
        relative_mismatch: Mismatch over it.
    """

    low: Tensor
    detail: Tensor
    mismatch: Tensor
    relative: Tensor
    relative_mismatch: Tensor

    @classmethod
    def of(cls, guide: Tensor) -> _Guide:
        sharp, low, explained = guide.chunk(3, dim=1)
        detail, mismatch = sharp - low, low - explained
        return cls(low, detail, mismatch, _over(detail, low), _over(mismatch, low))


def _over(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Quotient, of at most 1 in size; 0 where the denominator is dark."""
    usable = denominator > _DARK * denominator.abs().amax()
    return torch.where(usable, numerator / torch.where(usable, denominator, 1.0), 0.0).clamp(-1, 1)


def _evenness(band: Tensor) -> Tensor:
    """Weights (1, 1, H, W): the root of one over the local spread of a band (1, 1, H, W).

    Between squares, which are ERGAS, and errors that count as much as there is to see, which are Q2n.
    """
    around = F.avg_pool2d(_padded(band, _AROUND), 2 * _AROUND + 1, 1)
    spread = F.avg_pool2d(_padded((band - around).square(), _AROUND), 2 * _AROUND + 1, 1)
    return (spread + _CALMEST * spread.mean() + torch.finfo(band.dtype).tiny).pow(-0.25)


def _padded(image: Tensor, width: int = TAPS // 2) -> Tensor:
    return F.pad(image, [width] * 4, mode="replicate")


def _shifted(image: Tensor) -> Tensor:
    """All neighbours (C k k, N) of the pixels of an image (1, C, H, W), in the order of a filter's taps."""
    return F.unfold(_padded(image), TAPS)[0]


def _without_centre(around: Tensor) -> Tensor:
    return torch.cat([around[:_CENTRE], around[_CENTRE + 1 :]])


@dataclass(frozen=True)
class _System:
    """The normal equations of a band, by folds of pixels that lie together.

    Attributes:
        gram: (F, K, K), products of the scaled features.
        moment: (F, K), with the target.
        power: (F,), of the target.
        count: Pixels.
        scale: (K,), of the features.
    """

    gram: Tensor
    moment: Tensor
    power: Tensor
    count: int
    scale: Tensor

    @classmethod
    def of(cls, features: Tensor, target: Tensor, freedom: Tensor) -> _System:
        """Scale features (K, N) to unit spread times their freedom, and multiply them out."""
        spread = features.square().mean(dim=1).sqrt()
        scale = torch.where(spread > _FLAT * spread.max(), spread, torch.inf) / freedom
        folds = zip(features.chunk(_FOLDS, dim=1), target.chunk(_FOLDS), strict=True)
        products = [(x / scale[:, None], y) for x, y in folds]
        gram = torch.stack([x @ x.T for x, _ in products])
        moment = torch.stack([x @ y for x, y in products])
        return cls(gram, moment, torch.stack([y @ y for _, y in products]), len(target), scale)

    def error(self, ridge: float) -> float:
        """Share of the target's power that fits without a fold leave over in it; what they find again elsewhere."""
        if not float(self.power.sum()) > 0:
            return 0.0
        left = 0.0
        for fold in range(len(self.gram)):
            w = self._solve(self.gram.sum(0) - self.gram[fold], self.moment.sum(0) - self.moment[fold], ridge)
            left += float(self.power[fold] - 2 * w @ self.moment[fold] + w @ self.gram[fold] @ w)
        return left / float(self.power.sum())

    def solved(self, ridge: float) -> Tensor:
        """Weights (K,) of the features as they are."""
        return self._solve(self.gram.sum(0), self.moment.sum(0), ridge) / self.scale

    def _solve(self, gram: Tensor, moment: Tensor, ridge: float) -> Tensor:
        weights: Tensor = torch.linalg.solve(gram + ridge * self.count * torch.eye(len(gram), dtype=gram.dtype), moment)
        return weights
