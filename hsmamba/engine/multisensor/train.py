"""Train a network for any images on several images of several sensors at once, one band of one of them a sample.

What the network is shown of a band (`Bandwise.shown`) is computed once of each whole image, so that means and gains are
those that `fuse` finds, and cut and turned afterwards. Images of any ratio, unit and number of bands share a batch.
Further versions of parts of each image, at another ratio, with another MTF and with a guide that is partly a random
combination of its bands, show the network more sensors than there are images. The parts are small: of a small image
little is known, so that its shares are the usual ones, and its border is near.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hsmamba.baselines.regression import up_with_border
from hsmamba.data.pairs import FusionPair, FusionPairs, TrainingImage, simulated_pair
from hsmamba.data.sensors import Sensor
from hsmamba.engine.fusion.train import FusionResult, FusionSettings
from hsmamba.engine.training import Keeping, Record, Run, Sums
from hsmamba.errors import SceneError
from hsmamba.models.bandwise import Bandwise

CROP = 24  # pixels of the guide's grid, side of the crops by default
_RATIOS = (2, 3, 4)  # of further versions
_SIDES = (48, 64, 96, 128)  # of the guide's grid, of further versions
_MTF = (0.2, 0.4)  # at the Nyquist frequency, of further versions
_MIXED = 6  # bands that a guide of a further version is mixed of, about
_BANDS = 16  # of a version; of more, some at random
_SMALL = 1e-6


class Sample(NamedTuple):
    """Bands of one version of an image, all in units of how much each varies within a few pixels.

    Attributes:
        shown: What the network is shown, (N, 9, H, W).
        own: Shares of the methods that the image tells, (N, 6).
        pull: How much the usual shares count beside them, (N, 6, 6).
        missing: What the up-sampled band lacks of the truth, (N, H, W).
    """

    shown: Tensor
    own: Tensor
    pull: Tensor
    missing: Tensor


@dataclass(frozen=True)
class Several:
    """Samples of several data sets, to train on.

    Attributes:
        samples: By data set; of each the versions of its images.
        sha256: Fingerprints of the images by data set.
    """

    samples: dict[str, list[Sample]]
    sha256: dict[str, str]

    @classmethod
    def of(cls, pairs: dict[str, FusionPairs], versions: int, seed: int) -> Several:
        """Make the samples of the training images of pairs.

        Args:
            pairs: By data set.
            versions: Of each image: as it is, and further ones of parts of it.
            seed: Of these, for each data set the same whatever others there are.
        """
        found = {}
        for name, one in pairs.items():
            number = int(hashlib.sha256(f"{seed} {name}".encode()).hexdigest()[:8], 16)
            generator = torch.Generator().manual_seed(number)
            found[name] = [sample for image in one.train for sample in _versions(image, one, versions, generator)]
        return cls(found, {name: one.sha256 for name, one in pairs.items()})

    def without(self, name: str | None) -> Several:
        """Leave a data set out; None leaves all in."""
        kept = [other for other in self.samples if other != name]
        return Several({key: self.samples[key] for key in kept}, {key: self.sha256[key] for key in kept})

    @property
    def fingerprint(self) -> str:
        """Of all images together."""
        return hashlib.sha256(repr(sorted(self.sha256.items())).encode()).hexdigest()


def _versions(
    image: TrainingImage | object, pairs: FusionPairs, count: int, generator: torch.Generator
) -> Iterator[Sample]:
    """Give samples of an image as it is, and of further versions of parts of it."""
    if not isinstance(image, TrainingImage):
        raise SceneError(
            f"the coarse images of {pairs.name!r} were made by others, so that there are no further versions; "
            "train on pairs of wald_pairs"
        )
    yield _sample(_pair(image.gt, image.guide, pairs.ratio, pairs.sensor), pairs.ratio, generator)
    for _ in range(count - 1):
        ratio, side = (choices[_drawn(len(choices), generator)] for choices in (_RATIOS, _SIDES))
        top, left = (_drawn(max(1, length - side + 1), generator) for length in image.gt.shape[1:])
        gt, guide = (whole[:, top : top + side, left : left + side] for whole in (image.gt, image.guide))
        gain = float(torch.empty(1).uniform_(*_MTF, generator=generator))
        guide = _mixed(gt, guide, generator)
        yield _sample(_pair(gt, guide, ratio, Sensor("any", (gain,), 0.15)), ratio, generator)


def _drawn(count: int, generator: torch.Generator) -> int:
    """Draw one of 0 to count - 1."""
    return int(torch.randint(count, (1,), generator=generator))


def _pair(gt: Tensor, guide: Tensor, ratio: int, sensor: Sensor) -> FusionPair:
    """Simulate the coarse image of a truth and a guide on one grid, cut to whole coarse pixels."""
    rows, columns = (side // ratio * ratio for side in gt.shape[1:])
    cut = (slice(None), slice(rows), slice(columns))
    return simulated_pair("", gt[cut].contiguous(), guide[cut].contiguous(), ratio=ratio, sensor=sensor)


def _mixed(gt: Tensor, guide: Tensor, generator: torch.Generator) -> Tensor:
    """Mix the mean of a guide's channels (P, H, W) with a random combination of a few bands (C, H, W): (1, H, W)."""
    chosen = torch.rand(len(gt), generator=generator) < _MIXED / len(gt)
    weights = torch.rand(len(gt), generator=generator) ** 3 * chosen + _SMALL
    bands = (weights / weights.sum())[:, None, None].mul(gt).sum(0, keepdim=True)
    own = guide.mean(0, keepdim=True)
    share = float(torch.rand(1, generator=generator))
    mixed: Tensor = share * own * (bands.mean() / own.mean()) + (1 - share) * bands
    return mixed


@torch.no_grad()
def _sample(pair: FusionPair, ratio: int, generator: torch.Generator) -> Sample:
    """Compute what the network is shown of some bands of a pair, and what they lack of the truth."""
    ms, guide, gt = (torch.as_tensor(image)[None] for image in (pair.ms, pair.guide, pair.gt))
    network = Bandwise(ms.shape[1], guide.shape[1], ratio)
    sums, up = network.measured(ms, guide), up_with_border(ms, ratio)
    bands = torch.randperm(ms.shape[1], generator=generator)[:_BANDS].sort().values.tolist()
    parts = [network.shown_of(ms, guide, up, sums, band) for band in bands]
    shown = torch.cat(parts, dim=1)[0]
    spread = sums.moments.levels[1][0, bands].to(gt)[:, None, None]
    missing = (gt - up)[0, bands] / spread.clamp_min(_SMALL * float(gt.abs().max()))
    # The network is as good at any unit; this one makes bands and sensors weigh alike in the loss.
    fine = shown[:, network.FINE].std(dim=(1, 2)).clamp_min(_SMALL)[:, None, None]
    own, pull = (part[0, bands].to(gt) for part in sums.shares())
    return Sample(shown / fine[:, None], own, pull, missing / fine)


def train_several(
    model: Bandwise, several: Several, settings: FusionSettings, *, device: str | None = None, keeping: Keeping
) -> FusionResult:
    """Train a network for any images in place, to the last epoch.

    Args:
        model: The network.
        several: The samples. Each data set, each of its versions and each of their bands are drawn equally often.
        settings: `crop` is the side of the crops, None for 24 pixels; the loss is "l1", of bands in units of how much
            each varies within a few pixels. `gain_jitter` has no influence on a network that knows no unit.
        device: Where to train; default where the model is.
        keeping: Checkpoint, history, callback.

    Returns:
        The history and the settings; nothing is validated.
    """
    run = _SeveralRun(model, several, settings, device)
    run.go(keeping)
    return FusionResult(run.history, run.best["epoch"], settings, None)


class _SeveralRun(Run[Bandwise]):
    """The training run on several images."""

    settings: FusionSettings
    validates = False

    def __init__(self, model: Bandwise, several: Several, settings: FusionSettings, device: str | None) -> None:
        super().__init__(model, settings, several.fingerprint, settings.steps, device)
        self.sets = [versions for versions in several.samples.values() if versions]
        least = min(min(sample.missing.shape[1:]) for versions in self.sets for sample in versions)
        self.crop = min(settings.crop or CROP, least)

    def batches(self, generator: torch.Generator) -> Iterator[tuple[Tensor, ...]]:
        """Give crops of bands of all images, turned and flipped."""
        for _ in range(self.steps):
            crops = [self._crop(generator) for _ in range(self.settings.batch_size)]
            yield tuple(torch.stack(parts) for parts in zip(*crops, strict=True))

    def _crop(self, generator: torch.Generator) -> tuple[Tensor, ...]:
        drawn = partial(_drawn, generator=generator)
        versions = self.sets[drawn(len(self.sets))]
        sample = versions[drawn(len(versions))]
        band = drawn(len(sample.missing))
        top, left = (drawn(side - self.crop + 1) for side in sample.missing.shape[1:])
        part = (..., slice(top, top + self.crop), slice(left, left + self.crop))
        shown, missing = sample.shown[band][part], sample.missing[band][part]
        if self.settings.augment:
            turns, flip = drawn(4), drawn(2)
            shown, missing = (torch.rot90(image, turns, (-2, -1)) for image in (shown, missing))
            if flip:
                shown, missing = shown.flip(-1), missing.flip(-1)
        return shown, sample.own[band], sample.pull[band], missing

    def loss(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, int, Sums]:
        """Mean absolute error of what is added to the bands."""
        shown, own, pull, missing = (tensor.to(self.device) for tensor in batch)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.amp):
            mix = own + pull @ self.model.usual
            added = self.model.added(shown[:, None], mix[:, None])[:, 0]
        return F.l1_loss(added.float(), missing), len(missing), {}

    def judge(self, model: Bandwise) -> tuple[Record, tuple[float, float]]:
        """Judge nothing; the last epoch is kept."""
        return {}, (0.0, float(self.epoch))
