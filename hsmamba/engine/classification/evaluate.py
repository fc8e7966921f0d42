"""Metrics of a classifier on the pixels of a split, or of a fusion network on pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, overload

import numpy as np
import torch
from torch import nn

from hsmamba.data import Compose, PatchDataset, Scene, Split
from hsmamba.data.pairs import FusionPairs
from hsmamba.engine.classification.job import check_fits, predict_pixels, usable_pixels
from hsmamba.engine.classification.predict import predict_items, sizes_of
from hsmamba.engine.fusion.evaluate import FusionReport, evaluate_fusion
from hsmamba.errors import SceneError, SplitError
from hsmamba.metrics import ClassificationReport


@overload
def evaluate(
    model: nn.Module,
    data: Scene | Sequence[Scene] | PatchDataset,
    split: Split,
    *,
    part: Literal["train", "val", "test"] = "test",
    transform: Compose | None = None,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
    nan: Literal["raise", "mask"] = "raise",
    tta: bool = False,
    progress: bool = False,
) -> ClassificationReport: ...


@overload
def evaluate(model: nn.Module, data: FusionPairs, *, device: torch.device | str | None = None) -> FusionReport: ...


def evaluate(
    model: nn.Module,
    data: Scene | Sequence[Scene] | PatchDataset | FusionPairs,
    split: Split | None = None,
    *,
    part: Literal["train", "val", "test"] = "test",
    transform: Compose | None = None,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
    nan: Literal["raise", "mask"] = "raise",
    tta: bool = False,
    progress: bool = False,
) -> ClassificationReport | FusionReport:
    """Compare a classifier with the labels of one part of a split, or a fusion network with the truth of pairs.

    Args:
        model: A network; its mode and device are left as they were.
        data: A labelled scene, several of one kind (plots) or a dataset of patches; or pairs
            (`hsmamba.data.wald_pairs`), of which only `device` is a further argument.
        split: Pixels of the scene (or items of the scenes or the dataset) by part.
        part: "train", "val" or "test".
        transform: Fitted preprocessing of a scene; default the one that came with the model.
        batch_size: As for `classify`.
        device: As for `classify`.
        nan: As for `classify`; with "mask", pixels that are not finite count as wrong.
        tta: As for `classify`.
        progress: Show a progress bar.

    Returns:
        OA, AA, kappa, per-class accuracy, F1, confusion matrix; of pairs the field's tables beside those of the
        classical methods (`hsmamba.engine.fusion.evaluate.evaluate_fusion`). Both can be printed.

    Raises:
        SceneError: The scene has no labels, or does not fit the model.
        SplitError: The split belongs to another scene, or the part is empty.
        TypeError: There is no split for a scene.
    """
    if isinstance(data, FusionPairs):
        return evaluate_fusion(model, data, device=device)
    if split is None:
        raise TypeError("evaluate needs the split of the scene, as it came out of finetune")
    pixels = getattr(split, part)
    if pixels.size == 0:
        raise SplitError(f"the split {split.id!r} has no {part} pixels")
    num_classes = sizes_of(model).num_classes
    if isinstance(data, Scene):
        truth, names = labels_of(data, split).ravel()[pixels], data.class_names
        wanted = np.zeros(data.shape, bool)
        wanted.ravel()[pixels] = True
        wanted &= usable_pixels(model, data, transform, nan)
        labels, _ = predict_pixels(
            model, data, transform, wanted, batch_size=batch_size, device=device, tta=tta, progress=progress
        )
        predicted: Any = labels.ravel()[pixels]
    else:
        dataset = data if isinstance(data, PatchDataset) else _dataset(model, data, transform, nan)
        every = dataset.labels if isinstance(data, PatchDataset) else labels_of(data, split).ravel()
        truth, names = every[pixels], dataset.class_names
        scores = predict_items(model, dataset, pixels, batch_size=batch_size, device=device, tta=tta)
        predicted = np.where(dataset.labels[pixels] > 0, scores.argmax(1).numpy() + 1, 0)
    check_classes(num_classes, len(names) or int(truth.max()))
    return ClassificationReport.from_labels(
        truth, predicted, names or tuple(f"class {k}" for k in range(1, num_classes + 1))
    )


def _dataset(
    model: nn.Module, scenes: Sequence[Scene], transform: Compose | None, nan: Literal["raise", "mask"]
) -> PatchDataset:
    """Cut the patches of several scenes as the model takes them; masked pixels are unlabelled."""
    sizes = sizes_of(model)
    transform = transform if transform is not None else getattr(model, "transform", None)
    for scene in scenes:
        check_fits(model, scene, transform)
    sources = [scene if sizes.aux_chans else replace(scene, aux=None) for scene in scenes]
    return PatchDataset(sources, transform or Compose(), sizes.patch_size, nan=nan)


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


def check_classes(of_model: int, of_data: int) -> None:
    """Check that model and data have the same number of classes.

    Raises:
        SceneError: They have not.
    """
    if of_model != of_data:
        raise SceneError(
            f"the model has {of_model} classes, the data {of_data}; give the model a new head with "
            f"model.reset_classifier({of_data}) or create_model(..., num_classes={of_data}) and fine-tune it"
        )
