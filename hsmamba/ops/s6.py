"""The compiled S6 forward: scans over one set of tokens, in any orders, from the projections to the sum of the scans.

It reads tokens whose channels are neighbours in memory, so that no scan needs a copy in its own order, and computes the
step sizes on the way. For inference on a CPU in float32; in the library of the scan.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hsmamba.ops import cpu
from hsmamba.ops.backends import choose_backend, forced_backend
from hsmamba.ops.inputs import CHECKPOINT_STEPS

_int = ctypes.c_int64
_ptr = ctypes.c_void_p


class _Tokens(ctypes.Structure):
    _fields_ = [("data", _ptr), ("batch", _int), ("scan", _int), ("token", _int)]


class _S6(ctypes.Structure):
    _fields_ = [
        *((name, _int) for name in ("batches", "scans", "channels", "tokens", "states", "rank", "parts", "row", "own")),
        *((name, _Tokens) for name in ("u", "projected", "y")),
        *((name, _ptr) for name in ("order", "A", "steps", "bias", "D", "last", "scratch")),
        *((name, _int) for name in ("scratch_floats", "next_thread", "next_task")),
    ]


def _kernel() -> Any:
    """The function at this machine's level; None without a library, or in one that was compiled before there was it."""
    return getattr(cpu.load(), f"hsmamba_s6_{cpu.level()}", None)


def takes(*tensors: Tensor) -> bool:
    """Whether the kernel may take the place of `selective_scan` and what is around it, for these and all parameters."""
    if torch.compiler.is_compiling() or torch.onnx.is_in_onnx_export() or torch._C._are_functorch_transforms_active():
        return False
    if torch.is_grad_enabled() and any(x.requires_grad for x in tensors):
        return False
    if any(x.device.type != "cpu" or x.dtype != torch.float32 for x in tensors) or torch.is_autocast_enabled("cpu"):
        return False
    if torch.autograd.forward_ad._current_level >= 0 or _kernel() is None:
        return False
    chosen: str = choose_backend(forced_backend(), "cpu", False, False, None)
    return chosen == "cpu"


@torch.library.custom_op("hsmamba::s6", mutates_args=())
def s6_op(
    u: Tensor,
    projected: Tensor,
    order: Tensor,
    A_log: Tensor,
    steps: Tensor,
    bias: Tensor,
    D: Tensor,
    summed: bool,
) -> tuple[Tensor, Tensor]:
    """Scan K times; W is 1 where all scans have the same weights, else K.

    Args:
        u: (B, K, L, d), float32; channels are neighbours in memory. One copy for all scans has stride 0 along K.
        projected: (B, K, L, R + 2 N), likewise: the rank, then B and C.
        order: (K, L), int32: the token that a scan visits at each step.
        A_log: (W, d, N); A = -exp(A_log).
        steps: (W, d, R), from the rank to the step sizes before their bias and softplus.
        bias: (W, d).
        D: (W, d).
        summed: Sum over the scans.

    Returns:
        y (B, 1, L, d) summed, or (B, K, L, d), tokens in the order of u; the last states (B, K, d, N).
    """
    b, scans, length, d = u.shape
    n, rank = A_log.shape[2], steps.shape[2]
    y = u.new_empty(b, 1 if summed else scans, length, d)
    last = u.new_empty(b, scans, d, n)
    if y.numel() == 0:
        return y, last.zero_()
    row = (-(-d // cpu.WIDEST) + 1) * cpu.WIDEST  # of the weights: a vector may begin at any channel
    rates, weights = (F.pad(x.mT, (0, row - d)) for x in (-A_log.exp(), steps))
    shift, direct = (F.pad(x, (0, row - d)) for x in (bias, D))
    threads = torch.get_num_threads() if b * scans * d * length * n > cpu.SMALL else 1
    blocks = -(-d // {"avx512": 16, "avx2": 8, "baseline": 4}[cpu.level()])
    parts = max(1, min(blocks, -(-cpu.RUNS_PER_THREAD * threads // b))) if threads > 1 else 1
    floats = 3 * CHECKPOINT_STEPS * cpu.WIDEST + n * row  # tiles and states
    scratch = torch.empty(threads * floats + cpu.WIDEST)
    arguments = _S6(b, scans, d, length, n, rank, parts, row, int(len(A_log) > 1))
    arguments.u, arguments.projected, arguments.y = _tokens(u), _tokens(projected), _tokens(y, summed)
    pointers = {"order": order, "A": rates, "steps": weights, "bias": shift, "D": direct, "last": last}
    for name, x in pointers.items():
        setattr(arguments, name, x.data_ptr())
    arguments.scratch, arguments.scratch_floats = -(-scratch.data_ptr() // 64) * 64, floats
    cpu.run_team(_kernel(), arguments, threads, (u, projected, y, scratch, *pointers.values()))
    return y, last


def _tokens(x: Tensor, summed: bool = False) -> _Tokens:
    batch, scan, token = x.stride()[:3]
    return _Tokens(x.data_ptr(), batch, 0 if summed else scan, token)


@s6_op.register_fake
def _(u: Tensor, projected: Tensor, order: Tensor, A_log: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    b, scans, length, d = u.shape
    return u.new_empty(b, 1 if others[-1] else scans, length, d), u.new_empty(b, scans, d, A_log.shape[2])
