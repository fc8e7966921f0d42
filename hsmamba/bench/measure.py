"""What the benchmarks share: interleaved medians, peak memory, memory bandwidth."""

from __future__ import annotations

import contextlib
import ctypes
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

ENOUGH_SECONDS = 3.0  # a run that took longer is not repeated


def interleaved(runs: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Time functions that take turns, so that whatever else the machine does meets them all.

    Args:
        runs: Functions by name.
        rounds: Turns of each; one that takes over `ENOUGH_SECONDS` has only one.

    Returns:
        Median milliseconds by name.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, taken in times.items():
            if not taken or taken[0] < ENOUGH_SECONDS:
                taken.append(seconds(runs[name]))
    return {name: 1e3 * statistics.median(taken) for name, taken in times.items()}


def seconds(run: Callable[[], object]) -> float:
    """Wall time of one run."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def bandwidth() -> float:
    """Measure the memory bandwidth on torch's threads: bytes a second, read and written."""
    source = torch.ones(1 << 24)  # 64 MiB
    target = torch.ones_like(source)
    return 2 * source.nbytes / min(seconds(lambda: target.copy_(source)) for _ in range(10))


def extra_memory(run: Callable[[], object]) -> int | None:
    """Bytes by which the process grew at most during a run; None where the system does not tell (not Linux)."""
    if sys.platform != "linux":
        return None
    with contextlib.suppress(OSError, AttributeError):  # give back what earlier runs left; not every C library can
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")  # sets the peak to the present size
    except OSError:
        return None
    before = _resident("VmRSS")
    run()
    return max(0, _resident("VmHWM") - before)


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(field + ":")))
