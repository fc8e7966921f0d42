"""Windows of an image, along the blocks that its file is stored in, so that none is read more often than need be."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hsmamba.data.image import STRIP_BYTES, Array, is_dataarray

Within: TypeAlias = "Callable[[slice, slice], npt.NDArray[np.bool_]]"  # of rows and columns, (h, w)
Place: TypeAlias = "tuple[slice, slice]"  # rows and columns


def cut_windows(shape: tuple[int, int], blocks: tuple[int, int], pixels: int, *, least: int = 1) -> list[list[Place]]:
    """Cut a grid into rows of windows, from top to bottom and from left to right.

    Windows have all columns where a row of whole blocks fits, else they are whole blocks, or a part of one.

    Args:
        shape: Rows and columns (H, W).
        blocks: Rows and columns of a block; (1, 1) where there are none.
        pixels: That a window may have.
        least: That a side of a window must have, which goes before `pixels`; H and W have as many.
    """
    (height, width), (tall, wide) = shape, blocks
    rows, columns = pixels // width, width
    if rows >= max(least, tall):
        rows = rows // tall * tall
    elif width > max(least, wide):
        rows = min(_multiple(least, tall), max(least, pixels // max(least, wide)))
        columns = max(_multiple(least, wide), pixels // rows // wide * wide)
    return [
        [(row, column) for column in _parts(width, columns, least)] for row in _parts(height, max(least, rows), least)
    ]


def blocks_of(array: Array) -> tuple[int, int]:
    """Rows and columns of the blocks that an image is stored in, where its file tells; else (1, 1)."""
    told = array.encoding.get("preferred_chunks") if is_dataarray(array) else None
    return (int(told["y"]), int(told["x"])) if told and {"y", "x"} <= set(told) else (1, 1)


def read_window(array: Array, place: Place) -> npt.NDArray[Any]:
    """Read a part of an image (H, W, C)."""
    rows, columns = place
    return np.asarray(array[rows] if columns == slice(0, array.shape[1]) else array[rows, columns])


def iter_windows(
    array: Array, max_bytes: int = STRIP_BYTES, *, within: Within | None = None
) -> Iterator[tuple[Place, npt.NDArray[Any]]]:
    """Read an image (H, W, C) in windows of about so many bytes, each block of its file once where that is possible.

    Windows without a pixel `within` are left out.
    """
    pixel = max(1, array.dtype.itemsize * int(np.prod(array.shape[2:], dtype=np.int64)))
    shape = int(array.shape[0]), int(array.shape[1])
    for row in cut_windows(shape, blocks_of(array), max(1, max_bytes // pixel)):
        for place in row:
            if within is None or within(*place).any():
                yield place, read_window(array, place)


def spread_pixels(
    array: Array, side: int
) -> Iterator[tuple[tuple[slice, slice | npt.NDArray[np.int64]], npt.NDArray[Any]]]:
    """Read about `side` x `side` pixels that are spread evenly over an image (H, W, C), without reading much beside.

    Single pixels of evenly spread rows, or small windows where the file is stored in blocks that have no whole rows.

    Yields:
        Rows and columns, of the latter a slice or indices, and the pixels there (h, w, C).
    """
    shape = int(array.shape[0]), int(array.shape[1])
    if blocks_of(array)[1] in (1, shape[1]) or shape[1] <= 2 * side:
        rows, columns = (np.unique(np.linspace(0, length - 1, side).astype(int)) for length in shape)
        for row in rows:
            part = slice(int(row), int(row) + 1)
            yield (part, columns), np.asarray(array[part])[:, columns]
        return
    few = max(1, round(side**0.5 / 2))  # windows along a side
    starts = [np.unique(np.linspace(0, max(0, length - side // few), few).astype(int)) for length in shape]
    for top in starts[0]:
        for left in starts[1]:
            place = slice(int(top), int(top) + side // few), slice(int(left), int(left) + side // few)
            yield place, read_window(array, place)


def release(array: Array) -> None:
    """Give back the memory of what has been read of a file that is mapped to be read alone; others stay as they are."""
    base: Any = array
    while isinstance(base, np.ndarray) and not base.flags.writeable and base.base is not None:
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):  # which Windows lacks
        base.madvise(mmap.MADV_DONTNEED)


def _multiple(least: int, block: int) -> int:
    return -(-least // block) * block


def _parts(length: int, step: int, least: int) -> list[slice]:
    """Cut 0..length into parts of `step`; a last one below `least` goes with the one before."""
    starts = list(range(0, length, step))
    if len(starts) > 1 and length - starts[-1] < least:
        starts.pop()
    return [slice(a, b) for a, b in zip(starts, [*starts[1:], length], strict=True)]
