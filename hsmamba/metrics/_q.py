"""Quality indices on blocks: Wang and Bovik's Q, and its hypercomplex extension Q2n (Q4, Q8, any number of bands).

Q2n: Garzelli and Nencini, "Hypercomplex Quality Assessment of Multi/Hyperspectral Images", IEEE GRSL 6(4), 2009, with
the definitions of the DLPan-Toolbox. Shapes: C bands, n blocks an image, P = S S pixels a block; all float64.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from hsmamba.errors import SceneError
from hsmamba.ops.resampling import mirror_index

BLOCK = 32  # side of the blocks of Q, UQI and Q2n in the toolbox
FLAT = 1e-6  # a block that varies less than this share of its largest value is constant but for rounding
EPSILON = float(np.finfo(np.float64).eps)
FLOAT32 = 2.0 * float(np.finfo(np.float32).eps)  # relative error of a number scaled there and back in float32
LARGEST = 65535  # of unsigned 16-bit numbers


def blocks(image: Tensor, size: int) -> Tensor:
    """Cut (B, C, H, W) into non-overlapping blocks (B, n, C, S S); what is left at the far borders is dropped."""
    if size < 2:
        raise ValueError(f"block size is {size}, expected 2 or more (32 in the toolbox)")
    batch, bands, height, width = image.shape
    rows, columns = height // size, width // size
    if rows == 0 or columns == 0:
        raise SceneError(
            f"image of shape {tuple(image.shape)} is smaller than a block of {size} x {size}: use a smaller one"
        )
    cut = image[..., : rows * size, : columns * size].reshape(batch, bands, rows, size, columns, size)
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(batch, rows * columns, bands, size * size)


def q_index(covariance: Tensor, variances: Tensor, product: Tensor, energy: Tensor) -> Tensor:
    """Q = 4 cov(a, b) mean(a) mean(b) / ((var a + var b)(mean(a)^2 + mean(b)^2)), with rules for 0 / 0.

    Where both blocks are constant it is only its luminance part, where both means are 0 only its structure part, and 1
    where both hold.
    """
    flat, dark = variances == 0, energy == 0
    one = torch.ones_like(variances)
    structure = torch.where(flat, one, 2 * covariance / torch.where(flat, one, variances))
    luminance = torch.where(dark, one, 2 * product / torch.where(dark, one, energy))
    return structure * luminance


def _moments(cut: Tensor) -> tuple[Tensor, Tensor]:
    """Means and deviations of (B, n, C, P); the deviations of a constant block are exactly 0.

    Constant up to rounding counts: the taps of interp23 sum to 1 within 4e-10, so even a saturated area of the
    up-sampled image is not exactly flat, and 0 / 0 would be decided by that noise.
    """
    mean = cut.mean(dim=-1, keepdim=True)
    deviation = cut - mean
    constant = deviation.abs().amax(dim=-1, keepdim=True) <= FLAT * cut.abs().amax(dim=-1, keepdim=True)
    return mean[..., 0], torch.where(constant, 0.0, deviation)


def block_q(a: Tensor, b: Tensor, size: int) -> Tensor:
    """Q of each band of `a` with the same band of `b` (or its only one), averaged over the blocks: (B, C)."""
    (mean_a, da), (mean_b, db) = _moments(blocks(a, size)), _moments(blocks(b, size))
    divisor = da.shape[-1] - 1
    covariance = (da * db).sum(-1) / divisor
    variances = (da.square().sum(-1) + db.square().sum(-1)) / divisor
    return q_index(covariance, variances, mean_a * mean_b, mean_a.square() + mean_b.square()).mean(dim=1)


def pairwise_q(image: Tensor, size: int) -> Tensor:
    """Q of each pair of bands, averaged over the blocks: (B, C, C), symmetric."""
    mean, deviation = _moments(blocks(image, size))
    covariance = deviation @ deviation.transpose(-1, -2) / (deviation.shape[-1] - 1)  # (B, n, C, C)
    variance = covariance.diagonal(dim1=-2, dim2=-1)
    square = mean.square()
    q = q_index(
        covariance,
        variance[..., :, None] + variance[..., None, :],
        mean[..., :, None] * mean[..., None, :],
        square[..., :, None] + square[..., None, :],
    )
    return q.mean(dim=1)


@lru_cache(maxsize=16)
def hypercomplex_signs(size: int) -> npt.NDArray[np.float64]:
    """Signs (size, size) of the products of hypercomplex units: e_i e_j = signs[i, j] e_(i xor j).

    The Cayley-Dickson doubling in the toolbox's order, for halves (a, b)(c, d): lower half a c - d* b, upper half
    a* d* + c b* (* conjugates). It need not be the text-book multiplication, but Q2n as published is made with it.
    """
    if size == 1:
        return np.ones((1, 1))
    half = hypercomplex_signs(size // 2)
    conjugate = np.where(np.arange(size // 2) == 0, 1.0, -1.0)
    upper_upper = -half.T * conjugate[None, :]  # - d* b
    lower_upper = half * conjugate[:, None] * conjugate[None, :]  # a* d*
    upper_lower = half.T * conjugate[:, None]  # c b*
    return np.block([[half, lower_upper], [upper_lower, upper_upper]])


def _hypercomplex_sum(products: Tensor) -> Tensor:
    """Product of two hypercomplex numbers from the table (..., C, C) of the products of their components: (..., C)."""
    size = products.shape[-1]
    unit = torch.arange(size, device=products.device)
    signs = torch.from_numpy(hypercomplex_signs(size)).to(products)
    # Component k is the sum over i of entry (i, i xor k).
    return (products * signs).gather(-1, (unit[:, None] ^ unit[None, :]).expand_as(products)).sum(dim=-2)


def step_of(reference: Tensor) -> Tensor:
    """The step (B, 1, 1, 1) to which Q2n rounds an image and what is compared with it, by the image (B, C, H, W) alone.

    The step is 1, the toolbox's, for digital numbers: integers up to 65535 (to the rounding of float32, which they may
    have been scaled in), or numbers of that size, the largest of them between 1023 and 65535. For all others, in
    whatever unit, it is the largest value / 65535.
    """
    largest = reference.amax(dim=(1, 2, 3))
    near = largest * FLOAT32
    whole = torch.ones_like(largest, dtype=torch.bool)
    for band in reference.unbind(1):  # one at a time: its temporaries stay small
        whole &= (band - band.round()).abs().amax(dim=(1, 2)) <= near
    digital = (whole | (largest > 1023)) & (largest < LARGEST + 0.5)
    return torch.where(digital | (largest <= 0), 1.0, largest / LARGEST)[:, None, None, None]


def to_steps(image: Tensor, step: Tensor) -> Tensor:
    """Count steps: to the nearest, halves up, none below 0; for the step 1 MATLAB's uint16(). Stays float64."""
    counts = torch.floor(image / step + 0.5).clamp(min=0)
    return torch.where(step == 1, counts.clamp(max=LARGEST), counts)


def q2n_of_blocks(reference: Tensor, fused: Tensor, ddof: int = 1) -> Tensor:
    """Q2n of each block of (B, n, C, P): (B, n), the modulus of its hypercomplex index.

    Any C is treated as if filled with zero bands to the next power of two, K. `ddof` is 1 for the sample standard
    deviation of the toolbox, 0 for the population one of RSMIF.
    """
    bands, pixels = reference.shape[-2:]
    size = 1 << (bands - 1).bit_length()  # K
    mean, deviation = _moments(reference)
    scale = (deviation.square().sum(-1) / (pixels - ddof)).sqrt()
    scale = torch.where(scale == 0, EPSILON, scale)[..., None]
    # Normalised images less 1: the normalised reference has the mean 1 in every band. A zero band is 0 here in both.
    x = deviation / scale
    y = torch.where(mean[..., None] == 0, fused, (fused - mean[..., None]) / scale)
    mean_y, dy = _moments(y)
    energy_y = (mean_y + 1).square().sum(-1) + (size - bands)  # |mean|^2 of y; that of x is K
    bias = 2 * (size * energy_y).sqrt() / (size + energy_y)
    variance = (x.square().sum((-1, -2)) + dy.square().sum((-1, -2))) / (pixels - 1)
    products = x @ dy.transpose(-1, -2) / (pixels - 1)
    products[..., 1:] *= -1  # the conjugate of y
    covariance = _hypercomplex_sum(F.pad(products, (0, size - bands, 0, size - bands)))
    flat = variance == 0
    return torch.where(flat, bias, covariance.square().sum(-1).sqrt() * bias * 2 / torch.where(flat, 1.0, variance))


def q2n_index(reference: Tensor, fused: Tensor, size: int, ddof: int = 1, *, native: Tensor | None = None) -> Tensor:
    """Q2n (B,) of two float64 images (B, C, H, W) of one unit, averaged over blocks of `size`.

    Both are rounded to the `step_of` the reference, or of the `native` image that it was interpolated from. Sides that
    are no multiples of the block are extended by mirroring, the border pixel repeated. One row of blocks at a time, so
    that memory does not grow with the height.
    """
    height, width = reference.shape[-2:]
    step = step_of(reference if native is None else native)

    def strip(image: Tensor, top: int) -> Tensor:
        rows = mirror_index(torch.arange(top, top + size, device=image.device), height)
        columns = mirror_index(torch.arange(-(-width // size) * size, device=image.device), width)
        return blocks(to_steps(image.index_select(2, rows).index_select(3, columns), step), size)

    rows = [q2n_of_blocks(strip(reference, top), strip(fused, top), ddof) for top in range(0, height, size)]
    return torch.cat(rows, dim=1).mean(dim=1)
