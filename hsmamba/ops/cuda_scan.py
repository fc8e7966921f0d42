"""The selective scan on a CUDA device by own CUDA C++ kernels, `csrc/scan_kernel.cu`, compiled by NVRTC on first use.

Nothing is compiled on the way to the user: NVRTC comes with torch. The gradients of A, B, C, D and delta_bias are added
up atomically: their last bits differ from run to run.
"""

from __future__ import annotations

import functools
from array import array
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Protocol

import torch
from torch import Tensor

from hsmamba.ops import lean, nvrtc, triton_scan
from hsmamba.ops.inputs import CHECKPOINT_STEPS, ScanGrads, ScanInputs, checkpoint_count

SOURCE = Path(__file__).parent / "csrc" / "scan_kernel.cu"
MOST_STATES = 64  # more do not fit a block's shared memory
STATES = {False: 4, True: 4}  # of one thread, forward and backward; 4, or 8 forward
WARPS = 4  # of one block, at most
RESIDENT = {False: (16, 24), True: (12, 16)}  # warps on a multiprocessor, by direction; with 1 or 2 threads a channel
CHANNELS = 64  # of one block, at most: its tiles of 32 steps are in shared memory
ENOUGH_WARPS = 1024  # with so many a device is busy, and sequences stay whole
CHUNKED_WARPS = 2048  # that chunks of time should bring about
SHORTEST_CHUNK = 64  # steps
_TYPES = {torch.float32: "float", torch.float16: "half_t", torch.bfloat16: "bf16_t"}

unavailable = nvrtc.unavailable


class _Launcher(Protocol):
    def launch(self, kernel: str, blocks: int, threads: int, argument: array[int]) -> None: ...


def forward(inputs: ScanInputs, save: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Scan with a float32 state: y (b, d, l) in u's dtype, the last state, checkpoints if they are to be saved."""
    b, d, length = inputs.u.shape
    n = inputs.A.shape[1]
    if n > MOST_STATES:
        return _other().forward(inputs, save)  # type: ignore[no-any-return]
    inputs = _prepared(inputs)
    y = torch.empty_like(inputs.u)
    last = inputs.u.new_empty(b, d, n, dtype=torch.float32)
    checkpoints = last.new_empty((b, checkpoint_count(length), n, d) if save else 0)
    if length == 0:
        last.zero_() if inputs.initial_state is None else last.copy_(inputs.initial_state)
    elif b and d:
        _run(inputs, False, inputs.initial_state, last, checkpoints if save else None, y=y)
    return y, last, checkpoints


def backward(inputs: ScanInputs, checkpoints: Tensor, dy: Tensor, dlast: Tensor | None) -> ScanGrads:
    """Gradients of `forward`, each in its argument's dtype or float32; `dlast` None stands for zeros."""
    b, d, length = inputs.u.shape
    n = inputs.A.shape[1]
    if n > MOST_STATES:
        return _other().backward(inputs, checkpoints, dy, dlast)  # type: ignore[no-any-return]
    inputs = _prepared(inputs)
    du, ddelta = torch.empty_like(inputs.u), torch.empty_like(inputs.delta)
    dz = None if inputs.z is None else torch.empty_like(inputs.z)
    dA, dB, dC, dD, dbias = _zeros(inputs)
    dfirst = None if inputs.initial_state is None else dA.new_empty(b, d, n)
    dlast = None if dlast is None else dlast.float().contiguous()
    if length == 0:
        if dfirst is not None:
            dfirst.zero_() if dlast is None else dfirst.copy_(dlast)
    elif b and d:
        grads = {"dy": _near(dy.to(inputs.u.dtype)), "du": du, "ddelta": ddelta, "dz": dz, "dB": dB, "dC": dC}
        sums = (dA, dD if inputs.D is not None else None, dbias if inputs.delta_bias is not None else None)
        _run(inputs, True, dlast, dfirst, checkpoints, sums=sums, **grads)
    return ScanGrads(
        du,
        ddelta,
        dA,
        dB,
        dC,
        None if inputs.D is None else dD,
        dz,
        None if inputs.delta_bias is None else dbias,
        dfirst,
    )


def _other() -> ModuleType:
    """The backend for more states than these kernels take."""
    return lean if triton_scan.unavailable() else triton_scan


def _prepared(inputs: ScanInputs) -> ScanInputs:
    """The same, with what is small in float32 and contiguous, and with strides that fit the kernels."""
    small = (inputs.A, inputs.D, inputs.delta_bias, inputs.initial_state)
    A, D, bias, first = (None if x is None else x.float().contiguous() for x in small)
    assert A is not None
    u, delta, z = _near(inputs.u), _near(inputs.delta), None if inputs.z is None else _near(inputs.z)
    return ScanInputs(u, delta, A, _near(inputs.B), _near(inputs.C), D, z, bias, first, inputs.delta_softplus)


def _near(x: Tensor) -> Tensor:
    """The same numbers; a copy where a stride passes 32 bits, as in a part of a far larger tensor."""
    return x.contiguous() if max(x.stride()) >= 1 << 31 else x


def _zeros(inputs: ScanInputs) -> list[Tensor]:
    """Zeros for the gradients of A, B, C, D and bias, filled at once; an operator's results share no memory."""
    d = inputs.u.shape[1]
    A, B, C = (torch.empty_like(x, dtype=torch.float32) for x in (inputs.A, inputs.B, inputs.C))
    found = [A, B, C, A.new_empty(d), A.new_empty(d)]
    torch._foreach_zero_(found)
    return found


def _run(
    inputs: ScanInputs,
    back: bool,
    first: Tensor | None,
    last: Tensor | None,
    checkpoints: Tensor | None,
    y: Tensor | None = None,
    sums: Sequence[Tensor | None] = (None, None, None),
    **grads: Tensor | None,
) -> None:
    """Launch the kernels of one direction: one, or three where time is cut into chunks."""
    b, d, length = inputs.u.shape
    n, g = inputs.A.shape[1], inputs.B.shape[1]
    lanes = max(1, _power_of_two(n) // STATES[back])
    warps, tiles = _tiles(d // g, lanes)
    threads, blocks = 32 * warps, b * g * tiles
    chunk, chunks = _chunks(length, blocks * warps if n else ENOUGH_WARPS)
    program = _program(_options(inputs, back, lanes, warps), inputs.u.device)
    starts = ends = of_dt = None
    if chunks > 1:
        starts, ends = inputs.A.new_empty(2, b, chunks, d, n)
        of_dt = inputs.A.new_empty(b, chunks, d)
    get = grads.get
    sequences = (inputs.u, inputs.delta, inputs.z, y, get("dy"), get("du"), get("ddelta"), get("dz"))
    weights = (inputs.B, inputs.C, get("dB"), get("dC"))
    plain = (inputs.A, inputs.D, inputs.delta_bias, first, starts, ends, of_dt, last, checkpoints, *sums)
    numbers = [b, g, d, n, length, checkpoint_count(length), tiles, chunk, chunks]
    for x in sequences:
        numbers += (0, 0, 0, 0, 0) if x is None else (x.data_ptr(), *x.stride(), max(x.stride()[1:]))
    for x in weights:
        numbers += (0, 0, 0, 0, 0) if x is None else (x.data_ptr(), *_shared(x))
    numbers += [0 if x is None else x.data_ptr() for x in plain]
    argument = array("q", numbers)  # the structure Scan of the source, all of 64 bits
    if chunks > 1:
        program.launch("scan_chunks", blocks * chunks, threads, argument)
        program.launch("combine_chunks", -(-b * d * n // 32), 256, argument)
    program.launch("scan", blocks * chunks, threads, argument)


def _tiles(channels: int, lanes: int) -> tuple[int, int]:
    """Warps of a block, and tiles of a group's channels: as few idle warps as may be."""
    most = max(1, min(WARPS, CHANNELS * lanes // 32, -(-channels * lanes // 32)))
    options = [(warps, -(-channels // (32 * warps // lanes))) for warps in (most, max(1, most - 1))]
    return min(options, key=lambda option: option[0] * option[1])


def _chunks(length: int, warps: int) -> tuple[int, int]:
    """Steps of a chunk and how many there are, for so many warps that walk along whole sequences."""
    if warps >= ENOUGH_WARPS:
        return _blocks(length), 1
    chunk = max(SHORTEST_CHUNK, _blocks(-(-length * warps // CHUNKED_WARPS)))
    chunks = -(-length // chunk)
    return (chunk, chunks) if chunks > 2 else (_blocks(length), 1)


def _blocks(steps: int) -> int:
    """So many steps, in whole blocks between checkpoints."""
    return checkpoint_count(steps) * CHECKPOINT_STEPS


def _options(inputs: ScanInputs, back: bool, lanes: int, warps: int) -> tuple[str, ...]:
    """The constants for which a program is compiled."""
    z = inputs.u if inputs.z is None else inputs.z
    types = (("U", inputs.u), ("DELTA", inputs.delta), ("Z", z), ("B", inputs.B), ("C", inputs.C))
    return (
        *(f"-D{name}_T={_TYPES[x.dtype]}" for name, x in types),
        f"-DHAS_Z={int(inputs.z is not None)}",
        f"-DSOFTPLUS={int(inputs.delta_softplus)}",
        f"-DBACKWARD={int(back)}",
        f"-DSTATES={STATES[back]}",
        f"-DLANES={lanes}",
        f"-DWARPS={warps}",
        f"-DRESIDENT={RESIDENT[back][lanes > 2]}",
    )


@functools.cache
def _program(options: tuple[str, ...], device: torch.device) -> _Launcher:
    return nvrtc.Program(SOURCE.read_text(encoding="utf-8"), options, device.index)


def _power_of_two(x: int) -> int:
    return 1 << max(0, x - 1).bit_length()


def _shared(x: Tensor) -> tuple[int, ...]:
    """Strides with 0 along the axes that all samples or steps share."""
    return tuple(0 if size == 1 else stride for size, stride in zip(x.shape, x.stride(), strict=True))
