"""Steps that project on components: principal ones, and those of highest signal-to-noise ratio."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import numpy.typing as npt

from hsmamba.data.transforms.moments import Blocks, covariance, in_blocks, mean_of
from hsmamba.data.transforms.step import Floats, Source, Spectra, Step
from hsmamba.errors import SceneError

_NOISE_FLOOR = 1e-6  # of the strongest noise direction, added to all
_RIDGE = 1e-8  # on the correlations of bands, which may have no inverse
_PRODUCTS = 2**18  # of numbers in one product of matrices, below which OpenBLAS keeps to one thread
_ROWS, _MOST_ROWS = 16, 256  # of pixels in one product: a multiple of the rows that the libraries' kernels take at once


class _Projection(Step):
    """A step whose channels are components."""

    n_components: int

    def out_channels(self, in_channels: int) -> int:
        """Return the number of components."""
        super().out_channels(in_channels)
        return self.n_components

    def _shapes(self, state: dict[str, Floats]) -> dict[str, tuple[int, ...]]:
        bands = state["mean"].size
        return {"mean": (bands,), "basis": (self.n_components, bands), "variance": (self.n_components,)}


class PCA(_Projection):
    """Project on the first `n_components` C principal components of the fitted pixels.

    The components are eigenvectors of the covariance (float64, `numpy.linalg.eigh`), by falling variance; of the two
    signs, the one whose loading of largest magnitude is positive. `whiten` divides each by its standard deviation over
    the fitted pixels. State: mean (B,), basis (C, B), variance (C,).
    """

    kind = "pca"
    arguments = ("n_components", "whiten")
    fitted_arrays = ("mean", "basis", "variance")

    def __init__(self, n_components: int, whiten: bool = False, *, on: Source = "hsi") -> None:
        super().__init__(on=on)
        if n_components < 1:
            raise ValueError(f"n_components is {n_components}; expected 1 or more")
        self.n_components, self.whiten = int(n_components), bool(whiten)

    def _divisors(self) -> tuple[str, ...]:
        return ("variance",) if self.whiten else ()

    def _learn(self, pixels: Spectra, neighbours: Spectra | None) -> dict[str, Floats]:
        blocks = partial(in_blocks, pixels)
        mean = mean_of(blocks)
        basis, variance = _principal_components(blocks, mean, len(pixels), self.n_components)
        if self.whiten and variance[-1] <= 1e-12 * variance[0]:
            rank = int((variance > 1e-12 * variance[0]).sum())
            raise SceneError(
                f"the pixels vary in {rank} directions only, so {self.n_components} components cannot be whitened; "
                f"give n_components={rank} or less, or whiten=False"
            )
        return {"mean": mean, "basis": _with_fixed_signs(basis), "variance": variance}

    def _apply(self, block: Spectra) -> npt.NDArray[np.float32]:
        basis = self._state["basis"]
        if self.whiten:
            basis = basis / np.sqrt(self._state["variance"])[:, None]
        return project(block, basis.T, self._state["mean"])


class MNF(_Projection):
    """Minimum noise fraction: project on the `n_components` C components of highest signal-to-noise ratio.

    The covariance of the noise is that of the differences between neighbouring pixels, both in windows of the odd side
    `window`, from 3, around the fitted ones; the principal components of the noise-whitened pixels follow by falling
    ratio, with signs fixed as for `PCA`. All are scaled by one factor, so that their mean variance over the fitted
    pixels is 1 and their ratios stay. State: mean (B,), basis (C, B).

    `spectral` of the components, the last ones, are made likewise for another estimate of the noise: what the linear
    regression of each band on all others leaves. In finely textured scenes (cities at 30 m) neighbours differ by
    signal, and these are the better ones.

    `shapes` of the components, the last ones, are made of the second half of the bands, all others of the first alone:
    bands and what `AddShape` adds to them then have components of their own. It cannot be had with `spectral`.

    Source: Green, Berman, Switzer, Craig, "A transformation for ordering multispectral data in terms of image quality
    with implications for noise removal", IEEE TGRS 26 (1988), section III; the second estimate: Bioucas-Dias,
    Nascimento, "Hyperspectral subspace identification", IEEE TGRS 46 (2008), section II.
    """

    kind = "mnf"
    arguments = ("n_components", "window", "spectral", "shapes")
    fitted_arrays = ("mean", "basis")

    def __init__(
        self, n_components: int, window: int = 3, spectral: int = 0, shapes: int = 0, *, on: Source = "hsi"
    ) -> None:
        super().__init__(on=on)
        if n_components < 1 or window < 3 or window % 2 == 0:
            raise ValueError(f"n_components is {n_components}, window {window}; expected at least 1, and odd from 3")
        if not 0 <= spectral < n_components:
            raise ValueError(f"spectral is {spectral}; expected from 0 to {n_components - 1}, less than n_components")
        if not 0 <= shapes < n_components or (shapes and spectral):
            raise ValueError(
                f"shapes is {shapes}, spectral {spectral}; expected shapes from 0 to {n_components - 1}, less than "
                "n_components, and one of the two at most above 0"
            )
        self.n_components, self.window = int(n_components), int(window)
        self.spectral, self.shapes = int(spectral), int(shapes)

    def _learn(self, pixels: Spectra, neighbours: Spectra | None) -> dict[str, Floats]:
        if neighbours is None or len(neighbours) < 2:
            raise ValueError("mnf estimates the noise from neighbouring pixels; fit it with Compose.fit_scene")
        if self.shapes:
            return self._of_halves(pixels, neighbours)
        blocks, differences = partial(in_blocks, pixels), partial(_differences, neighbours)
        mean = mean_of(blocks)
        parts = [(covariance(differences, mean_of(differences)), self.n_components - self.spectral)]
        if self.spectral:
            parts.append((_regression_noise(covariance(blocks, mean)), self.spectral))
        basis = np.concatenate([_ratio_basis(pixels, mean, noise, count) for noise, count in parts])
        return {"mean": mean, "basis": basis}

    def _of_halves(self, pixels: Spectra, neighbours: Spectra) -> dict[str, Floats]:
        """Fit the components of each half of the bands by themselves."""
        half, odd = divmod(pixels.shape[1], 2)
        if odd:
            raise SceneError(
                f"mnf with shapes takes bands in two halves, got {pixels.shape[1]}; put AddShape before it, or leave "
                "shapes out"
            )
        mean, basis = np.zeros(2 * half), np.zeros((self.n_components, 2 * half))
        count = self.n_components - self.shapes
        for bands, components in ((slice(half), slice(count)), (slice(half, None), slice(count, None))):
            own = MNF(len(basis[components]), self.window)._learn(pixels[:, bands], neighbours[..., bands])
            mean[bands], basis[components, bands] = own["mean"], own["basis"]
        return {"mean": mean, "basis": basis}

    def _apply(self, block: Spectra) -> npt.NDArray[np.float32]:
        return project(block, self._state["basis"].T, self._state["mean"])


def _differences(neighbours: Spectra) -> Iterator[Floats]:
    """Give the differences (n, B) of neighbours (M, 2, B), some at a time."""
    return (pairs[:, 0] - pairs[:, 1] for pairs in in_blocks(neighbours))


def _ratio_basis(pixels: Spectra, mean: Floats, noise: Floats, count: int) -> Floats:
    """Return the directions (C, B) of highest ratio of signal to a noise of this covariance (B, B)."""
    power, directions = np.linalg.eigh(noise)
    # Bands without noise of their own (interpolated, constant) must not be blown up.
    whitening = directions / np.sqrt(power + _NOISE_FLOOR * max(power[-1], np.finfo(float).tiny))

    def whitened() -> Iterator[Floats]:
        return ((block - mean) @ whitening for block in in_blocks(pixels))

    basis, variance = _principal_components(whitened, np.zeros_like(mean), len(pixels), count)
    scale = np.sqrt(max(variance.mean(), np.finfo(float).tiny))
    return _with_fixed_signs(basis @ whitening.T / scale)


def _regression_noise(covariance: Floats) -> Floats:
    """Return the covariance (B, B) of what the regression of each band on all others leaves, from that of the bands.

    With the inverse Q, the residual of band k is the mix of bands Q[:, k] / Q[k, k].
    """
    spread = np.sqrt(np.maximum(np.diag(covariance), np.finfo(float).tiny))
    alike = covariance / np.outer(spread, spread) + _RIDGE * np.eye(len(spread))
    inverse = np.linalg.inv(alike)
    mixes = inverse / np.diag(inverse)
    noise = mixes.T @ alike @ mixes * np.outer(spread, spread)
    return np.asarray(noise + noise.T) / 2


def _principal_components(blocks: Blocks, mean: Floats, number: int, count: int) -> tuple[Floats, Floats]:
    """Return of so many pixels, which come in blocks, the first components (C, B) and their variances (C,)."""
    bands = len(mean)
    if count > min(bands, number - 1):
        raise SceneError(
            f"{count} components cannot be fitted on {number} pixels of {bands} bands; expected at most "
            f"{min(bands, number - 1)}: give more pixels (unlabelled ones serve too) or lower n_components"
        )
    values, vectors = np.linalg.eigh(covariance(blocks, mean))
    return vectors.T[::-1][:count], np.maximum(values[::-1][:count], 0.0)


def _with_fixed_signs(basis: Floats) -> Floats:
    """Of the two signs of each row, take the one whose entry of largest magnitude is positive."""
    peak = np.take_along_axis(basis, np.abs(basis).argmax(axis=1)[:, None], axis=1)
    return np.ascontiguousarray(basis * np.sign(peak))


def project(block: Spectra, weights: Floats, mean: Floats | None = None) -> npt.NDArray[np.float32]:
    """Multiply spectra (n, B), less a mean (B,), by weights (B, C), in double precision: float32 (n, C).

    The products of matrices are all of one shape, whatever n is, so that the result of a pixel is that of any block;
    and small, so that libraries do not share them out among threads, which would take longer than the product.
    """
    bands, channels = weights.shape
    step = max(_ROWS, min(_MOST_ROWS, _PRODUCTS // (bands * channels) // _ROWS * _ROWS))
    parts = -(-len(block) // step)
    held = np.empty((parts * step, bands))
    held[: len(block)] = block
    held[len(block) :] = 0
    if mean is not None:
        held[: len(block)] -= mean
    found = np.matmul(held.reshape(parts, step, bands), np.ascontiguousarray(weights))
    result: npt.NDArray[np.float32] = found.reshape(-1, channels)[: len(block)].astype(np.float32)
    return result
