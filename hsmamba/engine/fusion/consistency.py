"""Bring what a network makes to agree with both images that it was made of.

Where the coarse image is the fine one through the sensor's MTF, back-projection adds what the fused image lacks of it
(`hsmamba.baselines.BackProjection`). Where the guide is the fine image X through the response R of its channels, as the
RGB of a hyperspectral scene is, the fused image Z is projected onto the images that have this guide, Z + R^+ (G - R Z):
the nearest of them, and never further from X than Z was, since X is one of them. R is fitted on the coarse grid, where
MS and the guide through the same MTF are both at hand, and used where it explains pixels that it was not fitted to.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from hsmamba.baselines import BackProjection
from hsmamba.baselines.regression import LowPass
from hsmamba.data.degrade import KERNEL_SIZE, decimate, filter_bands
from hsmamba.data.sensors import Sensor, band_gains, get_sensor
from hsmamba.engine.fusion.classical import Method
from hsmamba.engine.fusion.images import Images
from hsmamba.errors import SceneError
from hsmamba.layers.fusion import Place
from hsmamba.models import FusionNetwork

ROUNDS = 3  # of back-projection; ten are hardly better
_WINDOWS, _SIDE = 3, 64  # along each axis of the image, and coarse pixels of their sides, that R is fitted on
_EXPLAINED = 0.01  # of the deviation of a channel: what R may leave over of it on pixels that it has not seen
_DEPENDENT = 1e-3  # singular values of R below this share of the largest would raise the noise of the guide
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Response:
    """How the channels of a guide come about from the bands: G = R X + offset.

    Attributes:
        weights: R (G, C) float64; a row of zeros where a channel is not explained by the bands.
        offset: (G,) float64.
    """

    weights: Tensor
    offset: Tensor

    @property
    def explains(self) -> list[int]:
        """Channels that are explained."""
        return [int(channel) for channel in self.weights.abs().amax(dim=1).nonzero()[:, 0]]

    def project(self, fused: Tensor, guide: Tensor) -> Tensor:
        """Take the image that is nearest to `fused` (B, C, H, W) among those that have the guide (B, G, H, W)."""
        weights = self.weights.to(fused)
        back = torch.linalg.pinv(self.weights, rtol=_DEPENDENT).to(fused)
        explained = (self.weights != 0).any(dim=1).to(fused)[:, None, None]
        left = (guide - self.offset.to(fused)[:, None, None]) * explained
        return fused + torch.einsum("cg,bghw->bchw", back, left - torch.einsum("gc,bchw->bghw", weights, fused))


def fit_response(images: Images, sensor: str | Sensor) -> Response:
    """Fit the response of a guide on up to nine windows of the coarse grid, spread evenly over the image.

    It is fitted on one half of the pixels and judged on the other before it is fitted on all.

    Args:
        images: The pair, with `ms`.
        sensor: Whose MTF the coarse image has; the guide is filtered by the mean of its bands.
    """
    pixels = [_coarse_pixels(images, sensor, rows, columns) for rows, columns in _windows(images)]
    bands, channels = (torch.cat([pair[i] for pair in pixels]) for i in range(2))
    size = bands.shape[1], channels.shape[1]
    none = Response(torch.zeros(size[1], size[0], dtype=torch.float64), torch.zeros(size[1], dtype=torch.float64))
    half = len(bands) // 2
    if half <= size[0]:
        return none
    check = _fitted(bands[:half], channels[:half])
    left = (channels[half:] - bands[half:] @ check.weights.T - check.offset).square().mean(dim=0).sqrt()
    explained = left < _EXPLAINED * channels.std(dim=0)
    found = _fitted(bands, channels)
    return Response(found.weights * explained[:, None], found.offset * explained)


def _fitted(bands: Tensor, channels: Tensor) -> Response:
    """Fit the channels (n, G) by the bands (n, C) and a constant."""
    means = bands.mean(dim=0), channels.mean(dim=0)
    weights = (torch.linalg.pinv(bands - means[0], rtol=1e-9) @ (channels - means[1])).T
    return Response(weights, means[1] - weights @ means[0])


def _windows(images: Images) -> list[tuple[slice, slice]]:
    """Windows of the coarse grid, evenly spread; without overlap."""
    sides = []
    for length in images.coarse_size:
        count = min(_WINDOWS, -(-length // _SIDE))
        side = min(_SIDE, length // count)
        starts = np.linspace(0, length - side, count).astype(int)
        sides.append([slice(int(start), int(start) + side) for start in starts])
    return [(rows, columns) for rows in sides[0] for columns in sides[1]]


def _coarse_pixels(images: Images, sensor: str | Sensor, rows: slice, columns: slice) -> tuple[Tensor, Tensor]:
    """Read the bands (n, C) of a window of MS, and the guide (n, G) brought to its grid."""
    if images.ms is None:
        raise SceneError("there is no ms that a result could be consistent with; pass it, or consistent=False")
    ratio = images.ratio
    reach = -(-(KERNEL_SIZE // 2) // ratio)
    near = [
        slice(max(part.start - reach, 0), min(part.stop + reach, side))
        for part, side in zip((rows, columns), images.coarse_size, strict=True)
    ]
    fine = [np.arange(part.start * ratio, part.stop * ratio) for part in near]
    guide = torch.from_numpy(images.guide.read(fine[0], fine[1], fill=images.fill)).permute(2, 0, 1)[None]
    kernel = LowPass(sensor, int(images.ms.array.shape[2]), ratio, bright=False).kernels.mean(dim=0, keepdim=True)
    low = decimate(filter_bands(guide, kernel), ratio)[0]
    y, x = (slice(a.start - b.start, a.stop - b.start) for a, b in zip((rows, columns), near, strict=True))
    coarse = np.arange(rows.start, rows.stop), np.arange(columns.start, columns.stop)
    ms = torch.from_numpy(images.ms.read(*coarse, fill=images.fill))
    return ms.flatten(0, 1), low[:, y, x].flatten(1).T


class MadeConsistent(FusionNetwork):
    """A fusion network, and its image made consistent with MS and, where the response explains it, with the guide.

    It takes `ms`, which `made_consistent` sees to.

    Args:
        network: The network.
        sensor: Whose MTF the coarse image has.
        response: Of the guide.
    """

    def __init__(self, network: FusionNetwork, sensor: str | Sensor, response: Response) -> None:
        super().__init__(network.in_chans, network.guide_chans, network.scale)
        self.network, self.response = network, response
        self.projection = BackProjection(sensor, network.scale, ROUNDS, bright=False)
        self.transform, self.record = network.transform, network.record
        reach = self.projection.reach(network.in_chans)
        self.margin = None if network.margin is None else network.margin + reach
        self.window = network.window
        if hasattr(network, "measure"):
            self.measure, self.set_image, self.reach = network.measure, network.set_image, network.reach

    @property
    def shared(self) -> FusionNetwork:
        """The network: calls of `fuse` may share it, what is made around it they do not."""
        return self.network

    def set_place(self, place: Place | None) -> None:
        """Tell the network."""
        self.network.set_place(place)

    def sharpen(self, ms: Tensor | None, guide: Tensor, ms_up: Tensor) -> Tensor:
        """See `FusionNetwork.forward`."""
        sharp: Tensor = self.network(ms, guide, ms_up)
        return self.response.project(self.projection(sharp, cast(Tensor, ms)), guide)


def made_consistent(network: FusionNetwork, images: Images, consistent: bool | None) -> FusionNetwork:
    """Make a network's results consistent with these images.

    Args:
        network: The network.
        images: What it gets.
        consistent: Whether; None where the weight's record says so and there is an `ms`.

    Returns:
        The network itself, or one around it.

    Raises:
        SceneError: `consistent` is True and there is no `ms`.
        TypeError: See `is_consistent`.
    """
    if not is_consistent(network, consistent) or (consistent is None and images.ms is None):
        return network
    sensor = sensor_of(network)
    response = fit_response(images, sensor)
    _logger.info(
        "consistent with ms by the MTF of %s, and with channels %s of the guide", sensor.name, response.explains
    )
    return MadeConsistent(network, sensor, response)


def consistent_method(method: Method, images: Images, sensor: str | Sensor) -> Method:
    """Make the results of a classical method consistent with these images, by the MTF of a sensor."""
    response, projection = fit_response(images, sensor), BackProjection(sensor, images.ratio, ROUNDS, bright=False)
    return lambda ms, guide: response.project(projection(method(ms, guide), ms), guide)


def is_consistent(network: FusionNetwork, consistent: bool | None) -> bool:
    """Tell what `consistent` means for a network.

    Raises:
        TypeError: It is neither True nor False nor None.
    """
    if consistent not in (True, False, None):
        raise TypeError(f"consistent is {consistent!r}; expected True, False or None (as the weight's record says)")
    recorded = bool(((network.record or {}).get("data") or {}).get("consistent"))
    return recorded if consistent is None else bool(consistent)


def sensor_of(network: FusionNetwork) -> Sensor:
    """Return the sensor of a weight's training where the bands are as many, else the generic one."""
    name = ((network.record or {}).get("data") or {}).get("sensor")
    try:
        sensor = get_sensor(str(name))
        band_gains(sensor, network.in_chans)
    except (ValueError, SceneError):
        return get_sensor("generic")
    return sensor
