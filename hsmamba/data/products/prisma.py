"""PRISMA L2D: one HDF-EOS5 file `PRS_L2D_STD_*.he5` with a VNIR and a SWIR cube.

Layout after "PRISMA Products Specification Document", issue 2.3 (ASI, 2020), and what public readers of it agree on.
Below `HDFEOS/SWATHS/PRS_L2D_HCO/Data Fields`:

- `VNIR_Cube` and `SWIR_Cube`: uint16 (rows, bands, columns), bands in descending wavelength; 0 around the swath;
- `VNIR_PIXEL_L2_ERR_MATRIX` and `SWIR_PIXEL_L2_ERR_MATRIX`: of the same shape; 0 good, also around the swath, 1 invalid
  in level 1, 2 negative and 3 saturated after atmospheric correction.

Attributes of the file, for both detectors: `List_Cw_Vnir` and `List_Fwhm_Vnir` in nm and `List_Cw_Vnir_Flags`, 0 (and
a wavelength of 0) for bands that are never acquired; `L2ScaleVnirMin` and `L2ScaleVnirMax`, the reflectance of 0 and
65535; `Processing_Level`; `Epsg_Code`, and the easting and northing of the corners (`Product_ULcorner_easting` ...),
which are centres of the outermost pixels of 30 m.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hsmamba.data.files.content import Content, reading
from hsmamba.data.products.cubes import Bands, Place, product_content
from hsmamba.data.products.hdf5 import attribute, dataset, item_at, number, open_hdf5
from hsmamba.data.products.metadata import find_main
from hsmamba.errors import SceneError

find = partial(find_main, patterns=(r".*\.he5",))
_FIELDS = "HDFEOS/SWATHS/PRS_L2D_HCO/Data Fields"
_DETECTORS = ("Vnir", "Swir")
_PIXEL = 30.0  # metres
_NEGATIVE = 2  # of the error matrix


class _Detector(NamedTuple):
    """The bands of one cube that were acquired, in the order of the file."""

    name: str
    inside: npt.NDArray[np.int64]  # index of each in the cube
    wavelengths: npt.NDArray[np.float64]
    fwhm: npt.NDArray[np.float64]
    scale: float
    offset: float


def read(path: Path) -> Content:
    """Open a product by its file.

    The bands come out in ascending wavelength, so that those of the two detectors alternate where they overlap; bands
    that are never acquired are left out. NaN is what lies around the swath (0 without a flag), and single values that
    the error matrix calls invalid or saturated. Negative reflectance, which is stored as the smallest, stays.

    Raises:
        SceneError: Damaged, or another level.
    """
    with open_hdf5(path) as file:
        if item_at(file, f"{_FIELDS}/VNIR_Cube") is None:
            raise SceneError(
                f"{str(path)!r} holds no PRISMA L2D: it has no {_FIELDS}/VNIR_Cube; no other HDF-EOS5 product is read: "
                "fetch level L2D"
            )
        shape = _grid(file)
        detectors = [_detector(file, name) for name in _DETECTORS]
        place = _place(file, shape)
    source = np.repeat([0, 1], [detector.inside.size for detector in detectors])
    inside = np.concatenate([detector.inside for detector in detectors])
    order = np.argsort(np.concatenate([detector.wavelengths for detector in detectors]), kind="stable")
    cube = partial(_window, path, source[order], inside[order])
    return product_content(path.stem, shape, place, _bands(detectors, source, order), cube)


def _cube(file: Any, detector: str) -> Any:
    return dataset(file, f"{_FIELDS}/{detector.upper()}_Cube", 3)


def _grid(file: Any) -> tuple[int, int]:
    """Return rows and columns, after a look at whether all arrays fit each other."""
    vnir = _cube(file, "Vnir").shape
    for detector in _DETECTORS:
        found, errors = _cube(file, detector).shape, _errors(file, detector).shape
        if found != errors or found[::2] != vnir[::2]:
            raise SceneError(
                f"{file.filename!r} has a {detector} cube {found} (rows, bands, columns), its error matrix {errors} "
                f"and a Vnir cube {vnir}; expected one grid: fetch the product again"
            )
    return int(vnir[0]), int(vnir[2])


def _errors(file: Any, detector: str) -> Any:
    return dataset(file, f"{_FIELDS}/{detector.upper()}_PIXEL_L2_ERR_MATRIX", 3)


def _detector(file: Any, name: str) -> _Detector:
    wavelengths, fwhm, flags = (
        attribute(file, key).astype(np.float64).ravel()
        for key in (f"List_Cw_{name}", f"List_Fwhm_{name}", f"List_Cw_{name}_Flags")
    )
    bands = _cube(file, name).shape[1]
    if not wavelengths.size == fwhm.size == flags.size == bands or not np.isfinite([wavelengths, fwhm]).all():
        raise SceneError(
            f"{file.filename!r} has {wavelengths.size} wavelengths, {fwhm.size} widths and {flags.size} flags for the "
            f"{bands} bands of its {name} cube; expected a finite one a band: fetch the product again"
        )
    inside = np.flatnonzero((flags != 0) & (wavelengths > 0))
    low, high = (number(file, f"L2Scale{name}{end}") for end in ("Min", "Max"))
    return _Detector(name, inside, wavelengths[inside], fwhm[inside], (high - low) / 65535, low)


def _bands(detectors: list[_Detector], source: npt.NDArray[np.int64], order: npt.NDArray[np.int64]) -> Bands:
    names = [f"{detector.name.upper()} {index + 1}" for detector in detectors for index in detector.inside]
    return Bands(
        names=[names[i] for i in order],
        wavelengths=np.concatenate([detector.wavelengths for detector in detectors])[order],
        fwhm=np.concatenate([detector.fwhm for detector in detectors])[order],
        scale=np.array([detector.scale for detector in detectors])[source[order]],
        offset=np.array([detector.offset for detector in detectors])[source[order]],
    )


def _place(file: Any, shape: tuple[int, int]) -> Place:
    def span(low: str, high: str, axis: str) -> float:
        return number(file, f"Product_{high}corner_{axis}") - number(file, f"Product_{low}corner_{axis}")

    width, height = span("UL", "UR", "easting"), span("LL", "UL", "northing")
    expected = ((shape[1] - 1) * _PIXEL, (shape[0] - 1) * _PIXEL)
    if not np.allclose((width, height), expected, rtol=0, atol=_PIXEL / 4):
        raise SceneError(
            f"{file.filename!r} has corners {width} m and {height} m apart; expected {expected[0]} and {expected[1]} m "
            f"between the centres of {shape[1]} columns and {shape[0]} rows: fetch the product again"
        )
    left, top = number(file, "Product_ULcorner_easting"), number(file, "Product_ULcorner_northing")
    grid = (left - _PIXEL / 2, _PIXEL, 0.0, top + _PIXEL / 2, 0.0, -_PIXEL)
    return Place(f"EPSG:{int(number(file, 'Epsg_Code'))}", grid)


def _window(
    path: Path,
    source: npt.NDArray[np.int64],
    inside: npt.NDArray[np.int64],
    rows: slice,
    columns: slice,
    which: npt.NDArray[np.int64],
) -> npt.NDArray[np.float32]:
    """Read each detector's bands as one block of the file, then put them into the cube's order."""
    values = np.empty((rows.stop - rows.start, columns.stop - columns.start, which.size), dtype=np.float32)
    with reading(path), open_hdf5(path) as file:
        for position, detector in enumerate(_DETECTORS):
            here = np.flatnonzero(source[which] == position)
            if here.size:
                values[..., here] = _detector_window(file, detector, rows, columns, inside[which[here]])
    return values


def _detector_window(
    file: Any, detector: str, rows: slice, columns: slice, bands: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    first = int(bands.min())
    block = (rows, slice(first, int(bands.max()) + 1), columns)
    stored = _cube(file, detector)[block][:, bands - first].transpose(0, 2, 1)
    errors = _errors(file, detector)[block][:, bands - first].transpose(0, 2, 1)
    values: npt.NDArray[np.float32] = stored.astype(np.float32)
    values[(errors != 0) & (errors != _NEGATIVE) | (errors == 0) & (stored == 0)] = np.nan
    return values
