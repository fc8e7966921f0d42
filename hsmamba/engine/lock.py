"""One training run a checkpoint: a lock file with the process's id, held as long as the process lives."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hsmamba.errors import TrainingError

if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int) -> None:
        os.lseek(handle, 1 << 20, os.SEEK_SET)  # beyond the text, which others shall read
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        os.lseek(handle, 0, os.SEEK_SET)

else:
    import fcntl

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


_WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)  # what file systems that know no locks answer


@contextmanager
def only_run(checkpoint: Path) -> Iterator[None]:
    """Keep other runs from a checkpoint until the block ends.

    The lock is the system's, which frees it where the process is killed; the file tells which process it is.

    Raises:
        TrainingError: Another run has the checkpoint.
    """
    path = checkpoint.with_name(f"{checkpoint.name}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = _open(path)
    try:
        os.ftruncate(handle, 0)
        os.write(handle, str(os.getpid()).encode())
        yield
    finally:
        if sys.platform != "win32":  # while it is held, so that no later run's file is removed
            path.unlink(missing_ok=True)
        os.close(handle)
        if sys.platform == "win32":  # an open file cannot be removed, nor one that a later run has opened
            with suppress(OSError):
                path.unlink()


def _open(path: Path) -> int:
    """Open and lock the file of a lock, or raise TrainingError where another process has it."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(handle)
            if os.path.samestat(os.fstat(handle), os.stat(path)):
                return handle
        except FileNotFoundError:
            pass  # the run before has just ended and removed what was opened here
        except OSError as error:
            if error.errno in _WITHOUT_LOCKS:
                return handle
            holder = os.read(handle, 99).decode()
            os.close(handle)
            raise TrainingError(
                f"{str(path.with_suffix(''))!r} is that of a run that goes on (process {holder}); wait for its end, or "
                "train into another folder"
            ) from None
        os.close(handle)
