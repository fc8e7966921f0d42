"""Run the compiled CPU kernel with every array beside protected pages, so that no access outside one goes unnoticed.

Run from the repository's root: python tools/guard_kernel.py [--cases N] [--seed S]. Forward and backward run over a
sweep of shapes, layouts, options and instruction sets. Each array lies between two pages that cannot be read or
written, in one run flush with the page behind it, in another with the page before it. Results are held against the
reference.

Exit code 0: no guard was touched and all agree. 1: the case that failed is printed. 2: it cannot run here.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import mmap
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hsmamba.ops import cpu, selective_scan

PAGE = mmap.PAGESIZE
TOLERANCE = 1e-4  # of the largest true value
SIZES = {
    "b": (1, 2, 3, 0),
    "groups": (1, 2, 3),
    "per_group": (1, 3, 4, 8, 15, 16, 17, 33, 0),
    "length": (1, 2, 31, 32, 33, 64, 100, 0),
    "states": (0, 1, 2, 3, 4, 5, 8, 9, 17),
    "form": ("grouped", "time", "constant"),
    "layout": ("contiguous", "channels last", "every second step"),
    "optional": (True, False),
    "threads": (1, 3),
}


class Case(NamedTuple):
    """One scan: sizes, form of B and C, layout of the sequences, and how many threads its tasks are cut for."""

    b: int
    groups: int
    per_group: int
    length: int
    states: int
    form: str
    layout: str
    optional: bool  # with D, z, delta_bias, an initial state and softplus
    threads: int


def cases(count: int, seed: int) -> Iterator[Case]:
    """Give some of all combinations: first one with dead lanes and one without states, then at random."""
    yield Case(2, 2, 3, 33, 4, "grouped", "contiguous", True, 1)
    yield Case(1, 2, 3, 33, 0, "grouped", "contiguous", True, 1)
    rng = random.Random(seed)
    for _ in range(count - 2):
        yield Case(*(rng.choice(values) for values in SIZES.values()))  # type: ignore[arg-type]


class Guarded:
    """Memory between two pages that nobody may touch."""

    def __init__(self, size: int, behind: bool) -> None:
        inner = -(-size // PAGE) * PAGE
        self.memory = mmap.mmap(-1, inner + 2 * PAGE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        for guard in (start, start + PAGE + inner):
            if mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(PAGE), 0):
                raise OSError(ctypes.get_errno(), "mprotect refused to protect a page")
        self.address = start + PAGE + (inner - size if behind else 0)


def mprotect(*arguments: Any) -> int:
    """Call the system's function of that name; AttributeError or TypeError where there is none."""
    return int(ctypes.CDLL(None, use_errno=True).mprotect(*arguments))


def extent(x: Tensor) -> int:
    """Bytes from the first to behind the last element."""
    if x.numel() == 0:
        return 0
    return (1 + sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True))) * x.element_size()


def redirect(structure: ctypes.Structure, places: dict[int, Guarded]) -> None:
    """Point every pointer of a structure to the copy of its array."""
    for name, kind in structure._fields_:  # type: ignore[misc]
        value = getattr(structure, name)
        if isinstance(value, ctypes.Structure):
            redirect(value, places)
        elif kind is ctypes.c_void_p and value:
            setattr(structure, name, places[value].address)


def run_guarded(direction: str, scan: Any, tensors: list[Tensor | None], *, behind: bool, overrun: bool) -> None:
    """Stand in for `cpu._run`: run the kernel on copies of all arrays beside guards, and copy them back.

    Args:
        direction: "forward" or "backward".
        scan: The kernel's arguments; are changed.
        tensors: The arrays behind it.
        behind: Put each array before a guard, else behind one.
        overrun: Read one step too far, to see that the guards notice.
    """
    if scan.slots == 0:
        return
    kernel, size_of_scratch = cpu._function(f"scan_{direction}"), cpu._function("scan_scratch")
    size_of_scratch.restype = ctypes.c_int64
    floats = -(-size_of_scratch(ctypes.byref(scan)) // 16) * 16
    scratch = Guarded(4 * floats, behind)
    arrays = sorted((x for x in tensors if x is not None and x.numel()), key=extent)  # of two at one place the longer
    places = {x.data_ptr(): Guarded(extent(x), behind) for x in arrays}
    for x in arrays:
        ctypes.memmove(places[x.data_ptr()].address, x.data_ptr(), extent(x))
    redirect(scan, places)
    scan.l += overrun
    kernel(ctypes.byref(cpu._Run(ctypes.pointer(scan), scratch.address, floats, 0, 0)))
    for x in arrays:
        ctypes.memmove(x.data_ptr(), places[x.data_ptr()].address, extent(x))
    for place in (scratch, *places.values()):
        place.memory.close()


def arguments(case: Case) -> dict[str, Any]:
    """Random arguments of `selective_scan`."""
    b, d, n, length = case.b, case.groups * case.per_group, case.states, case.length
    rng = torch.Generator().manual_seed(0)

    def randn(*shape: int) -> Tensor:
        x = torch.randn(*shape, generator=rng)
        if len(shape) != 3 or case.layout == "contiguous":
            return x
        if case.layout == "channels last":
            return x.transpose(1, 2).contiguous().transpose(1, 2)
        return x.repeat_interleave(2, -1)[..., ::2]

    forms = {"grouped": (b, case.groups, n, length), "time": (b, n, length), "constant": (d, n)}
    tensors = {"u": randn(b, d, length), "delta": 0.3 * randn(b, d, length).abs(), "A": -randn(d, n).abs()}
    tensors |= {"B": randn(*forms[case.form]), "C": randn(*forms[case.form])}
    if case.optional:
        tensors |= {"D": randn(d), "z": randn(b, d, length), "delta_bias": randn(d), "initial_state": randn(b, d, n)}
    return tensors | {"delta_softplus": case.optional, "return_last_state": True}


def outcome(case: dict[str, Any], backend: str, dtype: torch.dtype) -> list[Tensor]:
    """Outputs and gradients."""
    leaves = {k: x.to(dtype).requires_grad_() for k, x in case.items() if isinstance(x, Tensor)}
    y, last = selective_scan(**case | leaves, backend=backend)
    grads = torch.autograd.grad(
        y.square().sum() + last.sum(), list(leaves.values()), allow_unused=True, materialize_grads=True
    )
    return [y.detach(), last.detach(), *grads]


def sweep(count: int, seed: int, overrun: bool) -> None:
    """Run the cases in this process, each named on its own line before it runs."""
    levels = ["baseline", "avx2", "avx512"]
    levels = levels[: levels.index(cpu.level()) + 1]
    for case in cases(count, seed):
        values = arguments(case)
        true = outcome(values, "reference", torch.float64)
        torch.set_num_threads(case.threads)
        cpu.SMALL = 0  # cut small scans into tasks too
        for level, behind in itertools.product(levels, (True, False)):
            print(f"{case}, {level}, guards {'behind' if behind else 'before'}", flush=True)
            cpu.level = partial(str, level)
            cpu._run = partial(run_guarded, behind=behind, overrun=overrun)
            for expected, got in zip(true, outcome(values, "cpu", torch.float32), strict=True):
                if expected.numel():
                    worst = (got - expected).abs().max() / expected.abs().max().clamp_min(1e-6)
                    assert worst <= TOLERANCE, f"off the reference by {worst:.2g} of its largest value"
        torch.set_num_threads(1)


def main() -> int:
    """Run the sweep in a process of its own, after one that must die."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cases", type=int, default=500, help="how many shapes")
    parser.add_argument("--seed", type=int, default=0, help="of their choice")
    parser.add_argument("--inside", choices=("sweep", "overrun"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        sweep(options.cases, options.seed, options.inside == "overrun")
        return 0
    try:
        mprotect(None, 0, 0)
    except (AttributeError, TypeError):
        print("this system has no mprotect: run it on Linux or macOS")
        return 2
    if reason := cpu.unavailable():
        print(reason)
        return 2

    def inside(what: str, count: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, __file__, "--inside", what, "--cases", str(count), "--seed", str(options.seed)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    if -inside("overrun", 2).returncode not in (signal.SIGSEGV, signal.SIGBUS):
        print("a kernel that reads a step too far was not stopped: the guards do not work here")
        return 2
    run = inside("sweep", options.cases)
    lines = run.stdout.splitlines()
    if run.returncode:
        how = f"signal {-run.returncode}" if run.returncode < 0 else run.stderr[-2000:]
        print(f"failed in {lines[-1] if lines else 'the first case'}: {how}")
        return 1
    print(f"{len(lines)} runs, no guard was touched")
    return 0


if __name__ == "__main__":
    sys.exit(main())
