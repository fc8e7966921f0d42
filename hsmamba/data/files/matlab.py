"""MATLAB files, v5 by scipy and v7.3, which is HDF5, by h5py."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy.typing as npt
import scipy.io

from hsmamba._optional import optional_import
from hsmamba.data.files.content import Content, Variable


def read_mat(path: Path, masked: bool) -> Content:
    """Look into a `.mat`; nothing in it says "no data", so `masked` changes nothing."""
    try:
        listed = scipy.io.whosmat(str(path))
    except NotImplementedError:  # scipy's way of saying v7.3, which is HDF5
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
