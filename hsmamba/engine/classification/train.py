"""Fine-tune a classifier on the labelled pixels of a scene, or a fusion network on pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from hsmamba.data import PCA, Compose, PatchDataset, Scene, Split, Standardise, Step, augment_d4, erase_rim
from hsmamba.data.pairs import FusionPairs
from hsmamba.engine.classification.evaluate import check_classes, labels_of
from hsmamba.engine.classification.job import check_fits
from hsmamba.engine.classification.predict import predict_items, sizes_of
from hsmamba.engine.fusion.train import FusionResult, FusionSettings, train_fusion
from hsmamba.engine.training import Record, Run, TrainingSettings, check_log, make_settings
from hsmamba.errors import SplitError
from hsmamba.metrics import ClassificationReport


@dataclass(frozen=True)
class FinetuneSettings(TrainingSettings):
    """What decides the course of a classifier's training run.

    Attributes:
        epochs: Passes over the training pixels.
        lr: Peak learning rate of AdamW.
        weight_decay: Of AdamW; biases, norms and the model's `no_weight_decay()` are left alone.
        batch_size: Patches a step.
        warmup_epochs: Epochs of linear warm-up before the cosine.
        augment: Random flips and quarter turns, jointly for all sources.
        ema_decay: Decay of an exponential moving average of the weights, which is then validated and kept.
        amp: Autocast to bfloat16.
        clip_grad: Largest gradient norm; None for no limit.
        patience: Stop after so many epochs without a better validation score; None never stops.
        seed: Of order, augmentation and the choice of validation pixels.
        label_smoothing: Of the cross-entropy.
        class_weights: "balanced" (inverse frequency among the training pixels), K numbers, or None.
        mixup: Alpha of mixup; 0 for none.
        jitter: Standard deviation of an offset added to the transformed bands, one draw for each channel of each patch;
            0 for none.
        erase: Probability that the outer rings of a patch are set to 0 (`hsmamba.data.erase_rim`); 0 for none.
        val_fraction: Share of each class's training pixels set aside for validation where the split has none.
    """

    label_smoothing: float = 0.1
    class_weights: Literal["balanced"] | Sequence[float] | None = None
    mixup: float = 0.0
    jitter: float = 0.0
    erase: float = 0.0
    val_fraction: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_at_least(mixup=0, jitter=0, erase=0, label_smoothing=0, val_fraction=0)
        self.check_below_one("label_smoothing", "val_fraction")


@dataclass(frozen=True)
class FinetuneResult:
    """What a training run gave; the model itself holds the best weights.

    Attributes:
        history: One record an epoch: epoch, lr, loss, train_oa, seconds and, where there are validation pixels,
            val_loss, val_oa, val_aa, val_kappa.
        best_epoch: Epoch (from 1) of the weights that the model holds: the best on the validation pixels (OA, then
            loss), or the last one where there are none.
        validation: Metrics of those weights on the validation pixels; None where there are none.
        split: The split that was used, validation pixels included.
        settings: The settings of the run.
    """

    history: list[Record]
    best_epoch: int
    validation: ClassificationReport | None
    split: Split
    settings: FinetuneSettings = field(repr=False)

    @property
    def seconds(self) -> float:
        """Wall time of all epochs, earlier parts of a resumed run included."""
        return sum(record["seconds"] for record in self.history)


@overload
def finetune(
    model: nn.Module,
    data: Scene | Sequence[Scene] | PatchDataset,
    split: Split,
    *,
    transform: Compose | None = None,
    device: torch.device | str | None = None,
    checkpoint: str | Path | None = None,
    resume: str | Path | None = None,
    log: str | Path | None = None,
    callback: Callable[[Record, nn.Module], bool | None] | None = None,
    progress: bool = True,
    **settings: Any,
) -> FinetuneResult: ...


@overload
def finetune(
    model: nn.Module,
    data: FusionPairs,
    *,
    device: torch.device | str | None = None,
    checkpoint: str | Path | None = None,
    resume: str | Path | None = None,
    log: str | Path | None = None,
    callback: Callable[[Record, nn.Module], bool | None] | None = None,
    progress: bool = True,
    **settings: Any,
) -> FusionResult: ...


def finetune(
    model: nn.Module,
    data: Scene | Sequence[Scene] | PatchDataset | FusionPairs,
    split: Split | None = None,
    *,
    transform: Compose | None = None,
    device: torch.device | str | None = None,
    checkpoint: str | Path | None = None,
    resume: str | Path | None = None,
    log: str | Path | None = None,
    callback: Callable[[Record, nn.Module], bool | None] | None = None,
    progress: bool = True,
    **settings: Any,
) -> FinetuneResult | FusionResult:
    """Train a model in place; it ends in evaluation mode with the best weights (and a classifier its transform).

    AdamW and a cosine schedule with linear warm-up, stepped at every batch. All randomness of an epoch comes from the
    seed and the epoch's number, so a resumed run continues bit for bit; the caller's random state is left alone.

    Args:
        model: A network of `hsmamba.create_model`.
        data: For a classifier a labelled scene, several of one kind (plots) or a dataset of patches; for a fusion
            network pairs (`hsmamba.data.wald_pairs`).
        split: Pixels of the scene, or items of the scenes or the dataset; pairs bring their own.
        transform: Fitted preprocessing of a scene; default the model's own, else `default_transform`.
        device: Where to train; default where the model is. The model stays there.
        checkpoint: File that holds the whole state after every epoch, written whole or not at all.
        resume: A checkpoint to continue from; settings and data must be those of the interrupted run.
        log: `.csv` or `.jsonl` file of the history, kept up to date.
        callback: Called after each epoch with its record and the model; returning True ends the training.
        progress: Show a progress bar.
        **settings: Fields of `FinetuneSettings` (epochs, lr, batch_size, mixup, ema_decay, seed, ...), or of
            `FusionSettings` (epochs, steps, crop, loss, ...) for pairs.

    Returns:
        History, best epoch, validation metrics.

    Raises:
        SceneError: The scene has no labels, or the data do not fit the model.
        SplitError: The split belongs to another scene or has no training pixels.
        TypeError: A setting that does not exist, or no split for a scene.
        ValueError: A setting out of range.
        WeightsError: `resume` is no checkpoint of this run.
    """
    options: dict[str, Any] = {
        "checkpoint": None if checkpoint is None else Path(checkpoint),
        "resume": None if resume is None else Path(resume),
        "log": check_log(log),
        "callback": callback,
        "progress": progress,
    }
    where = torch.device(device) if device else next(model.parameters()).device
    if isinstance(data, FusionPairs):
        if split is not None or transform is not None:
            raise TypeError("pairs bring their own split and scale; leave split and transform out")
        return train_fusion(model, data, where, make_settings(FusionSettings, settings), options)
    if split is None:
        raise TypeError("finetune needs the split of the scene; make one with hsmamba.data.random_split or block_split")
    chosen = make_settings(FinetuneSettings, settings)
    dataset, split = _prepare(model, data, split, transform, chosen)
    run = _Run(model, dataset, split, chosen, where)
    run.go(shown=("loss", "val_oa"), **options)
    return FinetuneResult(run.history, run.best["epoch"], run.validate(model), split, chosen)


def default_transform(data: Scene | Sequence[Scene], split: Split, in_chans: int) -> Compose:
    """Fit the usual preprocessing on the training pixels.

    Args:
        data: The scene, or scenes of one kind.
        split: Its split; only the training pixels are looked at.
        in_chans: Bands that the model takes.

    Returns:
        Standardisation of each band, auxiliary ones too, and, where the scene has more bands than `in_chans`, PCA and
        standardisation of the components.
    """
    first = data if isinstance(data, Scene) else data[0]
    steps: list[Step] = [Standardise()]
    if first.num_bands != in_chans:
        steps += [PCA(in_chans), Standardise()]
    if first.aux is not None:
        steps.append(Standardise(on="aux"))
    return Compose(steps).fit_scene(data, split.train)


def _prepare(
    model: nn.Module,
    data: Scene | Sequence[Scene] | PatchDataset,
    split: Split,
    transform: Compose | None,
    settings: FinetuneSettings,
) -> tuple[PatchDataset, Split]:
    """Check the data, set validation pixels aside, fit the transform, cut patches."""
    sizes = sizes_of(model)
    labels = data.labels if isinstance(data, PatchDataset) else labels_of(data, split).ravel()
    if split.train.size == 0:
        raise SplitError(f"the split {split.id!r} has no training pixels")
    if split.val.size == 0 and settings.val_fraction > 0:
        split = split.with_validation(labels, fraction=settings.val_fraction, seed=settings.seed)
    if isinstance(data, PatchDataset):
        num_classes = len(data.class_names) or int(labels.max())
    else:
        scenes = [data] if isinstance(data, Scene) else list(data)
        if not sizes.aux_chans:
            scenes = [replace(scene, aux=None) for scene in scenes]
        transform = transform if transform is not None else getattr(model, "transform", None)
        if transform is None:
            transform = default_transform(scenes, split, sizes.in_chans)
        for scene in scenes:
            check_fits(model, scene, transform)
        carrier: Any = model
        carrier.transform, carrier.class_names = transform, scenes[0].class_names
        num_classes = len(scenes[0].class_names) or int(labels.max())
        data = PatchDataset(scenes, transform, sizes.patch_size)
    check_classes(sizes.num_classes, num_classes)
    return data, split


class _Run(Run):
    """The training run of a classifier."""

    settings: FinetuneSettings

    def __init__(
        self, model: nn.Module, dataset: PatchDataset, split: Split, settings: FinetuneSettings, device: torch.device
    ) -> None:
        super().__init__(model, settings, split.sha256, -(-split.train.size // settings.batch_size), device)
        self.dataset, self.split, self.validates = dataset, split, split.val.size > 0
        self.num_classes = sizes_of(model).num_classes
        self.weight = self._class_weights()

    def _class_weights(self) -> Tensor | None:
        weights, num_classes = self.settings.class_weights, self.num_classes
        if weights is None:
            return None
        if weights == "balanced":
            counts = np.bincount(self.dataset.labels[self.split.train], minlength=num_classes + 1)[1:]
            weights = list(counts.sum() / (num_classes * np.maximum(counts, 1)))
        if isinstance(weights, str) or len(weights) != num_classes:
            raise ValueError(f"class_weights is {weights!r}; it is 'balanced', None or {num_classes} numbers")
        return torch.tensor(weights, dtype=torch.float32, device=self.device)

    def batches(self, generator: torch.Generator) -> Iterator[tuple[list[Tensor], Tensor]]:
        """Give all training patches once, in random order."""
        size = self.settings.batch_size
        order = self.split.train[torch.randperm(self.split.train.size, generator=generator).numpy()]
        for start in range(0, order.size, size):
            yield self._batch(order[start : start + size], generator)

    def loss(self, batch: tuple[list[Tensor], Tensor]) -> tuple[Tensor, int, Record]:
        """Cross-entropy, or the network's own loss."""
        inputs, target = batch
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.amp):
            output = self.model(*inputs)
        options: dict[str, Any] = {"weight": self.weight, "label_smoothing": self.settings.label_smoothing}
        if isinstance(output, Tensor):
            logits, loss = output, F.cross_entropy(output.float(), target, **options)
        else:  # a network with outputs for training alone, which bring their loss
            logits, loss = output.logits, output.loss(target, **options)
        right = float((logits.argmax(1) == target.argmax(1)).sum())
        return loss, len(target), {"train_oa": right}

    def judge(self, model: nn.Module) -> tuple[Record, tuple[float, float]]:
        """Overall accuracy, then loss."""
        report, loss = self._validation(model)
        figures = {"val_loss": loss, "val_oa": report.oa, "val_aa": report.aa, "val_kappa": report.kappa}
        return figures, (report.oa, -loss)

    def _batch(self, items: NDArray[np.int64], generator: torch.Generator) -> tuple[list[Tensor], Tensor]:
        """Cut and augment patches; the target is (N, K) probabilities, mixed where the patches are."""
        hsi, aux, labels = self.dataset.batch(items)
        sources = [hsi] if aux is None else [hsi, aux]
        target = F.one_hot(labels, self.num_classes).float()
        if self.settings.augment:
            sources = list(augment_d4(*sources, generator=generator))
        if self.settings.jitter:
            sources = [x + self.settings.jitter * torch.randn(*x.shape[:2], 1, 1, generator=generator) for x in sources]
        if self.settings.erase:
            sources = list(erase_rim(*sources, probability=self.settings.erase, generator=generator))
        if self.settings.mixup:
            # A Beta draw as a ratio of Gamma draws would use the global state: numpy's generator is seeded from ours.
            draw = np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator)))
            share = float(draw.beta(self.settings.mixup, self.settings.mixup))
            other = torch.randperm(len(items), generator=generator)
            sources = [share * x + (1 - share) * x[other] for x in sources]
            target = share * target + (1 - share) * target[other]
        return [x.to(self.device) for x in sources], target.to(self.device)

    def _validation(self, model: nn.Module) -> tuple[ClassificationReport, float]:
        scores = predict_items(model, self.dataset, self.split.val, device=self.device)
        truth = self.dataset.labels[self.split.val]
        loss = F.nll_loss(scores.clamp_min(1e-12).log(), torch.as_tensor(truth).long() - 1)
        names = self.dataset.class_names or tuple(f"class {k}" for k in range(1, self.num_classes + 1))
        return ClassificationReport.from_labels(truth, scores.argmax(1).numpy() + 1, names), float(loss)

    def validate(self, model: nn.Module) -> ClassificationReport | None:
        """Compute the metrics of a model on the validation pixels, None where there are none."""
        return self._validation(model)[0] if self.split.val.size else None
