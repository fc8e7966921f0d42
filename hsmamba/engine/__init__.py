"""What a user does with a model: classify a scene, fuse images, fine-tune, evaluate, train by a recipe.

`finetune` and `evaluate` serve both tasks: their data say which, and what belongs to the other task is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

import torch
from torch import nn

from hsmamba.data import Compose, PatchDataset, Scene, Split
from hsmamba.data.image import NanPolicy
from hsmamba.data.pairs import FusionPairs
from hsmamba.engine.classification.baselines import evaluate_baselines, fit_baseline
from hsmamba.engine.classification.evaluate import Part, evaluate_classifier
from hsmamba.engine.classification.fitting import default_transform
from hsmamba.engine.classification.inputs import Scale
from hsmamba.engine.classification.job import Classification, classify
from hsmamba.engine.classification.regularise import Regularise
from hsmamba.engine.classification.runs import ClassificationSettings
from hsmamba.engine.classification.train import (
    ClassificationResult,
    fits_in_one_step,
    settings_by_labels,
    train_classifier,
)
from hsmamba.engine.fusion.asked import Adapt, AdaptReport
from hsmamba.engine.fusion.evaluate import evaluate_fusion
from hsmamba.engine.fusion.job import fuse
from hsmamba.engine.fusion.train import FusionResult, FusionSettings, fusion_settings, train_fusion
from hsmamba.engine.settings import TrainingSettings
from hsmamba.engine.training import Callback, Keeping, TrainingResult
from hsmamba.metrics import ClassificationReport, FusionReport
from hsmamba.models import as_classifier, as_fusion_network

__all__ = [
    "Adapt",
    "AdaptReport",
    "Classification",
    "ClassificationReport",
    "ClassificationResult",
    "ClassificationSettings",
    "FusionReport",
    "FusionResult",
    "FusionSettings",
    "TrainingResult",
    "TrainingSettings",
    "classify",
    "default_transform",
    "evaluate",
    "finetune",
    "fit_baseline",
    "fuse",
]


@overload
def finetune(
    model: nn.Module,
    data: Scene | Sequence[Scene] | PatchDataset,
    split: Split,
    *,
    transform: Compose | None = None,
    nan: NanPolicy | None = None,
    scale: Scale | None = None,
    device: torch.device | str | None = None,
    checkpoint: str | Path | None = None,
    resume: str | Path | None = None,
    log: str | Path | None = None,
    callback: Callback | None = None,
    progress: bool = True,
    **settings: Any,
) -> ClassificationResult: ...


@overload
def finetune(
    model: nn.Module,
    data: FusionPairs,
    *,
    device: torch.device | str | None = None,
    checkpoint: str | Path | None = None,
    resume: str | Path | None = None,
    log: str | Path | None = None,
    callback: Callback | None = None,
    progress: bool = True,
    **settings: Any,
) -> FusionResult: ...


def finetune(
    model: nn.Module,
    data: Scene | Sequence[Scene] | PatchDataset | FusionPairs,
    split: Split | None = None,
    *,
    transform: Compose | None = None,
    nan: NanPolicy | None = None,
    scale: Scale | None = None,
    device: torch.device | str | None = None,
    checkpoint: str | Path | None = None,
    resume: str | Path | None = None,
    log: str | Path | None = None,
    callback: Callback | None = None,
    progress: bool = True,
    **settings: Any,
) -> ClassificationResult | FusionResult:
    """Train a model in place; it ends in evaluation mode with the best weights and the transform of its data.

    A classifier with a method `fit` ("lda", `hsmamba.baselines.make_classifier`) is fitted in one step on the training
    pixels, and takes no settings, checkpoint, log or callback.

    AdamW and a cosine schedule with linear warm-up, stepped at every batch. All randomness of an epoch comes from the
    seed and the epoch's number, so a resumed run continues bit for bit; the caller's random state is left alone.

    On a CPU a step whose operations are small takes one of torch's threads, because they would wait for each other
    longer than they work (`hsmamba.engine.running.step_threads`).

    In a program that `accelerate launch` has started in several processes, all of them train one model: each takes its
    share of every batch on a device of its own, and the first alone writes files and calls `callback`
    (`hsmamba.engine.parallel`, `docs/cluster.md`).

    Args:
        model: A network of `hsmamba.create_model`.
        data: For a classifier a labelled scene, several of one kind (plots) or a dataset of patches; for a fusion
            network pairs (`hsmamba.data.wald_pairs`).
        split: Pixels of the scene, or items of the scenes or the dataset; pairs bring their own.
        transform: Fitted preprocessing of a scene; default the model's own where it takes the bands of the scene,
            else `default_transform` with the components that the model is for. A dataset and pairs bring their own.
        nan: "raise" (the default) refuses invalid pixels of scenes, "mask" leaves them out of transform and training.
        scale: As for `classify`, for a transform that was fitted on numbers of another unit; it becomes a part of it.
        device: Where to train; default where the model is. The model stays there.
        checkpoint: File that holds the whole state after every epoch, written whole or not at all.
        resume: A checkpoint to continue from; settings and data must be those of the interrupted run.
        log: `.csv` or `.jsonl` file of the history, kept up to date.
        callback: Called after each epoch with its record and the model; returning True ends the training.
        progress: Show a progress bar.
        **settings: Fields of `ClassificationSettings` (epochs, lr, batch_size, mixup, ema_decay, seed, ...), or of
            `FusionSettings` (epochs, steps, crop, loss, ...) for pairs. Those not given are the defaults of these; of a
            fusion network first what suits it (`ModelCfg.train_settings`); of a classifier whose class in the middle
            has 30 training pixels or fewer what the suite `defaults` chose for few labels: no validation pixels (unless
            there is `patience`), 300 steps on batches of 32 or a little less, however many labels there are, mixup 0.4,
            erase 0.5, ema_decay 0.99 and, of several scenes, jitter 0.3. The result holds the settings.

    Returns:
        History, best epoch, validation metrics.

    Raises:
        SceneError: The scene has no labels, or the data do not fit the model.
        SplitError: The split belongs to another scene or has no training pixels.
        TrainingError: A loss or a weight is not finite, the checkpoint cannot be written, or it is that of a run that
            goes on; it stays that of the epoch before.
        TypeError: Model and data are of two tasks, an argument or a setting is of the other task or does not exist,
            or there is no split for a scene.
        ValueError: A setting out of range, or a device that is not that of this process of a launch.
        WeightsError: `resume` is no checkpoint of this run.
    """
    keeping = Keeping(checkpoint, resume, log, callback, progress)
    if isinstance(data, FusionPairs):
        network = as_fusion_network(model)
        _refuse("pairs bring their own split, mask and scale", split=split, transform=transform, nan=nan, scale=scale)
        return train_fusion(network, data, fusion_settings(network, settings), device=device, keeping=keeping)
    classifier = as_classifier(model)
    if split is None:
        raise TypeError("finetune needs the split of the scene; make one with hsmamba.data.random_split or block_split")
    if isinstance(data, PatchDataset):
        _refuse("a dataset of patches has been transformed and masked", transform=transform, nan=nan, scale=scale)
    if fits_in_one_step(classifier):
        _refuse("the model is fitted in one step", checkpoint=checkpoint, resume=resume, log=log, callback=callback)
    return train_classifier(
        classifier, data, split, settings_by_labels(classifier, settings, data, split), transform=transform,
        nan=nan or "raise", scale=scale, device=device, keeping=keeping,
    )  # fmt: skip


@overload
def evaluate(
    model: nn.Module,
    data: Scene | Sequence[Scene] | PatchDataset,
    split: Split,
    *,
    part: Part | None = None,
    transform: Compose | None = None,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
    nan: NanPolicy | None = None,
    scale: Scale | None = None,
    tta: bool | None = None,
    regularise: Regularise | None = None,
    baselines: bool | None = None,
    progress: bool | None = None,
) -> ClassificationReport: ...


@overload
def evaluate(
    model: nn.Module,
    data: FusionPairs,
    *,
    device: torch.device | str | None = None,
    baselines: bool | None = None,
) -> FusionReport: ...


def evaluate(
    model: nn.Module,
    data: Scene | Sequence[Scene] | PatchDataset | FusionPairs,
    split: Split | None = None,
    *,
    part: Part | None = None,
    transform: Compose | None = None,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
    nan: NanPolicy | None = None,
    scale: Scale | None = None,
    tta: bool | None = None,
    regularise: Regularise | None = None,
    baselines: bool | None = None,
    progress: bool | None = None,
) -> ClassificationReport | FusionReport:
    """Compare a classifier with the labels of one part of a split, or a fusion network with the truth of pairs.

    Args:
        model: A network; its mode and device are left as they were.
        data: A labelled scene, several of one kind (plots) or a dataset of patches; or pairs
            (`hsmamba.data.wald_pairs`), of which only `device` and `baselines` are further arguments.
        split: Pixels of the scene (or items of the scenes or the dataset) by part.
        part: "train", "val" or "test"; default "test".
        transform: Fitted preprocessing of scenes; default the one that came with the model.
        batch_size: As for `classify`.
        device: As for `classify`.
        nan: "raise" (the default) refuses invalid pixels of scenes, "mask" counts them as wrong.
        scale: As for `classify`.
        tta: As for `classify`; default False.
        regularise: "off" (the default); "on" as for `classify`, each scene by itself, which takes a prediction of all
            its valid pixels; "auto" takes what has the higher OA on the validation pixels of the split. The report says
            which it was.
        baselines: Fit the classical classifiers of `hsmamba.baselines.CLASSIFIERS` on the training pixels of the split,
            on what the model sees of them, and judge them on the same pixels, diffused as the model is (`regularise`):
            seconds to minutes, with the `classical` extra. Default False; of pairs True.
        progress: Show a progress bar; default False.

    Returns:
        OA, AA, kappa, per-class accuracy, F1, confusion matrix; of pairs the field's tables beside those of the
        classical methods (`hsmamba.engine.fusion.evaluate.evaluate_fusion`). Both can be printed.

    Raises:
        SceneError: The scene has no labels, or does not fit the model.
        SplitError: The split belongs to another scene, or the part is empty; `regularise="auto"` without validation
            pixels, or baselines without training pixels.
        TypeError: Model and data are of two tasks, an argument is not for these data, or there is no split for a scene.
        ValueError: A part, a `nan` or a `regularise` that is none.
    """
    if isinstance(data, FusionPairs):
        network = as_fusion_network(model)
        _refuse(
            "pairs bring their own test images, scale and mask",
            split=split, part=part, transform=transform, batch_size=batch_size, nan=nan, scale=scale, tta=tta,
            regularise=regularise, progress=progress,
        )  # fmt: skip
        return evaluate_fusion(network, data, device=device, baselines=baselines is not False)
    classifier = as_classifier(model)
    if split is None:
        raise TypeError("evaluate needs the split of the scene, as it came out of finetune")
    if isinstance(data, PatchDataset):
        _refuse("a dataset of patches has been transformed and masked", transform=transform, nan=nan, scale=scale)
        _refuse("a dataset of patches is no image: give its scenes", regularise=regularise)
        _refuse("a dataset of patches has lost the bands: give its scenes", baselines=baselines or None)
    report = evaluate_classifier(
        classifier, data, split, part=part or "test", transform=transform, batch_size=batch_size, device=device,
        nan=nan or "raise", scale=scale, tta=bool(tta), regularise=regularise or "off",
        progress=bool(progress),
    )  # fmt: skip
    if not baselines or isinstance(data, PatchDataset):
        return report
    options: Any = {"part": part or "test", "transform": transform, "nan": nan or "raise"}
    others = evaluate_baselines(classifier, data, split, regularise=regularise or "off", **options)
    return replace(report, baselines=others)


def _refuse(because: str, **given: object) -> None:
    """Raise TypeError where arguments are given that the data have no use for."""
    if names := [f"{name}=" for name, value in given.items() if value is not None]:
        raise TypeError(f"{because}; leave {' and '.join(names)} out")
