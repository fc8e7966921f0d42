"""How sharp a user's MS is beside the guide on its own grid, which decides what the reduced scale is worth.

Wald's protocol tunes on MS as the truth, beside the guide reduced by an ideal filter. An MS with the MTF of its table
is softer than that guide, while the image that is sought at full scale need not be softer than the full guide: filters
tuned on the former give too little detail, or blur it. And an MS that is as sharp as the guide, as products with MTF
compensation are, did not come about by the MTF of the table, by which back-projection would sharpen it further.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hsmamba.data.degrade import filter_bands, gaussian_kernel, mtf_kernels
from hsmamba.data.sensors import Sensor, band_gains

SHARP = 0.7  # relative MTF from which on an MS did not come about by the MTF of a table (0.2 to 0.4)
_TRIED = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_SHARPEST = 0.999


def relative_mtf(pairs: Sequence[tuple[Tensor, Tensor]], ratio: int) -> float:
    """Find the MTF of MS at the Nyquist frequency of its grid, relative to the guide's.

    It is that of the Gaussian blur with which the guide explains the detail of the bands best, in the mean over bands,
    with one number a band and channel.

    Args:
        pairs: MS (C, h, w) and the guide on its grid (G, h, w), of each part.
        ratio: Scale ratio; detail is what a blur by the usual MTF at that ratio takes away.

    Returns:
        From 0.1 to 0.999: as sharp.
    """
    coarse = [(_detail(ms[None].double(), ratio), guide[None].double()) for ms, guide in pairs]
    y = torch.cat([detail for detail, _ in coarse], dim=1)

    def unexplained(gain: float) -> float:
        x = torch.cat([_detail(blurred(guide, gain), ratio) for _, guide in coarse], dim=1)
        weights = torch.linalg.pinv(x @ x.T, hermitian=True) @ (x @ y.T)
        power = y.square().mean(dim=1)
        left = (y - weights.T @ x).square().mean(dim=1)
        return float((left / power.clamp_min(torch.finfo(power.dtype).tiny)).mean())

    return min((*_TRIED, _SHARPEST), key=unexplained)


def blur_of(relative: float, sensor: Sensor, bands: int) -> float:
    """Tell the MTF that the reduced guide is blurred by: half of the way to that of MS, as a power.

    Half, because how sharp the image is that is sought nobody knows: as sharp as the guide where MS came about by the
    MTF of the table, as soft as MS where the product is soft at every scale.
    """
    nominal = sum(band_gains(sensor, bands)) / bands
    return float(max(relative, nominal) ** 0.5)


def blurred(guide: Tensor, gain: float) -> Tensor:
    """Blur a guide (B, G, h, w) by a Gaussian of that MTF at the Nyquist frequency of its grid."""
    return filter_bands(guide, gaussian_kernel(gain))


def _detail(image: Tensor, ratio: int) -> Tensor:
    """What the coarse grid would not hold of an image (1, C, h, w), less its mean, (C, N)."""
    kernel = mtf_kernels("generic", 1, ratio=ratio)
    detail = (image - filter_bands(image, kernel / kernel.sum()))[0].flatten(1)
    return detail - detail.mean(dim=1, keepdim=True)
