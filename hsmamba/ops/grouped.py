"""The compiled kernel of convolutions whose groups have few channels: for inference on a CPU in float32."""

from __future__ import annotations

import ctypes

import torch
import torch.nn.functional as F
from torch import Tensor

from hsmamba.ops import cpu
from hsmamba.ops.products import ACTIVATIONS

_BLOCK = 4  # csrc/grouped.h
_BAND = 8  # rows that a thread takes at once
_OF_ONE = ("", "relu", "sigmoid")  # activations that the kernel has
_int = ctypes.c_int64
_ptr = ctypes.c_void_p


class _Maps(ctypes.Structure):
    _fields_ = [("data", _ptr), ("image", _int), ("channel", _int), ("row", _int)]


class _Grouped(ctypes.Structure):
    _fields_ = [
        *((name, _int) for name in ("images", "groups", "inputs", "outputs", "height", "width", "kernel")),
        *((name, _int) for name in ("x_group", "out_group", "activation")),
        *((name, _Maps) for name in ("x", "add", "out")),
        *((name, _ptr) for name in ("weights", "gain", "across", "down")),
        *((name, _int) for name in ("band", "next_task")),
    ]


class _Reflected(ctypes.Structure):
    _fields_ = [*((name, _int) for name in ("images", "channels", "height", "width", "margin")), ("x", _Maps)]


def arranged(weight: Tensor, *, groups: int) -> Tensor:
    """Bring weights (groups M, C, k, k) into the order that the kernel reads them in: (groups, blocks, k^2, C, 4)."""
    by_group = weight.detach().reshape(groups, -1, *weight.shape[1:])
    by_group = F.pad(by_group, (0, 0, 0, 0, 0, 0, 0, -by_group.shape[1] % _BLOCK))
    blocks = by_group.reshape(groups, -1, _BLOCK, weight.shape[1], weight[0, 0].numel())
    return blocks.permute(0, 1, 4, 3, 2).contiguous()


def convolve(
    x: Tensor, weights: Tensor, outputs: int, *, add: Tensor, gain: Tensor, activation: str = "", side_by_side: bool
) -> Tensor:
    """Compute activation(convolution of x, with zeros around it, + gain * add).

    Args:
        x: (B, groups C, H, W), float32.
        weights: What `arranged` gives.
        outputs: M of each group.
        add: (B, groups M, H, W).
        gain: One number.
        activation: "", "relu" or "sigmoid".
        side_by_side: The channels of the groups take turns: channel c of group e is c groups + e; otherwise those of a
            group follow each other.

    Returns:
        (B, groups M, H, W).

    Raises:
        ValueError: Another activation.
    """
    if activation not in _OF_ONE:
        raise ValueError(f"activation is {activation!r}; a grouped convolution takes {', '.join(map(repr, _OF_ONE))}")
    (images, _, height, width), (groups, _, taps, inputs, _) = x.shape, weights.shape
    kernel = round(taps**0.5)
    padded, add = F.pad(x, [kernel // 2] * 4), add.contiguous()
    out = x.new_empty(images, groups * outputs, height, width)
    if not out.numel():
        return out
    image, plane, row, _ = padded.stride()
    maps = _Maps(padded.data_ptr(), image, plane * (groups if side_by_side else 1), row)
    sizes = images, groups, inputs, outputs, height, width, kernel
    strides = plane * (1 if side_by_side else inputs), outputs * out.stride(1)
    others = (_Maps(y.data_ptr(), *y.stride()[:3]) for y in (add, out))
    number = ACTIVATIONS.index(activation)
    arguments = _Grouped(
        *sizes, *strides, number, maps, *others, weights.data_ptr(), gain.data_ptr(), None, None, _BAND, 0
    )
    threads = torch.get_num_threads() if out.numel() * taps * inputs > cpu.SMALL else 1
    cpu.run_team(cpu.kernel("grouped"), arguments, threads, (padded, add, out, weights, gain))
    return out


def project(x: Tensor, weights: Tensor, across: Tensor, down: Tensor, margin: int, kept: int) -> Tensor:
    """Mix the channels of each pixel, add what belongs to its column and row, and reflect the border.

    Args:
        x: (B, C, H, W), float32.
        weights: What `arranged` gives for (M, C, 1, 1) and one group.
        across: (M, W), contiguous.
        down: (M, H), contiguous.
        margin: Rows and columns around the result, fewer than it has.
        kept: So many first outputs get no border; it holds anything.

    Returns:
        (B, M, H + 2 margin, W + 2 margin).
    """
    (images, inputs, height, width), outputs = x.shape, len(across)
    x = x if x.stride(3) == 1 else x.contiguous()
    out = x.new_empty(images, outputs, height + 2 * margin, width + 2 * margin)
    if not out.numel():
        return out
    inside = out[:, :, margin:, margin:]
    given, made = (_Maps(y.data_ptr(), *y.stride()[:3]) for y in (x, inside))
    sizes = images, 1, inputs, outputs, height, width, 1
    pointers = weights.data_ptr(), None, across.data_ptr(), down.data_ptr()
    arguments = _Grouped(*sizes, 0, 0, 0, given, _Maps(), made, *pointers, _BAND, 0)
    threads = torch.get_num_threads() if out.numel() * inputs > cpu.SMALL else 1
    cpu.run_team(cpu.kernel("grouped"), arguments, threads, (x, out, weights, across, down))
    bordered = out[:, kept:]
    border = _Maps(bordered.data_ptr(), *bordered.stride()[:3])
    cpu.kernel("reflect")(ctypes.byref(_Reflected(images, outputs - kept, height, width, margin, border)))
    return out
