"""Metrics of a classifier on the pixels of a split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from hsmamba.data import Compose, PatchDataset, Scene, Split
from hsmamba.data.datasets import check_scenes
from hsmamba.data.image import NanPolicy, pixel_mask
from hsmamba.data.transforms.gathering import by_scene
from hsmamba.engine.classification.classes import class_names, in_model_classes, scene_in_classes
from hsmamba.engine.classification.inputs import Scale, alike, transform_of, used_sources
from hsmamba.engine.classification.job import prepare_classification
from hsmamba.engine.classification.predict import predict_items
from hsmamba.engine.classification.regularise import Regularise, check_regularise
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
    regularise: Regularise = "off",
    progress: bool = False,
) -> ClassificationReport:
    """Compare a classifier with the labels of one part of a split; `hsmamba.evaluate` calls this and has the words.

    Classes are compared by name where both the model and the data have names, else by number. The report has every
    class of the model, those without pixels included.

    Raises:
        SceneError: The scene has no labels, classes that the model does not have, or does not fit the model.
        SplitError: The split belongs to another scene, or the part is empty or unlabelled; there are no validation
            pixels to decide `regularise="auto"` on.
        ValueError: A part, a `nan` or a `regularise` that is none.
    """
    check_regularise(regularise)
    if part not in get_args(Part):
        raise ValueError(f"part is {part!r}; expected one of {', '.join(get_args(Part))}")
    pixels = getattr(split, part)
    if pixels.size == 0:
        raise SplitError(f"the split {split.id!r} has no {part} pixels")
    options: Any = {"batch_size": batch_size, "device": device, "tta": tta}
    of_scenes: Any = options | {"transform": transform, "nan": nan, "scale": scale}
    if regularise == "auto":
        regularise = _better(model, data, split, **of_scenes)
    scenes, every = _scenes(model, data, split)
    names = data.class_names if isinstance(data, PatchDataset) else scenes[0].class_names
    truth = in_model_classes(model, every[pixels], names)
    if not truth.any():
        raise SplitError(f"none of the {truth.size} {part} pixels of the split {split.id!r} is labelled in these data")
    if isinstance(data, PatchDataset):
        predicted = _of_items(model, data, pixels, progress=progress, **options)
    else:
        predicted = _of_pixels(model, scenes, pixels, regularise=regularise, progress=progress, **of_scenes)
    report = ClassificationReport.from_labels(truth, predicted, class_names(model, names))
    return replace(report, regularised=regularise == "on")


def _better(
    model: Classifier, data: Scene | Sequence[Scene] | PatchDataset, split: Split, **options: Any
) -> Literal["off", "on"]:
    """Choose by the overall accuracy on validation pixels."""
    if not split.val.size:
        raise SplitError(
            f"regularise is 'auto', which validation pixels decide, and the split {split.id!r} has none; give 'off' or "
            "'on', or the split that finetune returns, which has set some aside"
        )
    off, on = (
        evaluate_classifier(model, data, split, part="val", regularise=which, **options).oa for which in ("off", "on")
    )
    return "on" if on > off else "off"


def _scenes(
    model: Classifier, data: Scene | Sequence[Scene] | PatchDataset, split: Split
) -> tuple[list[Scene], NDArray[np.int64]]:
    """Return the scenes, of several by the classes of the model, and the labels of all items."""
    if isinstance(data, PatchDataset):
        return [], data.labels
    labels = labels_of(data, split)  # of the scenes as they are, for the check
    if isinstance(data, Scene):
        return [data], labels.ravel()
    scenes = [scene_in_classes(scene, model.class_names, model.num_classes) for scene in data]
    check_scenes(scenes)
    return scenes, labels_of(scenes, split).ravel()


def _of_items(model: Classifier, dataset: PatchDataset, items: NDArray[np.int64], **options: Any) -> NDArray[np.int64]:
    """Predict items of a dataset; 0 where masked, or the result is not finite."""
    scores = predict_items(model, dataset, items, **options).numpy()
    known = (dataset.labels[items] > 0) & np.isfinite(scores).all(axis=1)
    return np.where(known, scores.argmax(axis=1) + 1, 0)


def _of_pixels(
    model: Classifier, scenes: list[Scene], pixels: NDArray[np.int64], *, transform: Compose | None, **options: Any
) -> NDArray[np.int64]:
    """Predict pixels of scenes, flat indices over all of them; 0 where masked, or the result is not finite."""
    here = by_scene(scenes, pixels)
    if len(scenes) > 1:
        scenes = alike(model, used_sources(model, scenes), transform_of(model, transform))
    labels = []
    for scene, some in zip(scenes, here, strict=True):
        wanted = pixel_mask(some, scene.shape)
        if some.size:
            job = prepare_classification(model, scene, transform, wanted=wanted, **options)
            labels.append(job.arrays()[0].ravel())
        else:
            labels.append(np.zeros(wanted.size, np.uint8))
    return np.concatenate(labels)[pixels].astype(np.int64)


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
