"""DESIS L2A: one GeoTIFF of 235 bands and METADATA.xml.

Layout after DLR's description of the products ("Data Products, Quality and Validation of the DLR Earth Sensing Imaging
Spectrometer (DESIS)", Alonso et al., Sensors 19(20), 2019) and what public readers of it agree on:

- `DESIS-HSI-L2A-...-METADATA.xml` and `DESIS-HSI-L2A-...-SPECTRAL_IMAGE.tif`: int16, -32768 where there are no data;
- in the metadata `specific/bandCharacterisation/band`: `bandNumber`, `wavelengthCenterOfBand` and
  `wavelengthWidthOfBand` in nm, `gainOfBand` and `offsetOfBand`: reflectance = stored value x gain + offset. Bands are
  described below `interiorOrientation`, too, with other elements.

The bands keep the product's order, in which wavelengths ascend.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np
import numpy.typing as npt

from hsmamba.data.files.content import Content
from hsmamba.data.products.cubes import Bands, product_content
from hsmamba.data.products.metadata import element_number, element_text, find_main, parse_xml, product_file
from hsmamba.data.products.rasters import Raster
from hsmamba.errors import SceneError

find = partial(find_main, patterns=(r"DESIS-HSI-.*-METADATA\.xml",), image=r"(DESIS-HSI-.*)-SPECTRAL_IMAGE\.tif")
_BACKGROUND = -32768


def read(path: Path) -> Content:
    """Open a product by its METADATA.xml.

    NaN is what the product has no data for. Its quality layers are not read: QL_QUALITY-2 is about clouds, haze,
    shadows and snow, which stay; no public text was found for the codes of QL_QUALITY, so that defects stay, too.

    Raises:
        SceneError: Damaged or incomplete, or another level.
    """
    name = path.name[: -len("-METADATA.xml")]
    if "-L2A-" not in name.upper():
        raise SceneError(f"{str(path)!r} is of another level than L2A after its name: fetch DESIS-HSI-L2A-...")
    each = parse_xml(path).findall("specific/bandCharacterisation/band")
    image = Raster(_image_path(path.parent, f"{name}-SPECTRAL_IMAGE.tif"))
    image.check(image.shape, len(each), f"the bands in {path.name!r}")

    def cube(rows: slice, columns: slice, which: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        values = image.read(rows, columns, which).astype(np.float32)
        values[values == _BACKGROUND] = np.nan
        return values

    return product_content(name, image.shape, image.place(), _bands(each, path), cube)


def _image_path(folder: Path, name: str) -> Path:
    """Find the image whatever the case of its extension."""
    found = [entry.name for entry in folder.iterdir() if re.fullmatch(re.escape(name), entry.name, re.IGNORECASE)]
    return product_file(folder, found[0] if found else name)


def _bands(each: list[Element], path: Path) -> Bands:
    def numbers(element: str) -> npt.NDArray[np.float64]:
        return np.array([element_number(band, element, path) for band in each])

    return Bands(
        names=[f"Band {element_text(band, 'bandNumber', path)}" for band in each],
        wavelengths=numbers("wavelengthCenterOfBand"),
        fwhm=numbers("wavelengthWidthOfBand"),
        scale=numbers("gainOfBand"),
        offset=numbers("offsetOfBand"),
    )
