"""HDF5 files of products: arrays that lie in the file itself, and attributes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from hsmamba._optional import optional_import
from hsmamba.errors import SceneError


def open_hdf5(path: Any) -> Any:
    """Open a file for reading; SceneError where it is none."""
    h5py = optional_import("h5py", "to read HDF5 and netCDF products")
    if not path.is_file():
        raise SceneError(f"there is no file {str(path)!r}; check the path")
    if not h5py.is_hdf5(path):
        raise SceneError(f"{str(path)!r} is no HDF5 file; it is truncated, or another format: fetch the product again")
    return h5py.File(path, "r")


def item_at(file: Any, where: str) -> Any:
    """Return what lies at a path of the file, or None; SceneError where a part of it is a link to something else."""
    h5py = optional_import("h5py", "to read HDF5 and netCDF products")
    item = file
    for part in where.split("/"):
        link = item.get(part, getlink=True) if isinstance(item, h5py.Group) else None
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            raise SceneError(
                f"{file.filename!r} has a link in place of {where!r}, which is not followed; fetch it again"
            )
        item = item[part]
    return item


def dataset(file: Any, where: str, ndim: int) -> Any:
    """Return a numeric array of the file by its path within, unread.

    Raises:
        SceneError: There is none of `ndim` dimensions, or a part of the path is a link, or its numbers lie in other
            files: no product is made so, and any file of the machine could be read.
    """
    h5py = optional_import("h5py", "to read HDF5 and netCDF products")
    item = item_at(file, where)
    if item is None:
        raise SceneError(f"{file.filename!r} has no array {where!r}; expected the product as delivered: fetch it again")
    if not isinstance(item, h5py.Dataset) or item.dtype.kind not in "iuf" or item.ndim != ndim:
        what = f"{item.dtype} {item.shape}" if isinstance(item, h5py.Dataset) else "a group"
        raise SceneError(f"{file.filename!r} has {what} at {where!r}; expected numbers in {ndim} dimensions")
    if item.is_virtual or item.external:
        raise SceneError(
            f"{file.filename!r} keeps the numbers of {where!r} in other files, which are not read; fetch it again"
        )
    return item


def attribute(file: Any, name: str) -> npt.NDArray[Any]:
    """Return an attribute of the file as an array, or raise SceneError where it has none of this name."""
    if name not in file.attrs:
        raise SceneError(
            f"{file.filename!r} has no attribute {name!r}; expected the product as delivered: fetch it again"
        )
    return np.asarray(file.attrs[name])


def number(file: Any, name: str) -> float:
    """Return a finite number among the attributes of the file, or raise SceneError."""
    value = attribute(file, name)
    if value.size == 1 and value.dtype.kind in "iuf" and math.isfinite(float(value.item())):
        return float(value.item())
    raise SceneError(
        f"{file.filename!r} has the attribute {name!r} = {value!r}; expected one finite number: fetch it again"
    )
