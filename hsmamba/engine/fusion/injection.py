"""A linear fusion whose filters are fitted on pairs with truth: what a network is tuned as a correction of.

The up-sampled band plus filtered detail of the guide, detail of the guide in proportion to the band (high-pass
modulation), and a filter of the band itself, each with weights of its own a band. With one tap of the first kind this
is the regression-based GLP (Vivone, Restaino, Chanussot, IEEE TIP 27(7), 2018), with one of the second high-pass
modulation (Aiazzi et al., PE&RS 72(5), 2006). The weights are those of least squares against the truth of the reduced
scale, the minimum mean square error among linear estimates, with a ridge whose size generalised cross-validation
chooses (Golub, Heath, Wahba, Technometrics 21(2), 1979).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hsmamba.data.pairs import FusionPair
from hsmamba.models import FusionNetwork

TAPS = 5  # side of the filters, on the guide's grid
_CENTRE = TAPS * TAPS // 2
_RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)  # of features of unit spread
_AROUND = 16  # pixels on each side that a local spread is of
_CALMEST = 1e-3  # of the mean variance: what varies less counts no more
_MOST = 2**17  # pixels that are fitted on, evenly thinned out
_FLAT = 1e-9  # a feature's share of the largest spread, or less, is rounding
_DARK = 1e-3  # of the brightest low-pass guide, where nothing can be relative to it


class Injection(FusionNetwork):
    """Linear fusion by filters of `TAPS` x `TAPS` pixels; `fit` makes one.

    Args:
        in_chans: Bands C.
        channels: Channels G of the guide; the network takes them twice, as they are and low-pass (`with_low_pass`).
        scale: Ratio between the grids.

    Attributes:
        guide_taps: (C, G, k, k), on the guide less its low-pass version.
        ms_taps: (C, 1, k, k), on the up-sampled band.
        modulation: (C, G), of band times detail over low-pass guide.

    Shape:
        ms: (B, C, h, w), which is not looked at; guide: (B, 2 G, r h, r w). Output: (B, C, r h, r w).
    """

    def __init__(self, in_chans: int, channels: int, scale: int) -> None:
        super().__init__(in_chans, 2 * channels, scale)
        self.channels = channels
        self.margin = -(-(TAPS // 2) // scale)
        self.guide_taps = nn.Parameter(torch.zeros(in_chans, channels, TAPS, TAPS))
        self.ms_taps = nn.Parameter(torch.zeros(in_chans, 1, TAPS, TAPS))
        self.modulation = nn.Parameter(torch.zeros(in_chans, channels))

    def sharpen(self, ms: Tensor | None, guide: Tensor, ms_up: Tensor) -> Tensor:
        """See `FusionNetwork.forward`."""
        detail, relative = _details(guide)
        modulated = ms_up * torch.einsum("cg,bghw->bchw", self.modulation, relative)
        own = F.conv2d(_padded(ms_up), self.ms_taps, groups=self.in_chans)
        sharp: Tensor = ms_up + F.conv2d(_padded(detail), self.guide_taps) + modulated + own
        return sharp

    @torch.no_grad()
    def fit(self, pairs: Sequence[FusionPair]) -> Injection:
        """Fit the weights to pairs with truth, each (C, H, W) and in one unit.

        Returns:
            The network itself.
        """
        details = [_details(pair.guide[None].double()) for pair in pairs]
        step = -(-sum(pair.guide[0].numel() for pair in pairs) // _MOST)
        shared = torch.cat([_shifted(detail)[:, ::step] for detail, _ in details], dim=1)  # (G k k, N)
        for band in range(self.in_chans):
            parts, truth, evenness = [], [], []
            for pair, (_, relative) in zip(pairs, details, strict=True):
                up = pair.ms_up[None, band : band + 1].double()
                around = _shifted(up) - up.flatten(2)[0]
                parts.append(torch.cat([_without_centre(around), (up * relative)[0].flatten(1)])[:, ::step])
                evenness.append(_evenness(up).flatten()[::step])
                if pair.gt is None:
                    raise ValueError(f"the pair {pair.name!r} has no truth to fit to")
                truth.append((pair.gt[band].double() - up[0, 0]).flatten()[::step])
            even = torch.cat(evenness)
            features = torch.cat([shared, torch.cat(parts, dim=1)])
            weights = _ridge(features * even, torch.cat(truth) * even)
            self._take(band, weights)
        return self

    def _take(self, band: int, weights: Tensor) -> None:
        """Put the weights of a band in their places, in the order that `fit` stacks them in."""
        taps, own_taps = self.channels * TAPS * TAPS, TAPS * TAPS - 1
        on_guide, around, modulation = torch.split(weights, [taps, own_taps, self.channels])
        own = torch.cat([around[:_CENTRE], -around.sum()[None], around[_CENTRE:]])
        self.guide_taps[band] = on_guide.view(self.channels, TAPS, TAPS)
        self.ms_taps[band] = own.view(1, TAPS, TAPS)
        self.modulation[band] = modulation


def _details(guide: Tensor) -> tuple[Tensor, Tensor]:
    """Detail of a guide (B, 2 G, H, W), (B, G, H, W), and the same over the low-pass guide; 0 where that is dark."""
    sharp, low = guide.chunk(2, dim=1)
    detail = sharp - low
    usable = low > _DARK * low.abs().amax()
    return detail, torch.where(usable, detail / torch.where(usable, low, 1.0), 0.0)


def _evenness(band: Tensor) -> Tensor:
    """Weights (1, 1, H, W): one over the local spread of a band (1, 1, H, W).

    An error counts as much as there is to see: noise over calm water, which squares alone do not see, decides Q2n.
    """
    around = F.avg_pool2d(_padded(band, _AROUND), 2 * _AROUND + 1, 1)
    spread = F.avg_pool2d(_padded((band - around).square(), _AROUND), 2 * _AROUND + 1, 1)
    return (spread + _CALMEST * spread.mean() + torch.finfo(band.dtype).tiny).rsqrt()


def _padded(image: Tensor, width: int = TAPS // 2) -> Tensor:
    return F.pad(image, [width] * 4, mode="replicate")


def _shifted(image: Tensor) -> Tensor:
    """All neighbours (C k k, N) of the pixels of an image (1, C, H, W), in the order of a filter's taps."""
    return F.unfold(_padded(image), TAPS)[0]


def _without_centre(around: Tensor) -> Tensor:
    return torch.cat([around[:_CENTRE], around[_CENTRE + 1 :]])


def _ridge(features: Tensor, target: Tensor) -> Tensor:
    """Least squares of a target (N,) on features (K, N), with the ridge that cross-validation prefers: (K,)."""
    spread = features.square().mean(dim=1).sqrt()
    scale = torch.where(spread > _FLAT * spread.max(), spread, torch.inf)[:, None]
    scaled = features / scale
    count = features.shape[1]
    values, vectors = torch.linalg.eigh(scaled @ scaled.T / count)
    values = values.clamp_min(0)
    along = vectors.T @ (scaled @ target / count)

    def score(ridge: float) -> float:
        shrunk = values / (values + ridge)
        error = target.square().mean() - (along.square() / (values + ridge) * (2 - shrunk)).sum()
        free = 1 - float(shrunk.sum()) / count
        return float(error) / free**2 if free > 0 else math.inf

    best = min(reversed(_RIDGES), key=score)
    weights: Tensor = vectors @ (along / (values + best)) / scale[:, 0]
    return weights
