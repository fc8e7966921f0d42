"""Train a classifier on the labelled pixels of scenes: the shared loop with cross-entropy and its regularisers."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hsmamba.data import Compose, PatchDataset, Scene, Split
from hsmamba.data.image import NanPolicy
from hsmamba.data.splits.pixels import draw
from hsmamba.engine.classification.classes import (
    dataset_in_model_classes,
    scenes_in_model_classes,
    tell_of_untrained,
)
from hsmamba.engine.classification.defaults import few_labels, settings_of_few
from hsmamba.engine.classification.evaluate import labels_of
from hsmamba.engine.classification.fitting import with_transform
from hsmamba.engine.classification.inputs import Scale, check_fits, check_units, sources_of, used_sources
from hsmamba.engine.classification.predict import default_batch_size
from hsmamba.engine.classification.runs import ClassificationSettings, ImageRun, PatchRun, figures_of, validate
from hsmamba.engine.settings import make_settings
from hsmamba.engine.training import Keeping, Record, TrainingResult, finish
from hsmamba.errors import HsmambaWarning, SplitError
from hsmamba.metrics import ClassificationReport
from hsmamba.models import Classifier, numbers_of

_MOST_UNLABELLED = 2**15  # pixels


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


def settings_by_labels(
    model: Classifier, given: Mapping[str, Any], data: Scene | Sequence[Scene] | PatchDataset, split: Split
) -> ClassificationSettings:
    """Make the settings to train a model with, those that are not given by the number of labels.

    Raises:
        TypeError: See `settings_for`.
        ValueError: A setting out of range.
    """
    settings = settings_for(model, given)
    if fits_in_one_step(model) or not few_labels(data, split):
        return settings
    if isinstance(data, PatchDataset):
        scenes = int(data.groups.max()) + 1
    else:
        scenes = 1 if isinstance(data, Scene) else len(data)
    sizes: dict[str, Any] = {"pixels": split.train.size, "scenes": scenes, "whole_images": model.patch_size is None}
    return settings_of_few(settings, given.keys(), **sizes)


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
    kind = PatchRun if model.patch_size is not None else ImageRun
    run = kind(model, dataset, split, settings, device)
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
        here = dataset.usable & np.isin(dataset.groups, dataset.groups[split.train])
        items = np.sort(draw(np.flatnonzero(here), _MOST_UNLABELLED, np.random.default_rng(0)))
        for first in range(0, items.size, size):
            hsi, aux, _ = dataset.batch(items[first : first + size])
            yield hsi.to(where), None if aux is None else aux.to(where)

    # Of one scene these are the pixels to classify; trees fitted on others' carried less over to further scenes.
    given = model.learns_unlabelled and (model.learns_from_scenes or not dataset.groups.any())
    beside = {"unlabelled": unlabelled()} if given else {}
    cast(Any, model).fit(batches(), **beside)
    finish(model)
    record: Record = {"epoch": 1}
    validation = None
    if split.val.size:
        validation, loss = validate(model, dataset, split)
        record |= figures_of(validation, loss)
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
        data = PatchDataset(scenes, transform, model.patch_size or 1, nan=nan)
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
