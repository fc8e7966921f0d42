"""The selective scan on a CUDA device by Triton, which comes with torch: launches the programs of `triton_kernels`.

The gradients of A, B, C, D and delta_bias are added up atomically: their last bits differ from run to run.
"""

from __future__ import annotations

import functools
import importlib
from types import ModuleType

import torch
from torch import Tensor

from hsmamba.ops.inputs import CHECKPOINT_STEPS, ScanGrads, ScanInputs, checkpoint_count

STATES_IN_REGISTERS = 2048  # channels x states x steps of one program; twice as many spill


@functools.cache
def _kernels() -> ModuleType | str:
    """The module of the programs, or why it cannot be had."""
    try:
        return importlib.import_module("hsmamba.ops.triton_kernels")
    except ImportError as error:
        return (
            f"Triton cannot be imported ({error}); it comes with torch's CUDA builds for Linux, or: pip install triton"
        )


def unavailable() -> str | None:
    """Why the kernels cannot run here; None where they can."""
    if not torch.cuda.is_available():
        return "it needs a CUDA device, and torch sees none"
    kernels = _kernels()
    return kernels if isinstance(kernels, str) else None


def forward(inputs: ScanInputs, save: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Scan with a float32 state: y (b, d, l) in u's dtype, the last state, checkpoints if they are to be saved."""
    b, d, length = inputs.u.shape
    n = inputs.A.shape[1]
    blocks = checkpoint_count(length)
    y = torch.empty_like(inputs.u)
    last = inputs.u.new_empty(b, d, n, dtype=torch.float32)
    checkpoints = last.new_empty((b, blocks, n, d) if save else 0)
    u, delta, A, B, C, D, z, bias, first, softplus = _contiguous(inputs)
    if b and d:
        _module().forward_kernel[_grid(inputs)](
            *(u, delta, A, B, C, D, z, bias, first, y, last, checkpoints),
            *(b, B.shape[1], d, n, length, blocks),
            *(*u.stride(), *delta.stride(), *_strides(z), *y.stride(), *_shared(B), *_shared(C)),
            **_flags(inputs),
            HAS_FIRST=first is not None,
            SAVE=save,
            SOFTPLUS=softplus,
        )
    return y, last, checkpoints


def backward(inputs: ScanInputs, checkpoints: Tensor, dy: Tensor, dlast: Tensor | None) -> ScanGrads:
    """Gradients of `forward`, each in its argument's dtype or float32; `dlast` None stands for zeros."""
    b, d, length = inputs.u.shape
    n = inputs.A.shape[1]
    u, delta, A, B, C, D, z, bias, first, softplus = _contiguous(inputs)
    du, ddelta = torch.empty_like(u), torch.empty_like(delta)
    dz = None if z is None else torch.empty_like(z)
    dA, dB, dC = (torch.zeros(x.shape, dtype=torch.float32, device=x.device) for x in (A, B, C))
    dD, dbias = (None if x is None else dA.new_zeros(d) for x in (D, bias))
    dfirst = dA.new_empty(b, d, n)
    dlast = torch.zeros_like(dfirst) if dlast is None else dlast.contiguous()
    if b and d:
        _module().backward_kernel[_grid(inputs)](
            *(u, delta, A, B, C, D, z, bias, checkpoints, dy, dlast),
            *(du, ddelta, dA, dB, dC, dD, dz, dbias, dfirst),
            *(b, B.shape[1], d, n, length, checkpoint_count(length)),
            *(*u.stride(), *delta.stride(), *_strides(z), *dy.stride()),
            *(*du.stride(), *ddelta.stride(), *_strides(dz)),
            *(*_shared(B), *_shared(C), *_shared(dB), *_shared(dC)),
            **_flags(inputs),
            SOFTPLUS=softplus,
        )
    return ScanGrads(du, ddelta, dA, dB, dC, dD, dz, dbias, None if first is None else dfirst)


def _module() -> ModuleType:
    kernels = _kernels()
    if isinstance(kernels, str):
        raise RuntimeError(kernels)  # callers have asked `unavailable` before
    return kernels


def _contiguous(inputs: ScanInputs) -> ScanInputs:
    """The same, with what is indexed without strides contiguous."""
    small = {"A": inputs.A, "D": inputs.D, "delta_bias": inputs.delta_bias, "initial_state": inputs.initial_state}
    changed = {name: None if x is None else x.contiguous() for name, x in small.items()}
    return inputs._replace(**changed)  # type: ignore[arg-type]


def _channels(inputs: ScanInputs) -> int:
    """Channels of one program: as many as fit its registers, and no more than a group has."""
    per_group = inputs.u.shape[1] // inputs.B.shape[1]
    room = STATES_IN_REGISTERS // (CHECKPOINT_STEPS * _power_of_two(inputs.A.shape[1]))
    return max(1, min(room, _power_of_two(per_group)))


def _grid(inputs: ScanInputs) -> tuple[int]:
    groups = inputs.B.shape[1]
    tiles = -(-(inputs.u.shape[1] // groups) // _channels(inputs))
    return (inputs.u.shape[0] * groups * tiles,)


def _flags(inputs: ScanInputs) -> dict[str, int | bool]:
    """The constants for which both programs are compiled."""
    has = {f"HAS_{name}": x is not None for name, x in (("D", inputs.D), ("Z", inputs.z), ("BIAS", inputs.delta_bias))}
    return has | {"BD": _channels(inputs), "N": _power_of_two(inputs.A.shape[1]), "T": CHECKPOINT_STEPS}


def _power_of_two(x: int) -> int:
    return 1 << max(0, x - 1).bit_length()


def _strides(x: Tensor | None) -> tuple[int, ...]:
    return (0, 0, 0) if x is None else x.stride()


def _shared(x: Tensor) -> tuple[int, ...]:
    """Strides with 0 along the axes that all samples or steps share."""
    return tuple(0 if size == 1 else stride for size, stride in zip(x.shape, x.stride(), strict=True))
