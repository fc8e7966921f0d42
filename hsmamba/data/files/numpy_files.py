"""numpy's files: `.npy` as a memory map, `.npz` by the headers of its members."""

from __future__ import annotations

import io
import math
import zipfile
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hsmamba.data.files.content import Content, Variable, is_real
from hsmamba.data.files.guard import RATIO, check_kind, check_size
from hsmamba.errors import SceneError

_HEADER_BYTES = 2**16 + 16  # numpy's own limit of what it trusts, with the magic and the length before it
_Header: TypeAlias = "tuple[tuple[int, ...], bool, np.dtype[Any], int]"  # shape, whether Fortran's order, dtype, length


def read_npy(path: Path, masked: bool) -> Content:
    """Map a `.npy`; nothing in an array file says "no data", so `masked` changes nothing here and below."""
    check_kind(path, "a numpy array")
    with path.open("rb") as file:
        shape, fortran, dtype, offset = _header(path, file)
    if not is_real(str(dtype)):
        raise SceneError(f"{str(path)!r} has the dtype {dtype}; expected real numbers: {_advice(dtype)}")
    check_size(path, shape, dtype.itemsize, ratio=1, stored=path.stat().st_size - offset)
    array = np.memmap(path, dtype, "r", offset, shape, "F" if fortran else "C")
    return Content({"": Variable(array.shape, str(array.dtype), lambda: array)})


def read_npz(path: Path, masked: bool) -> Content:
    """Look into the headers of a `.npz`."""
    check_kind(path, "a ZIP archive")
    variables = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.filename.endswith(".npy"):
                with archive.open(member) as file:
                    header = _header(path, file)
                name = member.filename.removesuffix(".npy")
                variables[name] = Variable(header[0], str(header[2]), partial(_read_member, path, member, header))
    return Content(variables)


def _read_member(path: Path, member: zipfile.ZipInfo, header: _Header) -> npt.NDArray[Any]:
    """Read an array of an archive, once its size is what its header and the archive's say."""
    shape, fortran, dtype, length = header
    if not is_real(str(dtype)):
        raise SceneError(
            f"{member.filename!r} in {str(path)!r} has the dtype {dtype}; expected real numbers: {_advice(dtype)}"
        )
    check_size(path, shape, dtype.itemsize, ratio=1, stored=member.file_size - length)
    check_size(path, shape, dtype.itemsize, ratio=RATIO, stored=min(member.compress_size, path.stat().st_size))
    data = bytearray(math.prod(shape) * dtype.itemsize)
    with zipfile.ZipFile(path) as archive, archive.open(member) as file:
        file.read(length)  # the header as it was checked above
        if file.readinto(data) != len(data):  # type: ignore[attr-defined]
            raise SceneError(
                f"{member.filename!r} in {str(path)!r} ends early; it is truncated, fetch or write it again"
            )
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def _header(path: Path, file: IO[bytes]) -> _Header:
    """Read a header out of the first bytes, so that a false length of it costs nothing."""
    start = io.BytesIO(file.read(_HEADER_BYTES))
    version = np.lib.format.read_magic(start)
    if version not in ((1, 0), (2, 0)):
        raise SceneError(f"{str(path)!r} has an array of numpy's format {version}; expected 1.0 or 2.0: save it again")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(start)
    return tuple(int(size) for size in shape), fortran, dtype, start.tell()


def _advice(dtype: np.dtype[Any]) -> str:
    if dtype.hasobject:
        return "Python objects are not read, since they could run a program; save an array of numbers"
    return "save an array of numbers"
