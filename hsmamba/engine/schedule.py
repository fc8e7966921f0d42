"""Learning rates over a run: what the settings call `schedule`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

import torch
from timm.scheduler.cosine_lr import CosineLRScheduler
from timm.scheduler.multistep_lr import MultiStepLRScheduler

Schedule: TypeAlias = Literal["cosine", "constant", "step", "restarts"]
SCHEDULES: tuple[Schedule, ...] = ("cosine", "constant", "step", "restarts")
_CYCLES = 100  # of restarts: each is twice as long as the one before, so that no run sees so many


def make_schedule(optimizer: torch.optim.Optimizer, settings: Any, steps: int) -> Any:
    """Make the schedule of a run.

    Args:
        optimizer: Whose learning rates it sets.
        settings: Of the run.
        steps: Steps an epoch.

    Returns:
        A scheduler of timm whose `step_update` takes the number of a step.
    """
    warmup: dict[str, Any] = {
        "warmup_t": settings.warmup_epochs * steps,
        "warmup_lr_init": settings.lr * 1e-2,
        "warmup_prefix": False,
        "t_in_epochs": False,
    }
    # The last scheduler counts the steps that are done after the one that it is asked for.
    floor, often = settings.lr * settings.lr_floor, settings.decay_epochs * steps
    makers: Mapping[str, Callable[[], Any]] = {
        "cosine": lambda: CosineLRScheduler(optimizer, t_initial=settings.epochs * steps, lr_min=floor, **warmup),
        "constant": lambda: MultiStepLRScheduler(optimizer, decay_t=[], decay_rate=1.0, **warmup),
        "step": lambda: MultiStepLRScheduler(optimizer, decay_t=[often + 1], decay_rate=settings.decay_rate, **warmup),
        "restarts": lambda: CosineLRScheduler(
            optimizer, t_initial=often, lr_min=floor, cycle_mul=2.0, cycle_decay=settings.decay_rate,
            cycle_limit=_CYCLES, **warmup,
        ),
    }  # fmt: skip
    # timm tells the log that a cosine of one step is none.
    plain = settings.schedule == "cosine" and settings.epochs * steps == 1
    return makers["constant" if plain else settings.schedule]()
