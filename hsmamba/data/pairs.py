"""Pairs for image fusion: a coarse image, its sharp guide and the truth.

Numbers are scaled to about [0, 1] by the sensor's largest digital number. Training images are cut into crops; images
for validation and test stay whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hsmamba.data.degrade import decimate, mtf_filter, upsample
from hsmamba.data.sensors import Sensor
from hsmamba.data.units import robust_mean
from hsmamba.errors import SceneError


class FusionPair(NamedTuple):
    """One image, or a batch of crops with a leading axis."""

    name: str
    ms: Tensor  # the coarse image (C, h, w)
    guide: Tensor  # (P, r h, r w)
    ms_up: Tensor  # `ms` on the guide's grid, (C, r h, r w), by `hsmamba.data.upsample`
    gt: Tensor | None  # the truth (C, r h, r w); None at full resolution, where nobody knows it

    def __repr__(self) -> str:
        """Say what it holds, without the numbers."""
        truth = "without truth" if self.gt is None else "with truth"
        return f"FusionPair({self.name!r}: ms {tuple(self.ms.shape)}, guide {tuple(self.guide.shape)}, {truth})"


class TrainingImage(NamedTuple):
    """An image to cut crops from: the truth `gt` (C, H, W), the same `blurred` by the MTF, the guide (P, H, W)."""

    name: str
    gt: Tensor
    blurred: Tensor
    guide: Tensor

    def __repr__(self) -> str:
        """Say what it holds, without the numbers."""
        return f"TrainingImage({self.name!r}: gt {tuple(self.gt.shape)}, guide {tuple(self.guide.shape)})"


class GivenImage(NamedTuple):
    """An image to cut crops from whose coarse image was made by others: it is neither simulated anew nor flipped."""

    name: str
    gt: Tensor  # (C, H, W)
    ms: Tensor  # (C, h, w)
    ms_up: Tensor  # (C, H, W)
    guide: Tensor  # (P, H, W)


AnyImage: TypeAlias = "TrainingImage | GivenImage"


@dataclass(frozen=True)
class FusionPairs:
    """Data for training and judging a fusion network.

    Attributes:
        name: Of the data.
        ratio: Scale ratio r between the grids.
        sensor: The sensor of the MTF, for filters and full-resolution metrics.
        maximum: Number of the scene that is 1 in the images.
        train: Images to cut crops from. A `GivenImage` is not flipped, since its coarse samples could not follow.
        val: Whole pairs for the choice of an epoch.
        test: Whole pairs for the final figures.
        full: Pairs at the original resolution, without truth, of the test's ground.
        cut: Border that the metrics leave out, as `hsmamba.metrics.fusion.cut_border` counts it.
        guide_maximum: Number that is 1 in the guides; None where it is `maximum`.
        wavelengths: Centres of the bands in nm; None where they are not known.
    """

    name: str
    ratio: int
    sensor: Sensor
    maximum: float
    train: tuple[AnyImage, ...]
    val: tuple[FusionPair, ...] = ()
    test: tuple[FusionPair, ...] = ()
    full: tuple[FusionPair, ...] = ()
    cut: int = 0
    guide_maximum: float | None = None
    wavelengths: tuple[float, ...] | None = None

    def __repr__(self) -> str:
        """Say what they hold, without the numbers."""
        counts = {part: len(getattr(self, part)) for part in ("train", "val", "test", "full")}
        held = ", ".join(f"{count} {part}" for part, count in counts.items() if count)
        sizes = f"{self.in_chans} bands, a guide of {self.guide_chans}, ratio {self.ratio}" if held else "no image"
        return f"FusionPairs({self.name!r}: {sizes}, sensor {self.sensor.name}; {held or 'empty'})"

    @property
    def maxima(self) -> tuple[float, float]:
        """Number of the scene that is 1 in the coarse images, and in the guides."""
        return self.maximum, self.maximum if self.guide_maximum is None else self.guide_maximum

    @property
    def in_chans(self) -> int:
        """Bands."""
        return self._any()[0].shape[0]

    @property
    def guide_chans(self) -> int:
        """Channels of the guide."""
        return self._any()[1].shape[0]

    def _any(self) -> tuple[Tensor, Tensor]:
        """Return the bands and the guide of the first image there is."""
        for image in self.train:
            return image.gt, image.guide
        for pair in (*self.test, *self.val, *self.full):
            return pair.ms, pair.guide
        raise SceneError(f"the pairs {self.name!r} hold no image")

    @property
    def sha256(self) -> str:
        """Fingerprint of the ratio and of the images that training and validation see."""
        digest = hashlib.sha256(f"{self.ratio}".encode())
        seen = [(x.name, x.gt, x.guide) for x in self.train] + [(x.name, x.ms, x.guide) for x in self.val]
        for name, *tensors in seen:
            for tensor in tensors:
                digest.update(f"{name}{tuple(tensor.shape)}".encode())
                digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def to_judge(self) -> FusionPairs:
        """Return pairs that judge on the whole of every training image, and train on none.

        Raises:
            SceneError: There is no training image.
        """
        if not self.train:
            raise SceneError(f"the pairs {self.name!r} have no training images to judge on")
        test = tuple(pair._replace(name=f"{pair.name.partition(',')[0]}, whole") for pair in self.unturned())
        least = min(min(pair.guide.shape[1:]) for pair in test)
        return replace(self, train=(), val=(), test=test, full=(), cut=min(self.cut, least // 4))

    def with_bands(self, bands: Sequence[int]) -> FusionPairs:
        """Take some bands of all images, in a given order; the guides stay.

        Args:
            bands: Indices from 0.

        Raises:
            ValueError: No band, or one that is not there.
        """
        index = list(bands)
        if not index or not all(0 <= band < self.in_chans for band in index):
            raise ValueError(f"bands is {index}; expected some of 0 to {self.in_chans - 1}")

        def taken(pair: FusionPair) -> FusionPair:
            gt = None if pair.gt is None else pair.gt[index]
            return pair._replace(ms=pair.ms[index], ms_up=pair.ms_up[index], gt=gt)

        train = tuple(
            image._replace(gt=image.gt[index], ms=image.ms[index], ms_up=image.ms_up[index])
            if isinstance(image, GivenImage)
            else image._replace(gt=image.gt[index], blurred=image.blurred[index])
            for image in self.train
        )
        parts: dict[str, Any] = {part: tuple(map(taken, getattr(self, part))) for part in ("val", "test", "full")}
        known = self.wavelengths
        wavelengths = None if known is None else tuple(known[band] for band in index)
        return replace(self, train=train, sensor=self.sensor.with_bands(index), wavelengths=wavelengths, **parts)

    def views(self, generator: torch.Generator) -> list[FusionPair]:
        """Flip every training image at random and simulate its coarse image anew.

        The coarse sample r k + r // 2 lies beside the middle of its r pixels, so that flipped coarse pixels would not
        be those of the flipped image: they have to be sampled after the flip. (They are symmetric under transposition,
        which `crops` adds: all eight symmetries of the square occur.)
        """
        flips = torch.randint(2, (len(self.train), 2), generator=generator).bool().tolist()
        views = []
        for image, chosen in zip(self.train, flips, strict=True):
            if isinstance(image, GivenImage):
                views.append(_as_given(image))
                continue
            axes = [axis for axis, flip in zip((-1, -2), chosen, strict=True) if flip]
            turned = (tensor.flip(axes) if axes else tensor for tensor in image[1:])
            views.append(_sampled(*turned, name=image.name, ratio=self.ratio))
        return views

    def unturned(self) -> list[FusionPair]:
        """Return the training images as they are, with their coarse images."""
        return [
            _as_given(image)
            if isinstance(image, GivenImage)
            else _sampled(*image[1:], name=image.name, ratio=self.ratio)
            for image in self.train
        ]

    def _coarse(self) -> list[Tensor]:
        """Return the coarse images of the training images as they are."""
        return [
            image.ms if isinstance(image, GivenImage) else decimate(image.blurred[None], self.ratio)[0]
            for image in self.train
        ]

    def means(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return the mean of every band of each coarse training image (M, C) and of each guide (M, P), scaled."""
        return _means_of(self._coarse()), _means_of([image.guide for image in self.train])

    def spectra(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return the pixels of the coarse training images (N, C) and of the guides (M, P) in the scene's numbers."""
        low, high = self.maxima
        return pixels_of(self._coarse()) * low, pixels_of([image.guide for image in self.train]) * high


def _means_of(images: Sequence[Tensor]) -> npt.NDArray[np.float64]:
    return np.stack([robust_mean(pixels_of([image])) for image in images])


def pixels_of(images: Sequence[Tensor]) -> npt.NDArray[np.float64]:
    """Return the pixels (N, C) of images (C, H, W)."""
    return np.concatenate([image.flatten(1).T.double().numpy() for image in images])


def _as_given(image: GivenImage) -> FusionPair:
    return FusionPair(image.name, image.ms, image.guide, image.ms_up, image.gt)


def _sampled(gt: Tensor, blurred: Tensor, guide: Tensor, *, name: str, ratio: int) -> FusionPair:
    ms = decimate(blurred[None], ratio)
    return FusionPair(name, ms[0], guide, upsample(ms, ratio)[0], gt)


def crops(
    images: list[FusionPair], count: int, size: int, ratio: int, generator: torch.Generator, *, augment: bool
) -> FusionPair:
    """Cut `count` crops at random places, each place of the coarse grids equally likely.

    `size` is in pixels of the guide's grid; `augment` transposes half of the crops.

    Raises:
        ValueError: A size that is no multiple of the ratio or larger than an image.
    """
    sides = [image.guide.shape[-2:] for image in images]
    if size % ratio or not 0 < size <= min(min(side) for side in sides):
        raise ValueError(
            f"crop is {size}; it must be a multiple of the ratio {ratio} and fit into images of "
            f"{', '.join(f'{h} x {w}' for h, w in sorted(set(map(tuple, sides))))} pixels"
        )
    small = size // ratio
    places = torch.tensor([(h // ratio - small + 1) * (w // ratio - small + 1) for h, w in sides])
    chosen = torch.randint(int(places.sum()), (count,), generator=generator)
    transposed = torch.randint(2, (count,), generator=generator).bool().tolist()
    ends = places.cumsum(0)
    cut: list[list[Tensor]] = []
    for place, turn in zip(chosen, transposed, strict=True):
        index = int(torch.searchsorted(ends, place, right=True))
        image = images[index]
        columns = image.ms.shape[-1] - small + 1
        row, column = divmod(int(place - ends[index] + places[index]), columns)
        parts = []
        for tensor in (image.ms, image.guide, image.ms_up, image.gt):
            if tensor is None:
                raise SceneError(f"the image {image.name!r} has no truth to train on")
            step = 1 if tensor is image.ms else ratio
            part = tensor[:, row * step : (row + small) * step, column * step : (column + small) * step]
            parts.append(part.transpose(-1, -2) if augment and turn else part)
        cut.append(parts)
    ms, guide, ms_up, gt = (torch.stack(tensors) for tensors in zip(*cut, strict=True))
    return FusionPair("crops", ms, guide, ms_up, gt)


def training_image(name: str, gt: Tensor, guide: Tensor, *, ratio: int, sensor: str | Sensor) -> TrainingImage:
    """Prepare an image for crops: `gt` (C, H, W) and `guide` (P, H, W) on one grid, scaled to about [0, 1]."""
    return TrainingImage(name, gt, mtf_filter(gt[None], sensor=sensor, ratio=ratio)[0], guide)


def simulated_pair(name: str, gt: Tensor, guide: Tensor, *, ratio: int, sensor: str | Sensor) -> FusionPair:
    """Simulate the coarse image of `gt` (C, H, W) beside a `guide` (P, H, W) of the same grid."""
    return _sampled(*training_image(name, gt, guide, ratio=ratio, sensor=sensor)[1:], name=name, ratio=ratio)
