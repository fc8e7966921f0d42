"""Metrics of a classifier on the pixels of a split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch

from hsmamba.data import Compose, PatchDataset, Scene, Split
from hsmamba.data.image import NanPolicy
from hsmamba.engine.classification.classes import class_names, in_model_classes, scene_in_classes
from hsmamba.engine.classification.inputs import (
    Scale,
    alike,
    check_fits,
    check_units,
    scaled,
    sources_of,
    transform_of,
    used_sources,
)
from hsmamba.engine.classification.job import prepare_classification
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
    scale: Scale | None = None,
    tta: bool = False,
    progress: bool = False,
) -> ClassificationReport:
    """Compare a classifier with the labels of one part of a split; `hsmamba.evaluate` calls this and has the words.

    Classes are compared by name where both the model and the data have names, else by number. The report has every
    class of the model, those without pixels included.

    Raises:
        SceneError: The scene has no labels, classes that the model does not have, or does not fit the model.
        SplitError: The split belongs to another scene, or the part is empty or unlabelled.
        ValueError: A part or a `nan` that is none.
    """
    if part not in get_args(Part):
        raise ValueError(f"part is {part!r}; expected one of {', '.join(get_args(Part))}")
    pixels = getattr(split, part)
    if pixels.size == 0:
        raise SplitError(f"the split {split.id!r} has no {part} pixels")
    if isinstance(data, Scene):
        names = data.class_names
        truth = in_model_classes(model, labels_of(data, split).ravel()[pixels], names)
        wanted = np.zeros(data.shape, bool)
        wanted.ravel()[pixels] = True
        job = prepare_classification(
            model, data, transform, wanted=wanted, batch_size=batch_size, device=device, nan=nan,
            scale=scale, tta=tta, progress=progress,
        )  # fmt: skip
        predicted: Any = job.arrays()[0].ravel()[pixels]
    else:
        if isinstance(data, PatchDataset):
            dataset, every = data, data.labels
        else:
            labels_of(data, split)  # of the scenes as they are, for the check
            scenes = [scene_in_classes(scene, model.class_names, model.num_classes) for scene in data]
            dataset, every = _dataset(model, scenes, transform, nan, scale), labels_of(scenes, split).ravel()
        names = dataset.class_names
        truth = in_model_classes(model, every[pixels], names)
        scores = predict_items(model, dataset, pixels, batch_size=batch_size, device=device, tta=tta, progress=progress)
        known = (dataset.labels[pixels] > 0) & np.isfinite(scores.numpy()).all(axis=1)
        predicted = np.where(known, scores.argmax(1).numpy() + 1, 0)
    if not truth.any():
        raise SplitError(f"none of the {truth.size} {part} pixels of the split {split.id!r} is labelled in these data")
    return ClassificationReport.from_labels(truth, predicted, class_names(model, names))


def _dataset(
    model: Classifier, scenes: Sequence[Scene], transform: Compose | None, nan: NanPolicy, scale: Scale | None
) -> PatchDataset:
    """Cut the patches of several scenes as the model takes them; masked pixels are unlabelled."""
    transform = transform_of(model, transform)
    scenes = alike(model, used_sources(model, scenes), transform)
    transform = scaled(transform, scale)
    for scene in scenes:
        check_fits(model, scene, transform)
        check_units(transform, sources_of(model, scene), given=scale is not None)
    return PatchDataset(scenes, transform or Compose(), model.patch_size, nan=nan)


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
