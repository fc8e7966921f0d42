"""Resampling, for the fusion networks, the data protocol and the metrics: interp23, Keys' cubic, the mirrored border.

Phase of up-sampling by a ratio r: input sample k sits on output index r k + r // 2.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_PART = 64  # samples of an axis that one matrix up-samples

Index = TypeVar("Index", Tensor, npt.NDArray[np.int64])

# Taps of the 23-tap half-band filter at distances 1, 3, ..., 11; the centre is 1 and even distances are 0
# (Aiazzi et al., IEEE TGRS 40(10), 2002; twice the published half-filter).
HALF_BAND = (0.61066818237, -0.145397186478, 0.043619155884, -0.010385513306, 0.001615524292, -0.000120162964)
_MOST_READ = 2 * len(HALF_BAND)  # samples on each side: each doubling reads six, half as far apart as the one before


def upsample(image: Tensor, ratio: int) -> Tensor:
    """Up-sample (B, C, h, w) with `interp23` for powers of two, with `bicubic` for other ratios.

    Raises:
        ValueError: The ratio is below 1.
    """
    if ratio < 1:
        raise ValueError(f"ratio is {ratio}, expected an integer of 1 or more (4 for most PAN and MS pairs)")
    return bicubic(image, ratio) if ratio & (ratio - 1) else interp23(image, ratio)


def bicubic(image: Tensor, ratio: int) -> Tensor:
    """Up-sample (B, C, h, w) with Keys' bicubic (a = -0.5), mirrored border; input samples are kept."""
    fine = torch.arange(ratio, device=image.device) - ratio // 2
    offset = (fine % ratio).to(image.dtype) / ratio  # of each of the r phases behind its left sample
    taps = torch.arange(-1, 3, device=image.device)
    for axis in (2, 3):
        length = image.shape[axis]
        left = torch.arange(length, device=image.device)[:, None] + fine.div(ratio, rounding_mode="floor")
        index = left.flatten()[:, None] + taps  # (r length, 4)
        image = _weighted(image, axis, index, keys_cubic(offset[:, None] - taps).repeat(length, 1))
    return image


def resize(image: Tensor, scale: float) -> Tensor:
    """Resize as MATLAB's `imresize(image, scale, "bicubic")`: Keys' kernel, widened when shrinking (antialiasing).

    Output sample k of (B, C, ceil(scale H), ceil(scale W)) lies at input coordinate (k + 0.5) / scale - 0.5.
    """
    widen = min(scale, 1.0)
    taps = torch.arange(math.ceil(4 / widen) + 2)
    for axis in (2, 3):
        size = math.ceil(round(image.shape[axis] * scale, 9))  # round: 1 / r times a multiple of r is that exactly
        positions = (torch.arange(size, dtype=torch.float64) + 0.5) / scale - 0.5
        index = torch.floor(positions - 2 / widen)[:, None] + taps  # (out, taps)
        weight = keys_cubic((positions[:, None] - index) * widen)
        weight = weight / weight.sum(dim=1, keepdim=True)
        used = torch.nonzero(weight.abs().amax(dim=0)).flatten()
        image = _weighted(image, axis, index[:, used].long().to(image.device), weight[:, used].to(image))
    return image


def mirror_index(index: Index, length: int) -> Index:
    """Map any integer indices, torch or numpy, into 0..length-1 by mirroring with the border sample repeated."""
    folded = index % (2 * length)
    beyond = folded // length  # 1 in the mirrored half, else 0
    return folded + beyond * (2 * length - 1 - 2 * folded)


def keys_cubic(x: Tensor) -> Tensor:
    """Keys' cubic convolution kernel with a = -0.5, support 4 (IEEE TASSP 29(6), 1981)."""
    x = x.abs()
    near = (1.5 * x - 2.5) * x**2 + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x <= 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def interp23(image: Tensor, ratio: int) -> Tensor:
    """Up-sample (B, C, h, w) by the 23-tap half-band filter, circular boundary, keeping input samples (EXP).

    Raises:
        ValueError: The ratio is no power of two.
    """
    if ratio < 1 or ratio & (ratio - 1):
        raise ValueError(f"interp23 doubles the size, so ratio must be a power of two, got {ratio}: use upsample")
    for step in range(ratio.bit_length() - 1):
        for axis in (2, 3):
            image = _double(image, axis, odd=step == 0)
    return image


@functools.cache
def upsample_reach(ratio: int) -> int:
    """Count the samples on each side that `upsample` reads for the pixels of one: 2 for Keys' cubic, else up to 10."""
    if ratio & (ratio - 1):
        return 2
    read = _of_samples(1, ratio).abs().amax(dim=1).nonzero()[:, 0]
    return int((read - _MOST_READ).abs().max())


def interp23_inside(image: Tensor, ratio: int) -> Tensor:
    """Up-sample as `interp23` what is not near the border, by products with small matrices: several times as fast.

    Args:
        image: (B, C, h + 2 k, w + 2 k), k = `upsample_reach(ratio)`.
        ratio: A power of two.

    Returns:
        (B, C, ratio h, ratio w): pixels that do not depend on what lies beyond the image.
    """
    batch, chans, height, width = image.shape
    height, width = (side - 2 * upsample_reach(ratio) for side in (height, width))
    # Samples are to be kept, which products in half precision would not do.
    with torch.autocast(image.device.type, enabled=False):
        tall = image.new_empty(batch, chans, height * ratio, image.shape[3])
        for first, matrix in _inside(height, ratio, image):
            tall[:, :, first * ratio :][:, :, : matrix.shape[1]] = matrix.T @ image[:, :, first:][:, :, : len(matrix)]
        fine = image.new_empty(batch, chans, height * ratio, width * ratio)
        for first, matrix in _inside(width, ratio, image):
            fine[..., first * ratio :][..., : matrix.shape[1]] = tall[..., first:][..., : len(matrix)] @ matrix
    return fine


def _inside(length: int, ratio: int, like: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Give the matrices (n + 2 k, ratio n) of the parts of an axis, of n samples, and where each part begins."""
    for first in range(0, length, _PART):
        yield first, _inside_matrix(min(_PART, length - first), ratio).to(like)


@functools.cache
@torch.inference_mode(mode=False)  # it is held for calls with gradients, too
def _inside_matrix(length: int, ratio: int) -> Tensor:
    """What each sample (n + 2 k) adds to each new one (ratio n), in double precision."""
    unread = _MOST_READ - upsample_reach(ratio)
    return _of_samples(length, ratio)[unread : length + 2 * _MOST_READ - unread].contiguous()


def _of_samples(length: int, ratio: int) -> Tensor:
    """What samples add to the new ones of so many in their middle, with as many on each side as are read at most."""
    matrix = torch.eye(length + 2 * _MOST_READ, dtype=torch.float64, device="cpu")[None, None]
    for step in range(ratio.bit_length() - 1):
        matrix = _double(matrix, 3, odd=step == 0)
    return matrix[0, 0, :, _MOST_READ * ratio :][:, : length * ratio]


def _double(image: Tensor, axis: int, *, odd: bool) -> Tensor:
    """Double one axis; samples go to odd or to even indices, the others are filtered from their neighbours."""
    length, reach = image.shape[axis], len(HALF_BAND)
    around = torch.arange(-reach, length + reach, device=image.device) % length
    wrapped = image.index_select(axis, around)
    between = torch.zeros_like(image)
    for j, tap in enumerate(HALF_BAND):
        # A new sample lies between input samples i - 1 and i (odd) or i and i + 1 (even).
        left = wrapped.narrow(axis, reach - j - int(odd), length)
        right = wrapped.narrow(axis, reach + j + int(not odd), length)
        between = between + tap * (left + right)
    pair = (between, image) if odd else (image, between)
    return torch.stack(pair, dim=axis + 1).flatten(axis, axis + 1)


def _weighted(image: Tensor, axis: int, index: Tensor, weight: Tensor) -> Tensor:
    """Sum samples of one axis at `index` (n, taps), mirrored at the border, times `weight` (n, taps)."""
    shape = [-1 if a == axis else 1 for a in range(image.ndim)]
    result = torch.zeros((), dtype=image.dtype, device=image.device)
    # Tap by tap: a gather of all taps at once would hold up to 18 copies of the image.
    for source, factor in zip(mirror_index(index, image.shape[axis]).unbind(1), weight.unbind(1), strict=True):
        result = result + image.index_select(axis, source) * factor.reshape(shape)
    return result
