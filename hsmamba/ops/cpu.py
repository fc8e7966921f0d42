"""The compiled CPU kernel: finds the shared library, hands it pointers through ctypes, and runs it on several threads.

The library has a plain C interface and no dependency, so that it fits every version of Python and torch. The
interpreter lock is released while it runs. Source: `csrc/`, compiled when the package is built or installed.
"""

from __future__ import annotations

import _thread
import contextlib
import ctypes
import functools
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import torch
from torch import Tensor

from hsmamba.ops.inputs import ScanGrads, ScanInputs, checkpoint_count

LIBRARIES = Path(__file__).parent / "lib"
INTERFACE = 8  # of the library that is described here, hsmamba_interface in csrc/scan_kernel.h
WIDEST = 16  # channels in the widest vector, scan.h
RUNS_PER_THREAD = 4  # runs of tasks that a thread takes one after the other, so that a late thread holds up nobody
SMALL = 1 << 16  # b d l n under which a second thread costs more than it gives

_PROCESS = os.getpid()
_int = ctypes.c_int64
_ptr = ctypes.c_void_p


# This and the next three: the structures of csrc/scan.h, field by field.
class _Sequence(ctypes.Structure):
    _fields_ = [("data", _ptr), ("batch", _int), ("channel", _int), ("step", _int)]


class _Projection(ctypes.Structure):
    _fields_ = [("data", _ptr), ("batch", _int), ("group", _int), ("state", _int), ("step", _int)]


class _Scan(ctypes.Structure):
    _fields_ = [
        *((name, _int) for name in ("b", "d", "l", "n", "g", "parts", "slots", "row", "softplus")),
        *((name, _Sequence) for name in ("u", "delta", "z")),
        *((name, _Projection) for name in ("B", "C")),
        *((name, _ptr) for name in ("A", "D", "bias", "first")),
        ("y", _Sequence),
        ("last", _ptr),
        ("checkpoints", _ptr),
        ("dy", _Sequence),
        ("dlast", _ptr),
        *((name, _Sequence) for name in ("du", "ddelta", "dz")),
        *((name, _ptr) for name in ("dfirst", "dB", "dC")),
        *((name, _int) for name in ("dB_steps", "dC_steps")),
        *((name, _ptr) for name in ("dA", "dD", "dbias")),
    ]


class _Run(ctypes.Structure):
    _fields_ = [
        ("scan", ctypes.POINTER(_Scan)),
        ("scratch", _ptr),
        *((name, _int) for name in ("scratch_floats", "next_thread", "next_slot")),
    ]


def library_name() -> str:
    """File name of the compiled kernel for this system and processor."""
    system = {"win32": "windows", "darwin": "macos"}.get(sys.platform, sys.platform)
    machine = platform.machine().lower()
    machine = {"amd64": "x86_64", "aarch64": "arm64"}.get(machine, machine)
    return f"scan-{system}-{machine}.{'dll' if system == 'windows' else 'dylib' if system == 'macos' else 'so'}"


def level() -> str:
    """The widest instruction set that processor and torch agree on: "avx512", "avx2" or "baseline"."""
    return _capability()


@functools.cache
def _capability() -> str:
    capability = torch.backends.cpu.get_cpu_capability().lower()
    return capability if capability in ("avx512", "avx2") else "baseline"


@functools.cache
def load() -> ctypes.CDLL | str:
    """The compiled kernel, or the reason why there is none."""
    path = LIBRARIES / library_name()
    if not path.is_file():
        return (
            f"there is no compiled kernel for this machine ({path} is missing): install hsmamba from a wheel, "
            "or from source with the ziglang package at hand (python -m pip install ziglang)"
        )
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        return f"the compiled kernel {path} cannot be loaded: {error}"
    if getattr(library, f"hsmamba_interface_{level()}", lambda: 0)() != INTERFACE:
        return (
            f"the compiled kernel {path} was made of other sources than these: install hsmamba anew "
            "(python -m pip install -e . in a checkout)"
        )
    return library


def unavailable() -> str | None:
    """Why the compiled kernel cannot run here; None where it can."""
    library = load()
    return library if isinstance(library, str) else None


def kernel(name: str) -> Any:
    """A function of the library at this machine's level; RuntimeError with the text of `unavailable` without one."""
    library = load()
    if isinstance(library, str):
        raise RuntimeError(library)
    return getattr(library, f"hsmamba_{name}_{level()}")


def forward(inputs: ScanInputs, save: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Scan CPU tensors in float32: y (b, d, l) in u's dtype, the last state, checkpoints if they are to be saved."""
    dtype = inputs.u.dtype
    inputs = inputs.to(torch.float32)
    b, d, length = inputs.u.shape
    n = inputs.A.shape[1]
    scan, keep = _describe(inputs)
    y = torch.empty_like(inputs.u)
    last = y.new_empty(b, d, n)
    checkpoints = y.new_empty((b, checkpoint_count(length), n, d) if save else 0)
    scan.y, scan.last = _sequence(y), last.data_ptr()
    scan.checkpoints = checkpoints.data_ptr() if save else None
    _run("forward", scan, [*keep, y, last, checkpoints])
    return y.to(dtype), last, checkpoints


def backward(inputs: ScanInputs, checkpoints: Tensor, dy: Tensor, dlast: Tensor | None) -> ScanGrads:
    """Gradients of `forward`, in float32, from its checkpoints; `dlast` None stands for zeros."""
    inputs = inputs.to(torch.float32)
    b, d, n = checkpoints.shape[0], *inputs.A.shape
    dy = dy.float()
    dlast = None if dlast is None else dlast.float().contiguous()
    scan, keep = _describe(inputs)
    du, ddelta = torch.empty_like(inputs.u), torch.empty_like(inputs.delta)
    dz = None if inputs.z is None else torch.empty_like(inputs.z)
    dh0 = None if inputs.initial_state is None else du.new_empty(b, d, n)
    dB, dC = (du.new_zeros(scan.parts, b, scan.g, n, x.shape[3]) for x in (inputs.B, inputs.C))
    dA = du.new_zeros(scan.slots, n, scan.row)
    dD, dbias = du.new_zeros(2, scan.slots, scan.row)
    scan.dy, scan.du, scan.ddelta, scan.dz = _sequence(dy), _sequence(du), _sequence(ddelta), _sequence(dz)
    scan.checkpoints, scan.dfirst = checkpoints.data_ptr(), None if dh0 is None else dh0.data_ptr()
    scan.dlast = None if dlast is None else dlast.data_ptr()
    scan.dB, scan.dC, scan.dB_steps, scan.dC_steps = dB.data_ptr(), dC.data_ptr(), dB.shape[4], dC.shape[4]
    scan.dA, scan.dD, scan.dbias = dA.data_ptr(), dD.data_ptr(), dbias.data_ptr()
    _run("backward", scan, [*keep, checkpoints, dy, dlast, du, ddelta, dz, dh0, dB, dC, dA, dD, dbias])
    return ScanGrads(
        du,
        ddelta,
        dA.sum(0)[:, :d].t(),
        _sum_parts(dB, inputs.B),
        _sum_parts(dC, inputs.C),
        None if inputs.D is None else dD.sum(0)[:d],
        dz,
        None if inputs.delta_bias is None else dbias.sum(0)[:d],
        dh0,
    )


def _sum_parts(grad: Tensor, like: Tensor) -> Tensor:
    """Sum the parts' gradients (parts, b, g, n, l | 1) of B or C, and the samples' where they share it."""
    grad = grad[0] if grad.shape[0] == 1 else grad.sum(0)
    return grad if grad.shape[0] == like.shape[0] else grad.sum(0, keepdim=True)


def _describe(inputs: ScanInputs) -> tuple[_Scan, list[Tensor | None]]:
    """Fill in what forward and backward share, and list the tensors behind it, which must outlive the run."""
    if inputs.u.device.type != "cpu":  # a program that was exported for the CPU and moved
        raise ValueError(
            f"the CPU kernel got tensors on {inputs.u.device}; export the model on that device, or decompose the "
            f"operator: program.run_decompositions(hsmamba.ops.decompositions())"
        )
    b, d, length = inputs.u.shape
    n, g = inputs.A.shape[1], inputs.B.shape[1]
    row = d + WIDEST
    A = inputs.u.new_zeros(n, row)
    A[:, :d] = inputs.A.t()
    D, bias = inputs.u.new_zeros(2, row)
    if inputs.D is not None:
        D[:d] = inputs.D
    if inputs.delta_bias is not None:
        bias[:d] = inputs.delta_bias
    first = None if inputs.initial_state is None else inputs.initial_state.contiguous()
    threads = torch.get_num_threads() if b * d * length * n > SMALL else 1
    blocks = -(-d // g // {"avx512": 16, "avx2": 8, "baseline": 4}[level()])
    parts = max(1, min(blocks, -(-RUNS_PER_THREAD * threads // (b * g)))) if b and threads > 1 else 1
    scan = _Scan(
        b=b, d=d, l=length, n=n, g=g, parts=parts, slots=min(b * g * parts, RUNS_PER_THREAD * threads), row=row
    )
    scan.softplus = inputs.delta_softplus
    scan.u, scan.delta, scan.z = _sequence(inputs.u), _sequence(inputs.delta), _sequence(inputs.z)
    scan.B, scan.C = _projection(inputs.B), _projection(inputs.C)
    scan.A, scan.D, scan.bias = A.data_ptr(), None if inputs.D is None else D.data_ptr(), bias.data_ptr()
    scan.first = None if first is None else first.data_ptr()
    return scan, [A, D, bias, first, *inputs[:9]]


def _sequence(x: Tensor | None) -> _Sequence:
    return _Sequence() if x is None else _Sequence(x.data_ptr(), *x.stride())


def _projection(x: Tensor) -> _Projection:
    """B or C with stride 0 along the axes that all samples or steps share."""
    strides = [0 if size == 1 else stride for size, stride in zip(x.shape, x.stride(), strict=True)]
    return _Projection(x.data_ptr(), *strides)


def _run(direction: str, scan: _Scan, tensors: list[Tensor | None]) -> None:
    """Run the kernel on the calling thread and as many others as torch may use."""
    if scan.slots == 0:
        return
    scanned, size_of_scratch = kernel(f"scan_{direction}"), kernel("scan_scratch")
    size_of_scratch.restype = _int
    threads = min(scan.slots, torch.get_num_threads())
    floats = -(-size_of_scratch(ctypes.byref(scan)) // 16) * 16
    scratch = torch.empty(threads * floats + 16)
    start = -(-scratch.data_ptr() // 64) * 64
    run_team(scanned, _Run(ctypes.pointer(scan), start, floats, 0, 0), threads, (scan, scratch, tensors))


def run_team(kernel: Any, arguments: ctypes.Structure | ctypes.Array[Any], threads: int, held: object) -> None:
    """Run a function of the library on so many threads, which share its arguments; `held` is what they point to."""
    if threads == 1:
        kernel(ctypes.byref(arguments))
        return
    team = _openmp_team() if os.getpid() == _PROCESS else None  # a team does not survive a fork
    if team is not None:
        team(kernel, ctypes.byref(arguments), ctypes.c_uint(threads), ctypes.c_uint(0))
    else:

        def work(_: int, held: object = (arguments, held)) -> None:
            kernel(ctypes.byref(arguments))  # an interrupt may end the call around it before every thread is done

        _on_threads(work, threads)


@functools.cache
def _openmp_team() -> Any:
    """GNU OpenMP's function that runs a team, from the very library that torch runs on; None where torch has another.

    Torch's idle threads spin for a while before they sleep: threads of our own would share the cores with them.
    """
    for path in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*")):
        with contextlib.suppress(OSError, AttributeError):
            return ctypes.CDLL(str(path)).GOMP_parallel
    return None


def _on_threads(work: Callable[[int], object], threads: int) -> None:
    """Run `work` on the calling thread and on others, and wait for all."""
    done: SimpleQueue[BaseException | None] = SimpleQueue()

    def help_with(thread: int) -> None:
        error = None
        try:
            work(thread)
        except BaseException as raised:
            error = raised
        done.put(error)

    for thread in range(1, threads):
        _helpers().put(functools.partial(help_with, thread))
    work(0)
    for _ in range(1, threads):
        if (error := done.get()) is not None:
            raise error


def exponential_rate(rounds: int = 400) -> float:
    """Measure how many exponentials a second the kernel's own vectorised one reaches on all of torch's threads.

    The best of ten tries, each of `rounds` passes over 2048 numbers, which stay in the first-level cache.
    """
    rounds_of = kernel("exp_rounds")
    numbers, sums = torch.linspace(-10, 0, 2048), torch.empty(torch.get_num_threads(), 4 * WIDEST)

    def work(thread: int) -> None:
        rounds_of(_ptr(numbers.data_ptr()), _ptr(sums[thread].data_ptr()), _int(2048), _int(rounds))

    best = float("inf")
    for _ in range(10):
        start = time.perf_counter()
        _on_threads(work, len(sums))
        best = min(best, time.perf_counter() - start)
    return len(sums) * rounds * 2048 / best


@functools.cache
def _helpers() -> SimpleQueue[Callable[[], None]]:
    """Give the queue of the threads that wait for work; they are made on first use, and anew in a forked process.

    No executor: its locks are taken in Python, where an interrupt can leave one locked for good.
    """
    tasks: SimpleQueue[Callable[[], None]] = SimpleQueue()

    def serve() -> None:
        while True:
            tasks.get()()

    for _ in range(max(1, (os.cpu_count() or 1) - 1)):
        _thread.start_new_thread(serve, ())  # threading.Thread would wait for its start on a lock taken in Python
    return tasks


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_helpers.cache_clear)
