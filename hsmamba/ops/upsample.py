"""Up-sampling of a coarse image to the guide's grid, shared by the fusion networks and the data protocol.

Phase, for a scale ratio r: input sample k sits on output index r k + r // 2.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Taps of the 23-tap half-band filter at distances 1, 3, ..., 11; the centre is 1 and even distances are 0
# (Aiazzi et al., IEEE TGRS 40(10), 2002; twice the published half-filter).
HALF_BAND = (0.61066818237, -0.145397186478, 0.043619155884, -0.010385513306, 0.001615524292, -0.000120162964)


def upsample(image: Tensor, ratio: int) -> Tensor:
    """Up-sample with `interp23` for powers of two, with Keys' bicubic (a = -0.5, mirrored border) for other ratios.

    Args:
        image: (B, C, h, w), floating point.
        ratio: Scale ratio, an integer of 1 or more.

    Returns:
        (B, C, r h, r w), differentiable; called lms in the field.

    Raises:
        ValueError: The ratio is below 1.
    """
    if ratio < 1:
        raise ValueError(f"ratio is {ratio}, expected an integer of 1 or more (4 for most PAN and MS pairs)")
    if ratio & (ratio - 1) == 0:
        return interp23(image, ratio)
    return bicubic(image, ratio)


def bicubic(image: Tensor, ratio: int) -> Tensor:
    """Up-sample with Keys' bicubic (a = -0.5), mirrored border, in the phase of `upsample`.

    Args:
        image: (B, C, h, w), floating point.
        ratio: Scale ratio, an integer of 1 or more.

    Returns:
        (B, C, r h, r w); input samples are kept.
    """
    for axis in (2, 3):
        image = _cubic(image, axis, ratio)
    return image


def interp23(image: Tensor, ratio: int) -> Tensor:
    """Up-sample by a power of two with the 23-tap half-band filter, circular boundary (the method called EXP).

    Args:
        image: (B, C, h, w), floating point.
        ratio: Scale ratio, a power of two.

    Returns:
        (B, C, r h, r w); input samples are kept.

    Raises:
        ValueError: The ratio is no power of two.
    """
    if ratio < 1 or ratio & (ratio - 1):
        raise ValueError(f"interp23 doubles the size, so ratio must be a power of two, got {ratio}: use upsample")
    for step in range(ratio.bit_length() - 1):
        for axis in (2, 3):
            image = _double(image, axis, odd=step == 0)
    return image


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


def _cubic(image: Tensor, axis: int, ratio: int) -> Tensor:
    """Interpolate one axis at (k - r // 2) / r for output index k: r phases of four taps each."""
    length = image.shape[axis]
    fine = torch.arange(ratio, device=image.device) - ratio // 2
    offset = (fine % ratio).to(image.dtype) / ratio  # of each phase behind its left sample
    left = torch.arange(length, device=image.device)[:, None] + fine.div(ratio, rounding_mode="floor")  # (length, r)
    result = torch.zeros((), dtype=image.dtype, device=image.device)
    for tap in (-1, 0, 1, 2):
        index = (left + tap).flatten() % (2 * length)
        mirrored = torch.minimum(index, 2 * length - 1 - index)
        distance = (offset - tap).abs()
        near = (1.5 * distance - 2.5) * distance**2 + 1
        far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
        weight = torch.where(distance <= 1, near, far).repeat(length)
        result = result + image.index_select(axis, mirrored) * weight.reshape(
            [-1 if a == axis else 1 for a in range(4)]
        )
    return result
