"""What the fusion metrics ask of their images."""

from __future__ import annotations

import torch
from torch import Tensor

from hsmamba.errors import SceneError


def as_double(image: Tensor, name: str) -> Tensor:
    """Return a real tensor (B, C, H, W) without an empty side, all of it finite, as float64."""
    if not isinstance(image, Tensor) or image.is_complex():
        kind = image.dtype if isinstance(image, Tensor) else type(image).__name__
        raise TypeError(f"{name} is {kind}, expected a real torch tensor (B, C, H, W)")
    if image.ndim != 4 or image.numel() == 0:
        raise SceneError(f"{name} has shape {tuple(image.shape)}, expected four non-empty axes (B, C, H, W)")
    double = image.double()
    if bad := int((~torch.isfinite(double)).sum()):
        raise SceneError(f"{name} has {bad} values that are not finite: crop them away or fill both images alike")
    return double


def as_pair(reference: Tensor, fused: Tensor) -> tuple[Tensor, Tensor]:
    """Return two images of one shape as float64."""
    if isinstance(reference, Tensor) and isinstance(fused, Tensor) and reference.shape != fused.shape:
        raise SceneError(
            f"reference {tuple(reference.shape)} and fused {tuple(fused.shape)} differ, expected one shape"
        )
    return as_double(reference, "reference"), as_double(fused, "fused")


def check_range(data_range: float) -> None:
    """Raise unless the range is above 0."""
    if not data_range > 0:
        raise ValueError(f"data_range is {data_range}, expected the largest possible value, above 0 (2047 for 11 bits)")
