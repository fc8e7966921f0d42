"""One training run a checkpoint: a lock file with the process's id, held as long as the process lives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hsmamba._files import HeldError, acquire, release
from hsmamba.errors import TrainingError


@contextmanager
def only_run(checkpoint: Path) -> Iterator[None]:
    """Keep other runs from a checkpoint until the block ends.

    Raises:
        TrainingError: Another run has the checkpoint.
    """
    path = checkpoint.with_name(f"{checkpoint.name}.lock")
    try:
        handle = acquire(path)
    except HeldError as held:
        raise TrainingError(
            f"{str(checkpoint)!r} is that of a run that goes on (process {held}); wait for its end, or train into "
            "another folder"
        ) from None
    try:
        yield
    finally:
        release(path, handle)
