"""What decides the course of a training run: the settings that all tasks share, and how they are checked."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeVar

from hsmamba.engine.schedule import SCHEDULES, Schedule


@dataclass(frozen=True)
class TrainingSettings:
    """What decides the course of every training run; what a task adds, or begins with another value, is its own.

    Numbers of numpy and torch become Python's, so that a checkpoint can be read without trusting it.

    Attributes:
        epochs: Passes over the training data; of a fusion network, stretches of `steps` steps.
        lr: Peak learning rate, which falls to a hundredth by a cosine, or as `schedule` says.
        weight_decay: Of the optimizer; biases, norms and the model's `no_weight_decay()` are left alone.
        batch_size: Samples (patches, crops) a step.
        warmup_epochs: Epochs of linear warm-up before the cosine.
        augment: Random flips and quarter turns, jointly for all images of a sample.
        ema_decay: Decay of an exponential moving average of the weights, which is then validated and kept; the weights
            before the first step have no share in it.
        amp: Autocast to bfloat16.
        clip_grad: Largest gradient norm; None for no limit.
        patience: Stop after so many epochs without a better validation score; None never stops.
        seed: Of everything random: order, places, augmentation, the choice of validation pixels.
        optimizer: "adamw", or "adam", whose weight decay is that of the loss.
        schedule: Of the learning rate: "cosine"; "constant"; "step", times `decay_rate` once, after `decay_epochs`;
            "restarts", cosines of which the first takes `decay_epochs`, each other twice as long as the one before it
            and begins `decay_rate` times as high.
        decay_epochs: See `schedule`.
        decay_rate: See `schedule`.
        lr_floor: Share of `lr` at which a cosine ends.
    """

    epochs: int = 100
    lr: float = 1e-3
    weight_decay: float = 0.05
    batch_size: int = 64
    warmup_epochs: int = 5
    augment: bool = True
    ema_decay: float | None = None
    amp: bool = False
    clip_grad: float | None = 1.0
    patience: int | None = None
    seed: int = 0
    optimizer: Literal["adamw", "adam"] = "adamw"
    schedule: Schedule = "cosine"
    decay_epochs: int = 50
    decay_rate: float = 0.9
    lr_floor: float = 0.01

    def __post_init__(self) -> None:
        for f in fields(self):
            value = plain(getattr(self, f.name))
            object.__setattr__(self, f.name, value)
            kinds = str(f.type).split(" | ")
            if value is None and "None" in kinds:
                continue
            if "int" in kinds and type(value) is not int:
                raise ValueError(f"{f.name} is {value!r}; it must be a whole number")
            if "float" in kinds and not _finite(value):
                raise ValueError(f"{f.name} is {value!r}; it must be a finite number")
            if "bool" in kinds and type(value) is not bool:
                raise ValueError(f"{f.name} is {value!r}; it must be True or False")
        self.check_at_least(epochs=1, batch_size=1, warmup_epochs=0, weight_decay=0, patience=1, seed=0, decay_epochs=1)
        self.check_positive("lr", "clip_grad", "decay_rate")
        self.check_below_one("ema_decay", "lr_floor")
        for name, known in (("optimizer", ("adamw", "adam")), ("schedule", SCHEDULES)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it is one of {', '.join(known)}")

    def check_at_least(self, **lows: float) -> None:
        """Raise where a setting, if there is one, is below its least value."""
        for name, low in lows.items():
            if (value := getattr(self, name)) is not None and not value >= low:
                raise ValueError(f"{name} is {value!r}; it must be at least {low}")

    def check_positive(self, *names: str) -> None:
        """Raise where a setting, if there is one, is not above 0."""
        for name in names:
            if (value := getattr(self, name)) is not None and not value > 0:
                raise ValueError(f"{name} is {value!r}; it must be positive")

    def check_below_one(self, *names: str) -> None:
        """Raise where a setting, if there is one, is outside [0, 1)."""
        for name in names:
            if (value := getattr(self, name)) is not None and not 0 <= value < 1:
                raise ValueError(f"{name} is {value!r}; it must be in [0, 1)")


def plain(value: Any) -> Any:
    """Make Python's own numbers of numpy's and torch's, and tuples of arrays and lists."""
    value = value.tolist() if hasattr(value, "tolist") else value
    return tuple(map(plain, value)) if isinstance(value, (list, tuple)) else value


def _finite(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


Settings = TypeVar("Settings", bound=TrainingSettings)


def make_settings(kind: type[Settings], given: dict[str, Any]) -> Settings:
    """Make settings of keyword arguments.

    Raises:
        TypeError: A setting that does not exist.
        ValueError: A setting out of range.
    """
    known = [f.name for f in fields(kind)]
    if unknown := sorted(given.keys() - set(known)):
        raise TypeError(f"finetune has no setting {', '.join(unknown)}; there are: {', '.join(known)}")
    return kind(**given)
