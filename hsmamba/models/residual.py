"""Any fusion network as a correction of the regression-based GLP, whatever the unit of the images.

The classical result is `hsmamba.baselines.mtf_glp_fs` (Vivone, Restaino, Chanussot, IEEE TIP 27(7), 2018; of several
channels with a guide of each band's own). The network sees it in place of the up-sampled image, all bands and channels
brought to one mean and spread by those of the image, and what it changes there is added, times a rate of each band that
begins at 0: an untrained one is the classical method, and counts, reflectance and sensors make no difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hsmamba.baselines.regression import LowPass, Moments
from hsmamba.layers.fusion import Place
from hsmamba.models._base import FusionNetwork, as_fusion_network, patterns_within
from hsmamba.models._registry import ModelCfg, entry, register_model

default_cfgs = {
    "residual": ModelCfg(
        task="fusion",
        summary="any fusion network as a correction of the regression-based GLP",
        tiny={"network": "ramsf", "network_args": {"dim": 8, "align_dim": 4, "mlp_dims": [8, 8]}},
        can_compile=False,  # the regression is a pseudo-inverse, the filters are Fourier transforms
        can_export=False,
        can_onnx=False,
    )
}
_LEVEL, _SPREAD = 0.5, 0.2  # of what the network sees: about 0 to 1


class Residual(FusionNetwork):
    """A fusion network as a correction of the regression-based GLP: base + rate * (network(base) - base).

    Means, spreads and the gains of the regression are those of the images given, each image of a batch for itself;
    `hsmamba.fuse` computes them over the whole image before its tiles (`measure`, `set_image`). The low-pass guide
    repeats the border where `mtf_glp_fs` wraps around, so that a tile can be made without the other end of the image.

    Args:
        in_chans: Bands of the coarse image.
        guide_chans: Channels of the guide.
        scale: Ratio between the grids.
        network: Name of a fusion architecture.
        network_args: Its other arguments.
        sensor: Name of the sensor whose MTF the low-pass guide has.

    Attributes:
        rate: (C,), of the correction; 0 at first.

    Raises:
        TypeError: `network` is no fusion architecture.
        UnknownModelError: There is no such architecture.
        ValueError: An unknown sensor.
    """

    def __init__(
        self,
        in_chans: int = 8,
        guide_chans: int = 1,
        scale: int = 4,
        *,
        network: str = "ramsf",
        network_args: Mapping[str, Any] | None = None,
        sensor: str = "generic",
    ) -> None:
        super().__init__(in_chans, guide_chans, scale)
        known = entry(network)
        if known.cfg.task != "fusion" or network == "residual":
            raise TypeError(f"network is {network!r}; expected a fusion architecture, as ramsf or rsanet")
        sizes = {"in_chans": in_chans, "guide_chans": guide_chans, "scale": scale}
        self.network = as_fusion_network(known.entry_point(**sizes, **(network_args or {})))
        self.sensor = sensor
        self.rate = nn.Parameter(torch.zeros(in_chans))
        self.image: Moments | None = None
        self.reach = self._low_pass().reach
        inner, self.window = self.network.margin, self.network.window
        self.margin = None if inner is None else inner + self.reach

    def train(self, mode: bool = True) -> Residual:
        """Keep the network in evaluation mode, since losses of its own are not those of a correction."""
        super().train(mode)
        self.network.eval()
        return self

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Group the parameters by the depth of the network; see `Network.group_matcher`."""
        return {name: patterns_within("network", groups) for name, groups in self.network.group_matcher(coarse).items()}

    def set_place(self, place: Place | None) -> None:
        """Tell the network."""
        self.network.set_place(place)

    def set_image(self, image: Moments | None) -> None:
        """Take the images that follow as parts of one whose sums are known; None ends it."""
        self.image = image

    def measure(self, guide: Tensor, ms_up: Tensor, part: tuple[slice, slice]) -> Moments:
        """Sum over a part of a window, which has `reach` coarse pixels around it where the image has."""
        cut = (..., *part)
        return Moments.of(ms_up[cut], guide[cut], self._low(guide)[cut])

    def sharpen(self, ms: Tensor | None, guide: Tensor, ms_up: Tensor) -> Tensor:
        """See `FusionNetwork.forward`."""
        low = self._low(guide)  # (B, K, G, H, W)
        moments = self.image if self.image is not None else Moments.of(ms_up, guide, low)
        gains = moments.gains(self._low_pass().kinds.to(guide.device)).to(guide).expand(len(guide), -1, -1)
        base = ms_up + torch.einsum("bcg,bghw->bchw", gains, guide) - self._low_pass().combined(gains, low)
        mean, spread, guide_mean, guide_spread = (x.to(guide)[..., None, None] for x in moments.levels)
        unit = _unit(spread, mean)
        shown = (base - mean) * unit + _LEVEL
        coarse = None if ms is None else (ms - mean) * unit + _LEVEL
        sharp: Tensor = self.network(coarse, (guide - guide_mean) * _unit(guide_spread, guide_mean) + _LEVEL, shown)
        change = torch.where(unit > 0, (sharp - shown) / torch.where(unit > 0, unit, 1.0), 0.0)
        return base + self.rate[:, None, None] * change

    def _low_pass(self) -> LowPass:
        return LowPass(self.sensor, self.in_chans, self.scale)

    def _low(self, guide: Tensor) -> Tensor:
        return self._low_pass().with_border(guide)


def _unit(spread: Tensor, mean: Tensor) -> Tensor:
    """What brings channels to the spread that the network sees; 0 for a constant one."""
    usable = spread > 1e-6 * mean.abs()
    return torch.where(usable, _SPREAD / torch.where(usable, spread, 1.0), 0.0)


@register_model
def residual(**kwargs: Any) -> Residual:
    """RAMSF, or another fusion network by `network=`, as a correction of the regression-based GLP."""
    return Residual(**kwargs)
