"""Fusion metrics without a reference, as in the DLPan-Toolbox; public through `hsmamba.metrics.fusion`."""

from __future__ import annotations

import torch
from torch import Tensor

from hsmamba.data.degrade import bicubic_resize, check_grids, mtf_filter, upsample
from hsmamba.data.sensors import Sensor
from hsmamba.errors import SceneError
from hsmamba.metrics._check import as_double, check_digital_numbers
from hsmamba.metrics._q import BLOCK, block_q, pairwise_q, q2n_index


def d_lambda(fused: Tensor, lms: Tensor, *, block: int = BLOCK) -> Tensor:
    """Spectral distortion: mean over pairs of bands of |Q(F_i, F_j) - Q(M_i, M_j)|, exponent 1.

    Alparone et al., PE&RS 74(2), 2008, with the toolbox's choice of M: the up-sampled image, not the native one.

    Args:
        fused: (B, C, H, W), two bands or more, sides of at least one block; the rest beyond whole blocks is left out.
        lms: The MS up-sampled to the same grid (`hsmamba.data.degrade.upsample`), the same unit.
        block: Side of the blocks in pixels.

    Returns:
        (B,), 0 is best.

    Raises:
        TypeError, ValueError, SceneError: Images that do not fit, or have a single band.
    """
    f, m = _full_pair(fused, lms)
    bands = f.shape[1]
    if bands < 2:
        raise SceneError(f"D_lambda compares pairs of bands, but fused has shape {tuple(fused.shape)}: no pair")
    difference = (pairwise_q(f, block) - pairwise_q(m, block)).abs()
    first, second = torch.triu_indices(bands, bands, offset=1, device=f.device)
    return difference[:, first, second].mean(dim=1)


def _full_pair(fused: Tensor, lms: Tensor) -> tuple[Tensor, Tensor]:
    if isinstance(fused, Tensor) and isinstance(lms, Tensor) and fused.shape != lms.shape:
        raise SceneError(
            f"fused {tuple(fused.shape)} and lms {tuple(lms.shape)} differ, expected one shape: lms is the MS "
            "up-sampled to the fused grid (hsmamba.data.degrade.upsample)"
        )
    return as_double(fused, "fused"), as_double(lms, "lms")


def d_s(fused: Tensor, lms: Tensor, pan: Tensor, *, ratio: int = 4, block: int = BLOCK) -> Tensor:
    """Spatial distortion: mean over bands of |Q(F_b, P) - Q(M_b, P_f)|, exponent 1.

    P_f is the PAN reduced by MATLAB's bicubic and up-sampled again.

    Args:
        fused: (B, C, H, W), sides multiples of the ratio and at least one block.
        lms: The MS up-sampled to the same grid, the same unit.
        pan: (B, 1, H, W).
        ratio: Scale ratio.
        block: Side of the blocks in pixels.

    Returns:
        (B,), 0 is best.

    Raises:
        TypeError, ValueError, SceneError: Images that do not fit, or a guide of several channels.
    """
    f, m = _full_pair(fused, lms)
    p = as_double(pan, "pan")
    if p.shape != (f.shape[0], 1, *f.shape[2:]):
        raise SceneError(
            f"pan {tuple(p.shape)} does not fit fused {tuple(f.shape)}, expected ({f.shape[0]}, 1, {f.shape[2]}, "
            f"{f.shape[3]}): average a guide of several channels with .mean(1, keepdim=True)"
        )
    if any(side % ratio for side in p.shape[-2:]):
        raise SceneError(f"pan {tuple(p.shape)}: sides must be multiples of the ratio {ratio}; crop all images alike")
    smooth = upsample(bicubic_resize(p, 1 / ratio), ratio)
    return (block_q(f, p, block) - block_q(m, smooth, block)).abs().mean(dim=1)


def qnr(fused: Tensor, lms: Tensor, pan: Tensor, *, ratio: int = 4, block: int = BLOCK) -> Tensor:
    """Quality with no reference, (1 - D_lambda)(1 - D_s); arguments and errors as in `d_lambda` and `d_s`."""
    return (1 - d_lambda(fused, lms, block=block)) * (1 - d_s(fused, lms, pan, ratio=ratio, block=block))


def d_lambda_k(fused: Tensor, lms: Tensor, *, sensor: str | Sensor, ratio: int = 4, block: int = BLOCK) -> Tensor:
    """Khan's spectral distortion, 1 - Q2n(M, MTF filter of F).

    Khan et al., IEEE TGRS 47(11), 2009, without decimation, as in the toolbox.

    Args:
        fused: (B, C, H, W) in digital numbers.
        lms: The MS up-sampled to the same grid, the same unit.
        sensor: Name of a sensor, or one made by hand, for the filter.
        ratio: Scale ratio.
        block: Side of the blocks in pixels.

    Returns:
        (B,), 0 is best, not differentiable.

    Raises:
        TypeError, ValueError, SceneError: Images that do not fit each other or the sensor; data scaled to [0, 1].
    """
    f, m = _full_pair(fused, lms)
    check_digital_numbers(m)
    return 1 - q2n_index(m, mtf_filter(f, sensor=sensor, ratio=ratio), block)


def hqnr(
    fused: Tensor, lms: Tensor, pan: Tensor, *, sensor: str | Sensor, ratio: int = 4, block: int = BLOCK
) -> Tensor:
    """Hybrid QNR, (1 - D_lambda_K)(1 - D_s); arguments and errors as in `d_lambda_k` and `d_s`."""
    spectral = d_lambda_k(fused, lms, sensor=sensor, ratio=ratio, block=block)
    return (1 - spectral) * (1 - d_s(fused, lms, pan, ratio=ratio, block=block))


def full_resolution(
    fused: Tensor, ms: Tensor, pan: Tensor, *, sensor: str | Sensor, ratio: int = 4
) -> dict[str, Tensor]:
    """Compute the field's table of a fused image without a reference.

    Args:
        fused: (B, C, r h, r w) in digital numbers, two bands or more.
        ms: The native MS, (B, C, h, w), the same unit.
        pan: (B, 1, r h, r w).
        sensor: Name of a sensor, or one made by hand.
        ratio: Scale ratio r.

    Returns:
        "D_lambda", "D_s", "QNR", "D_lambda_K", "HQNR", each (B,).

    Raises:
        TypeError, ValueError, SceneError: As in each metric.
    """
    native, p = as_double(ms, "ms"), as_double(pan, "pan")
    check_grids(native, p, ratio)
    lms = upsample(native, ratio)
    spectral, spatial = d_lambda(fused, lms), d_s(fused, lms, p, ratio=ratio)
    khan = d_lambda_k(fused, lms, sensor=sensor, ratio=ratio)
    return {
        "D_lambda": spectral,
        "D_s": spatial,
        "QNR": (1 - spectral) * (1 - spatial),
        "D_lambda_K": khan,
        "HQNR": (1 - khan) * (1 - spatial),
    }
