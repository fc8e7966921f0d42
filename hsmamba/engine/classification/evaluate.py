"""Metrics of a classifier on the pixels of a split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch

from hsmamba.data import Compose, PatchDataset, Scene, Split
from hsmamba.data.image import NanPolicy
from hsmamba.engine.classification.job import check_fits, prepare_classification, transform_of
from hsmamba.engine.classification.predict import predict_items
from hsmamba.errors import SceneError, SplitError
from hsmamba.metrics import ClassificationReport
from hsmamba.models import Classifier

Part: TypeAlias = Literal["train", "val", "test"]


def evaluate_classifier(
    model: Classifier,
    data: Scene | Sequence[Scene] | PatchDataset,
    split: Split,
    *,
    part: Part = "test",
    transform: Compose | None = None,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
    nan: NanPolicy = "raise",
    tta: bool = False,
    progress: bool = False,
) -> ClassificationReport:
    """Compare a classifier with the labels of one part of a split; `hsmamba.evaluate` calls this and has the words.

    Raises:
        SceneError: The scene has no labels, or does not fit the model.
        SplitError: The split belongs to another scene, or the part is empty.
        ValueError: A part or a `nan` that is none.
    """
    if part not in get_args(Part):
        raise ValueError(f"part is {part!r}; expected one of {', '.join(get_args(Part))}")
    pixels = getattr(split, part)
    if pixels.size == 0:
        raise SplitError(f"the split {split.id!r} has no {part} pixels")
    if isinstance(data, Scene):
        truth, names = labels_of(data, split).ravel()[pixels], data.class_names
        wanted = np.zeros(data.shape, bool)
        wanted.ravel()[pixels] = True
        job = prepare_classification(
            model, data, transform, wanted=wanted, batch_size=batch_size, device=device, nan=nan, tta=tta,
            progress=progress,
        )  # fmt: skip
        predicted: Any = job.arrays()[0].ravel()[pixels]
    else:
        dataset = data if isinstance(data, PatchDataset) else _dataset(model, data, transform, nan)
        every = dataset.labels if isinstance(data, PatchDataset) else labels_of(data, split).ravel()
        truth, names = every[pixels], dataset.class_names
        scores = predict_items(model, dataset, pixels, batch_size=batch_size, device=device, tta=tta, progress=progress)
        predicted = np.where(dataset.labels[pixels] > 0, scores.argmax(1).numpy() + 1, 0)
    check_classes(model, len(names) or int(truth.max()))
    return ClassificationReport.from_labels(truth, predicted, names or numbered(model))


def _dataset(model: Classifier, scenes: Sequence[Scene], transform: Compose | None, nan: NanPolicy) -> PatchDataset:
    """Cut the patches of several scenes as the model takes them; masked pixels are unlabelled."""
    transform = transform_of(model, transform)
    for scene in scenes:
        check_fits(model, scene, transform)
    return PatchDataset(used_sources(model, scenes), transform or Compose(), model.patch_size, nan=nan)


def used_sources(model: Classifier, scenes: Sequence[Scene]) -> list[Scene]:
    """Leave out the second source of scenes where the model does not look at it."""
    return [scene if model.aux_chans else replace(scene, aux=None) for scene in scenes]


def numbered(model: Classifier) -> tuple[str, ...]:
    """Name classes by their number, where nobody has named them."""
    return tuple(f"class {k}" for k in range(1, model.num_classes + 1))


def labels_of(data: Scene | Sequence[Scene], split: Split) -> np.ndarray[Any, np.dtype[Any]]:
    """Return the labels (H, W) of a scene that a split belongs to, or (1, N) of several scenes.

    Raises:
        SceneError: A scene has no labels.
        SplitError: The split was made for a scene of another size.
    """
    scenes = [data] if isinstance(data, Scene) else data
    if any(scene.labels is None for scene in scenes):
        raise SceneError("the scene has no labels; open it with labels= (a label image on the same grid)")
    every = [np.asarray(scene.labels) for scene in scenes]
    labels = every[0] if isinstance(data, Scene) else np.concatenate([one.ravel() for one in every])[None]
    if split.shape != labels.shape:
        what = "this one is" if isinstance(data, Scene) else f"these {len(scenes)} scenes together are"
        raise SplitError(f"the split {split.id!r} is for a scene of {split.shape} pixels, {what} {labels.shape}")
    return labels


def check_classes(model: Classifier, of_data: int) -> None:
    """Check that model and data have the same number of classes.

    Raises:
        SceneError: They have not.
    """
    if model.num_classes != of_data:
        raise SceneError(
            f"the model has {model.num_classes} classes, the data {of_data}; give the model a new head with "
            f"model.reset_classifier({of_data}) or create_model(..., num_classes={of_data}) and fine-tune it"
        )
