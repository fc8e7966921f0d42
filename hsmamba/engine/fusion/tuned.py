"""A network as a correction of fitted filters, and its training on what these leave over."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from hsmamba.data.pairs import FusionPair, FusionPairs, TrainingImage
from hsmamba.data.sensors import Sensor
from hsmamba.engine.fusion.injection import Injection
from hsmamba.engine.fusion.train import FusionSettings, train_fusion
from hsmamba.engine.training import Keeping, Record
from hsmamba.layers.fusion import Place
from hsmamba.models import FusionNetwork

BATCH = 2  # crops a step: on two cores, many small steps go further in a minute than a few large ones
CROP = 16  # coarse pixels, side of the crops
LR = 2e-3
_SPREAD, _LEVEL = 0.25, 0.5  # of what a network without weights is shown, whose numbers would be about 0 to 1
_SMALL = 1e-6


@dataclass(frozen=True)
class Levels:
    """What brings an image to the numbers that a network works on: value * gain + offset, a channel each."""

    gain: Tensor
    offset: Tensor

    @classmethod
    def of(cls, images: Sequence[Tensor]) -> Levels:
        """Standardise images (C, H, W) for a network that has learnt nothing yet."""
        pixels = torch.cat([image.flatten(1) for image in images], dim=1).double()
        mean, spread = pixels.mean(dim=1), pixels.std(dim=1)
        gain = _SPREAD / torch.where(spread > _SMALL * mean.abs(), spread, torch.inf)
        return cls(gain.float(), (_LEVEL - mean * gain).float())

    @classmethod
    def kept(cls, channels: int) -> Levels:
        """Leave the numbers as they are, for a network whose weights were trained on such."""
        return cls(torch.ones(channels), torch.zeros(channels))


class Correction(FusionNetwork):
    """What a network adds to the up-sampled image, as a correction of another result.

    Args:
        network: Any fusion network; it runs in evaluation mode, in training too.
        ms: What brings coarse images to its numbers.
        guide: The same of the guide.

    Attributes:
        kept: (C,), how much of the up-sampled band the network gives back: 1 where it adds to it, as most do.
        slope: (C,), of each band, learnt.

    Shape:
        guide: (B, 3 G, r h, r w), of which the network sees the first third. Output: (B, C, r h, r w).
    """

    def __init__(self, network: FusionNetwork, ms: Levels, guide: Levels) -> None:
        super().__init__(network.in_chans, 3 * network.guide_chans, network.scale)
        self.network, self.margin, self.window = network, network.margin, network.window
        for name, values in (
            ("ms_gain", ms.gain),
            ("ms_offset", ms.offset),
            ("gain", guide.gain),
            ("offset", guide.offset),
        ):
            self.register_buffer(name, values[:, None, None].clone())
        self.register_buffer("kept", torch.zeros(network.in_chans, 1, 1))
        self.slope = nn.Parameter(torch.ones(network.in_chans))

    def train(self, mode: bool = True) -> Correction:
        """Keep the network in evaluation mode: its losses and its dropout are not for corrections."""
        super().train(mode)
        self.network.eval()
        return self

    def set_place(self, place: Place | None) -> None:
        """Tell the network."""
        self.network.set_place(place)

    def shown(self, image: Tensor) -> Tensor:
        """Bring a coarse image, or one up-sampled, to the network's numbers."""
        numbers: Tensor = image * self.get_buffer("ms_gain") + self.get_buffer("ms_offset")
        return numbers

    def keep(self, given: Sequence[Tensor], returned: Sequence[Tensor]) -> None:
        """Find how much of up-sampled images (C, H, W), as they are shown, is in what the network makes of them."""
        self.get_buffer("kept").copy_(_slopes(given, returned)[:, None, None])

    def sharpen(self, ms: Tensor | None, guide: Tensor, ms_up: Tensor) -> Tensor:
        """See `FusionNetwork.forward`."""
        up, low = self.shown(ms_up), None if ms is None else self.shown(ms)
        pan = guide.chunk(3, dim=1)[0] * self.get_buffer("gain") + self.get_buffer("offset")
        detail = self.network(low, pan, up) - self.get_buffer("kept") * up
        corrected: Tensor = self.slope[:, None, None] * detail
        return corrected


class Tuned(FusionNetwork):
    """Fitted filters and a share of a correction.

    Args:
        base: The filters.
        correction: Trained on what they leave over; None for the filters alone.
        strength: (C,), what a correction of 1 is in each band.
        share: Of the correction.
    """

    def __init__(self, base: Injection, correction: Correction | None, strength: Tensor, share: float) -> None:
        super().__init__(base.in_chans, base.guide_chans, base.scale)
        self.base, self.correction, self.share = base, correction, share
        self.register_buffer("strength", strength[:, None, None].clone())
        self.margin = base.margin
        if correction is not None:
            self.window, margins = correction.window, (base.margin, correction.margin)
            self.margin = None if margins[0] is None or margins[1] is None else max(margins[0], margins[1])

    def set_place(self, place: Place | None) -> None:
        """Tell the network of the correction."""
        if self.correction is not None:
            self.correction.set_place(place)

    def sharpen(self, ms: Tensor | None, guide: Tensor, ms_up: Tensor) -> Tensor:
        """See `FusionNetwork.forward`."""
        sharp: Tensor = self.base(ms, guide, ms_up)
        if self.correction is None:
            return sharp
        strength: Tensor = self.get_buffer("strength")
        corrected: Tensor = sharp + self.share * strength * self.correction(ms, guide, ms_up)
        return corrected


@dataclass(frozen=True)
class Tuning:
    """A correction and how far its training came.

    Attributes:
        correction: Trained.
        strength: (C,), see `Tuned`.
        steps: Steps of training.
    """

    correction: Correction
    strength: Tensor
    steps: int


def tune(
    network: FusionNetwork,
    base: Injection,
    pairs: Sequence[FusionPair],
    *,
    sensor: Sensor,
    steps: int | None,
    end: float | None,
    seed: int,
    device: torch.device,
) -> Tuning:
    """Train a copy of a network on what the filters leave over.

    Args:
        network: Left as it is.
        base: The filters.
        pairs: To train on, of the reduced scale.
        sensor: Their sensor.
        steps: How many; None for as many as there is time for.
        end: When to stop, by `time.monotonic`; None where the steps say it.
        seed: Of the places of the crops.
        device: Where to train.

    Raises:
        TrainingError: The training diverged.
    """
    left = [torch.as_tensor(pair.gt) - run(base, pair) for pair in pairs]
    strength = torch.cat([image.flatten(1) for image in left], dim=1).std(dim=1)
    strength = strength.clamp_min(torch.finfo(strength.dtype).tiny)
    correction = _correction(network, pairs, [image / strength[:, None, None] for image in left])
    images = tuple(
        TrainingImage(pair.name, image / strength[:, None, None], _repeated(pair), pair.guide)
        for pair, image in zip(pairs, left, strict=True)
    )
    data = FusionPairs(name="pair", ratio=base.scale, sensor=sensor, maximum=1.0, train=images)
    crop = min(CROP * base.scale, *(side for pair in pairs for side in pair.guide.shape[-2:]))
    first = FusionSettings(
        epochs=1, steps=1, batch_size=BATCH, crop=crop // base.scale * base.scale, lr=LR, warmup_epochs=0,
        ema_decay=None, augment=False, seed=seed,
    )  # fmt: skip
    count = steps if end is None else _affordable(correction, data, first, end, device)
    if count:
        settings = replace(first, epochs=count, warmup_epochs=count // 20)
        count = len(train_fusion(correction, data, settings, device=device, keeping=_until(end)).history)
    return Tuning(correction.cpu().eval(), strength, count or 0)


def run(network: FusionNetwork, pair: FusionPair) -> Tensor:
    """Sharpen a pair as a whole, (C, H, W) on the CPU; the network is in evaluation mode and on the CPU."""
    with torch.inference_mode():
        like = next(network.parameters())
        images = (image[None].to(like.dtype) for image in (pair.ms, pair.guide, pair.ms_up))
        fused: Tensor = network(*images)[0]
    return fused.to(pair.ms.dtype).clone()


def _correction(network: FusionNetwork, pairs: Sequence[FusionPair], left: Sequence[Tensor]) -> Correction:
    """Take a copy of a network as a correction that begins small.

    One with weights sees the numbers that it was trained on, and its detail is fitted to what is left over. One without
    sees standardised images.
    """
    inner = copy.deepcopy(network).requires_grad_(True).float()
    channels = network.guide_chans
    if _is_new(network):
        levels = Levels.of([pair.ms for pair in pairs]), Levels.of([pair.guide[:channels] for pair in pairs])
    else:
        levels = Levels.kept(network.in_chans), Levels.kept(channels)
    correction = Correction(inner, *levels).eval()
    crops = [_middle(pair._replace(gt=wanted)) for pair, wanted in zip(pairs, left, strict=True)]
    with torch.no_grad():
        correction.keep([correction.shown(pair.ms_up) for pair in crops], [run(correction, pair) for pair in crops])
        if _is_new(network):
            correction.slope.fill_(1 / _SPREAD)
        else:
            found = [run(correction, pair) for pair in crops]
            correction.slope.copy_(_slopes(found, [torch.as_tensor(pair.gt) for pair in crops]))
    return correction


def _is_new(network: FusionNetwork) -> bool:
    """Whether a network has no weights from any training."""
    return network.record is None and network.transform is None


def _slopes(features: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    """Least squares of each band of images (C, H, W) on that of others, a factor a band (C,)."""
    x, y = (torch.cat([image.flatten(1) for image in images], dim=1).double() for images in (features, targets))
    power = x.square().sum(dim=1)
    return torch.where(power > 0, (x * y).sum(dim=1) / power.clamp_min(1e-30), 0.0)


def _middle(pair: FusionPair) -> FusionPair:
    """Cut a crop out of the middle of a pair."""
    sides = [min(CROP, side) for side in pair.ms.shape[-2:]]
    first = [(side - part) // 2 for side, part in zip(pair.ms.shape[-2:], sides, strict=True)]
    ratio = pair.guide.shape[-1] // pair.ms.shape[-1]

    def cut(image: Tensor, step: int) -> Tensor:
        rows, columns = (slice(a * step, (a + n) * step) for a, n in zip(first, sides, strict=True))
        return image[:, rows, columns]

    truth = torch.as_tensor(pair.gt)
    return FusionPair(pair.name, cut(pair.ms, 1), *(cut(x, ratio) for x in (pair.guide, pair.ms_up, truth)))


def _repeated(pair: FusionPair) -> Tensor:
    """Make an image whose decimation is the pair's coarse image."""
    ratio = pair.guide.shape[-1] // pair.ms.shape[-1]
    return pair.ms.repeat_interleave(ratio, -1).repeat_interleave(ratio, -2)


def _affordable(
    correction: Correction, data: FusionPairs, settings: FusionSettings, end: float, device: torch.device
) -> int:
    """Tell how many steps there is time for, by the second of two."""
    trial = copy.deepcopy(correction)
    result = train_fusion(trial, data, replace(settings, epochs=2), device=device, keeping=_until(end))
    left = end - time.monotonic()
    return max(0, int(left / result.history[-1]["seconds"])) if left > 0 else 0


def _until(end: float | None) -> Keeping:
    def passed(record: Record, model: nn.Module) -> bool:
        return end is not None and time.monotonic() >= end

    return Keeping(callback=passed, progress=False)
