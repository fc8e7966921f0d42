"""Which pixels of an image hold data, whatever its way of saying so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hsmamba.data.image import FILL_TOLERANCE, FILLS, VALID, Array, NanPolicy, is_dataarray, iter_strips
from hsmamba.data.windows import Place, Within, iter_windows
from hsmamba.errors import SceneError

HUGE = 1e30  # no quantity is as large, and float32 overflows soon after

_BLOCK_BYTES = 2**22


@dataclass(frozen=True, eq=False)
class Validity:
    """What tells the valid pixels of an image.

    A pixel is valid where every band that counts is finite, below 1e30 in size and none of the values for "no data",
    and where the mask, if there is one, has True.

    Attributes:
        nodata: Values that stand for "no data", beside NaN.
        mask: (H, W) bool, or None.
    """

    nodata: tuple[float, ...] = ()
    mask: npt.NDArray[np.bool_] | None = None

    @classmethod
    def of(cls, array: Array) -> Validity:
        """Read it off an image: `_FillValue`, `missing_value`, `nodata`, the coordinate `valid`; numpy's own masks."""
        if isinstance(array, np.ma.MaskedArray):
            masked = np.ma.getmaskarray(array).reshape(*array.shape[:2], -1)
            return cls(mask=np.asarray(~masked.any(axis=2)))
        if not is_dataarray(array):
            return cls()
        mask = array.coords.get(VALID)
        return cls(_nodata(array), None if mask is None else np.asarray(mask.transpose("y", "x"), dtype=bool))

    def may_lack(self, dtype: np.dtype[Any]) -> bool:
        """False where no pixel of an image of this dtype can be invalid."""
        return dtype.kind == "f" or bool(self.nodata) or self.mask is not None

    def __call__(
        self,
        values: npt.NDArray[Any],
        rows: slice = slice(None),
        columns: slice | npt.NDArray[np.int64] = slice(None),
        bands: npt.ArrayLike | None = None,
    ) -> npt.NDArray[np.bool_]:
        """Tell the valid pixels of a window.

        Args:
            values: (h, w, B), or (N, B) of an image without mask.
            rows: Where the window lies.
            columns: Where the window lies.
            bands: Indices of the bands that count; all by default.

        Returns:
            (h, w) bool, or (N,).
        """
        used = values if bands is None else values[..., np.asarray(bands, dtype=np.int64)]
        good = np.asarray(self.has_data(used).all(axis=-1))
        return good if self.mask is None else good & self.mask[rows, columns]

    def in_words(self) -> str:
        """Name what is invalid."""
        values = f" or the no-data value {', '.join(f'{value:g}' for value in self.nodata)}" if self.nodata else ""
        return f"NaN or infinity (1e30 and beyond){values}" + (" or are masked" if self.mask is not None else "")

    def has_data(self, values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Tell of every single number whether it is one, the mask left aside."""
        if values.dtype.kind != "f":
            good = np.ones(values.shape, bool)
            for nodata in self.nodata:
                good &= values != nodata
            return good
        good = np.isfinite(values) if values.dtype.itemsize < 4 else np.abs(values) < HUGE  # False for NaN
        for nodata in self.nodata:
            if abs(nodata) < HUGE:
                good &= np.abs(values - values.dtype.type(nodata)) > FILL_TOLERANCE * abs(nodata)
        return np.asarray(good)


def check_policy(nan: str) -> None:
    """Raise ValueError unless `nan` is one of the two words."""
    if nan not in ("raise", "mask"):
        raise ValueError(f'nan is {nan!r}; expected "raise" or "mask"')


def valid_mask(
    hsi: Array, nan: NanPolicy = "raise", *, bands: npt.ArrayLike | None = None, name: str = ""
) -> npt.NDArray[np.bool_]:
    """Tell which pixels hold data; reads strip by strip.

    Invalid are NaN, infinities and sizes from 1e30; in a DataArray also its `_FillValue` (`missing_value`, `nodata`),
    in attributes or encoding, and where its coordinate `valid` on (y, x) has False; what a numpy array masks.

    Args:
        hsi: (H, W, B).
        nan: "raise" to refuse invalid pixels, "mask" to have them marked.
        bands: Indices of the bands that count; all by default. Bad bands are often NaN on every pixel: give
            `scene.good_bands`, or `transform.input_bands()` for the bands that a transform reads.
        name: What to call the image in the error.

    Returns:
        (H, W) bool, True where every band that counts has data.

    Raises:
        SceneError: `nan="raise"` and a pixel is invalid.
        ValueError: `nan` is neither "raise" nor "mask".
    """
    check_policy(nan)
    if nan == "raise":
        refuse_invalid(hsi, bands=bands, name=name)
        return np.ones(hsi.shape[:2], dtype=bool)
    mask = np.ones(hsi.shape[:2], dtype=bool)
    for place, good in _valid_windows(hsi, bands):
        mask[place] = good
    return mask


def refuse_invalid(
    hsi: Array, *, bands: npt.ArrayLike | None = None, name: str = "", within: Within | None = None
) -> None:
    """Raise SceneError where a pixel holds no data; arguments and errors are those of `valid_mask`, which holds more.

    Reads window by window, and nothing where no pixel can be invalid. `within` tells which pixels (h, w) of given rows
    and columns are looked at; all by default.
    """
    count, first = 0, (int(hsi.shape[0]), 0)
    for (rows, columns), good in _valid_windows(hsi, bands, within):
        bad = ~good if within is None else ~good & within(rows, columns)
        if bad.any():
            row, column = np.argwhere(bad)[0]
            first = min(first, (rows.start + int(row), columns.start + int(column)))
            count += int(np.count_nonzero(bad))
    if count:
        pixels = f"pixels of {name}" if name else "pixels"
        raise SceneError(
            f"{count} of {hsi.shape[0] * hsi.shape[1]} {pixels} hold {Validity.of(hsi).in_words()}, the first at row "
            f'{first[0]}, column {first[1]}; pass nan="mask" (--nan mask) to leave them out'
        )


def _valid_windows(
    hsi: Array, bands: npt.ArrayLike | None, within: Within | None = None
) -> Iterator[tuple[Place, npt.NDArray[np.bool_]]]:
    """Give the valid pixels of windows of an image, where pixels can be invalid."""
    validity = Validity.of(hsi)
    if not validity.may_lack(hsi.dtype):
        return
    for (rows, columns), window in iter_windows(hsi, within=within):  # as much as is well read at once
        for start, block in iter_strips(window, _BLOCK_BYTES):
            part = slice(rows.start + start, rows.start + start + block.shape[0])
            yield (part, columns), validity(block, part, columns, bands=bands)


def _nodata(array: Any) -> tuple[float, ...]:
    """The finite values for "no data" of a DataArray, from its attributes and, where it was not decoded, encoding."""
    stored = np.dtype(array.encoding.get("dtype") or array.dtype)
    encoded = array.encoding if stored.kind == array.dtype.kind else {}
    found = [source[name] for source in (array.attrs, encoded) for name in FILLS if source.get(name) is not None]
    values = np.concatenate([np.ravel(np.asarray(value, dtype=np.float64)) for value in found]) if found else ()
    return tuple(dict.fromkeys(float(value) for value in values if np.isfinite(value)))
