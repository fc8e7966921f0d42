"""The compiled kernel of convolutions with scaled taps: in the library of the scan, for CPU tensors in float32."""

from __future__ import annotations

import ctypes

import torch
import torch.nn.functional as F
from torch import Tensor

from hsmamba.ops import cpu

_BAND = 4  # rows that a thread takes at once
OUTPUT_BLOCK = 8  # csrc/adaptive.h

_int = ctypes.c_int64


class _Maps(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("image", _int), ("channel", _int), ("row", _int)]


class _Adaptive(ctypes.Structure):
    _fields_ = [
        *((name, _int) for name in ("images", "channels", "outputs", "height", "width", "kernel")),
        *((name, _Maps) for name in ("x", "taps", "out")),
        ("weights", ctypes.c_void_p),
        *((name, _int) for name in ("band", "next_task")),
    ]


class _AdaptiveBackward(ctypes.Structure):
    _fields_ = [
        *((name, _int) for name in ("images", "channels", "height", "width", "kernel")),
        *((name, _Maps) for name in ("x", "taps", "dx", "dtaps")),
        ("columns", ctypes.c_void_p),
    ]


def takes(padded: Tensor, taps: Tensor, weight: Tensor) -> bool:
    """Whether the kernel convolves these tensors (see `convolve`; weight (M, C, k, k)).

    On vectors of four numbers a library's matrix product is faster.
    """
    if cpu.level() == "baseline" or cpu.unavailable():
        return False
    fits = all(x.device.type == "cpu" and x.dtype == torch.float32 for x in (padded, taps, weight))
    return fits and padded.stride(3) == taps.stride(3) == 1


def takes_back(grad: Tensor, padded: Tensor, taps: Tensor, weight: Tensor) -> bool:
    """Whether there is a kernel for the gradients of these tensors (see `gradients`)."""
    fits = all(x.device.type == "cpu" and x.dtype == torch.float32 for x in (grad, padded, taps, weight))
    return fits and padded.stride(3) == taps.stride(3) == 1 and not cpu.unavailable()


def arranged(weight: Tensor) -> Tensor:
    """Bring weights (M, C, k, k) into the order that the kernel reads them in: (M / 8 rounded up, k^2, C, 8)."""
    outputs = F.pad(weight, (0, 0, 0, 0, 0, 0, 0, -len(weight) % OUTPUT_BLOCK))
    blocks = outputs.reshape(-1, OUTPUT_BLOCK, weight.shape[1], weight[0, 0].numel())
    return blocks.permute(0, 3, 2, 1).contiguous()


def convolve(padded: Tensor, taps: Tensor, weights: Tensor, kernel: int, out: Tensor) -> None:
    """Convolve on torch's threads; the interpreter lock is released.

    Args:
        padded: (B, C, H + kernel - 1, W + kernel - 1), float32; in this and the others, pixels of a row are contiguous.
        taps: (B, kernel^2, H, W).
        weights: What `arranged` gives.
        kernel: Odd side of the kernel.
        out: Takes the result, (B, M, H, W).
    """
    maps = (_Maps(x.data_ptr(), *x.stride()[:3]) for x in (padded, taps, out))
    sizes = len(out), padded.shape[1], *out.shape[1:]
    arguments = _Adaptive(*sizes, kernel, *maps, weights.data_ptr(), _BAND, 0)
    threads = torch.get_num_threads() if padded.numel() * len(weights) > cpu.SMALL else 1
    cpu.run_team(cpu.kernel("adaptive"), arguments, threads, (padded, taps, weights, out))


def gradients(
    slope: Tensor, padded: Tensor, taps: Tensor, matrix: Tensor, dpadded: Tensor, dtaps: Tensor, dmatrix: Tensor
) -> None:
    """Compute the gradients of `convolve`: two matrix products, and the kernel around them.

    Args:
        slope: Gradient of the result, (M, B H W).
        padded: See `convolve`; so are the taps.
        taps: (B, kernel^2, H, W).
        matrix: Weights (M, kernel^2 C), taps outermost.
        dpadded: The gradient of the padded image is added to it.
        dtaps: Takes that of the taps.
        dmatrix: That of the weights is added to it.
    """
    batch, offsets, height, width = taps.shape
    columns = slope.new_empty(matrix.shape[1], slope.shape[1])
    maps = (_Maps(x.data_ptr(), *x.stride()[:3]) for x in (padded, taps, dpadded, dtaps))
    sizes = batch, padded.shape[1], height, width, round(offsets**0.5)
    arguments = ctypes.byref(_AdaptiveBackward(*sizes, *maps, columns.data_ptr()))
    cpu.kernel("adaptive_columns")(arguments)
    dmatrix.addmm_(slope, columns.T)
    torch.mm(matrix.T, slope, out=columns)
    cpu.kernel("adaptive_gather")(arguments)
