"""What a step of a transform is: it maps spectra (..., B) to float32 (..., B'), pixel by pixel.

No step lets a pixel's result depend on its neighbours in memory, so a cube may come in chunks of any shape. `pixelwise`
hands pixels to steps as many at a time as stay in the processor's cache, so that memory is gone through once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from hsmamba.data.image import Array, iter_strips
from hsmamba.errors import ManifestError, SceneError

if TYPE_CHECKING:
    from typing_extensions import Self

Source: TypeAlias = Literal["hsi", "aux"]
Spectra: TypeAlias = "npt.NDArray[Any]"
Floats: TypeAlias = "npt.NDArray[np.float64]"

_BLOCK = 2**16  # values at a time: half a megabyte in double precision
_COPIED_BYTES = 2**22  # of rows whose pixels do not lie one after the other
_LISTED = 8  # values of a list that are worth showing


class Step:
    """One step of a transform.

    Attributes:
        kind: Name in saved files.
        arguments: Names of the constructor's arguments beside `on`, which are attributes too.
        fitted_arrays: Names of the arrays that `fit` computes; a step without any needs no fitting.
        on: Which input it applies to, "hsi" or "aux".
    """

    kind: ClassVar[str]
    arguments: ClassVar[tuple[str, ...]] = ()
    fitted_arrays: ClassVar[tuple[str, ...]] = ()

    def __init__(self, *, on: Source = "hsi") -> None:
        if on not in ("hsi", "aux"):
            raise ValueError(f'on is {on!r}; expected "hsi" or "aux"')
        self.on: Source = on
        self._state: dict[str, npt.NDArray[np.float64]] = {}

    def fit(self, pixels: Spectra, neighbours: Spectra | None = None) -> Self:
        """Learn from pixels, and return the step itself.

        Args:
            pixels: (N, B), finite where the step learns from them.
            neighbours: (M, 2, B), finite: spectra of pixels that lie side by side, for steps that estimate noise.

        Raises:
            SceneError: `pixels` has no pixel, another number of dimensions, or numbers that are not finite.
            ValueError: The step needs neighbours and there are none.
        """
        if pixels.ndim != 2 or pixels.shape[0] == 0:
            raise SceneError(f"{self.kind} is fitted on pixels (N, B) with N > 0; got shape {pixels.shape}")
        if not self.fitted_arrays:  # band selection may be there to remove what is not finite
            return self
        if pixels.dtype.kind == "f":
            bad = sum(int((~np.isfinite(block)).any(axis=1).sum()) for _, block in iter_strips(pixels, _COPIED_BYTES))
            if bad:
                raise SceneError(f"{bad} of {len(pixels)} pixels hold NaN or infinity; leave them out before fitting")
        self._state = self._learn(pixels, neighbours)
        return self

    def __call__(self, array: Spectra) -> npt.NDArray[np.float32]:
        """Apply the step to (..., B) of any real dtype: float32 (..., B').

        Raises:
            SceneError: The number of bands is not the one that the step was fitted on.
            ValueError: The step is not fitted.
        """
        return pixelwise(array, [self])

    def out_channels(self, in_channels: int) -> int:
        """Return B' for B bands.

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
        values = {name: getattr(self, name) for name in (*self.arguments, "on")}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def load_state(self, state: dict[str, npt.NDArray[np.float64]]) -> None:
        """Take over fitted arrays, as `state` returned them.

        Raises:
            ManifestError: Names are missing or unknown, or the arrays are none that a fit gives.
        """
        if set(state) != set(self.fitted_arrays):
            raise ManifestError(
                f"{self.kind} has the arrays {sorted(state)}, expected {sorted(self.fitted_arrays)}; "
                "the file is damaged"
            )
        shapes = self._shapes(state)
        for name, array in state.items():
            if array.dtype != np.float64 or not np.isfinite(array).all():
                raise ManifestError(f"{self.kind}: {name} is {array.dtype}, or not finite; the file is damaged")
            if array.shape != shapes.get(name, array.shape):
                raise ManifestError(
                    f"{self.kind}: {name} has the shape {array.shape}, expected {shapes[name]}; the file is damaged"
                )
            if name in self._divisors() and not (array > 0).all():
                raise ManifestError(f"{self.kind}: {name} is not above 0 everywhere; the file is damaged")
        self._state = dict(state)

    def _shapes(self, state: dict[str, npt.NDArray[np.float64]]) -> dict[str, tuple[int, ...]]:
        """Return the shapes that fitted arrays of these sizes have beside each other, as far as they are known."""
        return {}

    def _divisors(self) -> tuple[str, ...]:
        """Return the names of fitted arrays that are divided by."""
        return ()

    def __repr__(self) -> str:
        """Show the constructor call; of long lists the ends and the length."""
        arguments = ", ".join(f"{key}={_short(value)}" for key, value in self.config().items())
        return f"{type(self).__name__}({arguments})"

    def _learn(self, pixels: Spectra, neighbours: Spectra | None) -> dict[str, Floats]:
        raise TypeError(f"{type(self).__name__} has fitted_arrays but does not say how they are learnt; define _learn")

    def _apply(self, block: Spectra) -> npt.NDArray[np.float32]:
        """Apply the step to some pixels (n, B)."""
        raise TypeError(f"{type(self).__name__} does not say how it is applied; define _apply")


def pixelwise(array: Array, steps: Sequence[Step]) -> npt.NDArray[np.float32]:
    """Apply steps that look at single pixels to spectra (..., B), read strip by strip: float32 (..., B').

    Raises:
        SceneError: The number of bands is not the one that a step was fitted on.
        ValueError: A step is not fitted.
    """
    if array.ndim == 1:
        return pixelwise(np.asarray(array)[None], steps).reshape(-1)
    sizes = [int(array.shape[-1])]
    for step in steps:
        sizes.append(step.out_channels(sizes[-1]))
    count = max(1, _BLOCK // max(sizes))
    result = np.empty((*array.shape[:-1], sizes[-1]), dtype=np.float32)
    for top, strip in iter_strips(array):  # as much as is well read at once
        for start, rows in iter_strips(strip, _COPIED_BYTES):
            first = top + start
            pixels, out = (x.reshape(-1, x.shape[-1]) for x in (rows, result[first : first + len(rows)]))
            for i in range(0, len(pixels), count):
                block = pixels[i : i + count]
                for step in steps:
                    block = step._apply(block)
                out[i : i + count] = block
    return result


def _short(value: Any) -> str:
    if isinstance(value, list) and len(value) > _LISTED:
        return f"[{value[0]!r}, {value[1]!r}, ..., {value[-1]!r}: {len(value)} in all]"
    return repr(value)
