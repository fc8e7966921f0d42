"""`hsmamba bench scene --against PATH`, `bench models --against PATH`: this package beside another checkout of it.

Each runs in a process of its own, with the same weights and numbers, and they take turns.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hsmamba.zoo.factory import list_models, list_pretrained

SIZES = {"forward": (64, 256), "step": (64, 32)}  # patches, or pixels along the guide; of a step as `finetune` has
_ROWS, _SIDE = 512, 256  # most rows of a scene to classify; of the guide of one to sharpen
_START = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__')"


class Row(NamedTuple):
    """One job of one network, done by both."""

    model: str
    work: str
    ours: float  # seconds, median
    theirs: float
    pixels: int  # or patches
    unlike: float  # share of the labels that differ; of numbers, the largest difference over the largest number


class _Worker:
    """A process that runs jobs of one checkout."""

    def __init__(self, root: Path) -> None:
        self.root = root
        paths = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.process = subprocess.Popen(
            [sys.executable, "-c", _START, str(Path(__file__).with_name("worker.py"))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        )  # fmt: skip

    def __call__(self, do: str, **order: Any) -> Any:
        stdin, stdout = self.process.stdin, self.process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("the process has no pipes")
        stdin.write(json.dumps({"do": do, **order}) + "\n")
        stdin.flush()
        if not (line := stdout.readline()):
            raise RuntimeError(f"the other process ended at {do!r}; what it said is above")
        answer = json.loads(line)
        if answer.get("from", str(self.root)) != str(self.root):
            raise RuntimeError(f"hsmamba of {answer['from']} runs where that of {self.root} should")
        return answer


@contextmanager
def _workers(other: Path) -> Iterator[list[_Worker]]:
    made = [_Worker(root) for root in (Path(__file__).resolve().parents[2], other)]
    try:
        yield made
    finally:
        for worker in made:
            worker.process.terminate()
            worker.process.communicate()


def bench_against(
    other: str | os.PathLike[str],
    models: Iterable[str] = (),
    works: Sequence[str] = ("scene",),
    rounds: int = 5,
    size: int | None = None,
    aim: float = 1.0,
    say: Callable[[str], None] = print,
) -> list[Row]:
    """Measure this package beside another checkout, in turn, and print a table as it grows.

    Args:
        other: Folder of the other checkout, which has the folder `hsmamba`.
        models: Names of weights or of architectures; default every weight.
        works: "scene" (`classify` or `fuse`), "forward" (one call of the network) or "step" (a step of training).
        rounds: Turns after the first one; figures are medians.
        size: Rows of a scene to classify, or side of the guide in pixels; default what takes about `aim` seconds, 256.
        aim: Seconds of one run of a classifier over a scene.
        say: Takes the lines.

    Raises:
        ValueError: The folder has no package, or there is no such model.
        RuntimeError: A process ended; its error is on standard error.
    """
    root = Path(other).resolve()
    if not (root / "hsmamba" / "__init__.py").is_file():
        raise ValueError(f"there is no hsmamba/__init__.py in {str(other)!r}; give the root of a checkout")
    names = list(models) or list_pretrained()
    if unknown := set(names) - {*list_pretrained(), *list_models()}:
        raise ValueError(f"there is no model {', '.join(sorted(unknown))}; choose of hsmamba list")
    say(f"ours beside {root}, in turn; unlike: share of labels that differ, or largest difference of numbers")
    say(HEADER)
    rows = []
    with _workers(root) as workers, tempfile.TemporaryDirectory(prefix="hsmamba-") as folder:
        for name in names:
            patch, _ = (worker("create", model=name)["patch"] for worker in workers)
            state = str(Path(folder) / "state.npz")
            workers[0]("keep", path=state)
            workers[1]("state", path=state)
            for work in works:
                chosen = size or _size(workers[0], work, patch, aim)
                rows.append(_compared(workers, name, work, chosen, rounds, Path(folder)))
                say(format_row(rows[-1]))
    return rows


def _size(worker: _Worker, work: str, patch: int, aim: float) -> int:
    if work != "scene":
        return SIZES[work][0 if patch else 1]
    if not patch:
        return _SIDE
    few = max(16, patch)
    worker("make", work=work, size=few)
    worker("run")
    return int(np.clip(few * aim / worker("run")["seconds"], few, _ROWS))


def _compared(workers: Sequence[_Worker], name: str, work: str, size: int, rounds: int, folder: Path) -> Row:
    pixels, _ = (worker("make", work=work, size=size)["pixels"] for worker in workers)
    found = []
    for i, worker in enumerate(workers):
        worker("run", path=str(folder / f"{i}.npy"))
        found.append(np.load(folder / f"{i}.npy"))
    times: list[list[float]] = [[], []]
    for _ in range(rounds):
        for worker, taken in zip(workers, times, strict=True):
            taken.append(worker("run")["seconds"])
    ours, theirs = map(statistics.median, times)
    return Row(name, work, ours, theirs, pixels, _unlike(*found))


def _unlike(one: np.ndarray[Any, Any], two: np.ndarray[Any, Any]) -> float:
    if one.shape != two.shape:
        return 1.0
    if one.dtype.kind in "iu":
        return float((one != two).mean())
    return float(np.abs(one - two).max() / max(np.abs(one).max(), np.finfo(np.float32).tiny))


HEADER = f"{'model':30} {'work':8} {'ours /s':>10} {'theirs /s':>10} {'ours x':>7} {'unlike':>8}"


def format_row(row: Row) -> str:
    """One line of the table: pixels (of a call or a step of a classifier: patches) a second, and how much faster."""
    rates = (row.pixels / seconds for seconds in (row.ours, row.theirs))
    return "{:30} {:8} {:10.0f} {:10.0f} {:7.2f} {:8.1e}".format(
        row.model, row.work, *rates, row.theirs / row.ours, row.unlike
    )
