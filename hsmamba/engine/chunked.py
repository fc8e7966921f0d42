"""Work block by block over images that dask holds: nothing is read or computed until a result is asked for.

Blocks are those of the image, read with the margin that has a say in them, so that they equal the whole. The model goes
to each worker once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hsmamba._optional import optional_import
from hsmamba.data.image import FILLS, VALID, Array, is_dataarray

Sizes: TypeAlias = "tuple[tuple[int, ...], tuple[int, ...]]"  # of the blocks along rows and columns
Indexed: TypeAlias = "tuple[Any, str]"  # a dask array and the letters of its axes


def is_chunked(*arrays: object) -> bool:
    """Tell whether one of some images is a DataArray that dask holds."""
    return any(is_dataarray(array) and array.chunks is not None for array in arrays)


def dask_array(array: Any, sizes: Sizes) -> Any:
    """Return an image (H, W, ...) as a dask array in blocks of these sizes, all bands in one."""
    da = optional_import("dask.array", "to work on images that dask holds")
    data = getattr(array, "data", array) if is_chunked(array) else np.asarray(array)
    whole = tuple((n,) for n in array.shape[2:])
    return da.asarray(data).rechunk((*sizes, *whole))


def block_sizes(chunks: Sequence[tuple[int, ...]], least: int, multiple: int = 1) -> Sizes:
    """Return sizes of blocks that are near those of an image.

    Args:
        chunks: Of the image along rows and columns.
        least: Pixels that a block must have along both, but where the image is smaller.
        multiple: Number that sizes are multiples of, but the last one.
    """
    rows, columns = (_merged(sizes, max(least, 1), multiple) for sizes in chunks[:2])
    return rows, columns


def _merged(sizes: Sequence[int], least: int, multiple: int) -> tuple[int, ...]:
    length, edges = sum(sizes), [0]
    for edge in np.cumsum(sizes)[:-1].tolist():
        edge -= edge % multiple
        if edge - edges[-1] >= least and length - edge >= least:
            edges.append(edge)
    return tuple(np.diff([*edges, length]).tolist())


def extended(array: Any, margin: int, *, around: bool = False) -> Any:
    """Give the blocks of a dask array (H, W, ...) the pixels around them; beyond the image none, or its other side.

    Along an axis with one block nothing is added.
    """
    overlap = optional_import("dask.array.overlap", "to work on images that dask holds").overlap
    depth = {axis: margin if axis < 2 and array.numblocks[axis] > 1 else 0 for axis in range(array.ndim)}
    boundary = {axis: "periodic" if around and depth[axis] else "none" for axis in depth}
    return overlap(array, depth, boundary, allow_rechunk=False) if any(depth.values()) else array


@dataclass(frozen=True)
class Blocks:
    """Where the blocks of an image lie.

    Attributes:
        sizes: Of the blocks.
    """

    sizes: Sizes

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the image."""
        return sum(self.sizes[0]), sum(self.sizes[1])

    def core(self, index: tuple[int, int]) -> tuple[slice, slice]:
        """Rows and columns of a block in the image."""
        starts = [sum(sizes[:i]) for sizes, i in zip(self.sizes, index, strict=True)]
        rows, columns = (slice(a, a + sizes[i]) for a, sizes, i in zip(starts, self.sizes, index, strict=True))
        return rows, columns

    def near(self, index: tuple[int, int], margin: int) -> tuple[slice, slice]:
        """Rows and columns of a block with its margin."""
        rows, columns = (
            slice(max(part.start - margin, 0), min(part.stop + margin, side))
            for part, side in zip(self.core(index), self.shape, strict=True)
        )
        return rows, columns

    def each(
        self,
        function: Callable[..., NDArray[Any]],
        arrays: Sequence[Indexed],
        dtype: Any,
        bands: int = 0,
        **shared: Any,
    ) -> Any:
        """Call a function for every block, when its result is asked for.

        Args:
            function: Gets the index of the block, the blocks of the arrays and what is shared; a function of a module.
            arrays: Dask arrays with as many blocks, and the letters of their axes, of which y and x are rows and
                columns.
            dtype: Of the result.
            bands: Of the result; 0 for one without that axis.
            **shared: What goes to each worker once.

        Returns:
            Dask array (H, W) or (H, W, bands).
        """
        da = optional_import("dask.array", "to work on images that dask holds")
        delayed = optional_import("dask", "to work on images that dask holds").delayed
        numbers = [(da.arange(len(sizes), chunks=1), axis) for sizes, axis in zip(self.sizes, "yx", strict=True)]
        flat = [part for pair in (*numbers, *arrays) for part in pair]
        axes: dict[str, Any] = {"new_axes": {"k": bands}} if bands else {}
        return da.blockwise(
            _call, "yxk" if bands else "yx", *flat, function=function, dtype=dtype, concatenate=True,
            align_arrays=False, adjust_chunks=dict(zip("yx", self.sizes, strict=True)),
            meta=np.empty((0,) * (3 if bands else 2), dtype), **axes,
            **{name: delayed(value, traverse=False) for name, value in shared.items()},
        )  # fmt: skip


def _call(
    row: NDArray[Any], column: NDArray[Any], *blocks: NDArray[Any], function: Callable[..., NDArray[Any]], **shared: Any
) -> NDArray[Any]:
    return function((int(row[0]), int(column[0])), *blocks, **shared)


@dataclass(frozen=True)
class Tags:
    """What a DataArray says of its invalid pixels, to be said of its blocks.

    Attributes:
        attrs: Attributes.
        encoding: How it is stored.
        masked: Whether it has a mask.
    """

    attrs: dict[str, Any]
    encoding: dict[str, Any]
    masked: bool

    @classmethod
    def of(cls, array: Array) -> Tags:
        """Read them off an image."""
        if not is_dataarray(array):
            return cls({}, {}, False)
        attrs = {key: value for key, value in array.attrs.items() if key in FILLS}
        encoding = {key: value for key, value in array.encoding.items() if key in (*FILLS, "dtype")}
        return cls(attrs, encoding, VALID in array.coords)

    def on(self, block: NDArray[Any], mask: NDArray[np.bool_] | None) -> Any:
        """Return a block (h, w, B) as a DataArray that says the same."""
        xarray = optional_import("xarray", "to work on images that dask holds")
        coords = {} if mask is None else {VALID: (("y", "x"), mask)}
        array = xarray.DataArray(block, dims=("y", "x", "band"), coords=coords, attrs=self.attrs)
        array.encoding.update(self.encoding)
        return array


def with_mask(array: Array, letter: str, sizes: Sizes, margin: int, *, around: bool = False) -> list[Indexed]:
    """Return an image (H, W, C) in blocks with their margin, and its mask where it has one.

    Args:
        array: The image.
        letter: Of its bands.
        sizes: Of the blocks.
        margin: Pixels around them.
        around: Whether the pixels beyond the image are those of its other side.
    """
    found: list[Indexed] = [(extended(dask_array(array, sizes), margin, around=around), f"yx{letter}")]
    if is_dataarray(array) and VALID in array.coords:
        mask = array.coords[VALID].transpose("y", "x").astype(bool)
        found.append((extended(dask_array(mask, sizes), margin, around=around), "yx"))
    return found


def tagged(blocks: Sequence[NDArray[Any]], tags: Sequence[Tags]) -> list[Any]:
    """Put the blocks of `with_mask` of some images together again: a DataArray for each."""
    rest = iter(blocks)
    return [tag.on(next(rest), next(rest) if tag.masked else None) for tag in tags]
