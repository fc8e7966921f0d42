"""ENVI images as memory maps, by the package spectral."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hsmamba._optional import optional_import
from hsmamba.data.files.content import Content, Variable, nanometres
from hsmamba.data.image import iter_strips
from hsmamba.errors import SceneError


def read_envi(path: Path, masked: bool) -> Content:
    """Map an image by its header `.hdr`; `masked` gives NaN where its "data ignore value" stands."""
    envi = optional_import("spectral.io.envi", "to read ENVI files")
    image = envi.open(str(path.resolve()))
    header = image.metadata
    if not hasattr(image, "open_memmap"):
        raise SceneError(f"{str(path)!r} is a spectral library, no image; give the header of an image")
    cube = image.open_memmap(interleave="bip")  # a view (H, W, B) whatever the interleave on disk
    nodata = float(header["data ignore value"]) if "data ignore value" in header else None

    def read() -> npt.NDArray[Any]:
        return _nan_for(cube, nodata) if masked and nodata is not None else cube

    unit = str(header.get("wavelength units", ""))
    return Content(
        {"": Variable(cube.shape, str(cube.dtype), read)},
        nanometres([float(value) for value in header["wavelength"]], unit) if "wavelength" in header else None,
        np.array([float(flag) == 0 for flag in header["bbl"]]) if "bbl" in header else None,
        tuple(header.get("class names", ()))[1:],  # the first is that of 0, unclassified
        nodata,
    )


def _nan_for(cube: npt.NDArray[Any], nodata: float) -> npt.NDArray[Any]:
    """Return the cube itself where `nodata` does not occur, else a floating point copy with NaN in its place."""
    if not any((strip == nodata).any() for _, strip in iter_strips(cube)):
        return cube
    result = np.array(cube, dtype=np.result_type(cube.dtype, np.float32))
    result[result == nodata] = np.nan
    return result
