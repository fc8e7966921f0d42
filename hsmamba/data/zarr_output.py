"""Writing Zarr groups that xarray opens, rows by rows, whole or not there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hsmamba._files import atomic_path
from hsmamba._optional import optional_import
from hsmamba.data.image import VALID, Array, is_dataarray

WriteParts: TypeAlias = "Callable[..., None]"  # gets the first row, and finished rows of every array

_ROWS, _COLUMNS = 256, 512  # of a chunk
_CHUNK_BYTES = 2**25  # of the chunks of one array side by side


class Plan(NamedTuple):
    """An array to be written: its shape, rows first, its dtype, the value of what has no data, and attributes."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fill: float | None = None
    attributes: Mapping[str, Any] = {}


@contextmanager
def zarr_rows(
    path: Path, plans: Mapping[str, Plan], *, grid: Array, bands: Array | None = None
) -> Iterator[WriteParts]:
    """Write arrays on one grid into a Zarr group (format 2, with consolidated metadata), row by row.

    Args:
        path: The folder, which must not be there.
        plans: What is to be written, by name: (H, W) or (H, W, C).
        grid: An image on the same grid, whose coordinates and CRS the group gets if it is a DataArray.
        bands: An image of the same bands, whose coordinates of them the group gets.

    Yields:
        A function of the first row and finished rows (n, W) or (n, W, C) of every array, from top to bottom.

    Raises:
        FileExistsError: There is something at the path.
        MissingExtraError: zarr is not installed.
        OSError: The folder cannot be written, or the disk is full.
    """
    zarr = optional_import("zarr", "to write Zarr groups")
    if path.exists():
        raise FileExistsError(
            f"{str(path)!r} is there, and no Zarr group replaces another; move it away, or name another"
        )
    with atomic_path(path) as temporary:
        group = zarr.open_group(str(temporary), mode="w", **_format(zarr))
        place = _coordinates(group, grid, bands)
        held = [_Held(_made(group, name, plan, place), plan) for name, plan in plans.items()]

        def write(top: int, *parts: NDArray[Any]) -> None:
            for one, rows in zip(held, parts, strict=True):
                one.write(top, rows)

        yield write
        for one in held:
            one.flush()
        zarr.consolidate_metadata(str(temporary))


class _Held:
    """Rows of an array that do not fill its chunks yet."""

    def __init__(self, array: Any, plan: Plan) -> None:
        self.array, self.step = array, _chunks(plan)[0]
        self.rows = np.empty((self.step, *plan.shape[1:]), plan.dtype)
        self.top = self.count = 0

    def write(self, top: int, rows: NDArray[Any]) -> None:
        while len(rows):
            part = rows[: self.step - self.count]
            self.rows[self.count : self.count + len(part)] = part
            self.count += len(part)
            rows = rows[len(part) :]
            if self.count == self.step:
                self.flush()

    def flush(self) -> None:
        if self.count:
            self.array[self.top : self.top + self.count] = self.rows[: self.count]
        self.top, self.count = self.top + self.count, 0


def _format(zarr: Any) -> dict[str, int]:
    """Ask for format 2, which all readers know; older packages have no other."""
    return {"zarr_format": 2} if int(zarr.__version__.split(".")[0]) > 2 else {}


def _chunks(plan: Plan) -> tuple[int, ...]:
    row = plan.dtype.itemsize * int(np.prod(plan.shape[1:], dtype=np.int64))
    return max(1, min(_ROWS, plan.shape[0], _CHUNK_BYTES // row)), min(_COLUMNS, plan.shape[1]), *plan.shape[2:]


def _made(group: Any, name: str, plan: Plan, place: Mapping[str, str]) -> Any:
    make = getattr(group, "create_array", None) or group.create_dataset
    array = make(name, shape=plan.shape, chunks=_chunks(plan), dtype=plan.dtype, fill_value=plan.fill)
    array.attrs.update({"_ARRAY_DIMENSIONS": ["y", "x", "band"][: len(plan.shape)], **plan.attributes, **place})
    return array


def _coordinates(group: Any, grid: Array, bands: Array | None) -> dict[str, str]:
    """Write the coordinates of the rows, columns and bands; return the attributes by which arrays name them."""
    found: dict[str, Any] = {}
    if is_dataarray(grid):
        found |= {str(key): one for key, one in grid.coords.items() if set(one.dims) <= {"y", "x"} and key != VALID}
    if bands is not None and is_dataarray(bands):
        found |= {str(key): one for key, one in bands.coords.items() if set(one.dims) == {"band"}}
    make = getattr(group, "create_array", None) or group.create_dataset
    place, beside = {}, []
    for name, one in found.items():
        values = np.asarray(one.values)
        if values.dtype.kind not in "biuf":
            continue
        array = make(name, shape=values.shape, chunks=values.shape, dtype=values.dtype, fill_value=None)
        array[...] = values
        array.attrs.update({"_ARRAY_DIMENSIONS": list(map(str, one.dims)), **_plain(one.attrs)})
        if "crs_wkt" in one.attrs or "spatial_ref" in one.attrs:
            place["grid_mapping"] = name
        if one.dims != (name,):  # what is no index is found by its name alone, as CF has it
            beside.append(name)
    return place | ({"coordinates": " ".join(beside)} if beside else {})


def _plain(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    """Attributes that JSON can hold."""
    kept = {str(key): value.item() if isinstance(value, np.generic) else value for key, value in attrs.items()}
    return {key: value for key, value in kept.items() if isinstance(value, (str, int, float, list, tuple))}
