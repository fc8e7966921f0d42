"""Iterative back-projection: what a fused image lacks of its coarse image is up-sampled and added.

Irani and Peleg, CVGIP: Graphical Models and Image Processing 53(3), 1991, here with the MTF of the sensor as the blur
and the up-sampling of the protocol as the way back. Whatever made the fused image, its colours over a coarse pixel
become those of the coarse image; detail finer than that stays.

What is lacking over a coarse pixel may be added in proportion to what is there: what is dark within it stays dark, and
spectra keep their direction, as in high-pass modulation. That converges where all is bright, and not in the dark; so it
is one round before the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hsmamba.baselines.regression import LowPass
from hsmamba.data.degrade import check_grids, decimate, filter_bands
from hsmamba.data.sensors import Sensor

_NEAR = 4  # coarse pixels that a round after the first looks on each side; beyond lie 0.2 % of the response
_LEAST, _MOST = -0.5, 1.0  # of what is there, that a round in proportion adds


@dataclass(frozen=True)
class BackProjection:
    """Rounds of `fused + up(ms - down(fused))`, down being MTF and decimation.

    The fine grid is filtered once and up-sampled once, whatever the rounds: what a round leaves over is, but for the
    border, what was left before it less the same through one filter of the coarse grid. The border is repeated
    everywhere, so that the result of a part with `reach` coarse pixels around it is that of the whole.

    Attributes:
        sensor: Whose MTF.
        ratio: Scale ratio r.
        bright: See `LowPass`; False for images that were made by the protocol of simulated pairs.
        rounds: How many; the more, the nearer the MTF is inverted, as far as the coarse grid holds it.
        dark: (C,), above 0: with a round in proportion before the others, in which bands count as bright as this where
            they are darker. Without one by default.
    """

    sensor: str | Sensor
    ratio: int
    rounds: int
    bright: bool = True
    dark: Tensor | None = None

    def reach(self, bands: int) -> int:
        """Coarse pixels that all rounds look on each side."""
        first = LowPass(self.sensor, bands, self.ratio).reach
        return (first if self.dark is None else 2 * first) + max(0, self.rounds - 1) * _NEAR

    def __call__(self, fused: Tensor, ms: Tensor) -> Tensor:
        """Make fused images (B, C, r h, r w) consistent with coarse ones (B, C, h, w), in the dtype of the former.

        Raises:
            SceneError: The grids do not fit, or the sensor has other bands.
            TypeError: Images of integers.
        """
        check_grids(ms, fused, self.ratio)
        if not self.rounds:
            return fused
        low_pass = LowPass(self.sensor, ms.shape[1], self.ratio, bright=self.bright)
        if self.dark is not None:
            fused = _in_proportion(fused, ms.to(fused), low_pass, self.dark.to(fused)[:, None, None])
        left = ms.to(fused) - low_pass.down(fused)
        total, response = left, _response(low_pass).to(fused)
        for _ in range(self.rounds - 1):
            near = F.pad(left, [_NEAR] * 4, mode="replicate")
            left = left - F.conv2d(near, response, groups=ms.shape[1])
            total = total + left
        return fused + low_pass.up(total)


def _in_proportion(fused: Tensor, ms: Tensor, low_pass: LowPass, dark: Tensor) -> Tensor:
    """Add to a fused image what it lacks, in proportion to what is there; all of it at least as bright as `dark`."""
    there = low_pass.down(fused)
    lacking = ((ms - there) / there.maximum(dark)).clamp(_LEAST, _MOST)
    return fused + fused.maximum(dark) * low_pass.up(lacking).clamp(_LEAST, _MOST)


def _response(low_pass: LowPass) -> Tensor:
    """What becomes of one coarse pixel that is up-sampled and brought back, (C, 1, n, n) of the sum of the kernel.

    Made once for each MTF: of many bands all have the same, and it would take longer than the image.
    """
    side = 4 * _NEAR + 1
    pixel = torch.zeros(1, len(low_pass.kernels), side, side, dtype=torch.float64)
    pixel[..., side // 2, side // 2] = 1
    brought = decimate(filter_bands(low_pass.up(pixel), low_pass.kernels), low_pass.ratio)
    found = brought[0, :, None, _NEAR : side - _NEAR, _NEAR : side - _NEAR]
    brightness = low_pass.kernels.sum(dim=(1, 2))[:, None, None, None]
    whole: Tensor = found * brightness / found.sum(dim=(2, 3), keepdim=True)
    return whole[low_pass.kinds]


def filters_of_gain(gain: float, ratio: int, rounds: int) -> tuple[LowPass, BackProjection]:
    """Make the filters of a sensor of one MTF.

    Args:
        gain: Of the MTF at the Nyquist frequency of the coarse grid, for every band; PAN has half of it.
        ratio: Scale ratio.
        rounds: Of the back-projection.

    Returns:
        The low-pass for a guide, which all bands share, and the back-projection.
    """
    sensor = Sensor("any", (gain,), gain / 2)
    return LowPass(sensor, 1, ratio), BackProjection(sensor, ratio, rounds)
