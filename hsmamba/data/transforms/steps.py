"""The steps that work band by band, and the table of all steps."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hsmamba.data.transforms.components import MNF, PCA, project
from hsmamba.data.transforms.diffuse import Diffuse
from hsmamba.data.transforms.moments import deviation, in_blocks, mean_of
from hsmamba.data.transforms.step import Floats, Source, Spectra, Step
from hsmamba.errors import SceneError

if TYPE_CHECKING:
    from typing_extensions import Self

_DARKEST = 0.02  # of a spectrum's length: what is below is noise, or no reflectance


class SelectBands(Step):
    """Keep the bands of some `indices`, from 0, in the order given; ValueError for none, or a negative one."""

    kind = "select_bands"
    arguments = ("indices",)

    def __init__(self, indices: Iterable[int], *, on: Source = "hsi") -> None:
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

    def _apply(self, block: Spectra) -> npt.NDArray[np.float32]:
        return block[:, list(self.indices)].astype(np.float32)


class Resample(Step):
    """Mix bands by a matrix of `weights`, float (B, K), as `match_bands` makes them; needs no fitting."""

    kind = "resample"
    fitted_arrays = ("weights",)

    def __init__(self, weights: npt.ArrayLike | None = None, *, on: Source = "hsi") -> None:
        super().__init__(on=on)
        if weights is not None:
            self._state = {"weights": np.asarray(weights, dtype=np.float64)}

    def fit(self, pixels: Spectra, neighbours: Spectra | None = None) -> Self:
        """Return the step as it is."""
        return self

    def out_channels(self, in_channels: int) -> int:
        """Return the number of bands that come out."""
        super().out_channels(in_channels)
        return int(self._state["weights"].shape[1])

    def _shapes(self, state: dict[str, Floats]) -> dict[str, tuple[int, ...]]:
        return {"weights": (*state["weights"].shape, 1, 1)[:2]}

    def _apply(self, block: Spectra) -> npt.NDArray[np.float32]:
        return project(block, self._state["weights"])


class SensorScale(Step):
    """Scale a sensor's numbers: `value * scale + offset`, computed in float64; needs no fitting.

    The scale is 1 / 2047 for 11-bit data, or 1e-4 for reflectance stored times 10000; ValueError where it is 0, or
    either number is not finite.
    """

    kind = "sensor_scale"
    arguments = ("scale", "offset")

    def __init__(self, scale: float, offset: float = 0.0, *, on: Source = "hsi") -> None:
        super().__init__(on=on)
        self.scale, self.offset = float(scale), float(offset)
        if not (np.isfinite(self.scale) and np.isfinite(self.offset) and self.scale != 0):
            raise ValueError(f"scale is {scale!r}, offset {offset!r}; expected finite numbers and a scale other than 0")

    def _apply(self, block: Spectra) -> npt.NDArray[np.float32]:
        values = block.astype(np.float64)
        values *= self.scale
        values += self.offset
        return values.astype(np.float32)


class Blank(Step):
    """Zeros instead of numbers, to ask what a network of two sources makes of the other one alone."""

    kind = "blank"

    def _apply(self, block: Spectra) -> npt.NDArray[np.float32]:
        return np.zeros(block.shape, np.float32)


class AddShape(Step):
    """Add to B bands the same bands divided by the length of the pixel's spectrum, as root mean square: 2 B bands.

    Light and shade multiply all bands alike (the spectral angle does not see them: Kruse et al., "The Spectral Image
    Processing System", Remote Sensing of Environment 44 (1993)), so the added ones carry over between slopes, haze and
    scenes, while those that came in still know how bright a pixel is. A spectrum of zeros stays zeros. With `logarithm`
    the added ones are the natural logarithms of these, of 0.02 at least, less their mean over the bands: where all
    absorb much, as leaves do in red and in the short-wave infrared, differences are ratios. Bands are to be counts or
    reflectances here, and so come before `Standardise`; needs no fitting.
    """

    kind = "add_shape"
    arguments = ("logarithm",)

    def __init__(self, logarithm: bool = False, *, on: Source = "hsi") -> None:
        super().__init__(on=on)
        self.logarithm = bool(logarithm)

    def out_channels(self, in_channels: int) -> int:
        """Return the number of bands with those that are added."""
        return 2 * super().out_channels(in_channels)

    def _apply(self, block: Spectra) -> npt.NDArray[np.float32]:
        values = block.astype(np.float64)
        length = np.sqrt(np.square(values).mean(axis=-1, keepdims=True))
        shape = values / np.where(length == 0, 1, length)
        if self.logarithm:
            shape = np.log(np.maximum(shape, _DARKEST))
            shape -= shape.mean(axis=-1, keepdims=True)
        return np.concatenate([values, shape], axis=-1).astype(np.float32)


class _BandByBand(Step):
    """A step that takes a number from each band and divides by another, in this order of `fitted_arrays`."""

    def _shapes(self, state: dict[str, Floats]) -> dict[str, tuple[int, ...]]:
        return dict.fromkeys(self.fitted_arrays, (state[self.fitted_arrays[0]].size,))

    def _divisors(self) -> tuple[str, ...]:
        return self.fitted_arrays[1:]

    def _apply(self, block: Spectra) -> npt.NDArray[np.float32]:
        from_each, by_each = (self._state[name] for name in self.fitted_arrays)
        values = block.astype(np.float64)
        values -= from_each
        values /= by_each
        return values.astype(np.float32)


class Standardise(_BandByBand):
    """Bring each band to mean 0 and standard deviation 1 (population); a constant band becomes 0."""

    kind = "standardise"
    fitted_arrays = ("mean", "std")

    def _learn(self, pixels: Spectra, neighbours: Spectra | None) -> dict[str, Floats]:
        blocks = partial(in_blocks, pixels)
        mean = mean_of(blocks)
        std = deviation(blocks, mean)
        # A constant band leaves rounding noise in place of zero; to divide by it would blow the noise up.
        low, high = (end(pixels, axis=0).astype(np.float64) for end in (np.min, np.max))
        return {"mean": mean, "std": np.where(std <= 1e-12 * np.maximum(abs(low), abs(high)), 1.0, std)}


class MinMax(_BandByBand):
    """Map each band's range over the fitted pixels to 0..1, unclipped outside; a constant band becomes 0."""

    kind = "min_max"
    fitted_arrays = ("low", "span")

    def _learn(self, pixels: Spectra, neighbours: Spectra | None) -> dict[str, Floats]:
        low = pixels.min(axis=0).astype(np.float64)
        span = pixels.max(axis=0) - low
        return {"low": low, "span": np.where(span == 0, 1.0, span)}


STEPS: dict[str, type[Step]] = {
    step.kind: step
    for step in (SelectBands, Resample, SensorScale, Blank, AddShape, Standardise, MinMax, PCA, MNF, Diffuse)
}
