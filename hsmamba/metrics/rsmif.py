"""Metrics as the released RSMIF test code prints them, for comparison with tables made by it.

They differ from `hsmamba.metrics.fusion` by the quirks that each docstring names. RSMIF evaluates data in [0, 1]
without a border cut; its SSIM, PSNR (data_range=1) and CC are those of `hsmamba.metrics.fusion`, and its printed labels
of SCC and CC are swapped. Images (B, C, H, W), any real dtype; values (B,) float64; errors as in `fusion`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hsmamba.data.degrade import interp23
from hsmamba.errors import SceneError
from hsmamba.metrics._check import as_double, as_pair
from hsmamba.metrics._q import BLOCK, q2n_index
from hsmamba.metrics.fusion import cc, spectral_angles

EPSILON = 1e-21  # keeps 0 / 0 finite in the global Q


def sam(reference: Tensor, fused: Tensor) -> Tensor:
    """Spectral angle in degrees, the mean over all pixels; a pixel with a zero spectrum counts as 0."""
    angles, _ = spectral_angles(*as_pair(reference, fused))
    return angles.mean(dim=(1, 2))


def ergas(reference: Tensor, fused: Tensor) -> Tensor:
    """ERGAS at ratio 4, relative to the mean of the fused image and not of the reference."""
    x, y = as_pair(reference, fused)
    relative = (x - y).square().mean(dim=(2, 3)) / y.mean(dim=(2, 3)).square()
    return 25 * relative.mean(dim=1).sqrt()


def rmse(reference: Tensor, fused: Tensor) -> Tensor:
    """Root of the squared error summed over bands and averaged over pixels: not divided by the number of bands."""
    x, y = as_pair(reference, fused)
    return (x - y).square().sum(dim=1).mean(dim=(1, 2)).sqrt()


def scc(reference: Tensor, fused: Tensor) -> Tensor:
    """Correlation of Sobel responses, mean over bands; the derivative is taken along the bands and not in space.

    Needs two bands; NaN where a response is constant.
    """
    x, y = as_pair(reference, fused)
    return cc(_spectral_sobel(x), _spectral_sobel(y))


def _spectral_sobel(image: Tensor) -> Tensor:
    """Central difference along bands, smoothed [1 2 1] along rows and columns, zeros beyond every border."""
    smooth = image.new_tensor([1.0, 2.0, 1.0])
    kernel = smooth[:, None] * smooth
    difference = image.new_tensor([-1.0, 0.0, 1.0])[:, None, None] * kernel
    return F.conv3d(image[:, None], difference[None, None], padding=1)[:, 0]


def _global_q(x: Tensor, y: Tensor) -> Tensor:
    """Q over whole bands (B, C), sample statistics."""
    mx, my = x.mean(dim=(2, 3)), y.mean(dim=(2, 3))
    dx, dy = x - mx[..., None, None], y - my[..., None, None]
    divisor = x.shape[-2] * x.shape[-1] - 1
    covariance = (dx * dy).sum(dim=(2, 3)) / divisor
    variances = (dx.square() + dy.square()).sum(dim=(2, 3)) / divisor
    return 4 * covariance * mx * my / ((variances + EPSILON) * (mx.square() + my.square() + EPSILON))


def uiqc(reference: Tensor, fused: Tensor) -> Tensor:
    """Q of whole bands, without blocks, mean over bands."""
    return _global_q(*as_pair(reference, fused)).mean(dim=1)


def q4(reference: Tensor, fused: Tensor) -> Tensor:
    """Quaternion index of whole images of four bands, without blocks (Alparone et al., IEEE GRSL 1(4), 2004)."""
    x, y = as_pair(reference, fused)
    if x.shape[1] != 4:
        raise SceneError(
            f"Q4 is for four bands, got shape {tuple(x.shape)}: hsmamba.metrics.fusion.q2n takes any number"
        )
    mx, my = x.mean(dim=(2, 3)), y.mean(dim=(2, 3))
    dx, dy = (x - mx[..., None, None]).flatten(2), (y - my[..., None, None]).flatten(2)
    pixels = dx.shape[-1]
    cross = dx @ dy.transpose(1, 2) / pixels  # (B, 4, 4)
    covariance = _conjugate_product(cross)
    variances = (dx.square().sum(dim=(1, 2)) + dy.square().sum(dim=(1, 2))) / pixels
    energy_x, energy_y = mx.square().sum(dim=1), my.square().sum(dim=1)
    modulus = covariance.square().sum(dim=1).sqrt()
    return 4 * modulus * (energy_x * energy_y).sqrt() / (variances * (energy_x + energy_y))


def _conjugate_product(table: Tensor) -> Tensor:
    """Components (B, 4) of the sum of quaternions x y* from the sums (B, 4, 4) of x_i y_j."""
    t = table.permute(1, 2, 0)
    return torch.stack(
        [
            t[0, 0] + t[1, 1] + t[2, 2] + t[3, 3],
            t[1, 0] - t[0, 1] - t[2, 3] + t[3, 2],
            t[2, 0] - t[0, 2] - t[3, 1] + t[1, 3],
            t[3, 0] - t[0, 3] - t[1, 2] + t[2, 1],
        ],
        dim=1,
    )


def q2n(reference: Tensor, fused: Tensor, *, block: int = BLOCK) -> Tensor:
    """Q2n with population instead of sample standard deviations; a difference in the sixth digit."""
    x, y = as_pair(reference, fused)
    return q2n_index(x, y, block, ddof=0)


def d_lambda(fused: Tensor, lms: Tensor) -> Tensor:
    """Spectral distortion by one global Q for each pair of bands."""
    f, m = as_pair(lms, fused)[::-1]
    if f.shape[1] < 2:
        raise SceneError(f"D_lambda compares pairs of bands, but fused has shape {tuple(fused.shape)}: no pair")
    first, second = torch.triu_indices(f.shape[1], f.shape[1], offset=1, device=f.device)
    difference = _global_q(f[:, first], f[:, second]) - _global_q(m[:, first], m[:, second])
    return difference.abs().mean(dim=1)


def d_s(fused: Tensor, ms: Tensor, pan: Tensor) -> Tensor:
    """Spatial distortion by a global Q of each band with PAN; at MS size PAN is reduced by a Gaussian pyramid.

    The ratio is 4: fused (B, C, 4 h, 4 w), the native ms (B, C, h, w), pan (B, 1, 4 h, 4 w).
    """
    f, m, p = as_double(fused, "fused"), as_double(ms, "ms"), as_double(pan, "pan")
    batch, bands, height, width = m.shape
    if f.shape != (batch, bands, 4 * height, 4 * width) or p.shape != (batch, 1, 4 * height, 4 * width):
        raise SceneError(
            f"fused {tuple(f.shape)} and pan {tuple(p.shape)} do not fit ms {tuple(m.shape)}: this variant "
            "has the ratio 4"
        )
    difference = _global_q(f, p.expand_as(f)) - _global_q(m, _pyramid(_pyramid(p)).expand_as(m))
    return difference.abs().mean(dim=1)


def _pyramid(image: Tensor) -> Tensor:
    """One step of a Gaussian pyramid: 5 binomial taps, mirrored without the border pixel, even indices kept."""
    taps = image.new_tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    padded = F.pad(image, (2, 2, 2, 2), mode="reflect")
    return F.conv2d(padded, (taps[:, None] * taps)[None, None], stride=2)


def qnr(fused: Tensor, ms: Tensor, pan: Tensor) -> Tensor:
    """Quality with no reference, (1 - D_lambda)(1 - D_s) of this module; arguments as in `d_s`."""
    return (1 - d_s(fused, ms, pan)) * (1 - d_lambda(fused, interp23(as_double(ms, "ms"), 4)))
