"""Processes that are hit while they work; `tools/kill.py` tells what for."""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

HUNG = 120.0  # seconds after which a process counts as hung
FILE_EVENTS = ("open", "os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod")


class LostError(Exception):
    """Something is not as it was, or as it should have become."""


@dataclass(frozen=True)
class Shot:
    """When and by what a process is hit: after so many seconds, or some time after its n-th operation on files."""

    sign: signal.Signals = signal.SIGKILL
    seconds: float | None = None
    event: int | None = None
    delay: float = 0.0


@dataclass
class Ended:
    """How a process ended."""

    code: int  # minus the signal where one ended it
    text: str
    seconds: float


def run(work: Callable[[], object], place: Path, shot: Shot | None = None) -> Ended:
    """Run a function in a process of its own, and hit it."""
    log, start = place.with_suffix(".log"), time.perf_counter()
    sys.stdout.flush()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # until the child is itself
    pid = os.fork()
    if pid == 0:
        _be_child(work, place, log, shot)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    if shot is not None and shot.seconds is not None:
        time.sleep(max(0.0, start + shot.seconds - time.perf_counter()))
        os.kill(pid, shot.sign)
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            break
        if time.perf_counter() - start > HUNG:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise LostError(f"hung for {HUNG:.0f} s")
        time.sleep(0.001)
    text = log.read_text(errors="replace") if log.exists() else ""
    return Ended(os.waitstatus_to_exitcode(status), text, time.perf_counter() - start)


def _be_child(work: Callable[[], object], place: Path, log: Path, shot: Shot | None) -> None:
    """Do the work with the output in a file, and end; never returns, wherever the one interrupt comes."""
    code = 130
    try:
        try:
            code = _code_of(work, place, log, shot)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    finally:
        os._exit(130)


def _code_of(work: Callable[[], object], place: Path, log: Path, shot: Shot | None) -> int:
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    if shot is not None and shot.event is not None:
        _watch(place, shot.event, shot.delay)
    try:
        work()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except KeyboardInterrupt:
        return 130
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _watch(place: Path, event: int, delay: float) -> None:
    """End this process at, or some time after, its n-th operation on files of a folder."""
    inside, left = str(place), event

    def seen(name: str, args: tuple[object, ...]) -> None:
        nonlocal left
        if name not in FILE_EVENTS or not str(args[0]).startswith(inside):
            return
        left -= 1
        if left == 0:
            if not delay:
                os.kill(os.getpid(), signal.SIGKILL)
            signal.setitimer(signal.ITIMER_REAL, delay)  # SIGALRM ends a process as SIGKILL does

    sys.addaudithook(seen)


def rehearse(work: Callable[[], object], place: Path) -> int:
    """Count a process's operations on files of a folder, and import here what it imports, so that later ones need not.

    What is killed is then the work itself and not the imports before it.
    """
    told = place.with_suffix(".json")

    def watched() -> None:
        seen = 0

        def count(name: str, args: tuple[object, ...]) -> None:
            nonlocal seen
            seen += name in FILE_EVENTS and str(args[0]).startswith(str(place))

        sys.addaudithook(count)
        with suppress(SystemExit):
            work()
        told.write_text(json.dumps([seen, sorted(sys.modules)]))

    ended = run(watched, place)
    if not told.exists():
        raise SystemExit(f"fails undisturbed: {ended.text}")
    seen, modules = json.loads(told.read_text())
    for name in modules:
        with suppress(Exception):
            importlib.import_module(name)
    return int(seen)
