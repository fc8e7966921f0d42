"""Fine-tune a classifier on the labelled pixels of a scene: a plain loop with what the field's small data needs."""

from __future__ import annotations

import copy
import csv
import io
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from timm.optim import create_optimizer_v2
from timm.scheduler.cosine_lr import CosineLRScheduler
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn
from tqdm.auto import tqdm

from hsmamba._files import atomic_path, write_text
from hsmamba.data import PCA, Compose, PatchDataset, Scene, Split, Standardise, augment_d4, erase_rim
from hsmamba.engine._predict import predict_items, sizes_of
from hsmamba.engine.classify import check_fits
from hsmamba.engine.evaluate import check_classes, labels_of
from hsmamba.errors import SplitError, WeightsError
from hsmamba.metrics import ClassificationReport

_logger = logging.getLogger(__name__)
Record = dict[str, float]


@dataclass(frozen=True)
class FinetuneSettings:
    """What decides the course of a training run.

    Attributes:
        epochs: Passes over the training pixels.
        lr: Peak learning rate of AdamW.
        weight_decay: Of AdamW; biases, norms and the model's `no_weight_decay()` are left alone.
        batch_size: Patches a step.
        warmup_epochs: Epochs of linear warm-up before the cosine.
        label_smoothing: Of the cross-entropy.
        class_weights: "balanced" (inverse frequency among the training pixels), K numbers, or None.
        augment: Random flips and quarter turns, jointly for all sources.
        mixup: Alpha of mixup; 0 for none.
        erase: Probability that the outer rings of a patch are set to 0 (`hsmamba.data.erase_rim`); 0 for none.
        ema_decay: Decay of an exponential moving average of the weights, which is then validated and kept.
        amp: Autocast to bfloat16.
        clip_grad: Largest gradient norm; None for no limit.
        val_fraction: Share of each class's training pixels set aside for validation where the split has none.
        patience: Stop after so many epochs without a better validation score; None never stops.
        seed: Of order, augmentation and the choice of validation pixels.
    """

    epochs: int = 100
    lr: float = 1e-3
    weight_decay: float = 0.05
    batch_size: int = 64
    warmup_epochs: int = 5
    label_smoothing: float = 0.1
    class_weights: Literal["balanced"] | Sequence[float] | None = None
    augment: bool = True
    mixup: float = 0.0
    erase: float = 0.0
    ema_decay: float | None = None
    amp: bool = False
    clip_grad: float | None = 1.0
    val_fraction: float = 0.1
    patience: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        at_least = {"epochs": 1, "batch_size": 1, "warmup_epochs": 0, "weight_decay": 0, "mixup": 0, "erase": 0}
        at_least |= {"label_smoothing": 0, "val_fraction": 0}
        for name, low in at_least.items():
            if not getattr(self, name) >= low:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be at least {low}")
        below_one = ("label_smoothing", "val_fraction", *(["ema_decay"] if self.ema_decay is not None else []))
        for name in below_one:
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be in [0, 1)")
        if not self.lr > 0:
            raise ValueError(f"lr is {self.lr!r}; it must be positive")


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


def finetune(
    model: nn.Module,
    data: Scene | PatchDataset,
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
) -> FinetuneResult:
    """Train a classifier in place; it ends in evaluation mode with the best weights and its transform.

    AdamW and a cosine schedule with linear warm-up, stepped at every batch. All randomness of an epoch comes from the
    seed and the epoch's number, so a resumed run continues bit for bit; the caller's random state is left alone.

    Args:
        model: A classifier of `hsmamba.create_model`.
        data: A labelled scene, or a dataset of patches.
        split: Pixels of the scene (or items of the dataset).
        transform: Fitted preprocessing of a scene; default the model's own, else `default_transform`.
        device: Where to train; default where the model is. The model stays there.
        checkpoint: File that holds the whole state after every epoch, written whole or not at all.
        resume: A checkpoint to continue from; settings and split must be those of the interrupted run.
        log: `.csv` or `.jsonl` file of the history, kept up to date.
        callback: Called after each epoch with its record and the model; returning True ends the training.
        progress: Show a progress bar.
        **settings: Fields of `FinetuneSettings`: epochs, lr, batch_size, mixup, ema_decay, seed, ...

    Returns:
        History, best epoch, validation metrics.

    Raises:
        SceneError: The scene has no labels or does not fit the model.
        SplitError: The split belongs to another scene or has no training pixels.
        TypeError: A setting that does not exist.
        ValueError: A setting out of range.
        WeightsError: `resume` is no checkpoint of this run.
    """
    known = [f.name for f in fields(FinetuneSettings)]
    if unknown := sorted(settings.keys() - set(known)):
        raise TypeError(f"finetune has no setting {', '.join(unknown)}; there are: {', '.join(known)}")
    chosen = FinetuneSettings(**settings)
    if log is not None and Path(log).suffix not in (".csv", ".jsonl"):
        raise ValueError(f"log is {str(log)!r}; its suffix must be .csv or .jsonl")
    dataset, split = _prepare(model, data, split, transform, chosen)
    run = _Run(model, dataset, split, chosen, torch.device(device) if device else next(model.parameters()).device)
    if resume is not None:
        run.restore(Path(resume))
    stop = False
    with tqdm(total=chosen.epochs, initial=run.epoch, unit="epoch", desc="finetune", disable=not progress) as bar:
        while run.epoch < chosen.epochs and not stop and not run.out_of_patience:
            try:
                record = run.next_epoch()
            except KeyboardInterrupt:
                kept = f"; continue with resume={str(checkpoint)!r}" if checkpoint and run.epoch else ""
                _logger.warning("interrupted in epoch %d%s", run.epoch + 1, kept)
                raise
            if checkpoint is not None:
                run.save(Path(checkpoint))
            if log is not None:
                _write_log(Path(log), run.history)
            bar.set_postfix({key: f"{record[key]:.3f}" for key in ("loss", "val_oa") if key in record})
            bar.update()
            stop = bool(callback(record, model)) if callback is not None else False
    model.load_state_dict(run.best["state"])
    model.eval()
    return FinetuneResult(run.history, run.best["epoch"], run.validate(model), split, chosen)


def default_transform(scene: Scene, split: Split, in_chans: int) -> Compose:
    """Fit the usual preprocessing on the training pixels.

    Args:
        scene: The scene.
        split: Its split; only the training pixels are looked at.
        in_chans: Bands that the model takes.

    Returns:
        Standardisation of each band and, where the scene has more bands than `in_chans`, PCA and standardisation of
        the components.
    """
    steps = [Standardise()] if scene.num_bands == in_chans else [Standardise(), PCA(in_chans), Standardise()]
    return Compose(steps).fit_scene(scene, split.train)


def _prepare(
    model: nn.Module, data: Scene | PatchDataset, split: Split, transform: Compose | None, settings: FinetuneSettings
) -> tuple[PatchDataset, Split]:
    """Check the data, set validation pixels aside, fit the transform, cut patches."""
    sizes = sizes_of(model)
    labels = data.labels if isinstance(data, PatchDataset) else labels_of(data, split).ravel()
    if split.train.size == 0:
        raise SplitError(f"the split {split.id!r} has no training pixels")
    if split.val.size == 0 and settings.val_fraction > 0:
        split = split.with_validation(labels, fraction=settings.val_fraction, seed=settings.seed)
    if isinstance(data, Scene):
        transform = transform if transform is not None else getattr(model, "transform", None)
        if transform is None:
            transform = default_transform(data, split, sizes.in_chans)
        check_fits(model, data, transform)
        carrier: Any = model
        carrier.transform, carrier.class_names = transform, data.class_names
        num_classes = data.num_classes
        data = PatchDataset(data if sizes.aux_chans else replace(data, aux=None), transform, sizes.patch_size)
    else:
        num_classes = len(data.class_names) or int(labels.max())
    check_classes(sizes.num_classes, num_classes)
    return data, split


def _write_log(path: Path, history: list[Record]) -> None:
    if path.suffix == ".jsonl":
        text = "".join(json.dumps(record) + "\n" for record in history)
    else:
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, list(history[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)
        text = buffer.getvalue()
    write_text(path, text)


class _Run:
    """The state of a training run between epochs, and how it goes on."""

    def __init__(
        self, model: nn.Module, dataset: PatchDataset, split: Split, settings: FinetuneSettings, device: torch.device
    ) -> None:
        self.model, self.device = model.to(device), device
        self.dataset, self.split, self.settings = dataset, split, settings
        self.num_classes = sizes_of(model).num_classes
        self.steps = -(-split.train.size // settings.batch_size)
        self.optimizer = create_optimizer_v2(model, opt="adamw", lr=settings.lr, weight_decay=settings.weight_decay)
        self.schedule = CosineLRScheduler(
            self.optimizer,
            t_initial=settings.epochs * self.steps,
            lr_min=settings.lr * 1e-2,
            warmup_t=settings.warmup_epochs * self.steps,
            warmup_lr_init=settings.lr * 1e-2,
            warmup_prefix=False,
            t_in_epochs=False,
        )
        self.ema = ModelEmaV3(model, decay=settings.ema_decay) if settings.ema_decay is not None else None
        self.weight = self._class_weights()
        self.epoch = 0
        self.history: list[Record] = []
        self.best: dict[str, Any] = {"epoch": 0, "score": (-1.0, 0.0), "state": model.state_dict()}

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

    @property
    def out_of_patience(self) -> bool:
        """Whether the validation score has not improved for `patience` epochs."""
        patience = self.settings.patience
        return patience is not None and self.split.val.size > 0 and self.epoch - self.best["epoch"] >= patience

    def next_epoch(self) -> Record:
        """Train one epoch, validate, remember the weights if they are the best; give its record."""
        start = time.perf_counter()
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(self._seed())
            record = {"epoch": self.epoch + 1, **self._train()}
        self.epoch += 1
        kept = self.ema.module if self.ema is not None else self.model
        score = (0.0, float(self.epoch))
        if self.split.val.size:
            report, loss = self._validation(kept)
            record |= {"val_loss": loss, "val_oa": report.oa, "val_aa": report.aa, "val_kappa": report.kappa}
            score = (report.oa, -loss)
        if score > self.best["score"]:
            self.best = {"epoch": self.epoch, "score": score, "state": copy.deepcopy(kept.state_dict())}
        record["seconds"] = time.perf_counter() - start
        self.history.append(record)
        return record

    def _seed(self) -> int:
        return int(np.random.SeedSequence([self.settings.seed, self.epoch]).generate_state(1)[0])

    def _train(self) -> Record:
        generator = torch.Generator().manual_seed(self._seed())
        order = self.split.train[torch.randperm(self.split.train.size, generator=generator).numpy()]
        self.model.train()
        loss_sum = right = 0.0
        for step in range(self.steps):
            items = order[step * self.settings.batch_size : (step + 1) * self.settings.batch_size]
            inputs, target = self._batch(items, generator)
            self.schedule.step_update(self.epoch * self.steps + step)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.amp):
                output = self.model(*inputs)
            options: dict[str, Any] = {"weight": self.weight, "label_smoothing": self.settings.label_smoothing}
            if isinstance(output, Tensor):
                logits, loss = output, F.cross_entropy(output.float(), target, **options)
            else:  # a network with outputs for training alone, which bring their loss
                logits, loss = output.logits, output.loss(target, **options)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            if self.settings.clip_grad is not None:
                nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_grad)
            self.optimizer.step()
            if self.ema is not None:
                self.ema.update(self.model)
            loss_sum += loss.item() * items.size
            right += float((logits.argmax(1) == target.argmax(1)).sum())
        count = self.split.train.size
        return {"lr": self.optimizer.param_groups[0]["lr"], "loss": loss_sum / count, "train_oa": right / count}

    def _batch(self, items: NDArray[np.int64], generator: torch.Generator) -> tuple[list[Tensor], Tensor]:
        """Cut and augment patches; the target is (N, K) probabilities, mixed where the patches are."""
        hsi, aux, labels = self.dataset.batch(items)
        sources = [hsi] if aux is None else [hsi, aux]
        target = F.one_hot(labels, self.num_classes).float()
        if self.settings.augment:
            sources = list(augment_d4(*sources, generator=generator))
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

    def save(self, path: Path) -> None:
        """Write the whole state, or leave the older file as it is."""
        state = {
            "settings": asdict(self.settings),
            "split": self.split.sha256,
            "epoch": self.epoch,
            "history": self.history,
            "best": self.best,
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict() if self.ema is not None else None,
            "optimizer": self.optimizer.state_dict(),
        }
        with atomic_path(path) as temporary:
            torch.save(state, temporary)

    def restore(self, path: Path) -> None:
        """Continue from a checkpoint of the same run.

        Raises:
            WeightsError: The file is not one, or belongs to a run with other settings.
        """
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            own = asdict(self.settings) | {"split": self.split.sha256}
            theirs = state["settings"] | {"split": state["split"]}
        except FileNotFoundError:
            raise WeightsError(
                f"there is no checkpoint {str(path)!r} to resume; leave resume out to start anew"
            ) from None
        except Exception as error:
            raise WeightsError(f"{str(path)!r} is not a checkpoint of finetune, or is truncated ({error})") from error
        if differing := sorted(key for key in own if own[key] != theirs.get(key)):
            listed = ", ".join(f"{key}: {theirs.get(key)!r} there, {own[key]!r} here" for key in differing)
            raise WeightsError(f"{str(path)!r} belongs to another run ({listed}); resume with its settings")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        self.epoch, self.history, self.best = state["epoch"], state["history"], state["best"]
