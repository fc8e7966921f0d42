"""The steps of a transform: each maps spectra (..., B) to float32 (..., B'), pixel by pixel.

No step lets a pixel's result depend on its neighbours in memory (the projection of `PCA` is summed band by band, not by
a matrix product whose order of summation depends on the size), so a cube may come in chunks of any shape.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from hsmamba.errors import ManifestError, SceneError

if TYPE_CHECKING:
    from typing_extensions import Self

Source: TypeAlias = Literal["hsi", "aux"]
Spectra: TypeAlias = "npt.NDArray[Any]"
Floats: TypeAlias = "npt.NDArray[np.float64]"

_NOISE_FLOOR = 1e-6  # of the strongest noise direction, added to all
_PROJECTION_BLOCK = 1024  # pixels; two float64 buffers of (components, 1024) stay in the processor's cache


class Step:
    """One step of a transform.

    Attributes:
        kind: Name in saved files.
        fitted_arrays: Names of the arrays that `fit` computes; a step without any needs no fitting.
        on: Which input it applies to, "hsi" or "aux".
    """

    kind: ClassVar[str]
    fitted_arrays: ClassVar[tuple[str, ...]] = ()

    def __init__(self, *, on: Source = "hsi") -> None:
        """Make an unfitted step.

        Args:
            on: "hsi" or "aux".

        Raises:
            ValueError: Another word.
        """
        if on not in ("hsi", "aux"):
            raise ValueError(f'on is {on!r}; expected "hsi" or "aux"')
        self.on: Source = on
        self._state: dict[str, npt.NDArray[np.float64]] = {}

    def fit(self, pixels: Spectra, neighbours: Spectra | None = None) -> Self:
        """Learn from pixels.

        Args:
            pixels: (N, B), finite where the step learns from them.
            neighbours: (M, 2, B), finite: spectra of pixels that lie side by side, for steps that estimate noise.

        Returns:
            The step itself.

        Raises:
            SceneError: `pixels` has no pixel, another number of dimensions, or numbers that are not finite.
            ValueError: The step needs neighbours and there are none.
        """
        if pixels.ndim != 2 or pixels.shape[0] == 0:
            raise SceneError(f"{self.kind} is fitted on pixels (N, B) with N > 0; got shape {pixels.shape}")
        if not self.fitted_arrays:  # band selection may be there to remove what is not finite
            return self
        values = pixels.astype(np.float64)
        if not np.isfinite(values).all():
            bad = int((~np.isfinite(values)).any(axis=1).sum())
            raise SceneError(f"{bad} of {len(values)} pixels hold NaN or infinity; leave them out before fitting")
        self._state = self._learn(values, neighbours)
        return self

    def __call__(self, array: Spectra) -> npt.NDArray[np.float32]:
        """Apply the step.

        Args:
            array: (..., B), any real dtype.

        Returns:
            float32 (..., B').

        Raises:
            SceneError: The number of bands is not the one that the step was fitted on.
            ValueError: The step is not fitted.
        """
        self.out_channels(array.shape[-1])
        return self._apply(array)

    def out_channels(self, in_channels: int) -> int:
        """Return B' for B bands.

        Args:
            in_channels: B.

        Raises:
            SceneError: The step was fitted on another number.
            ValueError: The step is not fitted.
        """
        state = self.state()
        if state:
            expected = state[self.fitted_arrays[0]].shape[0]
            if in_channels != expected:
                raise SceneError(f"{self.kind} was fitted on {expected} bands, got {in_channels}; give the same bands")
        return in_channels

    def state(self) -> dict[str, npt.NDArray[np.float64]]:
        """Return the fitted arrays by name.

        Raises:
            ValueError: The step is not fitted.
        """
        if set(self._state) != set(self.fitted_arrays):
            raise ValueError(f"{self.kind} is not fitted; call fit(pixels) first, or load a saved transform")
        return dict(self._state)

    def config(self) -> dict[str, Any]:
        """Return the constructor's keyword arguments, JSON-able."""
        return {"on": self.on}

    def load_state(self, state: dict[str, npt.NDArray[np.float64]]) -> None:
        """Take over fitted arrays, as `state` returned them.

        Args:
            state: Arrays by name.

        Raises:
            ManifestError: Names are missing or unknown.
        """
        if set(state) != set(self.fitted_arrays):
            raise ManifestError(
                f"{self.kind} has the arrays {sorted(state)}, expected {sorted(self.fitted_arrays)}; "
                "the file is damaged"
            )
        self._state = dict(state)

    def __repr__(self) -> str:
        """Show the constructor call."""
        arguments = ", ".join(f"{key}={value!r}" for key, value in self.config().items())
        return f"{type(self).__name__}({arguments})"

    def _learn(self, pixels: Floats, neighbours: Spectra | None) -> dict[str, Floats]:
        """Compute `fitted_arrays` of pixels (N, B)."""
        raise TypeError(f"{type(self).__name__} has fitted_arrays but does not say how they are learnt; define _learn")

    def _apply(self, array: Spectra) -> npt.NDArray[np.float32]:
        """Apply the fitted step to (..., B)."""
        raise TypeError(f"{type(self).__name__} does not say how it is applied; define _apply")


class SelectBands(Step):
    """Keep some bands, in the order given."""

    kind = "select_bands"

    def __init__(self, indices: Iterable[int], *, on: Source = "hsi") -> None:
        """Make the step.

        Args:
            indices: Band indices from 0.
            on: "hsi" or "aux".

        Raises:
            ValueError: No index, or a negative one.
        """
        super().__init__(on=on)
        self.indices = tuple(int(index) for index in indices)
        if not self.indices or min(self.indices) < 0:
            raise ValueError(f"indices are {self.indices}; expected one band index at least, each from 0")

    def out_channels(self, in_channels: int) -> int:
        """Return the number of bands that are kept."""
        if max(self.indices) >= in_channels:
            raise SceneError(
                f"select_bands takes band {max(self.indices)}, got {in_channels} bands (0..{in_channels - 1}); "
                "give the bands that the transform was made for"
            )
        return len(self.indices)

    def config(self) -> dict[str, Any]:
        """Return the constructor's keyword arguments, JSON-able."""
        return {"indices": list(self.indices), "on": self.on}

    def _apply(self, array: Spectra) -> npt.NDArray[np.float32]:
        return array[..., list(self.indices)].astype(np.float32)


class SensorScale(Step):
    """Scale a sensor's numbers: `value * scale + offset`, computed in float64; needs no fitting."""

    kind = "sensor_scale"

    def __init__(self, scale: float, offset: float = 0.0, *, on: Source = "hsi") -> None:
        """Make the step.

        Args:
            scale: Factor, e.g. 1 / 2047 for 11-bit data or 1e-4 for reflectance stored times 10000.
            offset: Added after scaling.
            on: "hsi" or "aux".

        Raises:
            ValueError: A number is not finite, or the scale is 0.
        """
        super().__init__(on=on)
        self.scale, self.offset = float(scale), float(offset)
        if not (np.isfinite(self.scale) and np.isfinite(self.offset) and self.scale != 0):
            raise ValueError(f"scale is {scale!r}, offset {offset!r}; expected finite numbers and a scale other than 0")

    def config(self) -> dict[str, Any]:
        """Return the constructor's keyword arguments, JSON-able."""
        return {"scale": self.scale, "offset": self.offset, "on": self.on}

    def _apply(self, array: Spectra) -> npt.NDArray[np.float32]:
        return (array.astype(np.float64) * self.scale + self.offset).astype(np.float32)


class Blank(Step):
    """Zeros instead of numbers, to ask what a network of two sources makes of the other one alone."""

    kind = "blank"

    def _apply(self, array: Spectra) -> npt.NDArray[np.float32]:
        return np.zeros(array.shape, np.float32)


class Standardise(Step):
    """Bring each band to mean 0 and standard deviation 1 (population); a constant band becomes 0."""

    kind = "standardise"
    fitted_arrays = ("mean", "std")

    def _learn(self, pixels: Floats, neighbours: Spectra | None) -> dict[str, Floats]:
        std = pixels.std(axis=0)
        # A constant band leaves rounding noise in place of zero; to divide by it would blow the noise up.
        flat = std <= 1e-12 * np.abs(pixels).max(axis=0)
        return {"mean": pixels.mean(axis=0), "std": np.where(flat, 1.0, std)}

    def _apply(self, array: Spectra) -> npt.NDArray[np.float32]:
        return ((array - self._state["mean"]) / self._state["std"]).astype(np.float32)


class MinMax(Step):
    """Map each band's range over the fitted pixels to 0..1, unclipped outside; a constant band becomes 0."""

    kind = "min_max"
    fitted_arrays = ("low", "span")

    def _learn(self, pixels: Floats, neighbours: Spectra | None) -> dict[str, Floats]:
        low = pixels.min(axis=0)
        span = pixels.max(axis=0) - low
        return {"low": low, "span": np.where(span == 0, 1.0, span)}

    def _apply(self, array: Spectra) -> npt.NDArray[np.float32]:
        return ((array - self._state["low"]) / self._state["span"]).astype(np.float32)


class PCA(Step):
    """Project on the principal components of the fitted pixels.

    The components are eigenvectors of the covariance (float64, `numpy.linalg.eigh`), by falling variance; of the two
    signs, the one whose loading of largest magnitude is positive. State: mean (B,), basis (C, B), variance (C,).
    """

    kind = "pca"
    fitted_arrays = ("mean", "basis", "variance")

    def __init__(self, n_components: int, whiten: bool = False, *, on: Source = "hsi") -> None:
        """Make the step.

        Args:
            n_components: Components C to keep.
            whiten: Divide each component by its standard deviation over the fitted pixels.
            on: "hsi" or "aux".

        Raises:
            ValueError: `n_components` is below 1.
        """
        super().__init__(on=on)
        if n_components < 1:
            raise ValueError(f"n_components is {n_components}; expected 1 or more")
        self.n_components, self.whiten = int(n_components), bool(whiten)

    def out_channels(self, in_channels: int) -> int:
        """Return the number of components."""
        super().out_channels(in_channels)
        return self.n_components

    def config(self) -> dict[str, Any]:
        """Return the constructor's keyword arguments, JSON-able."""
        return {"n_components": self.n_components, "whiten": self.whiten, "on": self.on}

    def _learn(self, pixels: Floats, neighbours: Spectra | None) -> dict[str, Floats]:
        mean, basis, variance = _principal_components(pixels, self.n_components)
        if self.whiten and variance[-1] <= 1e-12 * variance[0]:
            rank = int((variance > 1e-12 * variance[0]).sum())
            raise SceneError(
                f"the pixels vary in {rank} directions only, so {self.n_components} components cannot be whitened; "
                f"give n_components={rank} or less, or whiten=False"
            )
        return {"mean": mean, "basis": _with_fixed_signs(basis), "variance": variance}

    def _apply(self, array: Spectra) -> npt.NDArray[np.float32]:
        basis = self._state["basis"]
        if self.whiten:
            basis = basis / np.sqrt(self._state["variance"])[:, None]
        return _project(array, self._state["mean"], basis)


class MNF(Step):
    """Minimum noise fraction: project on the components of highest signal-to-noise ratio.

    The covariance of the noise is that of the differences between neighbouring pixels; the principal components of
    the noise-whitened pixels follow by falling ratio, with signs fixed as for `PCA`. All are scaled by one factor, so
    that their mean variance over the fitted pixels is 1 and their ratios stay. State: mean (B,), basis (C, B).

    Source: Green, Berman, Switzer, Craig, "A transformation for ordering multispectral data in terms of image quality
    with implications for noise removal", IEEE TGRS 26 (1988), section III.
    """

    kind = "mnf"
    fitted_arrays = ("mean", "basis")

    def __init__(self, n_components: int, window: int = 3, *, on: Source = "hsi") -> None:
        """Make the step.

        Args:
            n_components: Components C to keep.
            window: Side, odd, of the windows around the fitted pixels whose neighbours tell the noise.
            on: "hsi" or "aux".

        Raises:
            ValueError: `n_components` is below 1, or `window` not odd or below 3.
        """
        super().__init__(on=on)
        if n_components < 1 or window < 3 or window % 2 == 0:
            raise ValueError(f"n_components is {n_components}, window {window}; expected at least 1, and odd from 3")
        self.n_components, self.window = int(n_components), int(window)

    def out_channels(self, in_channels: int) -> int:
        """Return the number of components."""
        super().out_channels(in_channels)
        return self.n_components

    def config(self) -> dict[str, Any]:
        """Return the constructor's keyword arguments, JSON-able."""
        return {"n_components": self.n_components, "window": self.window, "on": self.on}

    def _learn(self, pixels: Floats, neighbours: Spectra | None) -> dict[str, Floats]:
        if neighbours is None or len(neighbours) < 2:
            raise ValueError("mnf estimates the noise from neighbouring pixels; fit it with Compose.fit_scene")
        noise = np.cov((neighbours[:, 0].astype(np.float64) - neighbours[:, 1]).T)
        power, directions = np.linalg.eigh(np.atleast_2d(noise))
        # Bands without noise of their own (interpolated, constant) must not be blown up.
        whitening = directions / np.sqrt(power + _NOISE_FLOOR * max(power[-1], np.finfo(float).tiny))
        _, basis, variance = _principal_components(pixels @ whitening, self.n_components)
        scale = np.sqrt(max(variance.mean(), np.finfo(float).tiny))
        return {"mean": pixels.mean(axis=0), "basis": _with_fixed_signs(basis @ whitening.T / scale)}

    def _apply(self, array: Spectra) -> npt.NDArray[np.float32]:
        return _project(array, self._state["mean"], self._state["basis"])


def _principal_components(pixels: Floats, count: int) -> tuple[Floats, Floats, Floats]:
    """Return mean (B,), the first components (C, B) and their variances (C,)."""
    number, bands = pixels.shape
    if count > min(bands, number - 1):
        raise SceneError(
            f"{count} components cannot be fitted on {number} pixels of {bands} bands; expected at most "
            f"{min(bands, number - 1)}: give more pixels (unlabelled ones serve too) or lower n_components"
        )
    mean = pixels.mean(axis=0)
    centred = pixels - mean
    values, vectors = np.linalg.eigh(centred.T @ centred / (number - 1))
    return mean, vectors.T[::-1][:count], np.maximum(values[::-1][:count], 0.0)


def _with_fixed_signs(basis: Floats) -> Floats:
    """Of the two signs of each row, take the one whose entry of largest magnitude is positive."""
    peak = np.take_along_axis(basis, np.abs(basis).argmax(axis=1)[:, None], axis=1)
    return np.ascontiguousarray(basis * np.sign(peak))


def _project(array: Spectra, mean: Floats, basis: Floats) -> npt.NDArray[np.float32]:
    """Project spectra (..., B) on a basis (C, B), summed band by band: the result of a pixel is that of any chunk."""
    loadings = np.ascontiguousarray(basis.T)[:, :, None]  # (B, C, 1)
    flat = array.reshape(-1, array.shape[-1])
    result = np.empty((flat.shape[0], len(basis)), dtype=np.float32)
    for start in range(0, flat.shape[0], _PROJECTION_BLOCK):
        block = np.ascontiguousarray((flat[start : start + _PROJECTION_BLOCK] - mean).T)  # (B, n)
        total = np.zeros((len(basis), block.shape[1]))
        product = np.empty_like(total)
        for loading, band in zip(loadings, block, strict=True):
            np.multiply(loading, band, out=product)
            total += product
        result[start : start + _PROJECTION_BLOCK] = total.T
    return result.reshape(*array.shape[:-1], len(basis))


STEPS: dict[str, type[Step]] = {
    step.kind: step for step in (SelectBands, SensorScale, Blank, Standardise, MinMax, PCA, MNF)
}
