"""How far a training run is within an epoch, and when its time is over."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from torch import nn
from tqdm.auto import tqdm

from hsmamba.errors import HsmambaWarning

_TOLD_EVERY = 2.0  # seconds between two texts beside the bar
_SOON = 5.0  # seconds that are not worth an estimate


@dataclass(frozen=True)
class Deadline:
    """A callback of `finetune` that ends the training with the first epoch that ends so late; `deadline` makes it.

    Attributes:
        end: When, by `time.monotonic`.
    """

    end: float

    def __call__(self, record: dict[str, float], model: nn.Module) -> bool:
        """Tell whether it is time."""
        return time.monotonic() >= self.end


def deadline(minutes: float) -> Deadline:
    """Make a callback of `finetune` that ends the training with the first epoch that ends so late.

    Where an epoch goes on beyond that, a warning says how much of it is left.

    Raises:
        ValueError: `minutes` is below 0.
    """
    if not minutes >= 0:
        raise ValueError(f"minutes is {minutes!r}; it must be 0, for one epoch, or more")
    return Deadline(time.monotonic() + 60 * minutes)


class Pace:
    """What is told between the ends of two epochs: the step beside the bar, and once that the time is over.

    Args:
        bar: Of the epochs.
        steps: Steps an epoch.
        callback: Of `finetune`; a `Deadline` has an end.
    """

    def __init__(self, bar: tqdm[NoReturn], steps: int, callback: Callable[..., bool | None] | None) -> None:
        self.bar, self.steps = bar, steps
        self.end = callback.end if isinstance(callback, Deadline) else None
        self.began = self.shown = time.monotonic()

    def __call__(self, step: int) -> None:
        """Take that a step, from 1, is done."""
        now = time.monotonic()
        if step == 1:
            self.began = now
        if not self.bar.disable and now - self.shown > _TOLD_EVERY:
            self.shown = now
            self.bar.set_postfix_str(f"step {step} of {self.steps}")
        if self.end is not None and self.end <= now and step < self.steps:
            self.end = None
            left = (now - self.began) / max(step - 1, 1) * (self.steps - step)
            soon = f", in about {left / 60:.1f} minutes" if left > _SOON else ""
            text = f"the time is over at step {step} of {self.steps}; the run ends with this epoch{soon}"
            warnings.warn(text, HsmambaWarning, stacklevel=2)
