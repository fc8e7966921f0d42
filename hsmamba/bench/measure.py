"""What the benchmarks share: interleaved medians, peak memory, memory bandwidth."""

from __future__ import annotations

import contextlib
import ctypes
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch

ENOUGH_SECONDS = 3.0  # a run that took longer is not repeated
_CPU = torch.device("cpu")


class Measured(NamedTuple):
    """What one of several functions took."""

    ms: float
    extra: int | None  # peak bytes above what the process held before; None where the system does not tell (not Linux)


def measure(
    runs: Mapping[str, Callable[[], object]],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
    device: torch.device = _CPU,
) -> dict[str, Measured]:
    """Measure functions that take turns, so that whatever else the machine does meets them all.

    Each has `rounds` turns after a first one, which tells the memory; a function whose first turn takes over
    `ENOUGH_SECONDS` has no other. With `time.process_time` for a clock, the time of all threads counts, and no time of
    other processes. What runs on a GPU is waited for, and the memory is that of the GPU.
    """
    runs = {name: _waited_for(run, device) for name, run in runs.items()}
    first = {name: _time_and_memory(run, clock, device) for name, run in runs.items()}
    quick = [name for name, (once, _) in first.items() if once < ENOUGH_SECONDS]
    times = {name: [] if name in quick else [once] for name, (once, _) in first.items()}
    for _ in range(rounds):
        for name in quick:
            times[name].append(seconds(runs[name], clock))
    return {name: Measured(1e3 * statistics.median(times[name]), extra) for name, (_, extra) in first.items()}


def known(bench: str, names: Iterable[str], table: Mapping[str, object]) -> list[str]:
    """Return names as a list; ValueError where the table does not have one of them."""
    names = list(names)
    for name in names:
        if name not in table:
            raise ValueError(f"bench {bench} knows no {name!r}; there are: {', '.join(table)}")
    return names


def seconds(run: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Time of one run."""
    start = clock()
    run()
    return clock() - start


def bandwidth() -> float:
    """Measure the memory bandwidth on torch's threads: bytes a second, read and written."""
    source = torch.ones(1 << 24)  # 64 MiB
    target = torch.ones_like(source)
    return 2 * source.nbytes / min(seconds(lambda: target.copy_(source)) for _ in range(10))


def _waited_for(run: Callable[[], object], device: torch.device) -> Callable[[], object]:
    def to_the_end() -> None:
        run()
        torch.cuda.synchronize(device)

    return to_the_end if device.type == "cuda" else run


def _time_and_memory(
    run: Callable[[], object], clock: Callable[[], float], device: torch.device
) -> tuple[float, int | None]:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        held = torch.cuda.memory_allocated(device)
        return seconds(run, clock), torch.cuda.max_memory_allocated(device) - held
    before = _reset_peak()
    taken = seconds(run, clock)
    return taken, None if before is None else max(0, _resident("VmHWM") - before)


def _reset_peak() -> int | None:
    """Set the process's peak memory to what it holds now, and return that; None where the system does not tell."""
    if sys.platform != "linux":
        return None
    with contextlib.suppress(OSError, AttributeError):  # give back what earlier runs left; not every C library can
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return _resident("VmRSS")


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(field + ":")))
