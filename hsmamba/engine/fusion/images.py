"""The images of a fusion: read window by window, scaled to the network's range, without their invalid pixels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from hsmamba.data.image import Array
from hsmamba.data.validity import Validity
from hsmamba.data.windows import iter_windows
from hsmamba.ops.resampling import interp23_inside, mirror_index, upsample, upsample_reach


@dataclass(frozen=True)
class Image:
    """One image and the numbers that bring it to the network's range.

    Attributes:
        array: (H, W, C), numpy, memory map or lazy DataArray.
        factor: The network sees `value * factor + offset`; one number, or one a channel (C,).
        offset: See `factor`.
    """

    array: Array
    factor: float | NDArray[np.float64] = 1.0
    offset: float | NDArray[np.float64] = 0.0

    @cached_property
    def validity(self) -> Validity:
        """What tells its valid pixels."""
        return Validity.of(self.array)

    @property
    def nodata(self) -> float | None:
        """Value that stands for "no data" beside NaN."""
        return self.validity.nodata[0] if self.validity.nodata else None

    @property
    def may_be_invalid(self) -> bool:
        """False where no pixel can be invalid."""
        return self.validity.may_lack(self.array.dtype)

    def valid_rows(self, rows: slice) -> NDArray[np.bool_]:
        """Tell the valid pixels of some rows, (n, W)."""
        return self.validity(np.asarray(self.array[rows]), rows)

    def read(self, rows: NDArray[np.int64], columns: NDArray[np.int64], *, fill: bool) -> NDArray[np.float64]:
        """Read the pixels of some rows and columns, scaled.

        Args:
            rows: Indices; negative ones and ones beyond the image have been folded back by the caller.
            columns: See `rows`.
            fill: Give invalid pixels the values of the nearest valid ones, or 0 where there are none.

        Returns:
            (h, w, C).
        """
        values = _gathered(self.array, rows, columns)
        scaled: NDArray[np.float64] = values.astype(np.float64) * self.factor + self.offset
        if fill and self.may_be_invalid and not (valid := self._valid(values, rows, columns)).all():
            if not valid.any():
                return np.zeros_like(scaled)
            nearest = ndimage.distance_transform_edt(~valid, return_distances=False, return_indices=True)
            scaled = scaled[tuple(nearest)]
        return scaled

    def _valid(self, values: NDArray[Any], rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.bool_]:
        good = self.validity.has_data(values).all(axis=-1)
        mask = self.validity.mask
        return np.asarray(good if mask is None else good & mask[np.ix_(rows, columns)])


def _near(indices: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Split indices where they jump, so that what lies between is not read."""
    return np.split(indices, np.flatnonzero(np.abs(np.diff(indices)) > 1) + 1)


def _gathered(array: Array, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[Any]:
    parts = [[_outer(array, r, c) for c in _near(columns)] for r in _near(rows)]
    return np.concatenate([np.concatenate(row, axis=1) for row in parts], axis=0)


def _outer(array: Array, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[Any]:
    top, left = int(rows.min()), int(columns.min())
    window = np.asarray(array[top : int(rows.max()) + 1, left : int(columns.max()) + 1])
    return window[rows - top][:, columns - left]


@dataclass(frozen=True)
class Images:
    """What a fusion network gets, in windows of the coarse grid.

    Attributes:
        ms: Coarse image (h, w, C), or None.
        guide: (r h, r w, G).
        ms_up: Coarse image on the guide's grid, or None: it is made of `ms`.
        ratio: Scale ratio r.
        fill: Whether there may be invalid pixels, which get the values of near ones.
        dtype: Of the network.
        device: Of the network.
        repeats: Whether up-sampling takes what lies beyond a border from that border; else from the opposite one, as
            the protocol's `interp23` does.
    """

    ms: Image | None
    guide: Image
    ms_up: Image | None
    ratio: int
    fill: bool
    dtype: torch.dtype = torch.float32
    device: torch.device | None = None
    repeats: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the guide."""
        return int(self.guide.array.shape[0]), int(self.guide.array.shape[1])

    @property
    def coarse_size(self) -> tuple[int, int]:
        """Rows and columns of the coarse grid; the last may be cut where there is no `ms`."""
        height, width = self.size
        return -(-height // self.ratio), -(-width // self.ratio)

    def window(self, rows: slice, columns: slice) -> tuple[Tensor | None, Tensor, Tensor]:
        """Read a window.

        Args:
            rows: Of the coarse grid.
            columns: Of the coarse grid.

        Returns:
            `ms` (1, C, h, w) or None, `guide` (1, G, r h, r w), `ms_up` (1, C, r h, r w).
        """
        coarse = np.arange(rows.start, rows.stop), np.arange(columns.start, columns.stop)
        fine = tuple(
            np.arange(part.start * self.ratio, min(part.stop * self.ratio, side))
            for part, side in zip((rows, columns), self.size, strict=True)
        )
        guide = self._tensor(self.guide.read(*fine, fill=self.fill))
        ms = None if self.ms is None else self._tensor(self.ms.read(*coarse, fill=self.fill))
        if self.ms_up is not None:
            return ms, guide, self._tensor(self.ms_up.read(*fine, fill=self.fill))
        return ms, guide, self.up_sampled(self.ms, *coarse)

    def up_sampled(self, image: Image | None, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Tensor:
        """Up-sample a window of a coarse image with the surroundings that the filter reads, as in the whole image."""
        if image is None:
            raise ValueError("there is no coarse image to up-sample")
        reach = upsample_reach(self.ratio)
        around = []
        for part, side in zip((rows, columns), self.coarse_size, strict=True):
            index = np.arange(part[0] - reach, part[-1] + 1 + reach)
            if self.repeats:
                around.append(index.clip(0, side - 1))
            else:
                is_cubic = self.ratio & (self.ratio - 1)
                around.append(mirror_index(index, side) if is_cubic else index % side)
        near = self._tensor(image.read(*around, fill=self.fill))
        if not self.ratio & (self.ratio - 1):
            return interp23_inside(near, self.ratio)
        fine = upsample(near, self.ratio)
        cut = reach * self.ratio
        return fine[..., cut : fine.shape[2] - cut, cut : fine.shape[3] - cut]

    def _tensor(self, values: NDArray[np.float64]) -> Tensor:
        return torch.from_numpy(values).to(self.device, self.dtype).permute(2, 0, 1)[None]

    def valid_rows(self, rows: slice) -> NDArray[np.bool_]:
        """Tell which pixels of some rows of the guide's grid are valid in all images, (n, W)."""
        mask = np.ones((rows.stop - rows.start, self.size[1]), bool)
        for image in (self.guide, self.ms_up):
            if image is not None and image.may_be_invalid:
                mask &= image.valid_rows(rows)
        if self.ms is not None and self.ms.may_be_invalid:
            first = rows.start // self.ratio
            coarse = self.ms.valid_rows(slice(first, -(-rows.stop // self.ratio)))
            y = np.arange(rows.start, rows.stop) // self.ratio - first
            mask &= coarse[y][:, np.arange(self.size[1]) // self.ratio]
        return mask

    def count_invalid(self) -> dict[str, tuple[int, tuple[int, int]]]:
        """Count the invalid pixels of each image that has any, and give the row and column of the first."""
        found = {}
        for name in ("ms", "guide", "ms_up"):
            image: Image | None = getattr(self, name)
            if image is None or not image.may_be_invalid:
                continue
            count, first = 0, (int(image.array.shape[0]), 0)
            for (rows, columns), window in iter_windows(image.array):
                bad = ~image.validity(window, rows, columns)
                if bad.any():
                    row, column = np.argwhere(bad)[0]
                    first = min(first, (rows.start + int(row), columns.start + int(column)))
                    count += int(bad.sum())
            if count:
                found[name] = count, first
        return found
