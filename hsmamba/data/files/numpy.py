"""numpy files: `.npy` as a memory map, `.npz` array by array."""

from __future__ import annotations

import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hsmamba.data.files.content import Content, Variable


def read_npy(path: Path, masked: bool) -> Content:
    """Map a `.npy`; nothing in it says "no data", so `masked` changes nothing."""
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    return Content({"": Variable(array.shape, str(array.dtype), lambda: array)})


def read_npz(path: Path, masked: bool) -> Content:
    """Look into the headers of a `.npz`; nothing in it says "no data", so `masked` changes nothing."""

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
