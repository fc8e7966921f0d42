"""Pairs for image fusion: a coarse image, its sharp guide and the truth, made by Wald's protocol from real images.

Numbers are scaled to about [0, 1] by the sensor's largest digital number. Training images are cut into crops; images
for validation and test stay whole. Where they come from one scene they are cut apart before anything is filtered, so
that neither a filter nor an up-sampling of one part reads pixels of another.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hsmamba.data.degrade import check_grids, check_ratio, decimate, degrade_pan, mtf_filter, upsample
from hsmamba.data.sensors import Sensor, get_sensor
from hsmamba.errors import SceneError, SplitError


class FusionPair(NamedTuple):
    """One image, or a batch of crops with a leading axis."""

    name: str
    ms: Tensor  # the coarse image (C, h, w)
    guide: Tensor  # (P, r h, r w)
    ms_up: Tensor  # `ms` on the guide's grid, (C, r h, r w), by `hsmamba.data.upsample`
    gt: Tensor | None  # the truth (C, r h, r w); None at full resolution, where nobody knows it


class TrainingImage(NamedTuple):
    """An image to cut crops from: the truth `gt` (C, H, W), the same `blurred` by the MTF, the guide (P, H, W)."""

    name: str
    gt: Tensor
    blurred: Tensor
    guide: Tensor


@dataclass(frozen=True)
class FusionPairs:
    """Data for training and judging a fusion network.

    Attributes:
        name: Of the data.
        ratio: Scale ratio r between the grids.
        sensor: The sensor of the MTF, for filters and full-resolution metrics.
        maximum: Digital number of the value 1.
        train: Images to cut crops from.
        val: Whole pairs for the choice of an epoch.
        test: Whole pairs for the final figures.
        full: Pairs at the original resolution, without truth, of the test's ground.
        cut: Border that the metrics leave out, as `hsmamba.metrics.fusion.cut_border` counts it.
    """

    name: str
    ratio: int
    sensor: Sensor
    maximum: float
    train: tuple[TrainingImage, ...]
    val: tuple[FusionPair, ...] = ()
    test: tuple[FusionPair, ...] = ()
    full: tuple[FusionPair, ...] = ()
    cut: int = 0

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

    def views(self, generator: torch.Generator) -> list[FusionPair]:
        """Flip every training image at random and simulate its coarse image anew.

        The coarse sample r k + r // 2 lies beside the middle of its r pixels, so that flipped coarse pixels would not
        be those of the flipped image: they have to be sampled after the flip. (They are symmetric under transposition,
        which `crops` adds: all eight symmetries of the square occur.)
        """
        flips = torch.randint(2, (len(self.train), 2), generator=generator).bool().tolist()
        views = []
        for image, chosen in zip(self.train, flips, strict=True):
            axes = [axis for axis, flip in zip((-1, -2), chosen, strict=True) if flip]
            turned = (tensor.flip(axes) if axes else tensor for tensor in image[1:])
            views.append(_sampled(*turned, name=image.name, ratio=self.ratio))
        return views

    def unturned(self) -> list[FusionPair]:
        """Return the training images as they are, with their coarse images."""
        return [_sampled(*image[1:], name=image.name, ratio=self.ratio) for image in self.train]


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


def wald_pairs(
    ms: npt.ArrayLike,
    guide: npt.ArrayLike,
    *,
    sensor: str | Sensor,
    ratio: int = 4,
    maximum: float | None = None,
    val: float = 0.125,
    test: float = 0.3,
    guard: int = 8,
    axis: Literal["rows", "columns"] = "rows",
    name: str = "scene",
) -> FusionPairs:
    """Make pairs out of one's own scene by Wald's protocol at reduced resolution, the truth being the scene's MS.

    The scene is cut along one axis into a training part, a validation strip and a test strip, with a guard between
    them that belongs to none. Only then are the parts degraded, each by itself.

    Args:
        ms: Coarse image (h, w, C) of the scene, or (h, w) of one band, numpy or xarray, in digital numbers.
        guide: Sharp image (r h, r w, P) or (r h, r w) on the same ground.
        sensor: Name of the sensor whose MTF blurs ("generic" for others), or one made by hand.
        ratio: Scale ratio r.
        maximum: Digital number of the value 1; default the sensor's, else the largest of the training part.
        val: Share of the axis for validation; 0 for none.
        test: Share of the axis for the test; 0 for none.
        guard: Pixels of `ms` between the parts, at least.
        axis: "rows" cuts from top (training) to bottom (test), "columns" from left to right.
        name: Of the scene.

    Returns:
        The pairs; `full` holds the test strip at its original resolution.

    Raises:
        SceneError: Images that do not fit each other or the sensor, or hold values that are not finite.
        SplitError: Parts that leave no room for training.
        ValueError: Shares outside [0, 1), an unknown sensor or axis, a ratio below 2.
    """
    check_ratio(ratio)
    found = get_sensor(sensor)
    coarse, sharp = (_image(what, image) for what, image in (("ms", ms), ("guide", guide)))
    if axis not in ("rows", "columns"):
        raise ValueError(f"axis is {axis!r}; it is 'rows' or 'columns'")
    if axis == "columns":
        coarse, sharp = coarse.transpose(1, 2), sharp.transpose(1, 2)
    coarse = coarse[:, : coarse.shape[1] // ratio * ratio, : coarse.shape[2] // ratio * ratio]
    check_grids(coarse[None], sharp[None, :, : _to(ratio, sharp, 1), : _to(ratio, sharp, 2)], ratio)
    spans = _spans(coarse.shape[1], val, test, guard, ratio)
    if maximum is None:
        maximum = found.maximum if found.maximum is not None else float(coarse[:, slice(*spans["train"])].max())
    if not maximum > 0:
        raise ValueError(f"maximum is {maximum}; it must be positive (2047 for 11 bits)")

    def part(which: str) -> tuple[Tensor, Tensor]:
        """Original MS and guide of a part, scaled, as (1, C, ., .)."""
        start, stop = spans[which]
        images = (coarse[None, :, start:stop], sharp[None, :, start * ratio : stop * ratio, : _to(ratio, sharp, 2)])
        low, high = (image.contiguous() if axis == "rows" else image.transpose(2, 3).contiguous() for image in images)
        return low / maximum, high / maximum

    def reduced(which: str) -> tuple[str, Tensor, Tensor]:
        low, high = part(which)
        return f"{name}, {which}", low[0], degrade_pan(high, ratio=ratio)[0]

    def judged(which: str) -> tuple[FusionPair, ...]:
        return (simulated_pair(*reduced(which), ratio=ratio, sensor=found),) if which in spans else ()

    full = []
    if "test" in spans:
        low, high = part("test")
        full.append(FusionPair(f"{name}, full resolution", low[0], high[0], upsample(low, ratio)[0], None))
    return FusionPairs(
        name=name,
        ratio=ratio,
        sensor=found,
        maximum=maximum,
        train=(training_image(*reduced("train"), ratio=ratio, sensor=found),),
        val=judged("val"),
        test=judged("test"),
        full=tuple(full),
        cut=21,
    )


def _image(what: str, values: npt.ArrayLike) -> Tensor:
    """Bring (y, x, band) or (y, x) to a float32 tensor (band, y, x)."""
    array = np.asarray(values, dtype=np.float32)
    array = array[..., None] if array.ndim == 2 else array
    if array.ndim != 3 or array.size == 0:
        raise SceneError(f"{what} has shape {array.shape}, expected (rows, columns, bands) or (rows, columns)")
    if bad := int((~np.isfinite(array)).sum()):
        raise SceneError(f"{bad} values of {what} are not finite, and filters would spread them: crop or fill them")
    return torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1)))


def _to(ratio: int, sharp: Tensor, axis: int) -> int:
    """Length of an axis of the guide that whole coarse pixels of the reduced images cover."""
    return sharp.shape[axis] // ratio**2 * ratio**2


def _spans(length: int, val: float, test: float, guard: int, ratio: int) -> dict[str, tuple[int, int]]:
    """Cut 0..length into train, val and test, multiples of the ratio, at least `guard` apart."""
    for key, share in (("val", val), ("test", test)):
        if not 0 <= share < 1:
            raise ValueError(f"{key} is {share}; it must be in [0, 1)")
    gap = -(-guard // ratio) * ratio
    spans, stop = {}, length
    for key, share in (("test", test), ("val", val)):
        size = round(share * length / ratio) * ratio
        if size:
            spans[key] = (stop - size, stop)
            stop -= size + gap
    if stop < ratio:
        raise SplitError(
            f"val={val}, test={test} and guard={guard} leave nothing of {length} rows to train on; make them smaller"
        )
    return {"train": (0, stop), **spans}
