"""Which backend runs a scan: the table of backends, what each needs, and the rule that picks one."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from hsmamba.errors import HsmambaError
from hsmamba.ops import cpu, cuda_scan, lean, mamba_ssm, triton_scan
from hsmamba.ops.inputs import ScanGrads, ScanInputs
from hsmamba.ops.reference import scan_reference
from hsmamba.ops.torch_scan import scan_torch

logger = logging.getLogger("hsmamba.ops")

ENVIRONMENT = "HSMAMBA_SCAN"


class BackendUnavailableError(HsmambaError, RuntimeError):
    """A scan backend that was asked for by name and cannot run here, or not on these tensors."""


class Fused(NamedTuple):
    """A forward and its backward, which autograd cannot see into: they run behind the custom operator."""

    forward: Callable[[ScanInputs, bool], tuple[Tensor, Tensor, Tensor]]  # y, last state, checkpoints where asked for
    backward: Callable[[ScanInputs, Tensor, Tensor, Tensor | None], ScanGrads]  # of checkpoints, dy, dlast


Direct: TypeAlias = Callable[[ScanInputs], tuple[Tensor, Tensor]]  # y and last state; autograd sees to the rest


def _always() -> None:
    return None


class Backend(NamedTuple):
    """One row of the table."""

    scan: Fused | Direct
    summary: str
    unavailable: Callable[[], str | None] = _always  # why it cannot run on this machine, None where it can
    devices: tuple[str, ...] = ()  # device types it runs on; empty for all
    float64: bool = False  # computes in float64 too
    states: bool = True  # takes an initial state and differentiates through the last one
    plain: bool = False  # made of torch operations: runs wherever they do, forward-mode derivatives included


class BackendStatus(NamedTuple):
    """What `available_backends` tells of one backend."""

    available: bool
    summary: str
    reason: str | None  # why it is not available and what it needs; None where it is

    def __str__(self) -> str:
        """One line: what it is, and why it is missing if it is."""
        return self.summary if self.available else f"unavailable: {self.reason}"


BACKENDS = {
    "cpu": Backend(
        Fused(cpu.forward, cpu.backward),
        "compiled CPU kernel, float32, several threads",
        cpu.unavailable,
        devices=("cpu",),
    ),
    "cuda": Backend(
        Fused(cuda_scan.forward, cuda_scan.backward),
        "own CUDA kernels, compiled by NVRTC on first use",
        cuda_scan.unavailable,
        devices=("cuda",),
    ),
    "triton": Backend(
        Fused(triton_scan.forward, triton_scan.backward),
        "own GPU kernels, compiled by Triton on first use",
        triton_scan.unavailable,
        devices=("cuda",),
    ),
    "mamba_ssm": Backend(
        mamba_ssm.scan_mamba_ssm,
        "the CUDA kernel of the mamba-ssm package",
        mamba_ssm.unavailable,
        devices=("cuda",),
        states=False,
    ),
    "lean": Backend(
        Fused(lean.forward, lean.backward),
        "torch operations on a state kept in place, hand-written backward",
        float64=True,
    ),
    "torch": Backend(
        scan_torch,
        "differentiable torch operations, parallel over time, any derivative",
        float64=True,
        plain=True,
    ),
    "reference": Backend(
        scan_reference,
        "the definition as a loop over time, for comparison",
        float64=True,
        plain=True,
    ),
}

# What runs where nothing is asked for: the first available one. Devices that are not named take the last row, as do
# calls that need plain operations.
PREFERENCE = {
    "cpu": ("cpu", "lean"),
    "cuda": ("cuda", "triton", "mamba_ssm", "torch"),
    "": ("torch",),
}

_forced: str | None = os.environ.get(ENVIRONMENT) or None


def available_backends() -> dict[str, BackendStatus]:
    """List every scan backend with its state on this machine.

    Returns:
        For each name whether it is available, what it is, and where it is not: why, and what it needs.
    """
    return {name: BackendStatus(not (why := row.unavailable()), row.summary, why) for name, row in BACKENDS.items()}


@contextlib.contextmanager
def scan_backend(name: str | None) -> Iterator[None]:
    """Force a backend inside a `with` block, in the whole process; None goes back to the rule.

    An explicit `backend=` argument goes before it; it goes before the environment variable HSMAMBA_SCAN.

    Args:
        name: A key of `available_backends()`, or None.

    Raises:
        ValueError: No backend has that name.
    """
    global _forced
    if name is not None:
        check_name(name, "scan_backend")
    before, _forced = _forced, name
    try:
        yield
    finally:
        _forced = before


def forced_backend() -> str | None:
    """The backend that a `scan_backend` block or HSMAMBA_SCAN asks for, if any does."""
    return _forced


def check_name(name: str, origin: str) -> None:
    """Refuse a name that is not in the table.

    Raises:
        ValueError: With the names that are.
    """
    if name not in BACKENDS:
        raise ValueError(f"{origin} got {name!r}, which is no scan backend; there are: {', '.join(BACKENDS)}")


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]  # a graph that is being compiled keeps the choice
def choose_backend(asked: str | None, device: str, is_float64: bool, with_states: bool, plain: str | None) -> str:
    """Pick the backend of one call.

    Args:
        asked: The backend asked for by name, or None for the rule.
        device: Type of the tensors' device ("cpu", "cuda", "mps", ...).
        is_float64: Whether to compute in float64.
        with_states: Whether an initial state is given or the last state is wanted.
        plain: What needs plain torch operations ("ONNX export", ...), None where nothing does.

    Returns:
        A key of `BACKENDS` that can run the call.

    Raises:
        ValueError: No backend has the name asked for.
        BackendUnavailableError: The backend asked for cannot run; says why and what it needs.
    """
    if asked is not None:
        check_name(asked, f"backend= or {ENVIRONMENT}")
        why = _refusal(asked, device, is_float64, with_states, plain)
        if why:
            raise BackendUnavailableError(f"the scan backend {asked!r} was asked for but cannot run: {why}")
        _log_choice(asked, device, is_float64, "it was asked for")
        return asked
    refused: dict[str, str] = {}
    for name in PREFERENCE[""] if plain else PREFERENCE.get(device, PREFERENCE[""]):
        why = _refusal(name, device, is_float64, with_states, plain)
        if not why:
            _log_choice(name, device, is_float64, plain and f"for {plain}", tuple(refused.items()))
            return name
        refused[name] = why
    raise BackendUnavailableError(f"no scan backend runs on {device}: {refused}")


def _refusal(name: str, device: str, is_float64: bool, with_states: bool, plain: str | None) -> str | None:
    """Why a backend does not take these tensors; None if it does."""
    row = BACKENDS[name]
    if row.devices and device not in row.devices:
        missing = row.unavailable()
        also = f" (nor is it available here: {missing})" if missing else ""
        where = " or ".join(row.devices)
        return f"it runs on {where} tensors, these are on {device}{also}; leave the choice to the rule"
    if is_float64 and not row.float64:
        wide = ", ".join(other for other, x in BACKENDS.items() if x.float64)
        return f"it computes in float32 and u is float64; take one of {wide}, or convert to float32"
    if with_states and not row.states:
        able = ", ".join(other for other, x in BACKENDS.items() if x.states and (not x.devices or device in x.devices))
        return f"it takes no initial state and gives no gradient through the last one; take one of {able}"
    if plain and not row.plain:
        able = ", ".join(other for other, x in BACKENDS.items() if x.plain)
        return f"{plain} needs plain torch operations; take one of {able}, or leave the choice to the rule"
    return row.unavailable()


@functools.cache
def _log_choice(
    name: str, device: str, is_float64: bool, because: str | None, refused: tuple[tuple[str, str], ...] = ()
) -> None:
    """Say once which backend runs; as a warning where the better one is missing on this machine."""
    kind = f"{device} {'float64' if is_float64 else 'float32'}"
    missing = [f"{other}: {why}" for other, why in refused if not (is_float64 and not BACKENDS[other].float64)]
    if missing:
        logger.warning(
            "selective scan for %s tensors runs on %r, slower than it could be; %s", kind, name, "; ".join(missing)
        )
    else:
        logger.info("selective scan for %s tensors runs on %r (%s)", kind, name, because or BACKENDS[name].summary)
