"""What `torch.save` wrote, read without trusting it: its figures are held against it before torch reads it."""

from __future__ import annotations

import io
import mmap
import pickletools
import zipfile
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from hsmamba._files import not_a_file
from hsmamba.errors import WeightsError

# Numbers of numpy are often saved beside a state. numpy 2 moved the function that makes them.
_SCALAR: Any = np.float64(0).__reduce__()[0]
_NUMPY: list[Any] = [
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    *dict.fromkeys(type(np.dtype(code)) for code in "?bhilqBHILQefd"),
]
_LEGACY_PICKLES = 5  # magic number, protocol, system, the object, its storages; then come the numbers
_DEEPEST, _LARGEST = 200, 10**8  # of objects in one another, counted where they are used; states have 5 and some 10**5
_Nesting: TypeAlias = "tuple[int, int]"  # depth, and number of objects inside


def load_pickle(path: Path) -> Any:
    """Read tensors and plain values that `torch.save` wrote, in its zip archives or its older format.

    Before torch reads anything (with `weights_only=True`), an archive's declared sizes and checksums are compared with
    what is there, and the pickle is looked through for nesting that would exhaust the stack or the time.

    Args:
        path: The file.

    Returns:
        What was saved; tensors are on the CPU and may share the file's memory.

    Raises:
        WeightsError: The file is missing, damaged, or holds more than that.
    """
    if (instead := not_a_file(path)) is not None:
        raise WeightsError(f"there is no checkpoint {path} ({instead}); check the path")
    if path.suffix == ".safetensors":  # which torch would go by
        raise WeightsError(f"{path} is what torch.save writes, whatever its name says: rename it to {path.stem}.pth")
    try:
        archive = check_pickle(path)
        with torch.serialization.safe_globals(_NUMPY):
            # Mapped, a tensor cannot reach beyond the file, whatever length it claims.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
    except Exception as error:  # the unpickler promises no set of exceptions
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(
            f"{path} cannot be read as a checkpoint of tensors alone ({said}); fetch or copy it again if it was cut "
            f"short or damaged. If it holds a whole pickled network, save its state where you trust it: "
            f"torch.save(model.state_dict(), 'state.pth')"
        ) from error


def check_pickle(path: Path) -> bool:
    """Hold a file's figures against it, and look its pickle through; say whether it is an archive.

    Raises:
        Exception: The file is damaged or forged; of which kind depends on the damage.
    """
    with path.open("rb") as file:
        archive = file.read(4) == b"PK\x03\x04"
        if archive:
            _check_nesting(io.BytesIO(_checked_pickle(path)), 1)
        else:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                _check_nesting(content, _LEGACY_PICKLES)
    return archive


def _checked_pickle(path: Path) -> bytes:
    """Return the pickle of an archive whose parts are stored as they are, fit into the file and pass their check."""
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        if any(part.compress_type != zipfile.ZIP_STORED or part.file_size != part.compress_size for part in parts):
            raise ValueError("it is compressed, as torch.save never does")
        if sum(part.file_size for part in parts) > path.stat().st_size:
            raise ValueError("it declares more bytes than the file has")
        if len({part.filename for part in parts}) < len(parts):
            raise ValueError("two of its parts have one name")
        if (damaged := archive.testzip()) is not None:
            raise ValueError(f"its part {damaged} is damaged: the checksum is another")
        pickles = [part for part in parts if part.filename.rpartition("/")[2] == "data.pkl"]
        if len(pickles) != 1:
            raise ValueError(f"it has {len(pickles)} parts data.pkl instead of one")
        return archive.read(pickles[0])


def _check_nesting(file: Any, pickles: int) -> None:
    """Raise ValueError for pickles that are malformed or nested beyond all use.

    A tuple is hashed by its parts, and theirs, each as often as it is used: a short pickle of tuples in tuples can
    take the whole stack, or years.
    """
    for _ in range(pickles):
        stack: list[_Nesting | None] = []  # None is a mark
        memo: dict[int, _Nesting] = {}
        for opcode, argument, _position in pickletools.genops(file):
            _step(opcode, argument, stack, memo)
            if stack and (top := stack[-1]) is not None and (top[0] > _DEEPEST or top[1] > _LARGEST):
                raise ValueError(f"its objects are nested {top[0]} deep, {top[1]} in all")


_FILLS = {"SETITEM", "SETITEMS", "APPEND", "APPENDS", "ADDITEMS", "BUILD"}  # what the lowest object on the stack holds


def _step(opcode: Any, argument: Any, stack: list[_Nesting | None], memo: dict[int, _Nesting]) -> None:
    """Do what one opcode does to the stack, with nestings in place of objects."""
    name, before = opcode.name, opcode.stack_before
    if "PUT" in name or name == "MEMOIZE":
        memo[len(memo) if argument is None else int(argument)] = stack[-1] or (0, 1)
    elif "GET" in name:
        stack.append(memo[int(argument)])
    elif name == "MARK":
        stack.append(None)
    else:
        taken = _take(before, stack)
        holder = [taken.pop()] if name in _FILLS else [(0, 1)]
        depth = max([holder[0][0], *(1 + part[0] for part in taken)])
        size = sum(part[1] for part in [*holder, *taken])
        stack.extend([(depth, size)] * len(opcode.stack_after))


def _take(before: list[Any], stack: list[_Nesting | None]) -> list[_Nesting]:
    """Take from the stack what an opcode takes, the topmost first."""
    taken: list[_Nesting] = []
    count = len(before)
    if pickletools.markobject in before:
        count = before.index(pickletools.markobject)
        while (top := stack.pop()) is not None:
            taken.append(top)
    return taken + [stack.pop() or (0, 1) for _ in range(count)]
