"""The compiled kernel of attention to a window: in the library of the scan, for CPU tensors in float32."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from hsmamba.ops import cpu
from hsmamba.ops.products import ACTIVATIONS

MOST_CHANNELS = 16  # of a head; this and the next: csrc/attention.h
WIDEST_WINDOW = 15

_BAND = 8  # rows that a thread takes at once

_int = ctypes.c_int64


class _Planes(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("group", _int), ("channel", _int), ("row", _int)]


class _Attention(ctypes.Structure):
    _fields_ = [
        *((name, _int) for name in ("groups", "channels", "height", "width", "window")),
        *((name, _Planes) for name in ("q", "k", "v", "out")),
        *((name, _int) for name in ("activation", "band", "next_task")),
    ]


class _AttentionBackward(ctypes.Structure):
    _fields_ = [
        *((name, _int) for name in ("groups", "channels", "height", "width", "window")),
        *((name, _Planes) for name in ("q", "k", "v", "out", "grad", "dq", "dk", "dv")),
        ("scratch", ctypes.c_void_p),
        *((name, _int) for name in ("scratch_row", "next_thread", "next_group")),
    ]


def takes(q: Tensor, k: Tensor, v: Tensor, window: int) -> bool:
    """Whether the kernel computes attention with these tensors (see `attend`) and this window."""
    if cpu.unavailable() or q.shape[1] > MOST_CHANNELS or window > WIDEST_WINDOW:
        return False
    return all(x.device.type == "cpu" and x.dtype == torch.float32 and x.stride(3) == 1 for x in (q, k, v))


def takes_back(q: Tensor, k: Tensor, v: Tensor, out: Tensor, grad: Tensor, window: int) -> bool:
    """Whether the kernel computes the gradients of attention (see `attend_back`)."""
    return takes(q, k, v, window) and takes(q, out, grad, window)


def attend(q: Tensor, k: Tensor, v: Tensor, window: int, out: Tensor, activation: str = "") -> None:
    """Attend on torch's threads; the interpreter lock is released.

    Args:
        q: Queries (G, d, H, W), float32; in this and the others, pixels of a row are contiguous.
        k: Keys (G, d, H + window - 1, W + window - 1).
        v: Values, the same shape.
        window: Odd side of the window.
        out: Takes the result, (G, d, H, W).
        activation: Of the result: "", "relu" or "sigmoid".
    """
    planes = (_Planes(x.data_ptr(), *x.stride()[:3]) for x in (q, k, v, out))
    number = ACTIVATIONS.index(activation)
    threads = torch.get_num_threads() if q.numel() * window**2 > cpu.SMALL else 1
    cpu.run_team(
        cpu.kernel("attention"), _Attention(*q.shape, window, *planes, number, _BAND, 0), threads, (q, k, v, out)
    )


def attend_back(
    q: Tensor, k: Tensor, v: Tensor, out: Tensor, grad: Tensor, window: int, dq: Tensor, dk: Tensor, dv: Tensor
) -> None:
    """Compute the gradients of `attend` on torch's threads, each some groups; the interpreter lock is released.

    Args:
        q: See `attend`; so are k and v.
        k: Keys.
        v: Values.
        out: What `attend` gave.
        grad: Its gradient, the same shape.
        window: Odd side of the window.
        dq: Takes the gradient of q.
        dk: That of k is added to it.
        dv: That of v is added to it.
    """
    planes = (_Planes(x.data_ptr(), *x.stride()[:3]) for x in (q, k, v, out, grad, dq, dk, dv))
    row = q.shape[3] + 2 * (window - 1) + cpu.WIDEST
    threads = min(torch.get_num_threads(), len(q)) if q.numel() * window**2 > cpu.SMALL else 1
    scratch = q.new_zeros(threads, 2 * (window**2 + q.shape[1]) * row)
    arguments = _AttentionBackward(*q.shape, window, *planes, scratch.data_ptr(), row, 0, 0)
    held = (q, k, v, out, grad, dq, dk, dv, scratch)
    cpu.run_team(cpu.kernel("attention_backward"), arguments, threads, held)
