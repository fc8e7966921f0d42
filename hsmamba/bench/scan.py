"""`hsmamba bench scan`: the selective scan against its peers and against the physical limit of the machine.

Every figure is a median of interleaved runs in one process. The limit is the time for b d l n exponentials at the
measured peak rate, one forward and two forward + backward (the backward recomputes them), or for the bytes of inputs
and outputs at the measured bandwidth, whichever is longer; the multiply-adds are fewer than the instructions of these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from hsmamba.bench.measure import bandwidth, known, measure
from hsmamba.bench.peers import PEERS
from hsmamba.ops import cpu, selective_scan
from hsmamba.ops.backends import choose_backend, forced_backend

WORKLOADS = {  # b, d, l, n, g
    "W1": (128, 264, 81, 16, 2),  # MSFMamba, a batch of patches
    "W2a": (64, 64, 49, 64, 1),  # MiM, whose state is as wide as the model
    "W2": (64, 64, 121, 64, 1),
    "W3w": (256, 128, 64, 16, 4),  # LE-Mamba, windows
    "W3g": (1, 256, 4096, 16, 4),  # LE-Mamba, global scan
    "W4": (1, 192, 16384, 16, 4),  # a long scene sequence
}
OURS = "hsmamba"
QUADRATIC_LIMIT = 2e10  # b d l n l over which the loops' backward, quadratic in l, is left out
QUADRATIC = ("reference loop", "transformers loop")


def _ours(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, delta_bias: Tensor) -> Tensor:
    y = selective_scan(u, delta, A, B, C, D, None, delta_bias, True)
    return y if isinstance(y, Tensor) else y[0]


def _output(peer: Callable[..., tuple[Tensor, Tensor]], *inputs: Tensor) -> Tensor:
    return peer(*inputs)[0]


CANDIDATES: dict[str, Callable[..., Tensor]] = {
    OURS: _ours,
    **{name: partial(_output, peer) for name, peer in PEERS.items()},
}


class Machine(NamedTuple):
    """What bounds any scan on this machine."""

    threads: int
    exponentials: float  # a second, all threads
    bandwidth: float  # bytes a second, read and written


class Row(NamedTuple):
    """One candidate on one workload; None where it was left out or cannot be measured here."""

    workload: str
    candidate: str
    forward_ms: float
    both_ms: float | None  # forward + backward
    forward_limit_ms: float
    both_limit_ms: float
    forward_extra: float | None  # peak extra memory over the bytes of inputs and outputs
    both_extra: float | None


def measure_machine() -> Machine:
    """Measure the peak rate of the compiled kernel's exponential and the memory bandwidth on torch's threads."""
    return Machine(torch.get_num_threads(), cpu.exponential_rate(), bandwidth())


def make_inputs(b: int, d: int, length: int, n: int, g: int) -> list[Tensor]:
    """Draw u, delta (b, d, l), A (d, n), B, C (b, g, n, l), D, delta_bias (d,) as a trained model has them, float32."""
    rng = torch.Generator().manual_seed(0)

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng)

    A = -torch.arange(1, n + 1, dtype=torch.float32).repeat(d, 1)
    inputs = [randn(b, d, length), randn(b, d, length) * 0.5, A, randn(b, g, n, length), randn(b, g, n, length)]
    return [x.requires_grad_() for x in (*inputs, randn(d), randn(d) - 4)]


def moved_bytes(workload: str) -> int:
    """Bytes of a workload's inputs and its output; their gradients are as many again."""
    b, d, length, n, g = WORKLOADS[workload]
    return 4 * (3 * b * d * length + 2 * b * g * n * length + d * n + 2 * d)


def limits_ms(workload: str, machine: Machine) -> tuple[float, float]:
    """Milliseconds that no scan of a workload can beat on a machine: forward, and forward + backward."""
    b, d, length, n, _ = WORKLOADS[workload]
    once = 1e3 * max(b * d * length * n / machine.exponentials, moved_bytes(workload) / machine.bandwidth)
    return once, 2 * once


def bench_scan(
    workloads: Iterable[str] = WORKLOADS,
    candidates: Iterable[str] = CANDIDATES,
    rounds: int = 7,
    say: Callable[[str], None] = print,
) -> list[Row]:
    """Time the candidates on the workloads, ours always, and print a table as it grows.

    Raises:
        ValueError: An unknown workload or candidate.
        RuntimeError: There is no compiled kernel to measure the limit with.
    """
    workloads = known("scan", workloads, WORKLOADS)
    names = known("scan", dict.fromkeys([OURS, *candidates]), CANDIDATES)
    machine = measure_machine()
    backend = choose_backend(forced_backend(), "cpu", False, False, None)
    say(f"{machine.threads} threads, {machine.exponentials / 1e9:.1f} G exponentials/s, "
        f"{machine.bandwidth / 1e9:.1f} GB/s; {OURS} runs on {backend!r} ({cpu.level()})")  # fmt: skip
    limits = {workload: limits_ms(workload, machine) for workload in workloads}
    say("limit in ms, forward / forward + backward: "
        + ", ".join(f"{name} {once:.2f} / {both:.2f}" for name, (once, both) in limits.items()))  # fmt: skip
    say(HEADER)
    rows = []
    for workload in workloads:
        for row in _bench_workload(workload, names, rounds, machine):
            rows.append(row)
            say(format_row(row, rows))
    return rows


def _bench_workload(workload: str, names: list[str], rounds: int, machine: Machine) -> list[Row]:
    b, d, length, n, g = WORKLOADS[workload]
    inputs = make_inputs(b, d, length, n, g)
    dy = torch.randn(b, d, length)
    moved = moved_bytes(workload)
    limits = limits_ms(workload, machine)

    def forward(name: str) -> None:
        with torch.no_grad():
            CANDIDATES[name](*inputs)

    def both(name: str) -> None:
        torch.autograd.grad(CANDIDATES[name](*inputs), inputs, dy)

    skipped = QUADRATIC if b * d * length * n * length > QUADRATIC_LIMIT else ()
    both(OURS)  # the first call of a process loads the kernel and starts its threads
    forwards = measure({name: partial(forward, name) for name in names}, rounds)
    boths = measure({name: partial(both, name) for name in names if name not in skipped}, rounds)
    rows = []
    for name, once in forwards.items():
        twice = boths.get(name)
        shares = [None if x is None or x.extra is None else x.extra / k / moved for k, x in ((1, once), (2, twice))]
        rows.append(Row(workload, name, once.ms, twice.ms if twice else None, *limits, *shares))
    return rows


HEADER = (
    f"{'':4} {'candidate':18} {'forward ms':>11} {'x limit':>8} {'x ours':>7} {'memory':>7}"
    f" {'f+b ms':>9} {'x limit':>8} {'x ours':>7} {'memory':>7}"
)


def format_row(row: Row, rows: list[Row]) -> str:
    """One line of the table; memory is the peak extra over the bytes of inputs and outputs (and their gradients)."""
    ours = next(x for x in rows if x.workload == row.workload and x.candidate == OURS)
    forward = _columns(row.forward_ms, row.forward_limit_ms, ours.forward_ms, row.forward_extra, 11)
    both = _columns(row.both_ms, row.both_limit_ms, ours.both_ms, row.both_extra, 9)
    return f"{row.workload:4} {row.candidate:18} {forward} {both}"


def _columns(ms: float | None, limit: float, ours: float | None, extra: float | None, width: int) -> str:
    memory = "-" if extra is None else f"{extra:.2f}"
    if ms is None or ours is None:
        return f"{'-':>{width}} {'-':>8} {'-':>7} {memory:>7}"
    return f"{ms:{width}.2f} {ms / limit:8.1f} {ms / ours:7.1f} {memory:>7}"
