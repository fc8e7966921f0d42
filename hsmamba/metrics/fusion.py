"""Metrics of image fusion, with the definitions of the DLPan-Toolbox; the RSMIF ones are in `hsmamba.metrics.rsmif`.

Vivone et al., "A New Benchmark Based on Recent Advances in Multispectral Pansharpening", IEEE GRSM 9(1), 2021.
Images are torch tensors (B, C, H, W) of any real dtype; everything is computed in float64 and every metric returns one
value an image, (B,) float64. Metrics are differentiable, except those that round to digital numbers (Q2n, D_lambda_K).

`reduced_resolution` and `full_resolution` give the field's two tables.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from hsmamba.errors import SceneError
from hsmamba.metrics._check import as_pair, check_digital_numbers, check_range
from hsmamba.metrics._no_reference import d_lambda, d_lambda_k, d_s, full_resolution, hqnr, qnr
from hsmamba.metrics._q import BLOCK, block_q, q2n_index

__all__ = [
    "cc",
    "cut_border",
    "d_lambda",
    "d_lambda_k",
    "d_s",
    "ergas",
    "full_resolution",
    "hqnr",
    "psnr",
    "q2n",
    "qnr",
    "reduced_resolution",
    "sam",
    "scc",
    "ssim",
    "uqi",
]

CUT = 21  # border parameter of the toolbox
SSIM_WINDOW = 7


def cut_border(image: Tensor, cut: int = CUT) -> Tensor:
    """Keep rows and columns cut - 1 .. n - cut - 1, the toolbox's border cut; 0 keeps all.

    Args:
        image: (B, C, H, W).
        cut: Border parameter, 0 or more.

    Returns:
        A view (B, C, H - 2 cut + 1, W - 2 cut + 1).

    Raises:
        ValueError: The cut is negative.
        SceneError: Nothing would be left.
    """
    if cut < 0:
        raise ValueError(f"cut is {cut}, expected 0 (keep all) or more (21 in the toolbox)")
    if cut == 0:
        return image
    if min(image.shape[-2:]) < 2 * cut:
        raise SceneError(f"a border cut of {cut} leaves nothing of an image of shape {tuple(image.shape)}: pass cut=0")
    return image[..., cut - 1 : image.shape[-2] - cut, cut - 1 : image.shape[-1] - cut]


def psnr(reference: Tensor, fused: Tensor, *, data_range: float) -> Tensor:
    """Peak signal-to-noise ratio in dB, the mean over bands of 10 log10(data_range^2 / MSE).

    Args:
        reference: (B, C, H, W).
        fused: The same shape and unit.
        data_range: Largest possible value (1 for data in [0, 1], 2047 for 11 bits).

    Returns:
        (B,); infinite where a band has no error.

    Raises:
        TypeError, SceneError: Images that do not fit.
        ValueError: The range is not above 0.
    """
    x, y = as_pair(reference, fused)
    check_range(data_range)
    return (20 * math.log10(data_range) - 10 * torch.log10((x - y).square().mean(dim=(2, 3)))).mean(dim=1)


def ssim(reference: Tensor, fused: Tensor, *, data_range: float) -> Tensor:
    """Structural similarity with a uniform 7 x 7 window and sample covariances, mean over pixels and bands.

    Wang et al., IEEE TIP 13(4), 2004, K1 = 0.01, K2 = 0.03; only windows that lie wholly in the image count.
    (torchmetrics has population covariances, and Gaussian windows by default: other figures.)

    Args:
        reference: (B, C, H, W), sides of 7 or more.
        fused: The same shape and unit.
        data_range: Largest possible value.

    Returns:
        (B,), at most 1.

    Raises:
        TypeError, SceneError: Images that do not fit, or smaller than the window.
        ValueError: The range is not above 0.
    """
    x, y = as_pair(reference, fused)
    check_range(data_range)
    if min(x.shape[-2:]) < SSIM_WINDOW:
        raise SceneError(
            f"images of shape {tuple(x.shape)} are smaller than the window of {SSIM_WINDOW} x {SSIM_WINDOW}"
        )
    # Band by band: the dozen intermediate images of one band stay in the processor's cache, or near it.
    bands = [_ssim_of_band(a, b, data_range) for a, b in zip(x.unbind(1), y.unbind(1), strict=True)]
    return torch.stack(bands, dim=1).mean(dim=1)


def _ssim_of_band(x: Tensor, y: Tensor, data_range: float) -> Tensor:
    """SSIM (B,) of one band (B, H, W)."""

    def mean(image: Tensor) -> Tensor:
        return image.unfold(1, SSIM_WINDOW, 1).sum(-1).unfold(2, SSIM_WINDOW, 1).sum(-1) / SSIM_WINDOW**2

    # Covariances are those of the data less the band's mean: smaller numbers, less cancellation.
    offset = x.mean(dim=(1, 2), keepdim=True)
    x, y = x - offset, y - offset
    mx, my = mean(x), mean(y)
    sample = SSIM_WINDOW**2 / (SSIM_WINDOW**2 - 1)
    variances = sample * (mean(x * x + y * y) - mx * mx - my * my)
    covariance = sample * (mean(x * y) - mx * my)
    mx, my = mx + offset, my + offset
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    index = (2 * mx * my + c1) * (2 * covariance + c2) / ((mx * mx + my * my + c1) * (variances + c2))
    return index.mean(dim=(1, 2))


def spectral_angles(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Angles in degrees (B, H, W) between the spectra of two float64 images, and where both spectra are not zero.

    The angle is 2 atan2(|u - v|, |u + v|) of the unit vectors u, v (Kahan): unlike arccos it keeps its accuracy and
    its gradient at small angles. It is 0 where undefined.
    """
    nx, ny = torch.linalg.vector_norm(x, dim=1), torch.linalg.vector_norm(y, dim=1)
    defined = nx * ny > 0
    u = x / torch.where(defined, nx, 1.0)[:, None]
    v = y / torch.where(defined, ny, 1.0)[:, None]
    apart = torch.linalg.vector_norm(u - v, dim=1)
    together = torch.linalg.vector_norm(u + v, dim=1)
    angles = 2 * torch.atan2(torch.where(defined, apart, 0.0), torch.where(defined, together, 1.0))
    return torch.rad2deg(angles), defined


def sam(reference: Tensor, fused: Tensor) -> Tensor:
    """Spectral angle mapper in degrees, the mean over pixels; pixels with a zero spectrum are left out.

    Args:
        reference: (B, C, H, W).
        fused: The same shape.

    Returns:
        (B,); NaN where no pixel is left.

    Raises:
        TypeError, SceneError: Images that do not fit.
    """
    angles, defined = spectral_angles(*as_pair(reference, fused))
    return angles.sum(dim=(1, 2)) / defined.sum(dim=(1, 2))


def ergas(reference: Tensor, fused: Tensor, *, ratio: int = 4) -> Tensor:
    """Relative dimensionless global error, (100 / r) sqrt(mean over bands of MSE / mean(reference)^2).

    Args:
        reference: (B, C, H, W); no band may have the mean 0, or the result is not finite.
        fused: The same shape and unit.
        ratio: Scale ratio r between fine and coarse grid (4, not 1/4).

    Returns:
        (B,), 0 for equal images.

    Raises:
        TypeError, SceneError: Images that do not fit.
        ValueError: The ratio is below 1: 1/4 given for 4.
    """
    x, y = as_pair(reference, fused)
    if ratio < 1:
        raise ValueError(f"ratio is {ratio}, expected the scale ratio fine to coarse, 1 or more (4, not 1/4)")
    relative = (x - y).square().mean(dim=(2, 3)) / x.mean(dim=(2, 3)).square()
    return 100 / ratio * relative.mean(dim=1).sqrt()


def scc(reference: Tensor, fused: Tensor) -> Tensor:
    """Spatial correlation: inner product of the Sobel gradient magnitudes over all bands and pixels, not centred.

    Args:
        reference: (B, C, H, W), sides of 3 or more.
        fused: The same shape.

    Returns:
        (B,) in 0..1; NaN where an image is constant and zero.

    Raises:
        TypeError, SceneError: Images that do not fit, or smaller than 3 pixels.
    """
    x, y = as_pair(reference, fused)
    if min(x.shape[-2:]) < 3:
        raise SceneError(f"images of shape {tuple(x.shape)} lose their frame: sides must be 3 or more")
    products = []
    for a, b in zip(x.unbind(1), y.unbind(1), strict=True):  # band by band, as in `ssim`
        gx, gy = _sobel_magnitude(a), _sobel_magnitude(b)
        products.append(torch.stack([(gx * gy).sum((1, 2)), gx.square().sum((1, 2)), gy.square().sum((1, 2))]))
    total = torch.stack(products).sum(dim=0)
    return total[0] / (total[1] * total[2]).sqrt()


def _sobel_magnitude(band: Tensor) -> Tensor:
    """Sobel gradient magnitude of (B, H, W) without its one-pixel frame, zeros beyond the border."""
    inner = F.pad(band[..., 1:-1, 1:-1], (1, 1, 1, 1))
    smooth_rows = inner[..., :-2, :] + 2 * inner[..., 1:-1, :] + inner[..., 2:, :]
    smooth_columns = inner[..., :-2] + 2 * inner[..., 1:-1] + inner[..., 2:]
    across = smooth_rows[..., 2:] - smooth_rows[..., :-2]
    down = smooth_columns[..., 2:, :] - smooth_columns[..., :-2, :]
    square = across.square() + down.square()
    flat = square == 0  # kept from the root, whose gradient at 0 is not finite
    return torch.where(flat, 0.0, torch.where(flat, 1.0, square).sqrt())


def cc(reference: Tensor, fused: Tensor) -> Tensor:
    """Pearson correlation of each band, mean over bands.

    Args:
        reference: (B, C, H, W).
        fused: The same shape.

    Returns:
        (B,) in -1..1; NaN where a band is constant.

    Raises:
        TypeError, SceneError: Images that do not fit.
    """
    x, y = (image - image.mean(dim=(2, 3), keepdim=True) for image in as_pair(reference, fused))
    norms = (x.square().sum(dim=(2, 3)) * y.square().sum(dim=(2, 3))).sqrt()
    return ((x * y).sum(dim=(2, 3)) / norms).mean(dim=1)


def uqi(reference: Tensor, fused: Tensor, *, block: int = BLOCK) -> Tensor:
    """Universal quality index Q of each band on non-overlapping blocks, mean over blocks and bands.

    Wang and Bovik, IEEE SPL 9(3), 2002, sample statistics. Pixels beyond the last whole block are left out. A block
    that is constant in both images (to a millionth of its largest value) keeps the luminance part of Q, one whose
    means are both 0 the structure part.

    Args:
        reference: (B, C, H, W), sides of at least one block.
        fused: The same shape.
        block: Side of the blocks in pixels.

    Returns:
        (B,) in -1..1.

    Raises:
        TypeError, ValueError, SceneError: Images that do not fit; a block below 2 or above the image.
    """
    x, y = as_pair(reference, fused)
    return block_q(x, y, block).mean(dim=1)


def q2n(reference: Tensor, fused: Tensor, *, block: int = BLOCK) -> Tensor:
    """Hypercomplex quality index Q2n (Q4 for 4 bands, Q8 for 8), mean over blocks.

    Garzelli and Nencini, IEEE GRSL 6(4), 2009. Images are rounded to unsigned 16-bit numbers, so they must be in
    digital numbers; bands are filled with zeros to a power of two; sides to multiples of the block by mirroring.

    Args:
        reference: (B, C, H, W) in digital numbers.
        fused: The same shape and unit.
        block: Side of the blocks in pixels.

    Returns:
        (B,) in 0..1, not differentiable.

    Raises:
        TypeError, ValueError, SceneError: Images that do not fit; a block below 2; data scaled to [0, 1].
    """
    x, y = as_pair(reference, fused)
    check_digital_numbers(x)
    return q2n_index(x, y, block)


def reduced_resolution(
    reference: Tensor, fused: Tensor, *, data_range: float, ratio: int = 4, cut: int = CUT
) -> dict[str, Tensor]:
    """Compute the field's table of a fused image whose reference is known, on images without their border.

    Args:
        reference: (B, C, H, W) in digital numbers.
        fused: The same shape and unit.
        data_range: Largest digital number (2047 for 11 bits), for PSNR and SSIM.
        ratio: Scale ratio, for ERGAS.
        cut: Border parameter of `cut_border`.

    Returns:
        "PSNR" (dB), "SSIM", "SAM" (degrees), "ERGAS", "SCC", "UQI", "Q2n", each (B,). UQI needs sides of 32 and more
        after the cut and is left out below that.

    Raises:
        TypeError, ValueError, SceneError: As in each metric.
    """
    x, y = (cut_border(image, cut) for image in as_pair(reference, fused))
    table = {
        "PSNR": psnr(x, y, data_range=data_range),
        "SSIM": ssim(x, y, data_range=data_range),
        "SAM": sam(x, y),
        "ERGAS": ergas(x, y, ratio=ratio),
        "SCC": scc(x, y),
        "Q2n": q2n(x, y),
    }
    if min(x.shape[-2:]) >= BLOCK:
        table["UQI"] = uqi(x, y)
    return table
