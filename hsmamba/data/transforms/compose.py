"""The transform that is fitted once, travels with the weights and gives the same numbers everywhere.

A cube may be transformed in chunks of any shape: the numbers are bit for bit those of the whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt

from hsmamba.data.arrays import read_arrays, write_arrays
from hsmamba.data.image import Array, check_pixels, gather_pixels, iter_strips, like, neighbour_pairs
from hsmamba.data.scene import Scene
from hsmamba.data.transforms.components import MNF
from hsmamba.data.transforms.step import Source, Spectra, Step
from hsmamba.data.transforms.steps import STEPS, SelectBands
from hsmamba.errors import ManifestError, SceneError

if TYPE_CHECKING:
    import xarray as xr
    from typing_extensions import Self

_BLOCK_BYTES = 2**22  # steps compute in float64: a block of 16-bit numbers takes some ten times as much on its way


class Compose:
    """The transform that travels with weights: steps in order, those on "hsi" and those on "aux" apart.

    Attributes:
        steps: Steps in the order of application; none leaves the numbers as they are (as float32).
    """

    def __init__(self, steps: Sequence[Step] = ()) -> None:
        self.steps = tuple(steps)
        self._in_channels: dict[Source, int] = {}

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
        self._in_channels = {}
        for on, pixels in inputs.items():
            if pixels is not None:
                self._in_channels[on] = int(pixels.shape[1])
                pairs = (neighbours or {}).get(on)
                for step in self._steps(on):
                    pixels = step.fit(pixels, pairs)(pixels)
                    pairs = step(pairs) if pairs is not None else None
        return self

    def fit_scene(self, scene: Scene | Sequence[Scene], pixels: npt.ArrayLike) -> Self:
        """Fit on some pixels of a scene or of several, and on their surroundings where a step asks for neighbours.

        Args:
            scene: The scene, or scenes of one kind; their labels are not looked at.
            pixels: int (N,) flat indices, usually `split.train`; for several scenes the items of their `PatchDataset`.

        Raises:
            SceneError: Pixels that a step refuses, or an index outside the scene.
            ValueError: There are steps on "aux" and the scene has none.
        """
        scenes = (scene,) if isinstance(scene, Scene) else tuple(scene)
        chosen = _by_scene(scenes, pixels)
        names: tuple[Source, ...] = ("hsi",) if scenes[0].aux is None else ("hsi", "aux")
        windows = {on: step.window for on in names for step in self._steps(on) if isinstance(step, MNF)}
        spectra: dict[Source, list[Spectra]] = {on: [] for on in names}
        neighbours: dict[Source, list[Spectra]] = {on: [] for on in windows}
        for one, here in zip(scenes, chosen, strict=True):
            for on in names if here.size else ():
                source: Any = one.hsi if on == "hsi" else one.aux
                spectra[on].append(gather_pixels(source, here))
                if on in windows:
                    neighbours[on].append(neighbour_pairs(source, here, windows[on]))
        joined = {on: np.concatenate(parts) for on, parts in spectra.items()}
        pairs = {on: np.concatenate(parts) for on, parts in neighbours.items()}
        return self.fit(joined["hsi"], joined.get("aux"), neighbours=pairs)

    @overload
    def __call__(self, array: npt.NDArray[Any], on: Source = "hsi") -> npt.NDArray[np.float32]: ...
    @overload
    def __call__(self, array: xr.DataArray, on: Source = "hsi") -> xr.DataArray: ...
    def __call__(self, array: Array, on: Source = "hsi") -> Array:
        """Transform spectra; a cube, mapped file or lazy DataArray is read strip by strip.

        Args:
            array: (..., B), any real dtype; NaN stays NaN.
            on: Which input it is, "hsi" or "aux".

        Returns:
            float32 (..., C): numpy for numpy; for a DataArray (y, x, band) one with its grid and CRS.

        Raises:
            SceneError: The number of bands is not the expected one.
            ValueError: A step is not fitted.
        """
        channels = self.out_channels(int(array.shape[-1]), on)
        if array.ndim == 1:
            return self(np.asarray(array)[None], on).reshape(channels)
        result = np.empty((*array.shape[:-1], channels), dtype=np.float32)
        for top, strip in iter_strips(array):  # as much as is well read at once
            for start, block in iter_strips(strip, _BLOCK_BYTES):
                result[top + start : top + start + block.shape[0]] = self._apply(block, on)
        return like(array, result)

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
        bands = np.arange(self.in_channels(on) or 0)
        for step in self._steps(on):
            if not isinstance(step, SelectBands):
                break
            bands = bands[list(step.indices)]
        return np.unique(bands)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted transform to a safetensors file, whole or not at all; same transform, same bytes.

        Raises:
            ValueError: A step is not fitted.
        """
        arrays = {f"{i}.{name}": array for i, step in enumerate(self.steps) for name, array in step.state().items()}
        steps = [{"kind": step.kind, **step.config()} for step in self.steps]
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
            for on in transform._in_channels:
                transform.out_channels(on=on)
            if stray := {name for name in arrays if not _belongs(name, len(steps))}:
                raise ValueError(f"the arrays {', '.join(sorted(stray))} belong to no step")
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            if isinstance(error, ManifestError):
                raise
            raise ManifestError(f"{str(path)!r} holds no readable transform ({error}); save it again") from error
        return transform

    def __repr__(self) -> str:
        """Show the constructor call."""
        return f"Compose([{', '.join(map(repr, self.steps))}])"

    def _steps(self, on: Source) -> list[Step]:
        if on not in ("hsi", "aux"):
            raise ValueError(f'on is {on!r}; expected "hsi" or "aux"')
        return [step for step in self.steps if step.on == on]

    def _apply(self, array: Spectra, on: Source) -> npt.NDArray[np.float32]:
        for step in self._steps(on):
            array = step(array)
        return array.astype(np.float32, copy=False)


def _by_scene(scenes: Sequence[Scene], pixels: npt.ArrayLike) -> list[npt.NDArray[np.int64]]:
    """Part the items of several scenes into flat indices of each."""
    starts = np.cumsum([0, *(scene.shape[0] * scene.shape[1] for scene in scenes)])
    items = check_pixels(pixels, (1, int(starts[-1])))
    owner = np.searchsorted(starts, items, side="right") - 1
    return [items[owner == i] - starts[i] for i in range(len(scenes))]


def _check_bands(on: str, bands: Any) -> int:
    if on not in ("hsi", "aux") or type(bands) is not int or bands < 1:
        raise ValueError(f"in_channels has {bands!r} for {on!r}, expected the number of bands of hsi and aux")
    return bands


def _belongs(name: str, steps: int) -> bool:
    return any(name.startswith(f"{i}.") for i in range(steps))


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
