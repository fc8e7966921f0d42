"""Files of trained models: their hashes, and reading tensors from safetensors and from nothing else."""

from __future__ import annotations

import hashlib
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from hsmamba._files import not_a_file
from hsmamba.errors import HashMismatchError, WeightsError
from hsmamba.zoo.records import FileEntry

if TYPE_CHECKING:  # torch is imported where it is used: to look into folders and to fetch files takes none
    from torch import Tensor

CONFIG = "config.json"
FILES = {which: f"{which}.safetensors" for which in ("model", "transform", "split", "check")}


def sha256_file(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits; the file is read in pieces of 1 MiB."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def verify_file(path: str | os.PathLike[str], entry: FileEntry, *, name: str, mend: str) -> None:
    """Check that a file is the one on record. Nothing is deleted; of a file that is too long nothing is read.

    Args:
        path: The file.
        entry: What is on record: its SHA-256 and its length.
        name: What the file belongs to, for the error.
        mend: What to type when it is another, for the error.

    Raises:
        WeightsError: There is no such file.
        HashMismatchError: Its length or its hash is another; the text names both.
    """
    if (instead := not_a_file(path)) is not None:
        raise WeightsError(f"{name}: {path} cannot be read ({instead}); {mend}")
    try:
        size = os.path.getsize(path)
        found = sha256_file(path) if size <= entry.bytes else "not computed"
    except OSError as error:
        raise WeightsError(f"{name}: {path} cannot be read ({error.strerror}); {mend}") from error
    if (size, found) != (entry.bytes, entry.sha256):
        raise HashMismatchError(
            f"{name}: {path} ({size} bytes) is not the file on record ({entry.bytes} bytes): its SHA-256 is {found}, "
            f"expected {entry.sha256}; it was cut short, damaged or replaced. Nothing was deleted: {mend}"
        )


def load_tensors(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read a safetensors file; no other format is read.

    Args:
        path: The file.

    Returns:
        Its tensors by name, on the CPU.

    Raises:
        WeightsError: The file is missing, cut short or of another format; the text says which and what to do.
    """
    from safetensors.torch import load_file

    path = Path(path)
    if (instead := not_a_file(path)) is not None:
        raise WeightsError(f"there is no weight file {path} ({instead}); check the path")
    try:
        return dict(load_file(path))
    except Exception as error:  # safetensors' own, and torch's for types and shapes that it cannot hold
        if format_of(path) == "pickle":
            named = path.with_suffix(".pth") if path.suffix == ".safetensors" else path
            raise WeightsError(
                f"{path} is a PyTorch pickle, whatever its name says. Reading a pickle can run code, so hsmamba reads "
                f"safetensors only here; {'' if named == path else f'rename it to {named.name} and '}convert it with: "
                f"hsmamba convert {shlex.quote(str(named))} FOLDER --arch NAME"
            ) from error
        raise WeightsError(
            f"{path} ({path.stat().st_size} bytes) is no whole safetensors file ({error}): it was cut short or is of "
            "another format; fetch or save it again"
        ) from error


def format_of(path: Path) -> str | None:
    """Say by its first bytes whether a file is "safetensors" or, as `torch.save` writes it, a "pickle"; else None."""
    if not_a_file(path) is not None:
        return None
    with path.open("rb") as file:
        head = file.read(9)
    if head[8:] == b"{":  # where the header of safetensors opens
        return "safetensors"
    return "pickle" if head.startswith((b"PK", b"\x80")) else None


def entry_of(path: Path) -> FileEntry:
    """Describe a file: its name, its SHA-256 and its length in bytes."""
    return FileEntry(path.name, sha256_file(path), path.stat().st_size)
