"""Landsat Collection 2, level 2 and level 1: a folder with `*_MTL.txt` and GeoTIFF files, one a band.

Layout after "Landsat 8-9 Collection 2 (C2) Level 2 Science Product Guide" (LSDS-1619, USGS), the "Data Format Control
Books" of level 1 (LSDS-1822 for Landsat 8-9, LSDS-1414 for Landsat 4-7) and "Landsat 8 Data Users Handbook"
(LSDS-1574). The metadata come as `_MTL.txt` (ODL), `_MTL.json` and `_MTL.xml` with the same groups:

- `PRODUCT_CONTENTS`: `LANDSAT_PRODUCT_ID`, `COLLECTION_NUMBER`, `PROCESSING_LEVEL` (L2SP, L2SR; L1TP, L1GT, L1GS),
  `FILE_NAME_BAND_n`, `FILE_NAME_QUALITY_L1_PIXEL`, `FILE_NAME_QUALITY_L1_RADIOMETRIC_SATURATION`;
- `IMAGE_ATTRIBUTES`: `SENSOR_ID`, `SUN_ELEVATION` in degrees;
- `LEVEL2_SURFACE_REFLECTANCE_PARAMETERS`, for level 1 `LEVEL1_RADIOMETRIC_RESCALING`: `REFLECTANCE_MULT_BAND_n` and
  `REFLECTANCE_ADD_BAND_n`. Level 1 gives reflectance without the sun's height: it is divided by its sine.

0 is fill in every band. Of QA_PIXEL bit 0 is fill; of QA_RADSAT bit n - 1 is saturation of band n, and bit 9, of the
sensors TM and ETM+, a dropped pixel.

Centres and widths of OLI after Barsi et al., Remote Sensing 6(10), 2014, which hold for its copy on Landsat 9 within a
nanometre; of TM and ETM+ after the edges of their bands in USGS's "What are the band designations for the Landsat
satellites?".
"""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hsmamba.data.files.content import Content
from hsmamba.data.products.cubes import Bands, product_content
from hsmamba.data.products.layers import Layer, common_grid, read_layers
from hsmamba.data.products.metadata import as_number, find_main, parse_xml, product_file, read_text_bytes
from hsmamba.data.products.rasters import Raster, warn_of_missing_mask
from hsmamba.errors import SceneError

find = partial(find_main, patterns=(r"L[COTEM].*_MTL\.txt", r"L[COTEM].*_MTL\.json", r"L[COTEM].*_MTL\.xml"))
_OLI = {1: (442.96, 15.98), 2: (482.04, 60.04), 3: (561.41, 57.33), 4: (654.59, 37.47), 5: (864.67, 28.25)}
_OLI |= {9: (1373.43, 20.39), 6: (1608.86, 84.72), 7: (2200.73, 186.66)}
_TM = {1: (485.0, 70.0), 2: (560.0, 80.0), 3: (660.0, 60.0), 4: (830.0, 140.0), 5: (1650.0, 200.0), 7: (2215.0, 270.0)}
_ETM = _TM | {4: (835.0, 130.0), 7: (2220.0, 260.0)}
# Bands of 30 m by ascending wavelength, with centre and width in nm.
_SENSORS = {"OLI_TIRS": _OLI, "OLI": _OLI, "ETM": _ETM, "TM": _TM}
_CIRRUS = 9  # of OLI; level 2 has it not
_DROPPED = 1 << 9

Groups = dict[str, dict[str, str]]


class _Masks(NamedTuple):
    pixel: Raster | None
    saturation: Raster | None
    dropped: int  # bits of `saturation` that say that a pixel was lost in all bands


def read(path: Path) -> Content:
    """Open a product by its MTL file.

    The cube has the reflective bands of 30 m: no panchromatic and no thermal ones, in ascending wavelength. NaN is
    fill, and what is saturated in a band or dropped in all; clouds and shadows stay. Scale and offset make surface
    reflectance of level 2, and of level 1 reflectance at the top of the atmosphere, under the sun's height.

    Raises:
        SceneError: Damaged or incomplete, or another collection or sensor.
    """
    groups = _groups(path)
    level2 = _is_level2(groups, path)
    sensor = _value(groups, "IMAGE_ATTRIBUTES", "SENSOR_ID", path)
    if sensor not in _SENSORS:
        raise SceneError(f"{str(path)!r} is of the sensor {sensor!r}; expected one of {', '.join(_SENSORS)}")
    table = {band: of for band, of in _SENSORS[sensor].items() if not (level2 and band == _CIRRUS)}
    layers = [Layer(Raster(_file(groups, f"FILE_NAME_BAND_{band}", path))) for band in table]
    shape, place = common_grid(layers)
    masks = _masks(groups, path, shape, 0 if sensor.startswith("OLI") else _DROPPED)
    bits = np.array([1 << (band - 1) for band in table])

    def cube(rows: slice, columns: slice, which: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        values = read_layers(layers, rows, columns, which)
        values[values == 0] = np.nan
        values[_invalid(masks, bits[which], rows, columns)] = np.nan
        return values

    name = _value(groups, "PRODUCT_CONTENTS", "LANDSAT_PRODUCT_ID", path)
    return product_content(name, shape, place, _bands(groups, table, level2, path), cube)


def _groups(path: Path) -> Groups:
    if path.suffix.lower() == ".xml":
        root = parse_xml(path)
        return {group.tag: {item.tag: (item.text or "").strip() for item in group} for group in root}
    text = read_text_bytes(path).decode("utf-8", errors="replace")
    return _json_groups(text, path) if path.suffix.lower() == ".json" else _odl_groups(text)


def _json_groups(text: str, path: Path) -> Groups:
    try:
        groups: Any = json.loads(text)["LANDSAT_METADATA_FILE"]
        return {name: {key: str(value) for key, value in group.items()} for name, group in groups.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SceneError(
            f"{str(path)!r} is no JSON with the groups of LANDSAT_METADATA_FILE ({error}); fetch the product again"
        ) from error


def _odl_groups(text: str) -> Groups:
    """Read lines `GROUP = NAME`, `KEY = value` and `END_GROUP = NAME`; a line of no such form says nothing."""
    groups: Groups = {}
    name = ""
    for line in text.splitlines():
        key, _, value = (part.strip() for part in line.partition("="))
        if key == "GROUP":
            name = value
        elif key != "END_GROUP" and value:
            groups.setdefault(name, {})[key] = value.strip('"')
    return groups


def _value(groups: Groups, group: str, key: str, path: Path) -> str:
    value = groups.get(group, {}).get(key)
    if not value:
        raise SceneError(f"{str(path)!r} has no {key} in its group {group}; expected it as delivered: fetch it again")
    return value


def _is_level2(groups: Groups, path: Path) -> bool:
    collection = _value(groups, "PRODUCT_CONTENTS", "COLLECTION_NUMBER", path)
    level = _value(groups, "PRODUCT_CONTENTS", "PROCESSING_LEVEL", path)
    if collection.lstrip("0") != "2" or level[:2] not in ("L1", "L2"):
        raise SceneError(
            f"{str(path)!r} is of collection {collection} and level {level}; expected collection 2, level 1 or 2: "
            "fetch the product of that collection"
        )
    return level.startswith("L2")


def _file(groups: Groups, key: str, path: Path) -> Path:
    return product_file(path.parent, _value(groups, "PRODUCT_CONTENTS", key, path))


def _masks(groups: Groups, path: Path, shape: tuple[int, int], dropped: int) -> _Masks:
    found: list[Raster | None] = []
    for kind in ("PIXEL", "RADIOMETRIC_SATURATION"):
        key = f"FILE_NAME_QUALITY_L1_{kind}"
        name = groups["PRODUCT_CONTENTS"].get(key, "")
        if not name or "/" in name or not (path.parent / name).exists():
            warn_of_missing_mask(path.parent.name, name or key)
            found.append(None)
            continue
        mask = Raster(_file(groups, key, path))
        mask.check(shape, 1, "the bands")
        found.append(mask)
    return _Masks(found[0], found[1], dropped)


def _invalid(masks: _Masks, bits: npt.NDArray[np.int64], rows: slice, columns: slice) -> npt.NDArray[np.bool_]:
    """Mark (h, w, b) what is fill, saturated in a band or dropped."""
    size = (rows.stop - rows.start, columns.stop - columns.start)
    pixel = np.zeros(size, np.int64) if masks.pixel is None else masks.pixel.read(rows, columns)
    saturated = np.zeros(size, np.int64) if masks.saturation is None else masks.saturation.read(rows, columns)
    return np.asarray((pixel & 1 != 0)[..., None] | (saturated[..., None] & (bits | masks.dropped) != 0))


def _bands(groups: Groups, table: dict[int, tuple[float, float]], level2: bool, path: Path) -> Bands:
    group = "LEVEL2_SURFACE_REFLECTANCE_PARAMETERS" if level2 else "LEVEL1_RADIOMETRIC_RESCALING"

    def numbers(term: str) -> npt.NDArray[np.float64]:
        keys = [f"REFLECTANCE_{term}_BAND_{band}" for band in table]
        return np.array([as_number(_value(groups, group, key, path), key, path) for key in keys])

    sun = 1.0 if level2 else _sine_of_sun(groups, path)
    return Bands(
        names=[f"{'SR_' if level2 else ''}B{band}" for band in table],
        wavelengths=np.array([centre for centre, _ in table.values()]),
        fwhm=np.array([width for _, width in table.values()]),
        scale=numbers("MULT") / sun,
        offset=numbers("ADD") / sun,
    )


def _sine_of_sun(groups: Groups, path: Path) -> float:
    key = "SUN_ELEVATION"
    elevation = as_number(_value(groups, "IMAGE_ATTRIBUTES", key, path), key, path)
    if not 0 < elevation <= 90:
        raise SceneError(
            f"{str(path)!r} has {key} {elevation}; expected degrees above the horizon: take a scene by day"
        )
    return math.sin(math.radians(elevation))
