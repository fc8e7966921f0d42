"""Wald's reduced-resolution protocol: MTF filters, decimation, interp23, MATLAB's bicubic resize.

Definitions follow the DLPan-Toolbox (Vivone et al., "A New Benchmark Based on Recent Advances in Multispectral
Pansharpening", IEEE GRSM 9(1), 2021). Images are floating-point torch tensors (B, C, H, W); every function is
differentiable with respect to its images. Sensors and their Nyquist gains are in `hsmamba.data.sensors`.

Every function raises TypeError for what is no floating-point tensor, SceneError for another number of axes, sides that
the ratio does not divide or bands that the sensor does not have, and ValueError for an unknown sensor or a scale ratio
that is no integer of 2 or more.

Phase, for a scale ratio r: low-resolution sample k sits on high-resolution index r k + r // 2, both where an image is
decimated and where it is up-sampled.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy.fft import next_fast_len
from torch import Tensor

from hsmamba.data.sensors import Sensor, band_gains
from hsmamba.errors import SceneError
from hsmamba.ops import resampling

KERNEL_SIZE = 41  # side of the toolbox's MTF kernels, whatever the ratio
KAISER_BETA = 0.5


def check_image(image: Tensor, name: str = "image") -> None:
    """Raise unless `image` is a floating-point tensor (B, C, H, W) without an empty side."""
    if not isinstance(image, Tensor):
        raise TypeError(
            f"{name} is a {type(image).__name__}, expected a torch tensor (B, C, H, W): "
            "torch.from_numpy(array).permute(2, 0, 1)[None] makes one from an array [y, x, band]"
        )
    if not image.is_floating_point():
        raise TypeError(f"{name} has dtype {image.dtype}, expected a floating-point one: convert it with .float()")
    if image.ndim != 4 or image.numel() == 0:
        raise SceneError(f"{name} has shape {tuple(image.shape)}, expected four non-empty axes (B, C, H, W)")


def check_ratio(ratio: int) -> None:
    """Raise unless the scale ratio is an integer of 2 or more."""
    if isinstance(ratio, bool) or not isinstance(ratio, int) or ratio < 2:
        raise ValueError(f"ratio is {ratio!r}, expected an integer of 2 or more (4 for most PAN and MS pairs)")


def check_grids(ms: Tensor, guide: Tensor, ratio: int) -> None:
    """Raise unless `guide` (B, P, ratio h, ratio w) lies on the finer grid of `ms` (B, C, h, w)."""
    check_image(ms, "ms")
    check_image(guide, "guide")
    check_ratio(ratio)
    expected = (ms.shape[0], ms.shape[2] * ratio, ms.shape[3] * ratio)
    if (guide.shape[0], *guide.shape[2:]) != expected:
        raise SceneError(
            f"ms has shape {tuple(ms.shape)} and the guide {tuple(guide.shape)}: at ratio {ratio} the guide must be "
            f"({expected[0]}, P, {expected[1]}, {expected[2]}); crop the images to the same ground or correct the ratio"
        )


# --- MTF filters ---------------------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _mtf_kernel(gain: float, ratio: int) -> npt.NDArray[np.float64]:
    """MTF-matched kernel (41, 41) of one band, by the window method; not normalised, as in the toolbox."""
    half = (KERNEL_SIZE - 1) // 2
    t = np.arange(-half, half + 1)
    squared = t[:, None] ** 2 + t[None, :] ** 2
    # Gaussian response whose value at the Nyquist frequency of the coarse grid is the gain.
    variance = (half / ratio) ** 2 / (-2 * math.log(gain))
    response = np.exp(-squared / (2 * variance))
    impulse = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(response))).real
    radius = np.sqrt(squared) / (KERNEL_SIZE - 1)
    window = np.interp(radius, t / (KERNEL_SIZE - 1), np.kaiser(KERNEL_SIZE, KAISER_BETA), right=0.0)
    kernel: npt.NDArray[np.float64] = impulse * window
    kernel.flags.writeable = False  # shared by every caller through the cache
    return kernel


def mtf_kernels(sensor: str | Sensor, bands: int, *, ratio: int = 4) -> Tensor:
    """Make the kernels (bands, 41, 41), float64, that imitate a sensor's modulation transfer function.

    Their sums are 0.998 to 0.999, as in the toolbox, which does not normalise them.
    """
    check_ratio(ratio)
    gains = band_gains(sensor, bands)
    return torch.from_numpy(np.stack([_mtf_kernel(gain, ratio) for gain in gains]))


def gaussian_kernel(gain: float) -> Tensor:
    """Make a kernel (1, 41, 41), float64, of sum 1, with a Gaussian response of `gain` at the Nyquist frequency."""
    kernel = torch.from_numpy(_mtf_kernel(gain, 1).copy())
    return (kernel / kernel.sum())[None]


def filter_bands(image: Tensor, kernels: Tensor) -> Tensor:
    """Correlate every band with its kernel of (C, N, N) or (1, N, N), N odd; pixels beyond the border repeat the edge.

    The product is taken in the frequency domain: on a CPU, 41 x 41 taps a pixel cost 8 (float32) to 300 (float64) times
    as much. There a pixel that is not finite would spread over the whole image: SceneError.
    """
    check_image(image)
    size = kernels.shape[-1]
    if kernels.ndim != 3 or kernels.shape[0] not in (1, image.shape[1]) or kernels.shape[1] != size or size % 2 == 0:
        raise SceneError(
            f"kernels have shape {tuple(kernels.shape)}, expected ({image.shape[1]}, N, N) or (1, N, N) with odd N "
            f"for an image of shape {tuple(image.shape)}"
        )
    # The sum is the cheaper question; it is not finite either where a value is not.
    if not torch.isfinite(image.sum()) and (bad := int((~torch.isfinite(image)).sum())):
        raise SceneError(f"{bad} values of the image are not finite, and a filter would spread them: fill them first")
    # Band by band: the memory beside the images is that of one band's spectrum.
    pairs = zip(image.unbind(1), kernels.expand(image.shape[1], -1, -1), strict=True)
    return torch.stack([_filter_band(band, kernel) for band, kernel in pairs], dim=1)


def _filter_band(band: Tensor, kernel: Tensor) -> Tensor:
    """Correlate (B, H, W) with one kernel (N, N), the edge replicated."""
    half = kernel.shape[-1] // 2
    height, width = band.shape[-2:]
    exact = band if band.dtype == torch.float64 else band.float()  # there is no FFT in half precision on the CPU
    padded = F.pad(exact, (half, half, half, half), mode="replicate")
    # The circular product is right on the first H x W outputs: nothing wraps into them.
    full = [int(next_fast_len(n, True)) for n in padded.shape[-2:]]
    spectrum = torch.fft.rfft2(padded, s=full)
    transfer = torch.fft.rfft2(kernel.to(padded), s=full).conj()  # conjugate: correlation, not convolution
    filtered: Tensor = torch.fft.irfft2(spectrum * transfer, s=full)[..., :height, :width]
    return filtered.to(band.dtype)


def mtf_filter(image: Tensor, *, sensor: str | Sensor, ratio: int = 4) -> Tensor:
    """Blur every band of (B, C, H, W) as the sensor's optics would at `ratio` times coarser sampling; not decimated.

    Raises:
        SceneError: A pixel is not finite, or the sensor has another number of bands.
    """
    check_image(image)
    return filter_bands(image, mtf_kernels(sensor, image.shape[1], ratio=ratio))


# --- Resampling ----------------------------------------------------------------------------------------------------


def decimate(image: Tensor, ratio: int) -> Tensor:
    """Keep indices r // 2, r // 2 + r, ... of both axes: MATLAB's nearest resize by 1 / r."""
    _check_divisible(image, ratio)
    return image[..., ratio // 2 :: ratio, ratio // 2 :: ratio]


def _check_divisible(image: Tensor, ratio: int) -> None:
    check_image(image)
    check_ratio(ratio)
    height, width = image.shape[-2:]
    if height % ratio or width % ratio:
        raise SceneError(
            f"image of shape {tuple(image.shape)} cannot be reduced by {ratio}: sides must be multiples of the ratio; "
            f"crop it to {height // ratio * ratio} x {width // ratio * ratio}"
        )


def interp23(image: Tensor, ratio: int = 4) -> Tensor:
    """Up-sample (B, C, h, w) to (B, C, r h, r w) with the 23-tap half-band filter (the method called EXP).

    Interpolating: input sample k is kept at output index r k + r / 2. The boundary is circular.

    Raises:
        ValueError: The ratio is no power of two; `upsample` takes any ratio.
    """
    check_image(image)
    check_ratio(ratio)
    return resampling.interp23(image, ratio)


def bicubic_resize(image: Tensor, scale: float) -> Tensor:
    """Resize as MATLAB's `imresize(image, scale, "bicubic")`: Keys' kernel (a = -0.5), antialiasing when shrinking.

    Output sample k of (B, C, ceil(scale H), ceil(scale W)) lies at input coordinate (k + 0.5) / scale - 0.5; the border
    is mirrored, its pixel repeated. This is neither PyTorch's bicubic (a = -0.75) nor in phase with `decimate` for even
    ratios.

    Raises:
        ValueError: The scale is not above 0.
    """
    check_image(image)
    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"scale is {scale}, expected a finite factor above 0 (0.25 to shrink four times)")
    return resampling.resize(image, scale)


def upsample(ms: Tensor, ratio: int = 4) -> Tensor:
    """Bring MS (B, C, h, w) to the guide's grid: `interp23` for powers of two, else Keys' bicubic in the same phase.

    The result (B, C, r h, r w) is called lms in the field; sample k of `ms` sits on index r k + r // 2.
    """
    check_image(ms, "ms")
    check_ratio(ratio)
    return resampling.upsample(ms, ratio)


# --- The protocol --------------------------------------------------------------------------------------------------


def degrade_ms(ms: Tensor, *, ratio: int = 4, sensor: str | Sensor) -> Tensor:
    """Reduce a multi- or hyperspectral image to (B, C, h / r, w / r): MTF filter, then decimation.

    The sensor is named ("generic" serves any number of bands) or made by hand.
    """
    _check_divisible(ms, ratio)  # before the costly filter
    return decimate(mtf_filter(ms, sensor=sensor, ratio=ratio), ratio)


def degrade_pan(pan: Tensor, *, ratio: int = 4) -> Tensor:
    """Reduce a guide image to (B, P, H / r, W / r) by MATLAB's antialiased bicubic.

    This version of the toolbox applies no MTF to PAN.
    """
    _check_divisible(pan, ratio)
    return bicubic_resize(pan, 1 / ratio)
