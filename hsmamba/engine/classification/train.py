"""Train a classifier on the labelled pixels of scenes: the shared loop with cross-entropy and its regularisers."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from hsmamba.data import Compose, PatchDataset, Scene, Split, augment_d4, erase_rim
from hsmamba.data.image import NanPolicy
from hsmamba.data.splits.pixels import draw
from hsmamba.engine.classification.classes import (
    class_names,
    dataset_in_model_classes,
    scenes_in_model_classes,
    tell_of_untrained,
)
from hsmamba.engine.classification.evaluate import labels_of
from hsmamba.engine.classification.fitting import with_transform
from hsmamba.engine.classification.inputs import Scale, check_fits, check_units, sources_of, used_sources
from hsmamba.engine.classification.predict import default_batch_size, predict_items
from hsmamba.engine.parallel import Group
from hsmamba.engine.training import Keeping, Record, Run, TrainingResult, TrainingSettings, finish, make_settings
from hsmamba.errors import HsmambaWarning, SplitError
from hsmamba.metrics import ClassificationReport
from hsmamba.models import Classifier, TrainingLogits, numbers_of

_MOST_UNLABELLED = 2**15  # pixels


@dataclass(frozen=True)
class ClassificationSettings(TrainingSettings):
    """What decides the course of a classifier's training run; further fields are those of `TrainingSettings`.

    Attributes:
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
        self.check_at_least(mixup=0, jitter=0, erase=0)
        self.check_below_one("label_smoothing", "val_fraction")
        weights = self.class_weights
        if not (weights is None or weights == "balanced" or _usable(weights)):
            raise ValueError(
                f"class_weights is {weights!r}; it is 'balanced', None or a finite number for each class, none below 0 "
                "and one above"
            )


def _usable(weights: Any) -> bool:
    """Whether weights are numbers that a loss can be made of."""
    numbers = isinstance(weights, tuple) and all(type(w) in (int, float) and 0 <= w < float("inf") for w in weights)
    return numbers and sum(weights) > 0


def fits_in_one_step(model: Classifier) -> bool:
    """Whether a model is fitted in one step by its own `fit`, and not trained over epochs."""
    return callable(getattr(model, "fit", None))


def settings_for(model: Classifier, given: Mapping[str, Any], **of_the_run: Any) -> ClassificationSettings:
    """Make the settings to train a model with.

    Args:
        model: The model.
        given: What the caller sets; nothing of a model that is fitted in one step.
        of_the_run: What whoever runs it sets beside; left out where it has no use.

    Raises:
        TypeError: A setting that does not exist, or any for a model that is fitted in one step.
        ValueError: A setting out of range.
    """
    if not fits_in_one_step(model):
        return make_settings(ClassificationSettings, {**given, **of_the_run})
    if given:
        raise TypeError(
            f"{model.architecture or type(model).__name__} is fitted in one step, without settings of a training run; "
            f"leave {', '.join(f'{name}=' for name in given)} out"
        )
    return ClassificationSettings(epochs=1, val_fraction=0.0)


@dataclass(frozen=True, repr=False)
class ClassificationResult(TrainingResult[ClassificationSettings]):
    """What a classifier's training run gave; further fields are those of `TrainingResult`.

    The history has train_oa and, where there are validation pixels, val_loss, val_oa, val_aa and val_kappa; the best
    epoch is that of the highest OA, then of the lowest loss. A model that is fitted in one step has a history of one
    epoch, without loss and rate.

    Attributes:
        validation: Metrics of the kept weights on the validation pixels; None where there are none.
        split: The split that was used, validation pixels included.
    """

    validation: ClassificationReport | None
    split: Split


def train_classifier(
    model: Classifier,
    data: Scene | Sequence[Scene] | PatchDataset,
    split: Split,
    settings: ClassificationSettings,
    *,
    transform: Compose | None = None,
    nan: NanPolicy = "raise",
    scale: Scale | None = None,
    device: torch.device | str | None = None,
    keeping: Keeping,
) -> ClassificationResult:
    """Train a classifier in place, or fit it; `hsmamba.finetune` calls this and has the words.

    The model keeps the transform and the names of the classes. One that is fitted in one step keeps no checkpoint.

    Raises:
        SceneError: The scene has no labels, or the data do not fit the model.
        SplitError: The split belongs to another scene or has no training pixels.
        WeightsError: The checkpoint to resume is none of this run.
    """
    dataset, split = _prepare(model, data, split, transform, settings, nan, scale)
    if fits_in_one_step(model):
        return _fit(model, dataset, split, settings, device)
    run = _ClassificationRun(model, dataset, split, settings, device)
    run.go(keeping)
    validation = validate(model, dataset, split, group=run.group)[0] if run.validates else None
    return ClassificationResult(run.history, run.best["epoch"], settings, validation, split)


def _fit(
    model: Classifier,
    dataset: PatchDataset,
    split: Split,
    settings: ClassificationSettings,
    device: torch.device | str | None,
) -> ClassificationResult:
    """Fit a model to the training pixels by its own method."""
    start = time.perf_counter()
    model.to(device)
    where, size = numbers_of(model).device, default_batch_size(torch.device("cpu"))

    def batches() -> Iterator[tuple[Tensor, Tensor | None, Tensor]]:
        for first in range(0, split.train.size, size):
            hsi, aux, target = dataset.batch(split.train[first : first + size])
            yield hsi.to(where), None if aux is None else aux.to(where), target

    def unlabelled() -> Iterator[tuple[Tensor, Tensor | None]]:
        items = np.sort(draw(np.flatnonzero(dataset.usable), _MOST_UNLABELLED, np.random.default_rng(0)))
        for first in range(0, items.size, size):
            hsi, aux, _ = dataset.batch(items[first : first + size])
            yield hsi.to(where), None if aux is None else aux.to(where)

    # Of one scene these are the pixels to classify; those of others carried less over to further scenes.
    beside = {"unlabelled": unlabelled()} if model.learns_unlabelled and not dataset.groups.any() else {}
    cast(Any, model).fit(batches(), **beside)
    finish(model)
    record: Record = {"epoch": 1}
    validation = None
    if split.val.size:
        validation, loss = validate(model, dataset, split)
        record |= _figures(validation, loss)
    record["seconds"] = time.perf_counter() - start
    return ClassificationResult([record], 1, settings, validation, split)


def _prepare(
    model: Classifier,
    data: Scene | Sequence[Scene] | PatchDataset,
    split: Split,
    transform: Compose | None,
    settings: ClassificationSettings,
    nan: NanPolicy,
    scale: Scale | None,
) -> tuple[PatchDataset, Split]:
    """Check the data, set validation pixels aside, fit the transform, cut patches."""
    if isinstance(data, PatchDataset):
        data = dataset_in_model_classes(model, data)
        labels, names = data.labels, data.class_names
    else:
        labels_of(data, split)  # of the scenes as they are, for the check
        scenes, names = scenes_in_model_classes(model, [data] if isinstance(data, Scene) else data)
        labels = np.concatenate([np.asarray(scene.labels).ravel() for scene in scenes])
        split.check(labels.reshape(split.shape))
    if split.train.size == 0:
        raise SplitError(f"the split {split.id!r} has no training pixels")
    if split.val.size == 0 and settings.val_fraction > 0:
        split = split.with_validation(labels, fraction=settings.val_fraction, seed=settings.seed)
    if not isinstance(data, PatchDataset):
        scenes = used_sources(model, scenes)
        scenes, transform = with_transform(model, scenes, split, transform, nan=nan, scale=scale)
        for scene in scenes:
            check_fits(model, scene, transform)
            check_units(transform, sources_of(model, scene), given=scale is not None)
        data = PatchDataset(scenes, transform, model.patch_size, nan=nan)
        split = _on_valid(split, data.labels)
    tell_of_untrained(model, labels[split.train], names)
    if data.transform is not model.transform and model.record is not None:
        model.record = {**model.record, "wavelengths": None, "bands": None}  # those of another transform
    model.transform, model.class_names = data.transform, names
    return data, split


def _on_valid(split: Split, labels: NDArray[np.int64]) -> Split:
    """Leave out of a split what is masked, which has no label any more, and say so."""
    parts = {part: getattr(split, part) for part in ("train", "val", "test")}
    kept = {part: items[labels[items] > 0] for part, items in parts.items()}
    if not (lost := {part: n for part, items in parts.items() if (n := items.size - kept[part].size)}):
        return split
    if not kept["train"].size:
        raise SplitError(f"none of the {split.train.size} training pixels of the split {split.id!r} is valid")
    listed = ", ".join(f"{n} of {part}" for part, n in lost.items())
    warnings.warn(f"left out pixels of the split that are invalid: {listed}", HsmambaWarning, stacklevel=5)
    return replace(split, **kept, id=f"{split.id}-valid")


class _ClassificationRun(Run[Classifier]):
    """The training run of a classifier."""

    settings: ClassificationSettings
    least = 2  # norms of networks that end in one value a sample have no variance of one
    shown = ("loss", "val_oa")

    def __init__(
        self,
        model: Classifier,
        dataset: PatchDataset,
        split: Split,
        settings: ClassificationSettings,
        device: torch.device | str | None,
    ) -> None:
        super().__init__(model, settings, split.sha256, -(-split.train.size // settings.batch_size), device)
        self.dataset, self.split, self.validates = dataset, split, split.val.size > 0
        self.num_classes = model.num_classes
        self.weight = self._class_weights()

    def _class_weights(self) -> Tensor | None:
        weights, num_classes = self.settings.class_weights, self.num_classes
        if weights is None:
            return None
        if weights == "balanced":
            counts = np.bincount(self.dataset.labels[self.split.train], minlength=num_classes + 1)[1:]
            present = counts > 0  # a class without pixels has no say, not the greatest one
            weights = list(np.where(present, counts.sum() / (present.sum() * np.maximum(counts, 1)), 0.0))
        if len(weights) != num_classes:
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
            output: Tensor | TrainingLogits = self.model(*inputs)
        options: dict[str, Any] = {"weight": self.weight, "label_smoothing": self.settings.label_smoothing}
        if isinstance(output, Tensor):
            logits, loss = output, F.cross_entropy(output.float(), target, **options)
        else:  # a network with outputs for training alone, which bring their loss
            logits, loss = output.logits, output.loss(target, **options)
        right = float((logits.argmax(1) == target.argmax(1)).sum())
        return loss, len(target), {"train_oa": right}

    def judge(self, model: Classifier) -> tuple[Record, tuple[float, float]]:
        """Overall accuracy, then loss."""
        report, loss = validate(model, self.dataset, self.split, self.device, self.group)
        return _figures(report, loss), (report.oa, -loss)

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


def validate(
    model: Classifier,
    dataset: PatchDataset,
    split: Split,
    device: torch.device | None = None,
    group: Group | None = None,
) -> tuple[ClassificationReport, float]:
    """Compute the metrics and the mean loss of a model on the validation pixels, of which each process takes a part."""
    group = group or Group()
    items = np.array_split(split.val, group.size)[group.rank]
    scores = torch.cat(group.gathered(predict_items(model, dataset, items, device=device)))
    truth = dataset.labels[split.val]
    loss = F.nll_loss(scores.clamp_min(1e-12).log(), torch.as_tensor(truth).long() - 1)
    names = class_names(model, dataset.class_names)
    return ClassificationReport.from_labels(truth, scores.argmax(1).numpy() + 1, names), float(loss)


def _figures(report: ClassificationReport, loss: float) -> Record:
    return {"val_loss": loss, "val_oa": report.oa, "val_aa": report.aa, "val_kappa": report.kappa}
