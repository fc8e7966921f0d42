"""Rows of a job that outlive it: kept as they are finished, so that an interrupted job goes on where it stopped."""

from __future__ import annotations

import json
import shutil
import struct
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsmamba._files import HeldError, acquire, release, write_text
from hsmamba.errors import HsmambaWarning, SceneError

_FACTS, _DONE = "job.json", "done"
_COUNT = struct.Struct("<Q")
_READ_BYTES = 2**25  # that are given back at once
_SHOWN = 60  # letters of a fact in an error


class Spool:
    """The finished rows of a job, in a folder beside its output, `.map.tif.rows` of `map.tif`.

    Every array has a file of its rows, one after the other; the file `done` has the number of finished rows after each
    write, 8 bytes each. What a killed process wrote beyond the last whole number is cut off.

    Attributes:
        done: Rows that are there.
    """

    def __init__(self, folder: Path, rows: Sequence[tuple[Sequence[int], np.dtype[Any]]]) -> None:
        self._folder = folder
        self._rows = [(tuple(shape), np.dtype(dtype)) for shape, dtype in rows]
        self._bytes = [int(np.prod(shape, dtype=np.int64)) * dtype.itemsize for shape, dtype in self._rows]
        self.done = finished(folder)
        for path, size in zip(self._paths(), self._bytes, strict=True):
            with path.open("ab") as file:
                file.truncate(self.done * size)
        with (folder / _DONE).open("ab") as file:
            file.truncate(file.tell() // _COUNT.size * _COUNT.size)

    def _paths(self) -> list[Path]:
        return [self._folder / f"{i}.rows" for i in range(len(self._rows))]

    def write(self, top: int, *arrays: NDArray[Any]) -> None:
        """Keep finished rows (n, ...) of every array; `top` is the first of them.

        Raises:
            OSError: They cannot be written, or the disk is full.
            ValueError: They do not follow what is there.
        """
        if top != self.done:
            raise ValueError(f"rows from {top} do not follow the {self.done} that are kept; write from top to bottom")
        for path, array, (_, dtype) in zip(self._paths(), arrays, self._rows, strict=True):
            with path.open("ab") as file:
                file.write(np.ascontiguousarray(array, dtype).data)
        self.done += len(arrays[0])
        with (self._folder / _DONE).open("ab") as file:
            file.write(_COUNT.pack(self.done))

    def read(self) -> Iterator[tuple[int, tuple[NDArray[Any], ...]]]:
        """Give back what is there, from top to bottom: the first row, and rows (n, ...) of every array."""
        step = max(1, _READ_BYTES // max(1, sum(self._bytes)))
        for top in range(0, self.done, step):
            count = min(step, self.done - top)
            parts = []
            for path, (shape, dtype), size in zip(self._paths(), self._rows, self._bytes, strict=True):
                with path.open("rb") as file:
                    file.seek(top * size)
                    parts.append(np.frombuffer(file.read(count * size), dtype).reshape(count, *shape))
            yield top, tuple(parts)


def spool_path(output: Path) -> Path:
    """Where the rows of an output are kept."""
    return output.with_name(f".{output.name}.rows")


def finished(folder: Path) -> int:
    """Rows that a spool has; 0 where there is none."""
    with suppress(OSError):
        data = (folder / _DONE).read_bytes()
        whole = len(data) // _COUNT.size
        return int(_COUNT.unpack_from(data, (whole - 1) * _COUNT.size)[0]) if whole else 0
    return 0


@contextmanager
def spooled(
    output: Path,
    facts: Mapping[str, str],
    rows: Sequence[tuple[Sequence[int], np.dtype[Any]]],
    *,
    resume: bool,
) -> Iterator[Spool]:
    """Keep the rows of a job until its output is there.

    Args:
        output: The file that the job is to make.
        facts: What decides the rows, by name: those of an interrupted job must be the same.
        rows: Shape and dtype of a row of each array.
        resume: Go on with what an interrupted job has left; where there is nothing, begin.

    Yields:
        The rows, which are removed when the block ends without an error, and kept when it ends by one.

    Raises:
        OSError: The folder of the output cannot be written.
        SceneError: Another process makes this output; or what is left is that of another job.

    Warns:
        HsmambaWarning: There is what `resume` would have gone on with, which is removed.
    """
    folder = spool_path(output)
    lock = folder.with_name(f"{folder.name}.lock")
    try:
        handle = acquire(lock)
    except HeldError as held:
        raise SceneError(
            f"{str(output)!r} is being made by another process ({held}); wait for its end, or name another output"
        ) from None
    ended = False
    try:
        _begin(folder, output, facts, resume)
        yield Spool(folder, rows)
        ended = True
    finally:
        if ended or not finished(folder):
            (folder / _FACTS).unlink(missing_ok=True)  # first: without it what is left is nothing
            shutil.rmtree(folder, ignore_errors=True)
        release(lock, handle)


def _begin(folder: Path, output: Path, facts: Mapping[str, str], resume: bool) -> None:
    """Hold what is left against the job, or remove it and write down the new one."""
    rows = finished(folder)
    left = _left(folder) if rows else None
    if left is not None and resume:
        if others := [name for name in {**left, **facts} if left.get(name) != facts.get(name)]:
            was = "; ".join(
                f"{name}: {_short(left.get(name))} there, {_short(facts.get(name))} here" for name in others
            )
            raise SceneError(
                f"what was interrupted at {str(output)!r} is another job ({was}); leave --resume out to begin anew"
            )
        return
    if left is not None:
        warnings.warn(
            f"an interrupted job had finished {rows} rows of {str(output)!r}, which are removed: this run begins anew. "
            "With --resume it would have gone on",
            HsmambaWarning,
            stacklevel=4,
        )
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    write_text(folder / _FACTS, json.dumps(dict(facts), indent=1))


def _left(folder: Path) -> dict[str, str] | None:
    """What is written down of an interrupted job; None where there is none."""
    try:
        found = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return {str(name): str(fact) for name, fact in found.items()} if isinstance(found, dict) else None


def _short(fact: str | None) -> str:
    text = "nothing" if fact is None else fact
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
