"""Metrics of image fusion, with the definitions of the DLPan-Toolbox; the RSMIF ones are in `hsmamba.metrics.rsmif`.

Vivone et al., "A New Benchmark Based on Recent Advances in Multispectral Pansharpening", IEEE GRSM 9(1), 2021.
Images are torch tensors (B, C, H, W) of any real dtype; everything is computed in float64 and every metric returns one
value an image, (B,) float64. Metrics are differentiable, except those that round (Q2n, D_lambda_K, HQNR).

No metric depends on the unit: images and `data_range` times any factor give the same. The toolbox rounds images to
unsigned 16-bit numbers for Q2n, which is right for digital numbers and wipes out reflectance. So do we for digital
numbers, to reproduce its figures; other images are rounded to a 65535th of their reference's largest value (`q2n`).

Where the truth is known, a metric compares `fused` with a `reference` of the same shape and unit. Without a reference
it compares `fused` (B, C, r h, r w) with `lms`, the MS up-sampled to its grid (`hsmamba.data.upsample`), and with `pan`
(B, 1, r h, r w), all in one unit; r is the scale ratio. Every metric raises TypeError for what is no real tensor, and
SceneError for images that do not fit each other, are too small for it or hold values that are not finite.
`reduced_resolution` and `full_resolution` give the field's two tables.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from hsmamba.data.degrade import bicubic_resize, check_grids, mtf_filter, upsample
from hsmamba.data.sensors import Sensor
from hsmamba.errors import SceneError
from hsmamba.metrics._check import as_double, as_pair, check_range
from hsmamba.metrics._q import BLOCK, block_q, pairwise_q, q2n_index

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
        reference: The truth.
        fused: What is judged.
        data_range: Largest possible value (1 for data in [0, 1], 2047 for 11 bits).

    Returns:
        (B,); infinite where a band has no error.

    Raises:
        ValueError: The range is not above 0.
    """
    x, y = as_pair(reference, fused)
    check_range(data_range)
    return (20 * math.log10(data_range) - 10 * torch.log10((x - y).square().mean(dim=(2, 3)))).mean(dim=1)


def ssim(reference: Tensor, fused: Tensor, *, data_range: float) -> Tensor:
    """Structural similarity with a uniform 7 x 7 window and sample covariances, mean over pixels and bands.

    Wang et al., IEEE TIP 13(4), 2004, K1 = 0.01, K2 = 0.03; only windows that lie wholly in the image count.
    (torchmetrics has population covariances, and Gaussian windows by default: other figures.) `data_range` is that of
    `psnr`; 1 is best.
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

    The angle is ``2 atan2(|u - v|, |u + v|)`` of the unit vectors u, v (Kahan): unlike arccos it keeps its accuracy and
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

    NaN where no pixel is left.
    """
    angles, defined = spectral_angles(*as_pair(reference, fused))
    return angles.sum(dim=(1, 2)) / defined.sum(dim=(1, 2))


def ergas(reference: Tensor, fused: Tensor, *, ratio: int = 4) -> Tensor:
    """Relative dimensionless global error, (100 / r) sqrt(mean over bands of MSE / mean(reference)^2).

    0 is best; not finite where a band of the reference has the mean 0.

    Raises:
        ValueError: The ratio is below 1: 1/4 given for 4.
    """
    x, y = as_pair(reference, fused)
    if ratio < 1:
        raise ValueError(f"ratio is {ratio}, expected the scale ratio fine to coarse, 1 or more (4, not 1/4)")
    relative = (x - y).square().mean(dim=(2, 3)) / x.mean(dim=(2, 3)).square()
    return 100 / ratio * relative.mean(dim=1).sqrt()


def scc(reference: Tensor, fused: Tensor) -> Tensor:
    """Spatial correlation: inner product of the Sobel gradient magnitudes over all bands and pixels, not centred.

    In 0..1; NaN where an image is constant and zero.
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
    """Pearson correlation of each band, mean over bands; NaN where a band is constant."""
    x, y = (image - image.mean(dim=(2, 3), keepdim=True) for image in as_pair(reference, fused))
    norms = (x.square().sum(dim=(2, 3)) * y.square().sum(dim=(2, 3))).sqrt()
    return ((x * y).sum(dim=(2, 3)) / norms).mean(dim=1)


def uqi(reference: Tensor, fused: Tensor, *, block: int = BLOCK) -> Tensor:
    """Universal quality index Q of each band on non-overlapping blocks, mean over blocks and bands.

    Wang and Bovik, IEEE SPL 9(3), 2002, sample statistics. Pixels beyond the last whole block are left out. A block
    that is constant in both images (to a millionth of its largest value) keeps the luminance part of Q, one whose
    means are both 0 the structure part.

    Raises:
        ValueError: `block`, the side in pixels, is below 2.
    """
    x, y = as_pair(reference, fused)
    return block_q(x, y, block).mean(dim=1)


def q2n(reference: Tensor, fused: Tensor, *, block: int = BLOCK) -> Tensor:
    """Hypercomplex quality index Q2n (Q4 for 4 bands, Q8 for 8), mean over blocks.

    Garzelli and Nencini, IEEE GRSL 6(4), 2009. Bands are filled with zeros to a power of two, sides to multiples of
    the block by mirroring. In 0..1, not differentiable.

    Both images are rounded, as in the toolbox, with negative values taken as 0. Where the reference is in digital
    numbers (integers up to 65535, or fractions whose largest lies between 1023 and 65535) to unsigned 16-bit numbers;
    in every other unit (reflectance, radiance, data scaled to 1) to a 65535th of the reference's largest value. The
    same data in two such units agree to 1e-6, and with the same as digital numbers as far as these resolve the blocks.

    Raises:
        ValueError: `block`, the side in pixels, is below 2.
    """
    x, y = as_pair(reference, fused)
    return q2n_index(x, y, block)


def reduced_resolution(
    reference: Tensor, fused: Tensor, *, data_range: float, ratio: int = 4, cut: int = CUT
) -> dict[str, Tensor]:
    """Compute the field's table of a fused image whose reference is known, on images without their border.

    Args:
        reference: The truth, in any unit.
        fused: What is judged.
        data_range: Largest possible value (2047 for 11 bits, 1 for reflectance), for PSNR and SSIM.
        ratio: Scale ratio, for ERGAS.
        cut: Border parameter of `cut_border`.

    Returns:
        "PSNR" (dB), "SSIM", "SAM" (degrees), "ERGAS", "SCC", "UQI", "Q2n", each (B,). UQI needs sides of 32 and more
        after the cut and is left out below that.
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


def d_lambda(fused: Tensor, lms: Tensor, *, block: int = BLOCK) -> Tensor:
    """Spectral distortion: mean over pairs of bands of ``|Q(F_i, F_j) - Q(M_i, M_j)|``, exponent 1.

    Alparone et al., PE&RS 74(2), 2008, with the toolbox's choice of M: the up-sampled image, not the native one. Takes
    two bands or more; pixels beyond the last whole block are left out; 0 is best.
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
    """Spatial distortion: mean over bands of ``|Q(F_b, P) - Q(M_b, P_f)|``, exponent 1.

    P_f is the PAN reduced by MATLAB's bicubic and up-sampled again. Sides are multiples of the ratio; 0 is best.
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
    """Quality with no reference, (1 - D_lambda)(1 - D_s)."""
    return (1 - d_lambda(fused, lms, block=block)) * (1 - d_s(fused, lms, pan, ratio=ratio, block=block))


def d_lambda_k(fused: Tensor, lms: Tensor, *, sensor: str | Sensor, ratio: int = 4, block: int = BLOCK) -> Tensor:
    """Khan's spectral distortion, 1 - Q2n(M, MTF filter of F).

    Khan et al., IEEE TGRS 47(11), 2009, without decimation, as in the toolbox. Rounds like `q2n`, with `lms` as the
    reference. 0 is best, not differentiable.

    Raises:
        SceneError: Another number of bands than the sensor's.
        ValueError: An unknown sensor.
    """
    f, m = _full_pair(fused, lms)
    return 1 - q2n_index(m, mtf_filter(f, sensor=sensor, ratio=ratio), block)


def hqnr(
    fused: Tensor, lms: Tensor, pan: Tensor, *, sensor: str | Sensor, ratio: int = 4, block: int = BLOCK
) -> Tensor:
    """Hybrid QNR, (1 - D_lambda_K)(1 - D_s)."""
    spectral = d_lambda_k(fused, lms, sensor=sensor, ratio=ratio, block=block)
    return (1 - spectral) * (1 - d_s(fused, lms, pan, ratio=ratio, block=block))


def full_resolution(
    fused: Tensor, ms: Tensor, pan: Tensor, *, sensor: str | Sensor, ratio: int = 4
) -> dict[str, Tensor]:
    """Compute the field's table of a fused image without a reference.

    Args:
        fused: (B, C, r h, r w), two bands or more.
        ms: The native MS, (B, C, h, w), the same unit. Says whether images are in digital numbers (see `q2n`).
        pan: (B, 1, r h, r w).
        sensor: Name of a sensor, or one made by hand.
        ratio: Scale ratio r.

    Returns:
        "D_lambda", "D_s", "QNR", "D_lambda_K", "HQNR", each (B,).
    """
    native, p = as_double(ms, "ms"), as_double(pan, "pan")
    check_grids(native, p, ratio)
    lms = upsample(native, ratio)
    spectral, spatial = d_lambda(fused, lms), d_s(fused, lms, p, ratio=ratio)
    filtered = mtf_filter(as_double(fused, "fused"), sensor=sensor, ratio=ratio)
    khan = 1 - q2n_index(lms, filtered, BLOCK, native=native)
    return {
        "D_lambda": spectral,
        "D_s": spatial,
        "QNR": (1 - spectral) * (1 - spatial),
        "D_lambda_K": khan,
        "HQNR": (1 - khan) * (1 - spatial),
    }
