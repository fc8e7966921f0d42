"""Iterative back-projection: what a fused image lacks of its coarse image is up-sampled and added.

Irani and Peleg, CVGIP: Graphical Models and Image Processing 53(3), 1991, here with the MTF of the sensor as the blur
and the up-sampling of the protocol as the way back. Whatever made the fused image, its colours over a coarse pixel
become those of the coarse image; detail finer than that stays.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from hsmamba.baselines.regression import LowPass
from hsmamba.data.degrade import check_grids
from hsmamba.data.sensors import Sensor


@dataclass(frozen=True)
class BackProjection:
    """Rounds of `fused + up(ms - down(fused))`, down being MTF and decimation.

    The border of the image is repeated everywhere, so that the result of a part with `reach` coarse pixels around it is
    that of the whole.

    Attributes:
        sensor: Whose MTF.
        ratio: Scale ratio r.
        rounds: How many; the more, the nearer the MTF is inverted, as far as the coarse grid holds it.
    """

    sensor: str | Sensor
    ratio: int
    rounds: int

    def reach(self, bands: int) -> int:
        """Coarse pixels that all rounds look on each side."""
        return self.rounds * LowPass(self.sensor, bands, self.ratio).reach

    def __call__(self, fused: Tensor, ms: Tensor) -> Tensor:
        """Make fused images (B, C, r h, r w) consistent with coarse ones (B, C, h, w), in the dtype of the former.

        Raises:
            SceneError: The grids do not fit, or the sensor has other bands.
            TypeError: Images of integers.
        """
        check_grids(ms, fused, self.ratio)
        low_pass = LowPass(self.sensor, ms.shape[1], self.ratio)
        for _ in range(self.rounds):
            fused = fused + low_pass.up(ms.to(fused) - low_pass.down(fused))
        return fused
