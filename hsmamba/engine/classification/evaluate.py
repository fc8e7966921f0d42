"""Metrics of a classifier on the pixels of a split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch

from hsmamba.data import Compose, PatchDataset, Scene, Split
from hsmamba.data.image import NanPolicy
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
            model, data, transform, wanted=wanted, batch_size=batch_size, device=device, nan=nan,
            scale=scale, tta=tta, progress=progress,
        )  # fmt: skip
        predicted: Any = job.arrays()[0].ravel()[pixels]
    else:
        dataset = data if isinstance(data, PatchDataset) else _dataset(model, data, transform, nan, scale)
        every = dataset.labels if isinstance(data, PatchDataset) else labels_of(data, split).ravel()
        truth, names = every[pixels], dataset.class_names
        scores = predict_items(model, dataset, pixels, batch_size=batch_size, device=device, tta=tta, progress=progress)
        known = (dataset.labels[pixels] > 0) & np.isfinite(scores.numpy()).all(axis=1)
        predicted = np.where(known, scores.argmax(1).numpy() + 1, 0)
    check_classes(model, len(names) or int(truth.max()))
    return ClassificationReport.from_labels(truth, predicted, names or numbered(model))


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
