"""Files that are whole or not there: written beside their place, flushed to the disk, then renamed; and locks.

A lock is the system's and goes with the process that holds it, so that a killed one leaves none: a file that is merely
there would outlive it, and a process's id may be another's by then, always so in containers.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def not_a_file(path: str | os.PathLike[str]) -> str | None:
    """Say what stands at a path instead of a file with content, without opening it: a pipe would be waited for.

    Returns:
        "a folder", "a pipe", "a device", "a socket", or the system's reason why nothing can be seen there; None for a
        file, and for a link to one.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        return getattr(error, "strerror", None) or str(error)
    return None if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "no file")


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


# What file systems that know no locks answer; the last one is NFS's for a folder.
_WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EBADF)
_DAY = 86400


class HeldError(Exception):
    """A lock that another process, or another thread, has; its text is the process's id."""


def acquire(path: Path) -> int:
    """Make, open and lock a file, which then holds this process's id.

    Returns:
        The open file, for `release`. Where the file system knows no locks it is not locked.

    Raises:
        HeldError: Another has it.
        OSError: The place cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if _locked(handle) is False:
                raise HeldError(os.read(handle, 99).decode())
            if os.path.samestat(os.fstat(handle), os.stat(path)):
                os.ftruncate(handle, 0)
                os.write(handle, str(os.getpid()).encode())
                return handle
        except FileNotFoundError:
            pass  # the one before has just ended and removed what was opened here
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def release(path: Path, handle: int) -> None:
    """Free a lock and remove its file."""
    if sys.platform != "win32":  # while it is held, so that no later file is removed
        path.unlink(missing_ok=True)
    os.close(handle)
    if sys.platform == "win32":  # an open file cannot be removed, nor one that another has opened
        with suppress(OSError):
            path.unlink()


def _locked(handle: int) -> bool | None:
    """Lock an open file or folder; False where another has it, None where there are no locks."""
    try:
        _lock(handle)
    except OSError as error:
        return None if error.errno in _WITHOUT_LOCKS else False
    return True


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path to write to, and rename it to `path` when the block ends without an error.

    Args:
        path: Where the file shall be; its folder is made if need be, an older file is replaced.

    What a killed process left of the same file is removed.

    Yields:
        A path of the same name, in a folder of its own beside; there is no file yet. It may become a folder,
        where there is nothing at `path`.

    Raises:
        OSError: The place cannot be written; the text names it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _tidy(path)
    folder, handle = _own_folder(path)
    temporary = folder / path.name
    try:
        yield temporary
        if not temporary.is_dir():
            temporary.chmod(default_mode())
        flush(temporary)
        temporary.replace(path)
        flush(path.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if handle is not None:
            os.close(handle)


def _own_folder(path: Path) -> tuple[Path, int | None]:
    """Make a folder beside a file, opened and locked as long as it is in use; None where folders cannot be opened."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.part-", dir=path.parent))
        try:
            handle = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            continue
        except OSError:
            return folder, None
        if _locked(handle) is not False and folder.exists():
            return folder, handle
        os.close(handle)  # another has taken it for what a killed process left


def _tidy(path: Path) -> None:
    """Remove what killed processes left of earlier tries to write a file."""
    part = re.compile(re.escape(f".{path.name}.part-") + r"[a-z0-9_]{8}")
    for entry in [entry for entry in os.scandir(path.parent) if part.fullmatch(entry.name)]:
        if entry.is_dir(follow_symlinks=False) and _abandoned(entry):
            shutil.rmtree(entry.path, ignore_errors=True)


def _abandoned(entry: os.DirEntry[str]) -> bool:
    """Whether nobody writes in a folder of temporary files; where there are no locks, for a day."""
    with suppress(OSError):
        old = time.time() - entry.stat().st_mtime > _DAY
        try:
            handle = os.open(entry.path, os.O_RDONLY)
        except OSError:
            return old
        locked = _locked(handle)
        os.close(handle)
        return old if locked is None else locked
    return False


def flush(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk and not in the system's memory alone.

    Raises:
        OSError: The disk is full or broken; it may say so only now.
    """
    if path.is_dir() and os.name == "nt":  # which cannot open folders
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that flushes nothing
            raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        os.close(handle)


def default_mode() -> int:
    """Return the permissions of a plain new file; libraries that write by way of a temporary file give fewer."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a UTF-8 text file whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
