"""MATLAB's files: v5 and older by scipy, v7.3, which is HDF5, by h5py."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import scipy.io

from hsmamba._optional import optional_import
from hsmamba.data.files.content import Content, Variable, is_real
from hsmamba.data.files.guard import RATIO, check_kind, check_size
from hsmamba.errors import SceneError

_CLASSES = {"double": "float64", "single": "float32", "logical": "bool"}
# Of version 5, from "MAT-File Format" of MathWorks: data types of elements, classes of arrays that hold numbers.
_MATRIX, _COMPRESSED, _NUMERIC, _OPAQUE = 14, 15, range(6, 16), 17
_COMPLEX = 0x08  # of an array's flags
_HEAD = 1024  # bytes of an array that hold its flags, sizes, name and the tag of its numbers
_TEXT = {b"char": "char", b"cell": "cell", b"string": "string", b"function_handle": "function_handle"}  # of v7.3


def read_mat(path: Path, masked: bool) -> Content:
    """Look into a `.mat`; nothing in it says "no data", so `masked` changes nothing."""
    check_kind(path, "a MATLAB file", "no file of a known kind")  # version 4 starts with no word
    with path.open("rb") as file:
        start = file.read(128)
        if start[124:126] in (b"\0\2", b"\2\0") and start[126:] in (b"IM", b"MI"):
            return _read_hdf5(path)
        arrays = list(_arrays(path, file, start)) if start[126:] in (b"IM", b"MI") else []
    special = {array.name: "complex" for array in arrays if array.is_complex}
    variables = {}
    for name, shape, kind in scipy.io.whosmat(str(path)):
        dtype = special.get(name, _CLASSES.get(kind, kind))
        variables[name] = Variable(tuple(shape), dtype, partial(_read_v5, path, name, tuple(shape), dtype))
    return Content(variables)


def _read_v5(path: Path, name: str, shape: tuple[int, ...], dtype: str) -> npt.NDArray[Any]:
    if not is_real(dtype):
        raise SceneError(f"{name!r} in {str(path)!r} is of the class {dtype}; expected real numbers")
    check_size(path, shape, np.dtype(dtype).itemsize, ratio=RATIO)
    array: npt.NDArray[Any] = scipy.io.loadmat(str(path), variable_names=[name])[name]
    return array


@dataclass(frozen=True)
class _MatArray:
    """What the head of an array of version 5 says."""

    name: str
    is_complex: bool


def _arrays(path: Path, file: IO[bytes], start: bytes) -> Iterator[_MatArray]:
    """Read the heads of the arrays, and hold their sizes against the file's before scipy believes them.

    Raises:
        SceneError: An element is longer than the file, or than what it could be packed from.
    """
    order = "<" if start[126:] == b"IM" else ">"
    size = path.stat().st_size
    while file.tell() < size:
        tag = file.read(8)
        kind, length = struct.unpack(order + "II", tag) if len(tag) == 8 else (0, size)
        end = file.tell() + length
        if end > size or not length:
            raise SceneError(
                f"{str(path)!r} has an element of {length} bytes, {end - size} more than the file: truncated"
            )
        head = file.read(min(length, 2 * _HEAD))
        if kind == _COMPRESSED:
            head = zlib.decompressobj().decompress(head, _HEAD)[8:]
        if kind in (_MATRIX, _COMPRESSED):
            yield _head(path, order, head, length, RATIO if kind == _COMPRESSED else 1)
        file.seek(end)


def _head(path: Path, order: str, head: bytes, stored: int, ratio: int) -> _MatArray:
    flags, rest = _element(path, order, head)
    word = struct.unpack(order + "I", flags[:4])[0]
    if word & 0xFF == _OPAQUE:
        return _MatArray("", False)
    _, rest = _element(path, order, rest)
    name, rest = _element(path, order, rest)
    if word & 0xFF in _NUMERIC and len(rest) >= 8:
        kind, length = struct.unpack(order + "II", rest[:8])
        check_size(path, (1 if kind >> 16 else max(length, 1),), 1, ratio=ratio, stored=stored)
    return _MatArray(name.decode("latin-1"), bool(word >> 8 & _COMPLEX))


def _element(path: Path, order: str, data: bytes) -> tuple[bytes, bytes]:
    """Split an element, which may have its length in the upper half of its first word, from what follows."""
    first, length = struct.unpack(order + "II", data[:8])
    if first >> 16:
        return data[4 : 4 + (first >> 16)], data[8:]
    if length > len(data) - 8:
        raise SceneError(f"{str(path)!r} has sizes or a name of {length} bytes; it is damaged: fetch or write it again")
    return data[8 : 8 + length], data[8 + -(-length // 8) * 8 :]


def _read_hdf5(path: Path) -> Content:
    h5py = optional_import("h5py", "to read MATLAB v7.3 files")
    variables = {}
    with h5py.File(path, "r") as file:
        for name in file:
            link = file.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                target = f"{getattr(link, 'filename', '')}:{link.path}".removeprefix(":")
                raise SceneError(
                    f"{name!r} in {str(path)!r} is a link to {target!r}; expected the data in the file itself"
                )
            item = file[name]
            if isinstance(item, h5py.Dataset) and item.shape is not None and "MATLAB_empty" not in item.attrs:
                shape = tuple(int(size) for size in item.shape[::-1])
                variables[name] = Variable(shape, _hdf5_dtype(item), partial(_read_dataset, path, name))
    return Content(variables)


def _hdf5_dtype(dataset: Any) -> str:
    """Name what a dataset holds; complex numbers are pairs."""
    kind = dataset.attrs.get("MATLAB_class", b"")
    kind = kind.encode() if isinstance(kind, str) else bytes(kind)
    names = dataset.dtype.names
    return _TEXT.get(kind) or ("complex" if names == ("real", "imag") else str(dataset.dtype))


def _read_dataset(path: Path, name: str) -> npt.NDArray[Any]:
    """Read a dataset, unless its data lie in other files or its sizes are false."""
    h5py = optional_import("h5py", "to read MATLAB v7.3 files")
    with h5py.File(path, "r") as file:
        dataset = file[name]
        if dataset.is_virtual or dataset.external:
            raise SceneError(
                f"the data of {name!r} in {str(path)!r} lie in other files; expected them in the file itself"
            )
        if not is_real(_hdf5_dtype(dataset)):
            raise SceneError(f"{name!r} in {str(path)!r} is of {_hdf5_dtype(dataset)}; expected real numbers")
        itemsize, stored = dataset.dtype.itemsize, min(dataset.id.get_storage_size(), path.stat().st_size)
        if not stored:
            raise SceneError(f"{name!r} in {str(path)!r} declares {dataset.shape} values, but none was ever written")
        for shape in (dataset.shape, dataset.chunks or dataset.shape):
            check_size(path, shape, itemsize, ratio=RATIO if dataset.chunks else 1, stored=stored)
        array: npt.NDArray[Any] = dataset[()].T  # MATLAB writes its column-major arrays with the axes reversed
    return array
