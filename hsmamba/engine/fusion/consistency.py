"""Bring what a network makes to agree with both images that it was made of.

Where the coarse image is the fine one through the sensor's MTF, what the fused image lacks of it is added: first what
is a function of the spectrum (`hsmamba.engine.fusion.spectra`), then the rest by back-projection
(`hsmamba.baselines.BackProjection`). Where the guide is the fine image X through the response R of its channels, as the
RGB of a hyperspectral scene is, the fused image Z is projected onto the images that have this guide, Z + R^+ (G - R Z):
the nearest of them, and never further from X than Z was, since X is one of them. That comes first, and once more at the
end. R is fitted on the coarse grid, where MS and the guide through the same MTF are both at hand, and used where it
explains pixels that it was not fitted to.
"""

from __future__ import annotations

import itertools
import logging
from dataclasses import dataclass, replace
from math import prod
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hsmamba.baselines import BackProjection
from hsmamba.baselines.regression import LowPass
from hsmamba.data.degrade import KERNEL_SIZE, decimate, filter_bands
from hsmamba.data.sensors import Sensor, band_gains, get_sensor
from hsmamba.engine.fusion.classical import Method
from hsmamba.engine.fusion.images import Images
from hsmamba.engine.fusion.spectra import SpectralCorrection, fit_correction
from hsmamba.engine.fusion.tiles import Running, fuse_images, fuse_tile, measured
from hsmamba.engine.running import evaluating
from hsmamba.errors import SceneError
from hsmamba.layers.fusion import Place
from hsmamba.models import FusionNetwork

ROUNDS = 3  # of back-projection; ten are hardly better
DARK = 0.1  # of a band's mean: what is darker is not added to in proportion
_WINDOWS, _SIDE = 3, 64  # along each axis of the image, and coarse pixels of their sides, that R is fitted on
_RUN = 32  # coarse pixels of the sides of windows that a network is run on to see what it lacks
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
    pixels = [_coarse_pixels(images, sensor, window) for window in _windows(images, _SIDE)]
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


@dataclass(frozen=True)
class _Window:
    """A window of the coarse grid, and as much around it as the low-pass filter reads.

    Attributes:
        core: Coarse rows and columns.
        near: The same with those around them.
        ratio: Scale ratio.
    """

    core: tuple[slice, slice]
    near: tuple[slice, slice]
    ratio: int

    @property
    def fine(self) -> tuple[slice, slice]:
        """Rows and columns of `near` on the guide's grid."""
        rows, columns = (slice(part.start * self.ratio, part.stop * self.ratio) for part in self.near)
        return rows, columns

    def area(self, margin: int, coarse_size: tuple[int, int]) -> int:
        """Count the coarse pixels of `near` and the margin around it, as far as the image has them."""
        sides = zip(self.near, coarse_size, strict=True)
        return prod(min(part.stop + margin, n) - max(part.start - margin, 0) for part, n in sides)

    def read_ms(self, images: Images) -> Tensor:
        """Read the pixels (n, C) of MS."""
        if images.ms is None:
            raise SceneError("there is no ms that a result could be consistent with; pass it, or consistent=False")
        values = images.ms.read(*_indices(self.core), fill=images.fill)
        return torch.from_numpy(values).flatten(0, 1)

    def read_guide(self, images: Images) -> Tensor:
        """Read the guide (1, G, H, W) of `near`."""
        return torch.from_numpy(images.guide.read(*_indices(self.fine), fill=images.fill)).permute(2, 0, 1)[None]

    def pixels(self, coarse: Tensor) -> Tensor:
        """Take the pixels (n, C) of an image (1, C, h, w) that has `near`."""
        y, x = (slice(a.start - b.start, a.stop - b.start) for a, b in zip(self.core, self.near, strict=True))
        return coarse[0, :, y, x].flatten(1).T


def _indices(window: tuple[slice, slice]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    rows, columns = (np.arange(part.start, part.stop) for part in window)
    return rows, columns


def _windows(images: Images, most: int) -> list[_Window]:
    """Windows of the coarse grid with sides of at most so many pixels, evenly spread; without overlap."""
    reach = -(-(KERNEL_SIZE // 2) // images.ratio)
    sides = []
    for length in images.coarse_size:
        count = min(_WINDOWS, -(-length // most))
        side = min(most, length // count)
        starts = np.linspace(0, length - side, count).astype(int)
        cores = [slice(int(start), int(start) + side) for start in starts]
        sides.append([(core, slice(max(core.start - reach, 0), min(core.stop + reach, length))) for core in cores])
    return [_Window((y[0], x[0]), (y[1], x[1]), images.ratio) for y, x in itertools.product(*sides)]


def _coarse_pixels(images: Images, sensor: str | Sensor, window: _Window) -> tuple[Tensor, Tensor]:
    """Read the bands (n, C) of a window of MS, and the guide (n, G) brought to its grid."""
    ms = window.read_ms(images)
    kernel = LowPass(sensor, ms.shape[1], images.ratio, bright=False).kernels.mean(dim=0, keepdim=True)
    return ms, window.pixels(decimate(filter_bands(window.read_guide(images), kernel), images.ratio))


@dataclass(frozen=True)
class Agreement:
    """What makes a result agree with both images.

    Attributes:
        response: Of the guide.
        projection: With MS.
        correction: Of the spectra; None for none.
    """

    response: Response
    projection: BackProjection
    correction: SpectralCorrection | None = None

    def fitted(self, low: Tensor, ms: Tensor) -> Agreement:
        """Fit the correction to pixels (n, C) of what `low` gives and of MS, and tell which of these are dark."""
        dark = (DARK * ms.double().mean(dim=0)).clamp_min(torch.finfo(torch.float32).tiny)
        return replace(self, correction=fit_correction(low, ms), projection=replace(self.projection, dark=dark))

    def low(self, fused: Tensor, guide: Tensor) -> Tensor:
        """Bring a result (B, C, r h, r w), once it has the guide, to the coarse grid."""
        low_pass = LowPass(self.projection.sensor, fused.shape[1], self.projection.ratio, bright=False)
        return low_pass.down(self.response.project(fused, guide))

    def of_whole(self, fused: Tensor, ms: Tensor, guide: Tensor) -> Tensor:
        """Make a whole result agree as a call does, with the correction fitted to all of its pixels."""
        low = self.low(fused, guide)
        return self.fitted(*(image[0].flatten(1).T for image in (low, ms)))(fused, ms, guide)

    def __call__(self, fused: Tensor, ms: Tensor, guide: Tensor) -> Tensor:
        """Make a result (B, C, r h, r w) agree with MS (B, C, h, w) and the guide (B, G, r h, r w)."""
        fused = self.response.project(fused, guide)
        if self.correction is not None:
            fused = self.correction(fused)
        return self.response.project(self.projection(fused, ms), guide)


class MadeConsistent(FusionNetwork):
    """A fusion network, and its image made consistent with MS and, where the response explains it, with the guide.

    It takes `ms`, which `made_consistent` sees to.

    Args:
        network: The network.
        agreement: What makes it so.
    """

    def __init__(self, network: FusionNetwork, agreement: Agreement) -> None:
        super().__init__(network.in_chans, network.guide_chans, network.scale)
        self.network, self.agreement = network, agreement
        self.transform, self.record = network.transform, network.record
        reach = agreement.projection.reach(network.in_chans)
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
        return self.agreement(sharp, cast(Tensor, ms), guide)


def made_consistent(
    network: FusionNetwork, images: Images, consistent: bool | None, how: Running | None = None
) -> FusionNetwork:
    """Make a network's results consistent with these images; it is run on windows of them to see what it lacks.

    Args:
        network: The network.
        images: What it gets.
        consistent: Whether; None where the weight's record says so and there is an `ms`.
        how: How the network runs.

    Returns:
        The network itself, or one around it.

    Raises:
        SceneError: `consistent` is True and there is no `ms`.
        TypeError: See `is_consistent`.
    """
    if not is_consistent(network, consistent) or (consistent is None and images.ms is None):
        return network
    return _fitted_around(network, agreement_of(images, sensor_of(network)), images, how or Running())


def _fitted_around(network: FusionNetwork, agreement: Agreement, images: Images, how: Running) -> MadeConsistent:
    """Run a network on windows of the images to fit the correction of spectra to what it lacks there."""
    windows = _windows(images, _RUN)
    results = zip(windows, _results(network, images, windows, how), strict=True)
    low = [window.pixels(agreement.low(fused[None], window.read_guide(images).to(fused))) for window, fused in results]
    agreement = agreement.fitted(torch.cat(low), torch.cat([window.read_ms(images) for window in windows]))
    _logger.info(
        "consistent with ms by the MTF of %s, and with channels %s of the guide",
        get_sensor(agreement.projection.sensor).name, agreement.response.explains,
    )  # fmt: skip
    return MadeConsistent(network, agreement)


@dataclass(frozen=True)
class _ConsistentMethod:
    """A classical method, and its image made consistent with MS and the guide.

    Attributes:
        method: The method.
        agreement: What these images tell without a result.
    """

    method: Method
    agreement: Agreement

    def __call__(self, ms: Tensor, guide: Tensor) -> Tensor:
        """See `Method`; the correction of spectra is fitted to all pixels."""
        return self.agreement.of_whole(self.method(ms, guide), ms, guide)

    def by_parts(self, images: Images) -> FusionNetwork:
        """See `Method`; the correction of spectra is fitted to windows of the images."""
        return _fitted_around(self.method.by_parts(images), self.agreement, images, Running())


def consistent_method(method: Method, images: Images, sensor: str | Sensor) -> Method:
    """Make the results of a classical method consistent with these images, by the MTF of a sensor."""
    return _ConsistentMethod(method, agreement_of(images, sensor))


def agreement_of(images: Images, sensor: str | Sensor) -> Agreement:
    """What these images tell without a result."""
    return Agreement(fit_response(images, sensor), BackProjection(sensor, images.ratio, ROUNDS, bright=False))


def _results(network: FusionNetwork, images: Images, windows: list[_Window], how: Running) -> list[Tensor]:
    """Run a network on windows with what lies near them, each (C, H, W)."""
    margin = network.margin
    with evaluating(network, how.device) as where:
        placed = replace(images, dtype=next((x.dtype for x in network.parameters()), images.dtype), device=where)
        # Small images are less to compute than windows with their margins.
        whole_area = prod(images.coarse_size)
        if margin is None or sum(window.area(margin, images.coarse_size) for window in windows) > whole_area:
            return _as_in_the_image(network, placed, windows, how)
        whole = measured(network, placed)
        return [fuse_tile(network, placed, *window.near, margin, whole).cpu() for window in windows]


def _as_in_the_image(network: FusionNetwork, images: Images, windows: list[_Window], how: Running) -> list[Tensor]:
    """Run a network in those of the image's tiles, or of its own windows, that meet these."""
    held = [torch.zeros(network.in_chans, *(part.stop - part.start for part in window.fine)) for window in windows]

    def keep(top: int, rows: Tensor) -> None:
        for window, image in zip(windows, held, strict=True):
            y, x = window.fine
            first, stop = max(top, y.start), min(top + rows.shape[1], y.stop)
            if first < stop:
                image[:, first - y.start : stop - y.start] = rows[:, first - top : stop - top, x]

    def wanted(rows: slice, columns: slice) -> NDArray[np.bool_]:
        mask = np.zeros((rows.stop - rows.start, columns.stop - columns.start), bool)
        for window in windows:
            y, x = (
                slice(max(a.start - b.start, 0), max(a.stop - b.start, 0))
                for a, b in zip(window.fine, (rows, columns), strict=True)
            )
            mask[y, x] = True
        return mask

    sizes: dict[str, Any] = {"tile": how.tile, "overlap": how.overlap, "batch_size": how.batch_size}
    fuse_images(network, images, keep, lambda _: None, wanted=wanted, **sizes)
    return held


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
