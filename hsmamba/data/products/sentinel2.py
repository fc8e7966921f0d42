"""Sentinel-2 L2A: a `.SAFE` folder with MTD_MSIL2A.xml and JPEG 2000 files, one a band and resolution.

Layout after the "Sentinel-2 Products Specification Document" (S2-PDGS-TAS-DI-PSD, issue 14 and 15, ESA). In
MTD_MSIL2A.xml, below `General_Info`:

- `Product_Info/PRODUCT_URI`, and `Product_Info/Product_Organisation/Granule_List/Granule/IMAGE_FILE`: the files without
  their extension, `GRANULE/L2A_.../IMG_DATA/R20m/T32UPE_20240513T103031_B02_20m`;
- `Product_Image_Characteristics/Special_Values`: `SPECIAL_VALUE_TEXT` NODATA and SATURATED, `SPECIAL_VALUE_INDEX`;
- `.../QUANTIFICATION_VALUES_LIST/BOA_QUANTIFICATION_VALUE` and, since processing baseline 04.00,
  `.../BOA_ADD_OFFSET_VALUES_LIST/BOA_ADD_OFFSET[@band_id]`: reflectance = (stored value + offset) / quantification;
- `.../Spectral_Information_List/Spectral_Information[@bandId, @physicalBand]`: `Wavelength/CENTRAL` with its unit,
  `Spectral_Response/STEP` and `VALUES`.

The scene classification (`..._SCL_20m`) has 0 for no data and 1 for saturated or defective pixels.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np
import numpy.typing as npt

from hsmamba.data.files.content import Content, nanometres
from hsmamba.data.products.cubes import Bands, product_content
from hsmamba.data.products.layers import Layer, common_grid, read_layers
from hsmamba.data.products.metadata import as_number, element_number, element_text, find_main, parse_xml, product_file
from hsmamba.data.products.rasters import Raster, warn_of_missing_mask
from hsmamba.errors import SceneError

find = partial(find_main, patterns=(r"MTD_MSIL2A\.xml",))
# Metres of the files that are read, by ascending wavelength. B08 has none of 20 m, and B8A lies within it.
_RESOLUTIONS = {"B01": 60, "B02": 20, "B03": 20, "B04": 20, "B05": 20, "B06": 20, "B07": 20, "B8A": 20, "B09": 60}
_RESOLUTIONS |= {"B11": 20, "B12": 20}
_CHARACTERISTICS = "General_Info/Product_Image_Characteristics"
_INVALID_CLASSES = (0, 1)


def read(path: Path) -> Content:
    """Open a product by its MTD_MSIL2A.xml.

    The cube has eleven bands on the grid of 20 m: those that the product has at 20 m, the finer ones as it has averaged
    them, and B01 and B09 repeated from 60 m. NaN is what has the product's value of no data or saturation in a band,
    and all bands of pixels that the scene classification calls no data, or saturated or defective; clouds and shadows
    stay.

    Raises:
        SceneError: Damaged or incomplete, or of several tiles.
    """
    root = parse_xml(path)
    files = _image_files(root, path)
    layers = [Layer(_image(path, files, band, size), size // 20) for band, size in _RESOLUTIONS.items()]
    shape, place = common_grid(layers)
    classes = _classes(path, files)
    if classes is not None:
        classes.check(shape, 1, f"the bands of {path.parent.name!r}")
    special = _special_values(root, path)

    def cube(rows: slice, columns: slice, which: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        values = read_layers(layers, rows, columns, which)
        values[np.isin(values, special)] = np.nan
        if classes is not None:
            values[np.isin(classes.read(rows, columns), _INVALID_CLASSES)] = np.nan
        return values

    name = element_text(root, "General_Info/Product_Info/PRODUCT_URI", path).removesuffix(".SAFE")
    return product_content(name, shape, place, _bands(root, path), cube)


def _image_files(root: Element, path: Path) -> list[str]:
    granules = root.findall("General_Info/Product_Info/Product_Organisation/Granule_List/Granule")
    if len(granules) != 1:
        raise SceneError(
            f"{str(path)!r} lists {len(granules)} tiles (Granule); expected one, as in products since December 2016: "
            "fetch the product of one tile"
        )
    return [(element.text or "").strip() for element in granules[0].iter("IMAGE_FILE")]


def _image(path: Path, files: list[str], band: str, size: int) -> Raster:
    pattern = re.compile(rf".*/IMG_DATA/R{size}m/[^/]+_{band}_{size}m")
    found = [name for name in files if pattern.fullmatch(name)]
    if len(found) != 1:
        raise SceneError(
            f"{str(path)!r} lists {len(found)} files of {band} at {size} m; expected one in R{size}m: "
            "fetch the product again"
        )
    return Raster(product_file(path.parent, f"{found[0]}.jp2"), "JP2OpenJPEG")


def _classes(path: Path, files: list[str]) -> Raster | None:
    found = [name for name in files if name.endswith("_SCL_20m")]
    if not found or not (path.parent / f"{found[0]}.jp2").exists():
        warn_of_missing_mask(path.parent.name, "*_SCL_20m.jp2")
        return None
    return _image(path, files, "SCL", 20)


def _special_values(root: Element, path: Path) -> list[float]:
    each = root.findall(f"{_CHARACTERISTICS}/Special_Values")
    values = {
        element_text(one, "SPECIAL_VALUE_TEXT", path): element_number(one, "SPECIAL_VALUE_INDEX", path) for one in each
    }
    if "NODATA" not in values:
        raise SceneError(
            f"{str(path)!r} names no special value NODATA; expected it in {_CHARACTERISTICS}/Special_Values"
        )
    return [values[text] for text in ("NODATA", "SATURATED") if text in values]


def _bands(root: Element, path: Path) -> Bands:
    where = f"{_CHARACTERISTICS}/Spectral_Information_List/Spectral_Information"
    spectral = {element.get("physicalBand", ""): element for element in root.findall(where)}
    missing = [band for band in _RESOLUTIONS if band.replace("B0", "B") not in spectral]
    if missing:
        raise SceneError(f"{str(path)!r} has no {where} of {', '.join(missing)}; expected one a band: fetch it again")
    each = [spectral[band.replace("B0", "B")] for band in _RESOLUTIONS]
    widths = [_width(element, path) for element in each]
    quantification = element_number(
        root, f"{_CHARACTERISTICS}/QUANTIFICATION_VALUES_LIST/BOA_QUANTIFICATION_VALUE", path
    )
    if quantification <= 0:
        raise SceneError(f"{str(path)!r} has BOA_QUANTIFICATION_VALUE {quantification}; expected a positive number")
    offsets = np.array([_offset(root, element.get("bandId", ""), path) for element in each])
    return Bands(
        names=tuple(_RESOLUTIONS),
        wavelengths=np.array([_nanometres(element, "Wavelength/CENTRAL", path) for element in each]),
        fwhm=None if None in widths else np.array(widths, dtype=np.float64),
        scale=np.full(len(each), 1 / quantification),
        offset=offsets / quantification,
    )


def _nanometres(element: Element, where: str, path: Path) -> float:
    number = element_number(element, where, path)
    found = element.find(where)
    converted = nanometres([number], found.get("unit", "") if found is not None else "")
    if converted is None:
        raise SceneError(f"{str(path)!r} has {where} in a unit that is no length; fetch the product again")
    return float(converted[0])


def _width(element: Element, path: Path) -> float | None:
    """Return the width of a band at half of its largest response, None where the response is not given."""
    if element.find("Spectral_Response") is None:
        return None
    where = "Spectral_Response/VALUES"
    response = np.array([as_number(text, where, path) for text in element_text(element, where, path).split()])
    return float((response >= response.max() / 2).sum() * _nanometres(element, "Spectral_Response/STEP", path))


def _offset(root: Element, number: str, path: Path) -> float:
    listed = root.find(f"{_CHARACTERISTICS}/BOA_ADD_OFFSET_VALUES_LIST")
    return 0.0 if listed is None else element_number(listed, f"BOA_ADD_OFFSET[@band_id='{number}']", path)
