"""Satellite products as they are delivered: folders and files, recognised by their names."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from hsmamba.data.files.content import Content, reading
from hsmamba.data.products import desis, emit, enmap, landsat, prisma, sentinel2
from hsmamba.errors import SceneError


class Product(NamedTuple):
    """A kind of product: what it is called, what a folder of it holds, and its two functions."""

    title: str
    holds: str
    find: Callable[[Path], Path | None]  # from a path to the file that describes the product
    read: Callable[[Path], Content]  # from that file to its content


PRODUCTS = (
    Product("EnMAP L2A", "ENMAP*-METADATA.XML", enmap.find, enmap.read),
    Product("PRISMA L2D", "*.he5", prisma.find, prisma.read),
    Product("EMIT L2A reflectance", "EMIT_L2A_RFL_*.nc", emit.find, emit.read),
    Product("Sentinel-2 L2A", "MTD_MSIL2A.xml", sentinel2.find, sentinel2.read),
    Product("Landsat Collection 2", "L*_MTL.txt", landsat.find, landsat.read),
    Product("DESIS L2A", "DESIS-HSI-L2A-*-METADATA.xml", desis.find, desis.read),
)


def find_product(path: Path) -> Callable[[], Content] | None:
    """Recognise a product by the path of its folder, its metadata or its main file.

    Returns:
        Its reader, or None where the path is no product's.

    Raises:
        SceneError: A folder that holds no product, or several.
    """
    for product in PRODUCTS:
        main = product.find(path)
        if main is not None:
            return partial(_read, product, main)
    if path.is_dir():
        known = "; ".join(f"{product.title} ({product.holds})" for product in PRODUCTS)
        raise SceneError(
            f"{str(path)!r} is a folder, and holds no product that is known: {known}; give the path of a file, or of a "
            "product's own folder"
        )
    return None


def _read(product: Product, main: Path) -> Content:
    with reading(main):
        return product.read(main)
