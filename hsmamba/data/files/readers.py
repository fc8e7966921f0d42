"""Readers of arrays, numpy's and MATLAB's, and the table of all readers by a file's extension."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.io

from hsmamba._optional import optional_import
from hsmamba.data.files.content import Content, Variable, reading
from hsmamba.data.files.envi import read_envi
from hsmamba.data.files.geotiff import read_geotiff
from hsmamba.data.files.guard import check_file
from hsmamba.errors import SceneError


def read_npy(path: Path, masked: bool) -> Content:
    """Map a `.npy`; nothing in an array file says "no data", so `masked` changes nothing here and below."""
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    return Content({"": Variable(array.shape, str(array.dtype), lambda: array)})


def read_npz(path: Path, masked: bool) -> Content:
    """Look into the headers of a `.npz`."""

    def read(name: str) -> npt.NDArray[Any]:
        with np.load(path, allow_pickle=False) as file:
            array: npt.NDArray[Any] = file[name]
        return array

    headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    variables = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            with archive.open(member) as file:
                shape, _, dtype = headers[np.lib.format.read_magic(file)](file)
            name = member.removesuffix(".npy")
            if dtype.kind in "biuf":
                variables[name] = Variable(shape, str(dtype), partial(read, name))
    return Content(variables)


def read_mat(path: Path, masked: bool) -> Content:
    """Look into a `.mat`: v5 by scipy, v7.3, which is HDF5, by h5py."""
    try:
        listed = scipy.io.whosmat(str(path))
    except NotImplementedError:  # scipy's way of saying v7.3
        return _read_hdf5(path)

    def read(name: str) -> npt.NDArray[Any]:
        array: npt.NDArray[Any] = scipy.io.loadmat(str(path), variable_names=[name])[name]
        return array

    classes = {"double": "float64", "single": "float32", "logical": "bool"}
    variables = {
        name: Variable(tuple(shape), classes.get(kind, kind), partial(read, name))
        for name, shape, kind in listed
        if kind in classes or kind.lstrip("u").startswith("int")
    }
    return Content(variables)


def _read_hdf5(path: Path) -> Content:
    h5py = optional_import("h5py", "to read MATLAB v7.3 files")

    def read(name: str) -> npt.NDArray[Any]:
        with h5py.File(path, "r") as file:
            array: npt.NDArray[Any] = file[name][()].T  # MATLAB writes its column-major arrays with the axes reversed
        return array

    variables = {}
    with h5py.File(path, "r") as file:
        for name, item in file.items():
            text = item.attrs.get("MATLAB_class", b"") in (b"char", "char", b"cell", "cell")
            if isinstance(item, h5py.Dataset) and item.dtype.kind in "biuf" and not text:
                shape = tuple(int(size) for size in item.shape[::-1])
                variables[name] = Variable(shape, str(item.dtype), partial(read, name))
    return Content(variables)


READERS: dict[str, Callable[[Path, bool], Content]] = {
    ".mat": read_mat,
    ".npy": read_npy,
    ".npz": read_npz,
    ".hdr": read_envi,
    ".tif": read_geotiff,
    ".tiff": read_geotiff,
}


def open_file(path: Path, *, masked: bool) -> Content:
    """Look into a file of one of the `READERS`.

    `masked` gives NaN where a raster has its "no data" value (the array becomes floating point then). SceneError where
    there is no such file, or it is damaged; MissingExtraError where its format needs a package that is not installed.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        header = next((h for h in (path.with_suffix(".hdr"), Path(f"{path}.hdr")) if h.is_file()), None)
        hint = f"give the ENVI header {str(header)!r}" if header else "convert the file to one of them"
        raise SceneError(
            f"{str(path)!r} has the extension {path.suffix!r}; expected one of {', '.join(READERS)}: {hint}"
        )
    check_file(path)
    with reading(path):
        return reader(path, masked)
