"""What training leaves in a folder, and how one run there follows another."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hsmamba.cli._common import check_writable, say
from hsmamba.errors import HsmambaWarning

if TYPE_CHECKING:
    from hsmamba.engine.training import Callback


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run: `checkpoint.pt`, `history.csv` and the model folder `model`.

    Attributes:
        out: The folder.
        resume: Continue from the checkpoint.
        overwrite: Replace an earlier run.
        minutes: Stop with the first epoch that ends so late; None for no limit.
    """

    out: Path
    resume: bool
    overwrite: bool
    minutes: float | None

    @property
    def checkpoint(self) -> Path:
        """The state of the run after every epoch."""
        return self.out / "checkpoint.pt"

    @property
    def model(self) -> Path:
        """The model folder."""
        return self.out / "model"

    @property
    def log(self) -> Path:
        """The history."""
        return self.out / "history.csv"

    def check(self) -> None:
        """Refuse a folder that cannot be written, or holds an earlier run of which nothing was said."""
        check_writable(self.checkpoint)
        if self.resume and self.overwrite:
            raise ValueError("--resume continues the run that --overwrite replaces; give one of them")
        there = [path.name for path in (self.checkpoint, self.log, self.model) if path.exists()]
        if self.resume and not self.checkpoint.exists():
            if there:
                raise ValueError(
                    f"{self.out} holds an earlier run without its checkpoint.pt; replace it with --overwrite"
                )
            warnings.warn(f"{self.out} holds no checkpoint yet; the run starts anew", HsmambaWarning, stacklevel=1)
        if there and not (self.resume or self.overwrite):
            raise ValueError(
                f"{self.out} holds an earlier run ({', '.join(there)}); continue it with --resume, replace it with "
                "--overwrite, or choose another folder"
            )

    def keeping(self) -> dict[str, Any]:
        """Return what `finetune` is to keep and when to stop; a checkpoint that is to be replaced goes now.

        If the new run were killed at once, a later --resume would else continue the old one.
        """
        from hsmamba.engine.pace import deadline
        from hsmamba.engine.parallel import group

        if self.overwrite:
            group().on_first(self._make_room)
        resumed = self.checkpoint if self.resume and self.checkpoint.exists() else None
        stop: Callback | None = None if self.minutes is None else deadline(self.minutes)
        return {"checkpoint": self.checkpoint, "resume": resumed, "log": self.log, "callback": stop}

    def _make_room(self) -> None:
        from hsmamba.engine.lock import only_run

        with only_run(self.checkpoint):
            self.checkpoint.unlink(missing_ok=True)


def chosen(**settings: Any) -> dict[str, Any]:
    """Return the settings that were given; the others have the task's defaults."""
    return {name: value for name, value in settings.items() if value is not None}


def license_of(network: Any, given: str | None, of_data: str | None) -> str | None:
    """Find the licence to write: the one given, else the data's where no base weight has one; None for the base's."""
    return (of_data or "unknown") if given is None and network.record is None else given


def say_licence(network: Any, terms: str | None, model: str) -> None:
    """Say whose licence a model has that none was given for."""
    if terms is None:
        say(f"its licence is that of {model}: {network.record['license']}; --license names another")
