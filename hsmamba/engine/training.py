"""The training loop that all tasks share: epochs, schedule, average, checkpoints, history.

All randomness of an epoch comes from the seed and the epoch's number, so a resumed run needs no stored random state
and continues bit for bit.
"""

from __future__ import annotations

import copy
import json
import logging
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np
import torch
from timm.optim import create_optimizer_v2
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from tqdm.auto import tqdm

from hsmamba._files import write_text
from hsmamba._html import curves, titled
from hsmamba.engine.captured import Captured, can_be_captured
from hsmamba.engine.checkpoint import check_kept, read_checkpoint, write_checkpoint
from hsmamba.engine.lock import only_run
from hsmamba.engine.pace import Pace
from hsmamba.engine.parallel import group
from hsmamba.engine.pulse import Pulse, largest
from hsmamba.engine.results import write_results
from hsmamba.engine.running import hidden, keeping_memory, on_threads, step_threads
from hsmamba.engine.schedule import make_schedule
from hsmamba.engine.settings import Settings, TrainingSettings, plain
from hsmamba.errors import TrainingError, WeightsError
from hsmamba.models import Network

_logger = logging.getLogger(__name__)
_ORIGIN = ("name", "source", "license", "base_model")  # of a record's data
Record: TypeAlias = "dict[str, float]"
Sums: TypeAlias = "Mapping[str, float | Tensor]"  # over the samples of a batch
Callback: TypeAlias = "Callable[[Record, nn.Module], bool | None]"
Trained = TypeVar("Trained", bound=Network)


@dataclass(frozen=True)
class Keeping:
    """What is kept of a training run while it goes on, and who is told; the fields are arguments of `finetune`.

    Raises:
        ValueError: A log with another suffix.
    """

    checkpoint: str | Path | None = None
    resume: str | Path | None = None
    log: str | Path | None = None
    callback: Callback | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        if self.log is not None and Path(self.log).suffix not in (".csv", ".jsonl"):
            raise ValueError(f"log is {str(self.log)!r}; its suffix must be .csv or .jsonl")

    @classmethod
    def in_folder(cls, folder: Path, *, callback: Callback | None = None, progress: bool = True) -> Keeping:
        """Keep checkpoint and history in a folder, and go on from the checkpoint that may be there."""
        checkpoint = folder / "checkpoint.pt"
        resume = checkpoint if checkpoint.is_file() else None
        return cls(checkpoint, resume, folder / "history.csv", callback, progress)


@dataclass(frozen=True)
class TrainingResult(Generic[Settings]):
    """What a training run gave; the model itself holds the best weights.

    Attributes:
        history: One record an epoch: epoch, lr, loss, what the task adds, seconds and, where there is validation, its
            figures under names that begin with ``val_``.
        best_epoch: Epoch (from 1) of the weights that the model holds: the best by validation, or the last one where
            there is none.
        settings: The settings of the run.
    """

    history: list[Record]
    best_epoch: int
    settings: Settings = field(repr=False)

    def __repr__(self) -> str:
        """Say how the run went; `history` has every epoch."""
        told = f"{type(self).__name__}({len(self.history)} epochs, the best is {self.best_epoch}"
        if not self.history:
            return f"{told})"
        figures = ", ".join(f"{key} {value:.4g}" for key, value in self.history[-1].items() if key != "epoch")
        return f"{told}; at last {figures})"

    def _repr_html_(self) -> str:
        """Show the curves, in notebooks."""
        names = [name for name in self.history[0] if name not in ("epoch", "lr", "seconds")] if self.history else []
        return titled(repr(self), curves({name: [record[name] for record in self.history] for name in names}))

    @property
    def seconds(self) -> float:
        """Wall time of all epochs, earlier parts of a resumed run included."""
        return sum(record["seconds"] for record in self.history)


class Average(ModelEmaV3):
    """The exponential moving average of the weights after every step, and of nothing before the first one.

    The plain average still holds decay ** t of the untrained weights after t steps, 2 % after 4000 steps at 0.999: more
    than sharp images can bear. Shares are corrected as in Adam (Kingma, Ba, ICLR 2015, section 3).
    """

    def get_decay(self, step: int | None = None) -> float:
        """Give what step t, from 1, leaves of the average before it: (d - d^t) / (1 - d^t) at a decay of d."""
        if step is None:
            raise TypeError("the average needs the number of the step, from 1")
        gone = self.decay**step
        return float((self.decay - gone) / (1 - gone))


class Run(ABC, Generic[Trained]):
    """The state of a training run between epochs, and how it goes on.

    Args:
        model: The network, trained in place.
        settings: Of the run.
        data_id: Fingerprint of the data, which a checkpoint must share.
        steps: Steps an epoch.
        device: Where to train; None where the model is, or the own device of each process of a launch.

    Raises:
        ValueError: A device that is not the one of this process of a launch.
    """

    validates = True
    steady = False  # whether `loss` asks nothing of the GPU, so that a step can be launched as a whole
    least = 1  # samples of a batch that a process of a launch needs
    shown: tuple[str, ...] = ("loss",)  # of a record, beside the progress bar

    def __init__(
        self,
        model: Trained,
        settings: TrainingSettings,
        data_id: str,
        steps: int,
        device: torch.device | str | None,
    ) -> None:
        self.group = group()
        self.device = self.group.device(device, model)
        self.model = model.to(self.device)
        self.settings, self.data_id, self.steps = settings, data_id, steps
        self.step = self.group.step(model, self.loss)
        whole = self.steady and self.group.size == 1 and can_be_captured(model, self.device)
        self.gradients = Captured(self._gradients, self.device) if whole else self._gradients
        self.optimizer = self.make_optimizer()
        self.schedule = make_schedule(self.optimizer, settings, self.steps)
        self.ema = Average(model, decay=settings.ema_decay) if settings.ema_decay is not None else None
        self.pulse = Pulse(model)
        self.epoch = 0
        self._threads_of: dict[Any, int] = {}  # by the shapes of a batch
        self.on_step: Callable[[int], None] = lambda step: None
        self.history: list[Record] = []
        self.best: dict[str, Any] = {"epoch": 0, "score": (-float("inf"), 0.0), "state": model.state_dict()}

    def make_optimizer(self) -> torch.optim.Optimizer:
        """Make AdamW, or Adam, over the parameters of the model."""
        lr, decay = self.settings.lr, self.settings.weight_decay
        # Unless told otherwise, torch goes through the weights one by one on a CPU, and several times on a GPU.
        options: dict[str, Any] = {"fused": True} if self.device.type in ("cpu", "cuda") else {}
        return create_optimizer_v2(self.model, opt=self.settings.optimizer, lr=lr, weight_decay=decay, **options)

    @abstractmethod
    def batches(self, generator: torch.Generator) -> Iterable[Any]:
        """Give the batches of an epoch."""

    @abstractmethod
    def loss(self, batch: Any) -> tuple[Tensor, int, Sums]:
        """Compute a batch's loss, its number of samples and sums over them that the history shall hold as means."""

    @abstractmethod
    def judge(self, model: Trained) -> tuple[Record, tuple[float, float]]:
        """Compute what the history holds of the validation, and the score: the largest is the best."""

    @property
    def out_of_patience(self) -> bool:
        """Whether the validation score has not improved for `patience` epochs."""
        patience = self.settings.patience
        return patience is not None and self.validates and self.epoch - self.best["epoch"] >= patience

    def next_epoch(self) -> Record:
        """Train one epoch, validate, remember the weights if they are the best; give its record."""
        start = time.perf_counter()
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(self._seed(*([self.group.rank] if self.group.size > 1 else [])))  # of dropout
            record = {"epoch": self.epoch + 1, **self._train()}
        self.epoch += 1
        kept = self.ema.module if self.ema is not None else self.model
        score = (0.0, float(self.epoch))
        if self.validates:
            figures, score = self.judge(kept)
            record |= figures
        if score > tuple(self.best["score"]):
            self.best = {"epoch": self.epoch, "score": score, "state": copy.deepcopy(kept.state_dict())}
        record["seconds"] = time.perf_counter() - start
        self.history.append(record)
        return record

    def _seed(self, *more: int) -> int:
        return int(np.random.SeedSequence([self.settings.seed, self.epoch, *more]).generate_state(1)[0])

    def _train(self) -> Record:
        generator = torch.Generator().manual_seed(self._seed())
        self.model.train()
        sums: Record = {}
        count = 0.0
        for step, batch in enumerate(self.batches(generator)):
            self.schedule.step_update(self.epoch * self.steps + step)
            with on_threads(self._threads(batch)):
                value, size, figures = self._take_step(batch, step)
            self.on_step(step + 1)
            for key, figure in {"loss": value * size, **figures}.items():
                sums[key] = sums.get(key, 0.0) + figure
            count += size
        if not math.isfinite(float(largest(self.model.parameters()))):
            wrong = (key for key, x in self.model.named_parameters() if not bool(torch.isfinite(x).all()))
            raise self._diverged(f"the weight {next(wrong)} is not finite")
        return {"lr": self.optimizer.param_groups[0]["lr"], **{key: value / count for key, value in sums.items()}}

    def _threads(self, batch: Any) -> int:
        """Tell how many threads the step of a batch takes; all of torch's in a launch, whose processes meet in it."""
        if self.device.type != "cpu" or self.group.size > 1:
            return torch.get_num_threads()
        sizes = tuple(tuple(x.shape) for x in tree_leaves(batch) if hasattr(x, "shape"))
        if sizes not in self._threads_of:
            self._threads_of[sizes] = step_threads(self.model, lambda: self.loss(batch))
        return self._threads_of[sizes]

    def _take_step(self, batch: Any, step: int) -> tuple[float, float, Record]:
        """Learn from a batch; return its loss, its number of samples and the sums over them."""
        value, size, figures = self._learn(batch, step)
        if value > 0:  # what is learnt to the last digit has no gradient either
            self.pulse.feel(f"epoch {self.epoch + 1}, step {step + 1}", self.settings.lr)
        if self.settings.clip_grad is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_grad)
        self.optimizer.step()
        if self.ema is not None:
            self.ema.update(self.model, self.epoch * self.steps + step + 1)
        return value, size, figures

    def _learn(self, batch: Any, step: int) -> tuple[float, float, Record]:
        """Compute the gradients of a batch; return its loss, its number of samples and the sums over them."""
        part, weight = self.group.share(batch, self.least)
        if self.group.size > 1:
            return self._learn_together(part, weight, step)
        loss, count, figures, gradients = self.gradients(part)
        value = self._finite(float(loss), step)
        for parameter, gradient in zip(self.model.parameters(), gradients, strict=True):
            parameter.grad = gradient
        return value, float(count), {key: float(figure) for key, figure in figures.items()}

    def _gradients(self, batch: Any) -> tuple[Tensor, int, Sums, list[Tensor | None]]:
        """Compute a batch's loss, its number of samples, the sums over them and the gradients of all parameters."""
        loss, count, figures = self.step(batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach(), count, figures, [parameter.grad for parameter in self.model.parameters()]

    def _learn_together(self, part: Any, weight: float, step: int) -> tuple[float, float, Record]:
        """See `_learn`, of the share of a batch that is this process's."""
        with self.group.normalising(self.model, weight):
            loss, count, figures = self.step(part)
            here = weight * count
            sums = [float(loss) * here, here, *(weight * float(x) for x in figures.values())]
            total, size, *sums = self.group.summed(sums)
            value = self._finite(total / size, step)
            loss = loss * (here * self.group.size / size)  # the mean over the processes is that over the batch
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
        return value, size, dict(zip(figures, sums, strict=True))

    def _finite(self, loss: float, step: int) -> float:
        """Return the loss of a step; TrainingError where it is not finite."""
        if not math.isfinite(loss):
            raise self._diverged(f"step {step + 1}, the loss is {loss}")
        return loss

    def _diverged(self, what: str) -> TrainingError:
        lr, clip = self.settings.lr, self.settings.clip_grad
        return TrainingError(
            f"epoch {self.epoch + 1}: {what}; train anew with a smaller lr (it is {lr:g}), a longer warm-up or "
            f"clip_grad (it is {clip}), and look for values far off in the data. A checkpoint, if kept, holds the "
            "epoch before"
        )

    def go(self, keeping: Keeping) -> None:
        """Train to the end; the model is then in evaluation mode and holds the best weights.

        Raises:
            TrainingError: A loss or a weight is not finite, the checkpoint cannot be written, or it is that of a run
                that goes on; it stays that of the epoch before.
            WeightsError: `keeping.resume` is no checkpoint of this run.
        """
        with ExitStack() as stack:
            if (checkpoint := keeping.checkpoint) is not None:
                self.group.on_first(lambda: stack.enter_context(only_run(Path(checkpoint))))
            stack.enter_context(keeping_memory())
            self._go(keeping)

    def _go(self, keeping: Keeping) -> None:
        if keeping.resume is not None:
            self.restore(Path(keeping.resume))
            if keeping.log is not None and self.history:  # a run that was killed may have left it behind
                self.group.on_first(lambda: self._keep(Keeping(log=keeping.log)))
        self.group.agree((asdict(self.settings), self.data_id, self.epoch), "settings, data and epoch to begin with")
        epochs, checkpoint, stop = self.settings.epochs, keeping.checkpoint, False
        bar = tqdm(
            total=epochs,
            initial=self.epoch,
            unit="epoch",
            desc="finetune",
            disable=hidden(keeping.progress and self.group.is_first),
        )
        self.on_step = Pace(bar, self.steps, keeping.callback)
        with bar:
            while self.epoch < epochs and not stop and not self.out_of_patience:
                try:
                    record = self.next_epoch()
                except KeyboardInterrupt:
                    kept = f"; continue with resume={str(checkpoint)!r}" if checkpoint and self.epoch else ""
                    _logger.warning("interrupted in epoch %d%s", self.epoch + 1, kept)
                    raise
                bar.set_postfix({key: f"{record[key]:.4g}" for key in self.shown if key in record})
                bar.update()
                stop = self.group.on_first(lambda: self._keep(keeping))
        self.model.load_state_dict(self.best["state"])
        finish(self.model)

    def _keep(self, keeping: Keeping) -> bool:
        """Write what is kept after an epoch and tell who asked for it; return whether they end the run."""
        if keeping.checkpoint is not None:
            self.save(Path(keeping.checkpoint))
        if keeping.log is not None:
            write_log(Path(keeping.log), self.history)
        return keeping.callback is not None and bool(keeping.callback(self.history[-1], self.model))

    def save(self, path: Path) -> None:
        """Write the whole state, or leave the older file as it is.

        Raises:
            TrainingError: It cannot be written.
        """
        state = {
            "settings": asdict(self.settings),
            "split": self.data_id,
            "epoch": self.epoch,
            "history": self.history,
            "best": self.best,
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict() if self.ema is not None else None,
            "optimizer": self.optimizer.state_dict(),
        }
        write_checkpoint(path, state)

    def restore(self, path: Path) -> None:
        """Continue from a checkpoint of the same run.

        Raises:
            WeightsError: The file is not one, a bit of it is not what was written, or it belongs to a run with other
                settings.
        """
        state = read_checkpoint(path, self.device)
        own = asdict(self.settings) | {"split": self.data_id}
        try:
            added = {f.name: f.default for f in fields(self.settings)}  # of a setting that is younger than the file
            theirs = added | state["settings"] | {"split": state["split"]}
            differing = sorted(key for key in own if own[key] != plain(theirs.get(key)))
        except Exception as error:
            raise self._unfit(path, error) from error
        if differing:
            listed = ", ".join(f"{key}: {theirs.get(key)!r} there, {own[key]!r} here" for key in differing)
            raise WeightsError(f"{str(path)!r} belongs to another run ({listed}); resume with its settings")
        try:
            check_kept(state, self.model, self.optimizer, self.settings.epochs, what=str(path))
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            if self.ema is not None:
                self.ema.load_state_dict(state["ema"])
            self.epoch, self.history, self.best = state["epoch"], state["history"], state["best"]
        except Exception as error:  # ours, and torch's on what is none of this network's
            raise self._unfit(path, error) from error

    def _unfit(self, path: Path, error: Exception) -> WeightsError:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        return WeightsError(
            f"{str(path)!r} is no checkpoint of finetune with this {type(self.model).__name__} ({said}); resume with "
            "the network of that run, or leave resume out to start anew (on the command line: --overwrite)"
        )


def finish(model: Network) -> None:
    """Leave a trained network in evaluation mode, with what still holds of the weight that it began with."""
    model.eval()
    if model.record is not None:
        model.record = _of_the_base(model.record)


def _of_the_base(record: Mapping[str, Any]) -> dict[str, Any]:
    """What still holds of a weight's record once the weight has been trained further: where it came from, its terms."""
    data = {key: value for key, value in record.get("data", {}).items() if key in _ORIGIN}
    return {**record, "data": data, "metrics": {}, "recipe": None}


def write_log(path: Path, history: list[Record]) -> None:
    """Write a history as `.csv` or `.jsonl`, whole or not at all."""
    if path.suffix == ".jsonl":
        write_text(path, "".join(json.dumps(record) + "\n" for record in history))
    else:
        write_results(path, history)
