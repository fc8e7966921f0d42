"""Run what is missing of a suite in parallel processes, a row of one CSV file for each finished cell."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TypeAlias

from hsmamba._files import HeldError, acquire, release
from hsmamba.engine.benchmark.cells import run_cell
from hsmamba.engine.benchmark.suite import Cell, Suite
from hsmamba.engine.parallel import group
from hsmamba.engine.results import Row, read_results, write_results
from hsmamba.errors import HsmambaError

Tell: TypeAlias = "Callable[[str], None]"
Result: TypeAlias = "tuple[Cell, Row | str]"  # a cell, and its row or why it failed
Results: TypeAlias = "Callable[[Executor, list[Cell]], Iterator[Result]]"

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def run_suite(
    suite: Suite,
    table: str | Path,
    *,
    methods: Collection[str] = (),
    data: str | Path | None = None,
    jobs: int = 1,
    tell: Tell | None = None,
) -> list[Row]:
    """Run the cells of a suite that a table does not hold yet.

    Every finished cell is a row of the table, which is written whole or not at all: a killed run loses the running
    cells. A cell is known by the hash of its data set, split, seed and settings, so a change of these runs it anew and
    replaces the row of the same names.

    The processes of `accelerate launch` share the cells, `jobs` each at a time, and the first writes the table when
    all have done theirs.

    Args:
        suite: The suite.
        table: CSV file.
        methods: Run these of the suite alone; all where empty.
        data: Folder of data; default the environment variable HSMAMBA_DATA.
        jobs: Processes side by side, of one thread each.
        tell: Called with a line after each cell.

    Returns:
        The rows of all cells of the suite that there are, in its order.

    Raises:
        ValueError: `jobs` is below 1, or the suite has no such method.
        HsmambaError: Another run has the table; or cells failed, after all others have run, or a process was killed.
    """
    if jobs < 1:
        raise ValueError(f"jobs is {jobs}; expected 1 or more processes")
    if unknown := sorted(set(methods) - suite.methods.keys()):
        raise ValueError(f"the suite has no method {', '.join(unknown)}; it has {', '.join(suite.methods)}")
    table, here = Path(table), group()
    with ExitStack() as stack:
        here.on_first(lambda: stack.enter_context(_only_run(table)))
        rows = here.on_first(lambda: read_results(table))
        there = {row["cell"] for row in rows}
        wanted = [cell for cell in suite.cells() if not methods or cell.method.name in methods]
        missing = [cell for cell in wanted if cell.sha256 not in there]
        share = partial(_results, jobs=jobs, root=None if data is None else str(data), table=table)
        failed = _run(suite, missing, rows, table, share, jobs, tell)
    if failed:
        first, why = next(iter(failed.items()))
        raise HsmambaError(
            f"{len(failed)} of {len(missing)} cells failed; the others are in {str(table)!r}, and another run "
            f"tries these again. The first: {first}: {why}"
        )
    return rows_of(suite, rows)


def rows_of(suite: Suite, rows: list[Row]) -> list[Row]:
    """Pick the rows of the cells of a suite, in its order.

    Raises:
        HsmambaError: Rows of one data set, split and seed are of other pixels.
    """
    by_cell = {row["cell"]: row for row in rows}
    found = [(cell, by_cell[cell.sha256]) for cell in suite.cells() if cell.sha256 in by_cell]
    pixels: dict[tuple[str, str, int], tuple[str, Row]] = {}
    for cell, row in found:
        key = (cell.data.name, cell.split, cell.seed if cell.task == "classification" else -1)
        one = str(row["data_sha256"]) + (str(row["split_sha256"]) if cell.task == "classification" else "")
        first = pixels.setdefault(key, (one, row))
        if first[0] != one:
            raise HsmambaError(
                f"{row['method']} and {first[1]['method']} saw other pixels of {cell.data.name}, split {cell.split}, "
                f"seed {cell.seed}: the data or the split have changed since; remove these rows and run them again"
            )
    return [{**row, **dict(zip(("data", "split", "seed", "method"), cell.place, strict=True))} for cell, row in found]


def _run(
    suite: Suite, missing: list[Cell], rows: list[Row], table: Path, results: Results, jobs: int, tell: Tell | None
) -> dict[str, str]:
    """Run cells, put their rows into the table, and return why those failed that did."""
    if not missing:
        return {}
    here, failed, done = group(), {}, 0
    with _workers(min(jobs, len(missing))) as pool:
        for cell, row in _shared(missing, jobs, partial(results, pool)):
            done += 1
            name = ", ".join(map(str, cell.place))
            if isinstance(row, str):
                failed[name] = row
                said = f"failed: {row}"
            else:
                _put(rows, row, suite)
                here.on_first(partial(write_results, table, rows))
                said = "  ".join(f"{metric} {row[metric]}" for metric in suite.metrics)
                said += f"  ({row['train_seconds'] + row['test_seconds']:.1f} s)"
            if tell is not None and here.is_first:
                tell(f"{done}/{len(missing)} {name}: {said}")
    return failed


def _shared(cells: list[Cell], jobs: int, results: Callable[[list[Cell]], Iterator[Result]]) -> Iterator[Result]:
    """Give the results of cells as they come; in a launch round by round, each process's share of a round."""
    here = group()
    if here.size == 1:
        yield from results(cells)
        return
    step = jobs * here.size
    for first in range(0, len(cells), step):
        mine = cells[first : first + step][here.rank :: here.size]
        for part in here.gathered(list(results(mine))):
            yield from part


def _results(pool: Executor, cells: list[Cell], *, jobs: int, root: str | None, table: Path) -> Iterator[Result]:
    """Run cells in processes; give the row of each, or why it failed."""
    futures: dict[Future[Row], Cell] = {pool.submit(_work, cell, root): cell for cell in cells}
    for future in as_completed(futures):
        try:
            yield futures[future], future.result()
        except BrokenProcessPool:
            raise HsmambaError(
                f"a process of the benchmark was ended from outside, maybe for want of memory; lower jobs ({jobs}) "
                f"and run again: the finished cells are in {str(table)!r}"
            ) from None
        except _FailedCell as error:
            yield futures[future], str(error)


def _put(rows: list[Row], row: Row, suite: Suite) -> None:
    """Add a row, in place of an older one of the same names, in the order of the suite."""
    place = ("data", "split", "seed", "method")
    rows[:] = [old for old in rows if [old[key] for key in place] != [row[key] for key in place]] + [row]
    order = {cell.sha256: index for index, cell in enumerate(suite.cells())}
    rows.sort(key=lambda one: order.get(one["cell"], len(order)))


class _FailedCell(Exception):
    """Why a cell failed; every exception can be told from one process to another in this form."""


def _work(cell: Cell, root: str | None) -> Row:
    try:
        return run_cell(cell, root)
    except Exception as error:
        raise _FailedCell(f"{type(error).__name__}: {' '.join(str(error).split())}") from None


@contextmanager
def _workers(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Give processes of one thread each, which end with the block, however it ends."""
    before = {name: os.environ.get(name) for name in _THREADS}
    others = multiprocessing.active_children()
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), initializer=_begin)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in multiprocessing.active_children():
            if child not in others:
                child.terminate()
        raise
    finally:
        pool.shutdown()
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _begin() -> None:
    """Make a process one of one thread that ends with its parent, even where that is killed, and at Ctrl-C."""
    import torch

    torch.set_num_threads(1)
    os.environ.pop("WORLD_SIZE", None)  # a cell is a process's own, also in a launch
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _only_run(table: Path) -> Iterator[None]:
    """Keep other runs from the table until the block ends."""
    path = table.with_name(f"{table.name}.lock")
    try:
        handle = acquire(path)
    except HeldError as held:
        raise HsmambaError(
            f"{str(table)!r} is that of a run that goes on (process {held}); wait for its end, or name another file"
        ) from None
    try:
        yield
    finally:
        release(path, handle)
