"""Files that are whole or not there: written beside their place, flushed to the disk, then renamed."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path to write to, and rename it to `path` when the block ends without an error.

    Args:
        path: Where the file shall be; its folder is made if need be, an older file is replaced.

    Yields:
        A path in the same folder, with the same suffix.

    Raises:
        OSError: The place cannot be written; the text names it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(default_mode())
        flush(temporary)
        temporary.replace(path)
        flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


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
