"""Virtual rasters (VRT) that lay GeoTIFFs beside each other, as `gdalbuildvrt` writes them; read without GDAL's driver.

GDAL's own driver would open whatever such a text names, files of any kind and addresses. Here it names GeoTIFFs.
Layout: https://gdal.org/drivers/raster/vrt.html.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from hsmamba.data.files.content import Content
from hsmamba.data.files.geotiff import read_geotiff
from hsmamba.data.files.guard import check_file, check_kind
from hsmamba.data.files.mosaic import join_tiles
from hsmamba.data.georeference import Georeference
from hsmamba.errors import SceneError

_MOST_BYTES = 2**26
_SOURCES = ("SimpleSource", "ComplexSource")


def read_vrt(path: Path, masked: bool) -> Content:
    """Read the tiles that a virtual raster names, as one; see `join_tiles`.

    Raises:
        SceneError: It does more than to lay GeoTIFFs beside each other with all their bands.
    """
    check_kind(path, "a virtual raster (VRT), a text that names other files")
    data = path.read_bytes()
    if len(data) > _MOST_BYTES or b"<!" in data.replace(b"<!--", b""):
        raise SceneError(
            f"{str(path)!r} is too large for a list of tiles, or has declarations; give the tiles themselves"
        )
    root = ElementTree.fromstring(data)
    bands = root.findall("VRTRasterBand")
    names = _names(path, root, bands)
    nodata = bands[0].findtext("NoDataValue")
    tiles = []
    for name in names:
        check_file(name)
        tiles.append((name, read_geotiff(name, masked)))
    fill = None if nodata is None or nodata.lower() == "nan" else float(nodata)
    told = any(content.nodata is not None for _, content in tiles)
    content = join_tiles(tiles, masked=masked, nodata=None if told else fill, name=str(path))
    _check_grid(path, root, content)
    return content


def _names(path: Path, root: ElementTree.Element, bands: list[ElementTree.Element]) -> list[Path]:
    """The files that every band is made of, in their order."""
    listed = []
    plain = root.tag == "VRTDataset" and not root.get("subClass") and bands
    for number, band in enumerate(bands, start=1):
        sources = [one for one in band if one.tag in _SOURCES]
        others = {one.tag for one in band if one.tag.endswith("Source")} - set(_SOURCES)
        if others or band.get("subClass") or any(one.findtext("SourceBand", "1") != str(number) for one in sources):
            plain = False
        listed.append([_located(path, one.find("SourceFilename")) for one in sources])
        if any(one.find(tag) is not None for one in sources for tag in ("ScaleOffset", "ScaleRatio", "LUT")):
            plain = False
    if not plain or not listed[0] or any(one != listed[0] for one in listed):
        raise SceneError(
            f"{str(path)!r} does more than to lay GeoTIFFs beside each other (it selects or changes bands, or warps); "
            "write it as a GeoTIFF (gdal_translate), or give the tiles themselves"
        )
    return listed[0]


def _located(path: Path, element: ElementTree.Element | None) -> Path:
    text = "" if element is None else (element.text or "").strip()
    if not text.lower().endswith((".tif", ".tiff")) or text.startswith("/vsi") or "://" in text:
        raise SceneError(f"{str(path)!r} names {text!r}; expected GeoTIFFs on this machine: give the tiles themselves")
    relative = element is not None and element.get("relativeToVRT") == "1"
    return path.absolute().parent / text if relative else Path(text)


def _check_grid(path: Path, root: ElementTree.Element, content: Content) -> None:
    """Raise SceneError where the virtual raster is not the whole of its tiles, as they are."""
    raster = content.variables[""].read()
    place = Georeference.of(raster)
    size = int(root.get("rasterYSize", 0)), int(root.get("rasterXSize", 0))
    told = [float(part) for part in root.findtext("GeoTransform", "").split(",") if part.strip()]
    if place is None or place.affine is None or len(told) != 6:
        raise SceneError(f"{str(path)!r} does not say where it lies; give the tiles themselves")
    a, b, c, d, e, f = place.affine
    moved = np.abs(np.array(told) - (c, a, b, f, d, e)) / max(abs(a), abs(e))
    if size != tuple(raster.shape[:2]) or moved.max() > 0.1:
        raise SceneError(
            f"{str(path)!r} has {size[0]} x {size[1]} pixels, its tiles have {raster.shape[0]} x {raster.shape[1]} of "
            "their own grid; give the tiles themselves"
        )
