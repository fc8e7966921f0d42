"""EnMAP L2A: one GeoTIFF of all bands, a pixel mask of the same shape, and METADATA.XML.

Layout after "EnMAP HSI Product Specification Level 1 / Level 2" (EN-PCV-ICD-2009-2, DLR) and what public readers of it
agree on. In METADATA.XML, below the root `level_X`:

- `base/level`: "L2A";
- `product/image/merge/name`: the file `...-SPECTRAL_IMAGE.TIF`; beside it `...-QL_PIXELMASK.TIF` (0 good, 1 defective,
  255 background; one band a band of the image). The catalogue's copies are called `..._COG.TIF`;
- `specific/backgroundValue`: what the image holds where there are no data, -32768;
- `specific/bandCharacterisation/bandID[@number]`: `wavelengthCenterOfBand` and `FWHMOfBand` in nm, `GainOfBand` and
  `OffsetOfBand`: reflectance = stored value x gain + offset;
- `specific/vnirProductQuality/expectedChannelsList` and `specific/swirProductQuality/...`: numbers of the bands that
  are delivered.

The bands keep the product's order, in which wavelengths ascend and the two detectors alternate where they overlap.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np
import numpy.typing as npt

from hsmamba.data.files.content import Content
from hsmamba.data.products.cubes import Bands, product_content
from hsmamba.data.products.metadata import as_number, element_number, element_text, find_main, parse_xml, product_file
from hsmamba.data.products.rasters import Raster, warn_of_missing_mask
from hsmamba.errors import SceneError

find = partial(find_main, patterns=(r"ENMAP.*-METADATA\.XML",), image=r"(ENMAP.*)-SPECTRAL_IMAGE(?:_COG)?\.TIF")
_SAMPLE_ROWS = 8


def read(path: Path) -> Content:
    """Open a product by its METADATA.XML.

    NaN is what the product has no data for, and single values that its pixel mask calls defective; clouds, haze, cirrus
    and shadows stay. Bands that are not among the delivered ones are bad, and so are those without data in the middle
    of the scene, where others have some: the product leaves out bands of full water absorption.

    Raises:
        SceneError: Damaged or incomplete, or another level.
    """
    root = parse_xml(path)
    level = element_text(root, "base/level", path)
    if level != "L2A":
        raise SceneError(f"{str(path)!r} describes an EnMAP product of level {level!r}; expected L2A: fetch that level")
    image = Raster(_beside(path.parent, element_text(root, "product/image/merge/name", path)))
    each = root.findall("specific/bandCharacterisation/bandID")
    image.check(image.shape, len(each), f"the bands in {path.name!r}")
    background = element_number(root, "specific/backgroundValue", path)
    mask = _pixel_mask(image)

    def cube(rows: slice, columns: slice, which: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        stored = image.read(rows, columns, which)
        values = stored.astype(np.float32)
        values[stored == background] = np.nan
        if mask is not None:
            values[mask.read(rows, columns, which) != 0] = np.nan
        return values

    bad = _not_delivered(root, len(each), path) | _without_data(image, background)
    name = path.name[: -len("-METADATA.XML")]
    return product_content(name, image.shape, image.place(), _bands(each, bad, path), cube)


def _beside(folder: Path, name: str) -> Path:
    """Find a file by its name, or by that of its copy in the catalogue."""
    copy = f"{name[:-4]}_COG{name[-4:]}"
    return product_file(folder, copy if "/" not in name and (folder / copy).is_file() else name)


def _pixel_mask(image: Raster) -> Raster | None:
    name = image.path.name.replace("-SPECTRAL_IMAGE", "-QL_PIXELMASK")
    if not image.path.with_name(name).exists():
        warn_of_missing_mask(image.path.name.partition("-SPECTRAL_IMAGE")[0], name)
        return None
    mask = Raster(product_file(image.path.parent, name))
    mask.check(image.shape, image.count, f"the image {image.path.name!r}")
    return mask


def _bands(each: list[Element], bad: npt.NDArray[np.bool_], path: Path) -> Bands:
    def numbers(element: str) -> npt.NDArray[np.float64]:
        return np.array([element_number(band, element, path) for band in each])

    names = [f"Band {band.get('number', index)}" for index, band in enumerate(each, start=1)]
    return Bands(
        names,
        wavelengths=numbers("wavelengthCenterOfBand"),
        fwhm=numbers("FWHMOfBand"),
        scale=numbers("GainOfBand"),
        offset=numbers("OffsetOfBand"),
        bad=bad,
    )


def _not_delivered(root: Element, count: int, path: Path) -> npt.NDArray[np.bool_]:
    delivered: set[int] = set()
    for detector in ("vnir", "swir"):
        where = f"specific/{detector}ProductQuality/expectedChannelsList"
        listed = element_text(root, where, path).split(",")
        delivered |= {int(as_number(text, where, path)) for text in listed}
    return np.array([number not in delivered for number in range(1, count + 1)])


def _without_data(image: Raster, background: float) -> npt.NDArray[np.bool_]:
    middle = image.shape[0] // 2
    rows = slice(middle, min(middle + _SAMPLE_ROWS, image.shape[0]))
    empty = (image.read(rows, slice(0, image.shape[1]), np.arange(image.count)) == background).all(axis=(0, 1))
    return np.asarray(empty & ~empty.all())
