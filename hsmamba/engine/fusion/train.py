"""Train a fusion network on pairs: the shared loop with the losses of the field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from hsmamba.data import Compose, SensorScale
from hsmamba.data.pairs import FusionPair, FusionPairs, crops
from hsmamba.data.transforms.step import Source
from hsmamba.engine.fusion.evaluate import check_pair, predict
from hsmamba.engine.fusion.inputs import check_pairs
from hsmamba.engine.fusion.rates import lr_scales, slow_down
from hsmamba.engine.parallel import Group
from hsmamba.engine.settings import TrainingSettings, make_settings
from hsmamba.engine.training import Keeping, Record, Run, Sums, TrainingResult
from hsmamba.errors import SceneError
from hsmamba.metrics import fusion as metrics
from hsmamba.metrics.report import Figures
from hsmamba.models import FusionNetwork, TrainingImages, registry

SSIM_SHARE = 0.1  # of the loss "l1+ssim", as in the release of LE-Mamba
ANGLE_SHARE = 0.01  # of the loss "l1+sam": dark pixels then pull as much as bright ones do by the first term
_CROP = 8  # coarse pixels
_SSIM_WINDOW, _SSIM_SIGMA = 11, 1.5


@dataclass(frozen=True)
class FusionSettings(TrainingSettings):
    """What decides the course of a fusion network's training run; further fields are those of `TrainingSettings`.

    An epoch is a stretch of `steps` steps with its own flips of the images, ended by validation and checkpoint; other
    defaults are 100 epochs, one of warm-up, 2 crops a step, a weight decay of 1e-6 and an average that decays by 0.95.
    They are chosen so that a minute of a CPU makes most networks better than interpolation.

    Attributes:
        steps: Steps an epoch.
        lr_bands: Bands for which `lr` is meant. Layers that see more, in a network of the zoo, learn slower in
            proportion to their inputs: at the full rate, hundreds of bands that rise and fall together soon drive the
            ReLUs behind them to zero (`hsmamba.engine.fusion.rates`).
        crop: Side of the crops in pixels of the guide's grid; None takes 8 coarse pixels, or as many as fit.
        gain_jitter: Each band and each channel of the guide of a crop is multiplied by exp(u), u at random between
            -gain_jitter and gain_jitter, so that the network does not rely on how bright they are; 0 for none.
        loss: "l1", "mse" (the mean squared error), "l1+ssim" (0.1 times 1 - SSIM more) or "l1+sam" (0.01 times the mean
            spectral angle more); a network that brings its own loss (MMAPP) takes that.
    """

    epochs: int = 100
    weight_decay: float = 1e-6
    batch_size: int = 2
    warmup_epochs: int = 1
    ema_decay: float | None = 0.95
    steps: int = 25
    lr_bands: int = 8
    crop: int | None = None
    gain_jitter: float = 0.0
    loss: Literal["l1", "mse", "l1+ssim", "l1+sam"] = "l1"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_at_least(steps=1, crop=1, lr_bands=1, gain_jitter=0)
        if self.loss not in ("l1", "mse", "l1+ssim", "l1+sam"):
            raise ValueError(f"loss is {self.loss!r}; it is 'l1', 'mse', 'l1+ssim' or 'l1+sam'")


def fusion_settings(model: FusionNetwork, given: Mapping[str, Any]) -> FusionSettings:
    """Make the settings to train a network with: those given, else what suits its architecture, else the defaults.

    Raises:
        TypeError: A setting that does not exist.
        ValueError: A setting out of range.
    """
    known = registry().get(model.architecture)
    return make_settings(FusionSettings, {**(known.cfg.train_settings if known else {}), **given})


@dataclass(frozen=True, repr=False)
class FusionResult(TrainingResult[FusionSettings]):
    """What a fusion network's training run gave; further fields are those of `TrainingResult`.

    The history has val_psnr (dB) and val_ergas where there are validation pairs; the best epoch is that of the highest
    PSNR, then of the lowest ERGAS.

    Attributes:
        validation: PSNR and ERGAS of the kept weights on the validation pairs; None where there are none.
    """

    validation: Figures | None


def train_fusion(
    model: FusionNetwork,
    pairs: FusionPairs,
    settings: FusionSettings,
    *,
    device: torch.device | str | None = None,
    keeping: Keeping,
) -> FusionResult:
    """Train a fusion network in place; `hsmamba.finetune` calls this and has the words.

    The model's `transform` becomes the scale of the pairs with the distribution of their numbers, so that `fuse` knows
    what is 1 to it and which images are of another unit.

    Raises:
        SceneError: The pairs do not fit the model or the bands of its weights, or there are none to train on.
        WeightsError: The checkpoint to resume is none of this run.
    """
    run = _FusionRun(model, pairs, settings, device)
    low, high = pairs.spectra()
    check_pairs(model, pairs, low / pairs.maxima[0], high / pairs.maxima[1])
    run.go(keeping)
    model.transform = _scale_of(pairs, low, high)
    validation = run.judge(model)[0] if run.validates else None
    return FusionResult(run.history, run.best["epoch"], settings, validation)


def _scale_of(pairs: FusionPairs, low: NDArray[np.float64], high: NDArray[np.float64]) -> Compose:
    """Return what brings images to the range of the pairs, with the distribution of their pixels (N, C) and (M, P)."""
    sources: tuple[Source, Source] = ("hsi", "aux")
    scale = Compose([SensorScale(1 / maximum, on=on) for on, maximum in zip(sources, pairs.maxima, strict=True)])
    for on, pixels, means in zip(sources, (low, high), pairs.means(), strict=True):
        scale.note_range(on, pixels, means)
    scale.wavelengths = None if pairs.wavelengths is None else np.array(pairs.wavelengths)
    return scale


class _FusionRun(Run[FusionNetwork]):
    """The training run of a fusion network."""

    settings: FusionSettings
    steady = True
    shown = ("loss", "val_psnr", "val_ergas")

    def __init__(
        self, model: FusionNetwork, pairs: FusionPairs, settings: FusionSettings, device: torch.device | str | None
    ) -> None:
        if not pairs.train:
            raise SceneError(f"the pairs {pairs.name!r} have no training images")
        super().__init__(model, settings, pairs.sha256, settings.steps, device)
        self.pairs, self.validates = pairs, bool(pairs.val)
        self.crop = settings.crop or default_crop(pairs)
        self.near = _near(pairs, self.device)
        self.plain = None if settings.augment else self.near.unturned()
        for pair in (self.plain or pairs.unturned())[:1] + list(pairs.val):
            check_pair(model, pair)

    def make_optimizer(self) -> torch.optim.Optimizer:
        """Let the layers that see more bands than `lr_bands` learn slower."""
        optimizer = super().make_optimizer()
        parameters = dict(self.model.named_parameters())
        scales = lr_scales(self.model, self.settings.lr_bands)
        slow_down(optimizer, {parameters[name]: scale for name, scale in scales.items()})
        return optimizer

    def batches(self, generator: torch.Generator) -> Iterator[FusionPair]:
        """Give crops of newly flipped images."""
        images = self.near.views(generator) if self.plain is None else self.plain
        for _ in range(self.steps):
            batch = crops(
                images,
                self.settings.batch_size,
                self.crop,
                self.pairs.ratio,
                generator,
                augment=self.settings.augment,
            )
            yield _brightened(batch, self.settings.gain_jitter, generator) if self.settings.gain_jitter else batch

    def loss(self, batch: FusionPair) -> tuple[Tensor, int, Sums]:
        """Mean absolute error (and SSIM) or mean squared error, or the network's own loss."""
        ms, guide, ms_up, gt = (torch.as_tensor(tensor).to(self.device) for tensor in batch[1:])
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.amp):
            output: Tensor | TrainingImages = self.model(ms, guide, ms_up)
        if not isinstance(output, Tensor):
            return output.loss(gt, ms_up), len(gt), {}
        error = F.mse_loss if self.settings.loss == "mse" else F.l1_loss
        loss = error(output.float(), gt)
        if self.settings.loss == "l1+ssim":
            loss = loss + SSIM_SHARE * (1 - gaussian_ssim(output.float(), gt))
        if self.settings.loss == "l1+sam":
            loss = loss + ANGLE_SHARE * spectral_angle(output.float(), gt)
        return loss, len(gt), {}

    def judge(self, model: FusionNetwork) -> tuple[Record, tuple[float, float]]:
        """PSNR, then ERGAS, on the validation pairs."""
        figures = validate(model, self.pairs, self.device, self.group)
        return figures, (figures["val_psnr"], -figures["val_ergas"])


def _near(pairs: FusionPairs, device: torch.device) -> FusionPairs:
    """Put the training images on a GPU that has room for them, so that it cuts its own crops."""
    if device.type != "cuda":
        return pairs
    views = 3 * sum(image.gt.nbytes + image.guide.nbytes for image in pairs.train)  # truth, blurred, up-sampled
    if views > torch.cuda.mem_get_info(device)[0] / 4:
        return pairs
    moved = [image._replace(**{k: getattr(image, k).to(device) for k in image._fields[1:]}) for image in pairs.train]
    return replace(pairs, train=tuple(moved))


def default_crop(pairs: FusionPairs) -> int:
    """Return 8 coarse pixels in pixels of the guide's grid, or as many as fit into every training image."""
    least = min(side for image in pairs.train for side in image.gt.shape[1:])
    return min(_CROP, least // pairs.ratio) * pairs.ratio


def _brightened(batch: FusionPair, jitter: float, generator: torch.Generator) -> FusionPair:
    """Multiply each band, and each channel of the guide, of every crop by a gain of its own."""
    low, high = (
        torch.exp(jitter * (2 * torch.rand(*image.shape[:2], 1, 1, generator=generator) - 1)).to(image)
        for image in (batch.ms, batch.guide)
    )
    gt = None if batch.gt is None else batch.gt * low
    return batch._replace(ms=batch.ms * low, guide=batch.guide * high, ms_up=batch.ms_up * low, gt=gt)


def validate(
    model: FusionNetwork, pairs: FusionPairs, device: torch.device | None = None, group: Group | None = None
) -> Figures:
    """Compute mean PSNR and ERGAS on the validation pairs, whole but for the rim where up-sampling wraps around.

    Of several processes each takes some of the pairs.
    """
    group = group or Group()
    psnr = ergas = 0.0
    for pair in pairs.val[group.rank :: group.size]:
        rim = min(2 * pairs.ratio, min(pair.guide.shape[-2:]) // 4)
        truth, fused = (
            image[None, :, rim:-rim, rim:-rim]
            for image in (
                torch.as_tensor(pair.gt),
                predict(model, pair, device, whole=True, gains=None, consistent=False),
            )
        )
        psnr += float(metrics.psnr(truth, fused, data_range=1.0)) / len(pairs.val)
        ergas += float(metrics.ergas(truth, fused, ratio=pairs.ratio)) / len(pairs.val)
    psnr, ergas = group.summed([psnr, ergas])
    return {"val_psnr": psnr, "val_ergas": ergas}


def spectral_angle(fused: Tensor, truth: Tensor) -> Tensor:
    """Mean angle in radians between the spectra of two images, of which those of length 0.001 and less count as one.

    The chord between the unit vectors stands for the angle: unlike the arc cosine it has a gradient at 0.

    Args:
        fused: (B, C, H, W).
        truth: The same shape.

    Returns:
        A scalar, differentiable.
    """
    chord = F.normalize(fused, dim=1, eps=1e-3) - F.normalize(truth, dim=1, eps=1e-3)
    return (chord.square().sum(1) + 1e-10).sqrt().mean()


def gaussian_ssim(fused: Tensor, truth: Tensor) -> Tensor:
    """Mean structural similarity of images in [0, 1], as in LE-Mamba's loss: Gaussian window 11, zeros beyond the rim.

    Args:
        fused: (B, C, H, W).
        truth: The same shape.

    Returns:
        A scalar, differentiable.
    """
    offsets = torch.arange(_SSIM_WINDOW, device=fused.device) - _SSIM_WINDOW // 2
    taps = torch.exp(-(offsets**2) / (2 * _SSIM_SIGMA**2))
    taps = (taps / taps.sum()).to(fused)
    planes = [fused, truth, fused * fused, truth * truth, fused * truth]
    x = torch.cat([plane.flatten(0, 1)[:, None] for plane in planes])  # (5 B C, 1, H, W)
    x = F.conv2d(x, taps.view(1, 1, -1, 1), padding=(_SSIM_WINDOW // 2, 0))
    x = F.conv2d(x, taps.view(1, 1, 1, -1), padding=(0, _SSIM_WINDOW // 2))
    a, b, aa, bb, ab = x.chunk(5)
    c1, c2 = 0.01**2, 0.03**2
    index = (2 * a * b + c1) * (2 * (ab - a * b) + c2) / ((a * a + b * b + c1) * (aa + bb - a * a - b * b + c2))
    return index.mean()
