"""The detail of a guide that belongs into each band: low-pass guides and the gains of their regression."""

from __future__ import annotations

import torch
from torch import Tensor

from hsmamba.data.degrade import decimate, filter_bands, mtf_kernels, upsample
from hsmamba.data.sensors import Sensor

FLAT = 1e-6  # an image that varies less than this share of its largest value is constant but for rounding
_DEPENDENT = 1e-9  # singular values below this share of the largest are rounding


class LowPass:
    """What a guide is without the detail that the coarse bands lack: MTF, decimation, up-sampling.

    Bands of one MTF share the result.

    Args:
        sensor: Whose MTF.
        bands: Bands C of the coarse image.
        ratio: Scale ratio.

    Attributes:
        kinds: int64 (C,), which of the K different MTFs each band has.
        kernels: (K, 41, 41) float64, of sum 1, so that a flat guide stays as it is.

    Raises:
        SceneError: The sensor has other bands.
        ValueError: An unknown sensor, or a ratio below 2.
    """

    def __init__(self, sensor: str | Sensor, bands: int, ratio: int) -> None:
        kernels, self.kinds = torch.unique(mtf_kernels(sensor, bands, ratio=ratio), dim=0, return_inverse=True)
        self.kernels = kernels / kernels.sum(dim=(1, 2), keepdim=True)
        self.ratio = ratio

    def __call__(self, guide: Tensor) -> Tensor:
        """Filter a guide (B, G, H, W) by each MTF: (B, K, G, H, W)."""
        versions = [decimate(filter_bands(guide, kernel[None]), self.ratio) for kernel in self.kernels]
        return torch.stack([upsample(version, self.ratio) for version in versions], dim=1)

    def of_bands(self, pan: Tensor) -> Tensor:
        """Filter PAN (B, 1, H, W) by the MTF of every band: (B, C, H, W)."""
        return self(pan)[:, self.kinds, 0]

    def combined(self, gains: Tensor, low: Tensor) -> Tensor:
        """Combine the channels of low-pass guides (B, K, G, H, W) with the gains (B, C, G) of each band."""
        images = gains.new_empty(*gains.shape[:2], *low.shape[-2:])
        for kind in range(low.shape[1]):
            own = self.kinds == kind
            images[:, own] = torch.einsum("bcg,bghw->bchw", gains[:, own], low[:, kind])
        return images


def injection_gains(lms: Tensor, guide: Tensor, low: Tensor, kinds: Tensor) -> Tensor:
    """Find how much of the detail of each channel of a guide belongs into each band, by regression at full scale.

    For each band b the gains c solve `sum_h cov(G_g, L_h) c_h = cov(G_g, b)` over the channels g, G being the guide, L
    its low-pass version by the MTF of b, and b the up-sampled band; for PAN alone `cov(P, b) / cov(P, P_low)` (Vivone,
    Restaino, Chanussot, IEEE TIP 27(7), 2018, equation of the full-scale regression). Channels that are constant have
    the gain 0; those that depend on each other share it.

    Args:
        lms: Up-sampled bands (B, C, H, W) float64.
        guide: (B, G, H, W) float64.
        low: Low-pass versions (B, K, G, H, W) of the guide.
        kinds: int64 (C,), which of the K versions each band has.

    Returns:
        (B, C, G).
    """
    spread = guide.std(dim=(2, 3))  # (B, G)
    usable = spread > FLAT * guide.abs().amax(dim=(2, 3))
    unit = torch.where(usable, 1 / torch.where(usable, spread, 1.0), 0.0)[..., None]
    own, target = _centred(guide) * unit, _centred(lms)
    right = own @ target.transpose(1, 2)  # (B, G, C)
    gains = torch.empty_like(right)
    for kind in range(low.shape[1]):
        matrix = own @ (_centred(low[:, kind]) * unit).transpose(1, 2)
        chosen = kinds == kind
        gains[..., chosen] = torch.linalg.pinv(matrix, rtol=_DEPENDENT) @ right[..., chosen]
    return (unit * gains).transpose(1, 2)


def _centred(image: Tensor) -> Tensor:
    return (image - image.mean(dim=(2, 3), keepdim=True)).flatten(2)
