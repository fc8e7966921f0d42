"""Classical methods on a user's images: on held-out tiles, and on whole images of any size."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from hsmamba.baselines import BASELINES, OF_PAN_ALONE
from hsmamba.baselines.pansharpening import METHODS, Pair
from hsmamba.baselines.regression import LowPass
from hsmamba.data.sensors import Sensor
from hsmamba.engine.fusion.images import Images
from hsmamba.engine.fusion.tiles import TILE, Advance, Write, fuse_images
from hsmamba.engine.running import evaluating
from hsmamba.models import FusionNetwork

_MOST = 2**22  # values of a result that is made at once: 32 MB in double precision, and some of those
_LEAST = 128  # pixels of the guide, side of a part of an image of very many bands


class Method(Protocol):
    """What makes a fused image of two others without being trained."""

    def __call__(self, ms: Tensor, guide: Tensor) -> Tensor:
        """Sharpen ms (1, C, h, w) with guide (1, G, r h, r w)."""

    def by_parts(self, images: Images) -> FusionNetwork:
        """Return what does the same part by part, on images with `ms`."""


@dataclass(frozen=True)
class Classical:
    """A method of `hsmamba.baselines` for images of a ratio and a sensor.

    Attributes:
        name: Of the method.
        ratio: Scale ratio.
        sensor: Whose MTF it takes.
        wrap: See `hsmamba.baselines`. Parts repeat the border.
    """

    name: str
    ratio: int
    sensor: Sensor
    wrap: bool = True

    def __call__(self, ms: Tensor, guide: Tensor) -> Tensor:
        """See `Method`."""
        return BASELINES[self.name](ms, guide, ratio=self.ratio, sensor=self.sensor, wrap=self.wrap)

    def by_parts(self, images: Images) -> FusionNetwork:
        """See `Method`."""
        return _ByParts(self, bands_of(images), int(images.guide.array.shape[2]))


class _ByParts(FusionNetwork):
    """A classical method as a network: it measures the whole image before it sharpens its parts.

    Args:
        method: The method.
        bands: Of the coarse image.
        channels: Of the guide.
    """

    def __init__(self, method: Classical, bands: int, channels: int) -> None:
        super().__init__(bands, channels, method.ratio)
        self.method = method
        self.reach = self.margin = LowPass(method.sensor, bands, method.ratio).reach
        self.sums: Any = None

    def set_image(self, sums: Any) -> None:
        """Take the images that follow as parts of one whose sums are known; None ends it."""
        self.sums = sums

    def measure(self, guide: Tensor, ms_up: Tensor, part: tuple[slice, slice]) -> Any:
        """Sum over a part of a window, which has `reach` coarse pixels around it where the image has."""
        return METHODS[self.method.name].measure(self._pair(guide, ms_up, part))

    def sharpen(self, ms: Tensor | None, guide: Tensor, ms_up: Tensor) -> Tensor:
        """See `FusionNetwork.forward`."""
        whole = slice(0, guide.shape[2]), slice(0, guide.shape[3])
        return METHODS[self.method.name].sharpen(self._pair(guide, ms_up, whole), self.sums)

    def _pair(self, guide: Tensor, ms_up: Tensor, core: tuple[slice, slice]) -> Pair:
        return Pair(ms_up, guide, self.scale, self.method.sensor, wrap=False, core=core)


def methods_for(channels: int, ratio: int, sensor: Sensor, *, wrap: bool = True) -> dict[str, Method]:
    """Classical methods by name that take a guide of so many channels; see `hsmamba.baselines` for `wrap`."""
    chosen = [name for name in BASELINES if channels == 1 or name not in OF_PAN_ALONE]
    return {name: Classical(name, ratio, sensor, wrap) for name in chosen}


def bands_of(images: Images) -> int:
    """Return the number of bands of the coarse image."""
    coarse = images.ms or images.ms_up
    if coarse is None:
        raise ValueError("there is no coarse image")
    return int(coarse.array.shape[2])


def sharpen_whole(
    method: Method, images: Images, write: Write, advance: Advance, *, start: int = 0, most: int = _MOST
) -> None:
    """Sharpen by a classical method, in double precision, with the statistics of the whole image.

    Args:
        method: Of `methods_for`, or `consistent_method` of such a one.
        images: The pair, with `ms`.
        write: Takes the result.
        advance: Takes the progress.
        start: First row that is asked for.
        most: Values of a result that is made at once. Larger ones are measured part by part and then sharpened part by
            part, with the border repeated.
    """
    exact = replace(images, dtype=torch.float64, repeats=True)
    height, width = images.size
    bands = bands_of(images)
    if height * width * bands <= most:
        ms, guide, _ = exact.window(*(slice(0, side) for side in images.coarse_size))
        if ms is None:
            raise ValueError("a classical method needs ms")
        write(0, method(ms, guide)[0].cpu())
        advance(height * width)
        return
    network = method.by_parts(exact)
    around = 2 * (network.margin or 0) * images.ratio
    side = min(TILE, max(_LEAST, math.isqrt(4 * _MOST // bands) - around))
    with evaluating(network, "cpu"):
        fuse_images(network, exact, write, advance, tile=max(1, side // images.ratio), start=start)
