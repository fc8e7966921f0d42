"""The transform that is fitted once, travels with the weights and gives the same numbers everywhere.

A cube may be transformed in chunks of any shape: the numbers are bit for bit those of the whole. `Diffuse` alone looks
around a pixel: a transform with it takes images whole (`looks_around`).
"""

from __future__ import annotations

import itertools
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt

from hsmamba._html import table, titled
from hsmamba.data.arrays import read_arrays, write_arrays
from hsmamba.data.bands import BandMatch
from hsmamba.data.image import Array, NanPolicy, like
from hsmamba.data.scene import Scene
from hsmamba.data.transforms.components import MNF
from hsmamba.data.transforms.diffuse import Diffuse
from hsmamba.data.transforms.gathering import gather
from hsmamba.data.transforms.step import Source, Spectra, Step, pixelwise
from hsmamba.data.transforms.steps import STEPS, Resample, SelectBands, SensorScale
from hsmamba.data.units import QUANTILES, Range, thinned
from hsmamba.errors import HsmambaWarning, ManifestError, SceneError

if TYPE_CHECKING:
    import xarray as xr
    from typing_extensions import Self


class Compose:
    """The transform that travels with weights: steps in order, those on "hsi" and those on "aux" apart.

    Attributes:
        steps: Steps in the order of application; none leaves the numbers as they are (as float32).
        wavelengths: Centres (B,) in nm of the bands on "hsi" that it was fitted on, by which those of other scenes are
            found; None where they are not known.
        fwhm: Widths (B,) of these bands at half their maximum in nm, or None.
    """

    def __init__(self, steps: Sequence[Step] = ()) -> None:
        self.steps = tuple(steps)
        self.wavelengths: npt.NDArray[np.float64] | None = None
        self.fwhm: npt.NDArray[np.float64] | None = None
        self._in_channels: dict[Source, int] = {}
        self._ranges: dict[Source, Range] = {}

    def fit(
        self,
        hsi_pixels: Spectra,
        aux_pixels: Spectra | None = None,
        *,
        neighbours: Mapping[Source, Spectra] | None = None,
    ) -> Self:
        """Fit every step on pixels that went through the steps before it.

        Args:
            hsi_pixels: (N, B), finite, usually the training pixels.
            aux_pixels: (M, C) of the auxiliary input.
            neighbours: Pairs of neighbouring spectra (M, 2, B) by input, for `MNF`; `neighbour_pairs` gathers them.

        Raises:
            SceneError: Pixels that a step refuses.
            ValueError: There are steps on "aux" and no `aux_pixels`.
        """
        if aux_pixels is None and any(step.on == "aux" for step in self.steps):
            raise ValueError('the transform has steps on "aux"; give aux_pixels too')
        inputs: dict[Source, Spectra | None] = {"hsi": hsi_pixels, "aux": aux_pixels}
        self._in_channels, self._ranges = {}, {}
        for on, pixels in inputs.items():
            if pixels is not None:
                self._in_channels[on] = int(pixels.shape[1])
                pairs, given = (neighbours or {}).get(on), pixels
                for i, step in enumerate(steps := self._steps(on)):
                    if i:
                        pixels = steps[i - 1](pixels)
                        pairs = None if pairs is None else steps[i - 1](pairs)
                    step.fit(pixels, pairs)
                self._ranges[on] = self._range(given, on)
        return self

    def _range(self, pixels: Spectra, on: Source) -> Range:
        few = thinned(pixels)
        return Range.of(self.before(few, on), self(few, on))

    def fit_scene(self, scene: Scene | Sequence[Scene], pixels: npt.ArrayLike, *, nan: NanPolicy = "raise") -> Self:
        """Fit on some pixels of a scene or of several, and on their surroundings where a step asks for neighbours.

        Bands that the scenes mark as bad are left out, by a `SelectBands` before all other steps, unless the transform
        selects bands itself.

        Args:
            scene: The scene, or scenes of one kind; their labels are not looked at.
            pixels: int (N,) flat indices, usually `split.train`; for several scenes the items of their `PatchDataset`.
            nan: "raise" refuses invalid pixels among them, "mask" leaves such pixels out.

        Raises:
            SceneError: Pixels that a step refuses, invalid ones, or an index outside the scene.
            ValueError: There are steps on "aux" and the scene has none.

        Warns:
            HsmambaWarning: Bad bands were left out.
        """
        scenes = (scene,) if isinstance(scene, Scene) else tuple(scene)
        first = scenes[0]
        self._leave_out_bad(scenes)
        sources: dict[Source, int] = {"hsi": first.num_bands}
        if first.aux is not None:
            sources["aux"] = int(first.aux.shape[2])
        bands = {on: self._read_of(count, on) for on, count in sources.items()}
        windows = {on: step.window for on in sources for step in self._steps(on) if isinstance(step, (MNF, Diffuse))}
        spectra, neighbours = gather(scenes, pixels, bands, windows, nan)
        self.fit(spectra["hsi"], spectra.get("aux"), neighbours=neighbours)
        self.wavelengths, self.fwhm = first.wavelengths, first.fwhm
        return self

    def _leave_out_bad(self, scenes: Sequence[Scene]) -> None:
        bad = np.any([one.bad_bands for one in scenes if one.bad_bands is not None], axis=0)
        if not np.any(bad) or any(isinstance(step, SelectBands) for step in self._steps("hsi")):
            return
        listed = ", ".join(map(str, np.flatnonzero(bad)))
        warnings.warn(
            f"left out {int(bad.sum())} of {bad.size} bands that the scene marks as bad: {listed} (from 0); a "
            "transform that begins with SelectBands takes others",
            HsmambaWarning,
            stacklevel=3,
        )
        self.steps = (SelectBands(np.flatnonzero(~bad)), *self.steps)

    @overload
    def __call__(
        self, array: npt.NDArray[Any], on: Source = "hsi", *, valid: npt.NDArray[np.bool_] | None = None
    ) -> npt.NDArray[np.float32]: ...
    @overload
    def __call__(
        self, array: xr.DataArray, on: Source = "hsi", *, valid: npt.NDArray[np.bool_] | None = None
    ) -> xr.DataArray: ...
    def __call__(self, array: Array, on: Source = "hsi", *, valid: npt.NDArray[np.bool_] | None = None) -> Array:
        """Transform spectra; a cube, mapped file or lazy DataArray is read strip by strip.

        Args:
            array: (..., B), any real dtype; NaN stays NaN. Of three dimensions it is an image, (H, W, B).
            on: Which input it is, "hsi" or "aux".
            valid: (H, W), the pixels of an image that have data; others take no part in a diffusion. Default those that
                are finite.

        Returns:
            float32 (..., C): numpy for numpy; for a DataArray (y, x, band) one with its grid and CRS.

        Raises:
            SceneError: The number of bands is not the expected one.
            ValueError: A step is not fitted.
        """
        self.out_channels(int(array.shape[-1]), on)
        steps = self._steps(on)
        count = next((i for i, step in enumerate(steps) if isinstance(step, Diffuse) and array.ndim == 3), len(steps))
        result = pixelwise(array, steps[:count])
        for step in steps[count:]:
            if isinstance(step, Diffuse):
                result = step.image(result if valid is None else np.where(valid[..., None], result, np.float32(np.nan)))
            else:
                result = pixelwise(result, [step])
        return like(array, result)

    def looks_around(self, on: Source = "hsi") -> bool:
        """Whether a pixel's result depends on what lies around it, so that images have to come whole."""
        return any(isinstance(step, Diffuse) for step in self._steps(on))

    def in_channels(self, on: Source = "hsi") -> int | None:
        """Return the number of bands that the transform was fitted on, None where it never was."""
        return self._in_channels.get(on)

    def out_channels(self, in_channels: int | None = None, on: Source = "hsi") -> int:
        """Return the number of channels that come out of `in_channels` bands, by default those of the fit.

        Raises:
            SceneError: The number of bands is not the expected one.
            ValueError: A step is not fitted, or the number of bands is not known.
        """
        expected = self.in_channels(on)
        channels = expected if in_channels is None else in_channels
        if channels is None:
            raise ValueError(f'the transform was not fitted on "{on}"; call fit, or give in_channels')
        if expected is not None and channels != expected:
            raise SceneError(
                f'the transform expects {expected} bands on "{on}", got {channels}; '
                "give the bands that it was fitted on"
            )
        for step in self._steps(on):
            channels = step.out_channels(channels)
        return channels

    def range(self, on: Source = "hsi") -> Range | None:
        """Return the distribution of the pixels that the transform was fitted on; None where it is not known."""
        return self._ranges.get(on)

    def note_range(self, on: Source, pixels: Spectra, means: npt.NDArray[np.float64] | None = None) -> None:
        """Remember the distribution of training pixels (N, B), as `fit` does of those that it is given.

        Args:
            on: Of which input.
            pixels: Before the transform.
            means: Means (M, C) of the training images after it, of which the lowest and the highest are kept.
        """
        self._in_channels[on] = int(pixels.shape[1])
        found = self._range(pixels, on)
        bounds = None if means is None else np.stack([means.min(axis=0), means.max(axis=0)])
        self._ranges[on] = replace(found, means=bounds)

    def before(self, array: Spectra, on: Source = "hsi") -> Spectra:
        """Return of spectra (N, B) what the first step sees that is fitted, as `range` has it in `before`."""
        for step in self._steps(on):
            if not _prepares(step):
                break
            array = step(array)
        return array

    def taking(self, match: BandMatch, bands: int) -> Compose:
        """Return this transform for an image whose `bands` bands hold the expected ones as `match_bands` found."""
        first: list[Step] = [SelectBands(match.indices)]
        first += [Resample(match.mixing)] if match.mixing is not None else []
        result = Compose([*first, *self.steps])
        result._in_channels = {**self._in_channels, "hsi": bands}
        result._ranges = self._ranges
        return result

    def scaled(self, factor: float, on: Source = "hsi") -> Compose:
        """Return this transform for numbers that are first multiplied by a factor."""
        kept = next((i for i, step in enumerate(self.steps) if not _passes(step, on)), len(self.steps))
        result = Compose([*self.steps[:kept], SensorScale(factor, on=on), *self.steps[kept:]])
        result._in_channels, result._ranges = self._in_channels, self._ranges
        result.wavelengths, result.fwhm = self.wavelengths, self.fwhm
        return result

    @property
    def num_features(self) -> int:
        """Channels of the transformed cube: the `in_chans` of a model behind this transform."""
        return self.out_channels()

    def input_bands(self, on: Source = "hsi") -> npt.NDArray[np.int64]:
        """Return the indices of the input bands that have a say in the result, for `valid_mask`.

        Raises:
            ValueError: The transform was not fitted.
        """
        self.out_channels(on=on)
        return self._read_of(self.in_channels(on) or 0, on)

    def _read_of(self, channels: int, on: Source) -> npt.NDArray[np.int64]:
        """The bands, of so many, that the first steps do not drop."""
        bands = np.arange(channels)
        for step in self._steps(on):
            if not isinstance(step, SelectBands):
                break
            step.out_channels(len(bands))
            bands = bands[list(step.indices)]
        return np.unique(bands)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted transform to a safetensors file, whole or not at all; same transform, same bytes.

        Raises:
            ValueError: A step is not fitted.
        """
        arrays = {f"{i}.{name}": array for i, step in enumerate(self.steps) for name, array in step.state().items()}
        steps = [{"kind": step.kind, **step.config()} for step in self.steps]
        known = {"wavelengths": self.wavelengths, "fwhm": self.fwhm}
        arrays |= {name: values for name, values in known.items() if values is not None}
        for on, found in self._ranges.items():
            arrays |= {f"range.{on}.before": found.before, f"range.{on}.after": found.after}
            arrays |= {} if found.means is None else {f"range.{on}.means": found.means}
        write_arrays(path, arrays, kind="transform", config={"steps": steps, "in_channels": self._in_channels})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read back, bit for bit, what `save` wrote.

        Raises:
            WeightsError: The file is missing or damaged.
            ManifestError: A schema or a kind of step that this version does not know, or steps and arrays that do not
                go together.
        """
        arrays, config = read_arrays(path, kind="transform")
        try:
            steps = [_load_step(record, i, arrays) for i, record in enumerate(config["steps"])]
            transform = cls(steps)
            transform._in_channels = {on: _check_bands(on, bands) for on, bands in config["in_channels"].items()}
            transform._take_figures({name: array for name, array in arrays.items() if not name[0].isdigit()})
            if stray := {name for name in arrays if not _is_known(name, len(steps))}:
                raise ValueError(f"the arrays {', '.join(sorted(stray))} belong to nothing in it")
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError) as error:
            if isinstance(error, ManifestError):
                raise
            raise ManifestError(f"{str(path)!r} holds no readable transform ({error}); save it again") from error
        return transform

    def _take_figures(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over what is known beside the steps, which must be of the channels that these take and give."""
        for on, bands in self._in_channels.items():
            shapes = {"before": (len(QUANTILES), bands), "after": (len(QUANTILES), self.out_channels(on=on))}
            for step in itertools.takewhile(_prepares, self._steps(on)):
                shapes["before"] = (len(QUANTILES), step.out_channels(shapes["before"][1]))
            if f"range.{on}.means" in arrays:  # only there since gains are matched
                shapes["means"] = (2, self.out_channels(on=on))
            if f"range.{on}.before" in arrays:
                self._ranges[on] = Range(
                    **{name: _checked(arrays, f"range.{on}.{name}", shape) for name, shape in shapes.items()}
                )
        bands = self._in_channels.get("hsi", 0)
        self.wavelengths, self.fwhm = (
            _checked(arrays, name, (bands,)) if name in arrays else None for name in ("wavelengths", "fwhm")
        )

    def _repr_html_(self) -> str:
        """Show the steps and the bands between them, in notebooks."""
        rows = []
        for on in ("hsi", "aux"):
            bands = self._in_channels.get(on)
            for step in self._steps(on):
                before = bands
                bands = None if bands is None else step.out_channels(bands)
                rows.append((on, repr(step), "" if before is None else f"{before} to {bands} bands"))
        return titled(f"Compose of {len(self.steps)} steps", table(rows, ("input", "step", "")))

    def __repr__(self) -> str:
        """Show the constructor call."""
        return f"Compose([{', '.join(map(repr, self.steps))}])"

    def _steps(self, on: Source) -> list[Step]:
        if on not in ("hsi", "aux"):
            raise ValueError(f'on is {on!r}; expected "hsi" or "aux"')
        return [step for step in self.steps if step.on == on]


def _passes(step: Step, on: Source) -> bool:
    """Whether a step does nothing to numbers of a source but to select or mix bands, which a factor may follow."""
    return step.on != on or isinstance(step, (SelectBands, Resample))


def _prepares(step: Step) -> bool:
    return isinstance(step, (SelectBands, Resample, SensorScale))


def _check_bands(on: str, bands: Any) -> int:
    if on not in ("hsi", "aux") or type(bands) is not int or bands < 1:
        raise ValueError(f"in_channels has {bands!r} for {on!r}, expected the number of bands of hsi and aux")
    return bands


def _checked(arrays: Mapping[str, npt.NDArray[Any]], name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Return an array, which must be of float64, of this shape and finite; of a band NaN may be known."""
    array = arrays[name]
    known = np.isfinite(array) if name.startswith("range.") else ~np.isinf(array)
    if array.dtype != np.float64 or array.shape != shape or not known.all():
        raise ValueError(f"{name} is {array.dtype} {array.shape}, expected finite float64 {shape}")
    return array


def _is_known(name: str, steps: int) -> bool:
    parts = ("before", "after", "means")
    beside = {"wavelengths", "fwhm", *(f"range.{on}.{part}" for on in ("hsi", "aux") for part in parts)}
    return name in beside or any(name.startswith(f"{i}.") for i in range(steps))


def _load_step(record: dict[str, Any], index: int, arrays: dict[str, npt.NDArray[Any]]) -> Step:
    arguments = dict(record)
    kind = arguments.pop("kind")
    if kind not in STEPS:
        raise ManifestError(
            f"step {index} of the transform is of kind {kind!r}; this version of hsmamba knows {sorted(STEPS)}: upgrade"
        )
    step = STEPS[kind](**arguments)
    known = {name: value for name, value in step.config().items() if name in arguments}
    if json.dumps(known, sort_keys=True) != json.dumps(arguments, sort_keys=True):  # 1.0 and "1" are no 1
        raise ManifestError(f"step {index} of the transform has {arguments}, where {known} is meant; save it again")
    prefix = f"{index}."
    step.load_state({name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)})
    return step
