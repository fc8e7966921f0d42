"""Damage and forge files of every kind that the library reads, and see that each is read rightly or refused.

    python tools/fuzz.py --seed 0 --cases 5000
    python tools/fuzz.py --seed 0 --only 1234          one case again, with its traceback
    python tools/fuzz.py --seed 0 --cases 500 --kind pth

A case is right where a sound file gives what was written, or a forged one, of which nothing on record tells, gives
anything at all; it is refused where an `HsmambaError` says so. Whatever else comes of it is bad: another exception,
other content than that on record, more than ten seconds, a process that ends. Then the exit code is 1.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import multiprocessing as mp
import os
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

LIMIT = 10.0  # seconds a case
START = 180.0  # seconds for a worker to import everything and to make sound files
MEMORY = 4 << 30  # bytes that a worker may take beside what it has when it starts
OUTCOMES = ("right", "refused", "wrong", "hang", "crash")


def _limit_memory() -> None:
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        limit = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


class Cases:
    """All cases of a seed; number n is of kind n modulo the number of kinds."""

    def __init__(self, seed: int, home: Path) -> None:
        import fuzz_cases
        import torch

        torch.set_num_threads(1)
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        self.seed, self.home = seed, home
        self.kinds = []
        for kind in fuzz_cases.KINDS:
            (home / kind.__name__).mkdir()
            self.kinds.append(kind(home / kind.__name__))

    def run(self, number: int, *, show: bool = False) -> tuple[str, str]:
        """Run a case: its outcome, and what is to be told of it."""
        import numpy as np

        from hsmamba.errors import HsmambaError

        kind = self.kinds[number % len(self.kinds)]
        folder = self.home / f"case{number}"
        case = kind.case(folder, np.random.default_rng([self.seed, number]))
        try:
            found = case.read()
        except HsmambaError as error:
            return ("wrong", f"a sound file is refused: {error}") if case.sound else ("refused", str(error))
        except Exception as error:  # which the library should not let through
            if show:
                traceback.print_exc()
            return "wrong", f"{type(error).__name__}: {error}"
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if found != kind.sound and not case.free:
            return "wrong", "other content than that on record"
        return "right", ""


def _serve(connection: Connection, seed: int) -> None:
    """Answer numbers of cases with their outcomes, until the other side closes."""
    with open(os.devnull, "w", encoding="utf-8") as sink:
        os.dup2(sink.fileno(), 2)  # of the libraries beneath, which tell every damaged file
        os.dup2(sink.fileno(), 1)
    with tempfile.TemporaryDirectory(prefix="hsmamba-fuzz-") as home:
        cases = Cases(seed, Path(home))
        _limit_memory()
        connection.send([kind.name for kind in cases.kinds])
        while (number := connection.recv()) is not None:
            connection.send(cases.run(number))


class Worker:
    """A process that runs cases; it is ended and started anew when one takes too long."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._start()

    def _start(self) -> None:
        context = mp.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, self.seed), daemon=True)
        self.process.start()
        other.close()
        if not self.connection.poll(START):
            raise SystemExit("the worker does not start; run one case with --only to see why")
        self.kinds: list[str] = self.connection.recv()

    def run(self, number: int) -> tuple[str, str]:
        """Run a case: its outcome, and what is to be told of it."""
        try:
            self.connection.send(number)
            if self.connection.poll(LIMIT):
                outcome: tuple[str, str] = self.connection.recv()
                return outcome
            result = "hang", f"more than {LIMIT:g} s"
        except (EOFError, OSError):
            self.process.join(5)
            result = "crash", f"the process ended with {self.process.exitcode}"
        self.process.kill()
        self.process.join()
        self._start()
        return result

    def close(self) -> None:
        """End the process."""
        self.connection.send(None)
        self.process.join(10)
        self.process.kill()


def _numbers(cases: int, kinds: list[str], kind: str | None) -> Iterator[int]:
    if kind is not None and kind not in kinds:
        raise SystemExit(f"--kind is {kind!r}, expected one of {', '.join(kinds)}")
    return (n for n in range(cases) if kind in (None, kinds[n % len(kinds)]))


def _table(counts: dict[str, Counter[str]], slowest: dict[str, float]) -> str:
    rows = [
        ("kind", *OUTCOMES, "slowest"),
        *((kind, *(counts[kind][o] for o in OUTCOMES), f"{slowest[kind]:.2f} s") for kind in counts),
    ]
    return "\n".join(f"{row[0]:<12}" + "".join(f"{cell!s:>9}" for cell in row[1:]) for row in rows)


def fuzz(seed: int, cases: int, kind: str | None) -> int:
    """Run many cases, print what is bad and a table; return the number of bad cases."""
    worker = Worker(seed)
    counts: dict[str, Counter[str]] = {name: Counter() for name in worker.kinds}
    slowest = dict.fromkeys(worker.kinds, 0.0)
    bad, start = 0, time.monotonic()
    for number in _numbers(cases, worker.kinds, kind):
        began = time.monotonic()
        name = worker.kinds[number % len(worker.kinds)]
        outcome, told = worker.run(number)
        counts[name][outcome] += 1
        slowest[name] = max(slowest[name], time.monotonic() - began)
        if outcome not in ("right", "refused"):
            bad += 1
            print(f"{outcome}: {name} --seed {seed} --only {number}: {' '.join(told.split())[:200]}", flush=True)
    seconds = time.monotonic() - start
    done = sum(count.total() for count in counts.values())
    worker.close()
    print(_table(counts, slowest))
    print(f"seed {seed}: {done} cases, {bad} bad, {done / seconds:.0f} a second")
    return bad


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Damage files and see that each is read rightly or refused.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--only", type=int, help="number of one case, to run again")
    parser.add_argument("--kind", help="one kind alone")
    options: Any = parser.parse_args()
    if options.only is None:
        sys.exit(int(fuzz(options.seed, options.cases, options.kind) > 0))
    with tempfile.TemporaryDirectory(prefix="hsmamba-fuzz-") as home:
        outcome, told = Cases(options.seed, Path(home)).run(options.only, show=True)
        print(f"{outcome}: {told}")
        sys.exit(int(outcome not in ("right", "refused")))


if __name__ == "__main__":
    main()
