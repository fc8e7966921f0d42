"""Writing maps of classes beside their confidence, row by row; both belong together."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeAlias
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from hsmamba._files import atomic_path
from hsmamba.data.colours import class_colours
from hsmamba.data.envi_output import envi_rows
from hsmamba.data.image import Array
from hsmamba.data.qgis import class_style, is_free, style_path
from hsmamba.data.writers import RASTERS, array_rows, raster_file, remove_beside, reserved
from hsmamba.data.zarr_output import Plan, zarr_rows

WriteMap: TypeAlias = "Callable[[int, NDArray[Any], NDArray[np.float32]], None]"

PAIRS = (*RASTERS, ".hdr")  # whose confidence is in a second file
MAPS = (*PAIRS, ".zarr", ".npz", ".npy")


def confidence_path(path: str | os.PathLike[str]) -> Path:
    """Where the confidence of a GeoTIFF or ENVI map is: `map_confidence.tif` for `map.tif`."""
    path = Path(path)
    return path.with_name(f"{path.stem}_confidence{path.suffix}")


@contextmanager
def map_rows(
    path: str | os.PathLike[str],
    shape: tuple[int, int],
    dtype: np.dtype[Any],
    *,
    grid: Array,
    class_names: Sequence[str],
    cog: bool = False,
) -> Iterator[WriteMap]:
    """Write a map of classes and its confidence row by row.

    Args:
        path: The file, by its suffix in any case:
            `.tif`: a GeoTIFF on the grid, with a colour table, 0 as "no data" and the classes' names as tags `class_1`
            and, in `map.tif.aux.xml`, as GDAL's category names; `map.qml` has names and colours for QGIS, unless a
            style of the user's own is there. The confidence is in `map_confidence.tif`, float32
            with NaN as "no data". Both have the same tag `run`; an older confidence is removed before the map is
            replaced, so that never one of another run lies beside it.
            `.hdr`: an ENVI classification with its numbers in `map.img`, the confidence in `map_confidence.hdr`.
            `.zarr`: a Zarr group with the variables `labels` and `confidence`, which must not be there yet.
            `.npz`: arrays `labels` and `confidence`. `.npy`: the labels alone.
        shape: Rows and columns (H, W).
        dtype: Of the labels, uint8 or uint16.
        grid: An image on the same grid, whose place a GeoTIFF gets if it is a DataArray.
        class_names: Names of the classes 1..K.
        cog: Write GeoTIFFs as Cloud-Optimised GeoTIFFs, in tiles and with overviews.

    Yields:
        A function of the first row and finished rows (n, W) of the labels and of the confidence.

    Raises:
        ValueError: Another suffix.
        MissingExtraError: A GeoTIFF, and rasterio is not installed.
        OSError: The file cannot be written, or the disk is full.
    """
    suffix = Path(path).suffix.lower()
    if suffix in RASTERS:
        with _raster_map(Path(path), shape, dtype, grid, class_names, cog) as write:
            yield write
    elif suffix == ".hdr":
        with _envi_map(Path(path), shape, dtype, grid, class_names) as write:
            yield write
    elif suffix == ".zarr":
        names = {"flag_values": list(range(len(class_names) + 1)), "class_names": ["unclassified", *class_names]}
        plans = {
            "labels": Plan(shape, np.dtype(dtype), None, names),
            "confidence": Plan(shape, np.dtype(np.float32), np.nan),
        }
        with zarr_rows(Path(path), plans, grid=grid) as write_parts:
            yield write_parts
    elif suffix == ".npz":
        with _archive(Path(path), shape, dtype) as write:
            yield write
    elif suffix == ".npy":
        with array_rows(path, shape, dtype) as write_labels:
            yield lambda top, labels, confidence: write_labels(top, labels)
    else:
        raise ValueError(f"cannot write {suffix or 'a file without suffix'}; choose {', '.join(MAPS)}")


@contextmanager
def _raster_map(
    path: Path, shape: tuple[int, int], dtype: np.dtype[Any], grid: Array, class_names: Sequence[str], cog: bool
) -> Iterator[WriteMap]:
    run = {"run": uuid.uuid4().hex}
    names = {f"class_{k}": name for k, name in enumerate(class_names, start=1)}
    colours, beside = class_colours(len(class_names)), confidence_path(path)
    styled = is_free(style_path(path))
    # What is opened last is renamed first: the map, its confidence, the names, the style.
    with (
        atomic_path(style_path(path)) if styled else nullcontext() as style,
        atomic_path(f"{path}.aux.xml") as categories,
        atomic_path(beside) as confidence_file,
        atomic_path(path) as label_file,
    ):
        one = (*shape, 1)
        told: dict[str, Any] = {"grid": grid, "cog": cog}
        single = np.dtype(np.float32)
        with (
            raster_file(confidence_file, one, single, nodata=np.nan, tags=run, **told) as confident,
            raster_file(label_file, one, dtype, nodata=0, tags=run | names, colours=colours, **told) as label,
        ):

            def write(top: int, labels: NDArray[Any], confidence: NDArray[np.float32]) -> None:
                label(top, labels[..., None])
                confident(top, confidence[..., None])

            yield write
        _write_categories(categories, class_names)
        for old in (path, beside):
            remove_beside(old)
        beside.unlink(missing_ok=True)
        if style is not None:
            style.write_bytes(class_style(class_names))
            style_path(path).unlink(missing_ok=True)


@contextmanager
def _envi_map(
    path: Path, shape: tuple[int, int], dtype: np.dtype[Any], grid: Array, class_names: Sequence[str]
) -> Iterator[WriteMap]:
    one, beside = (*shape, 1), confidence_path(path)
    colours = class_colours(len(class_names))
    # The map comes before its confidence, and no older confidence lies beside it then.
    with (
        envi_rows(beside, one, np.dtype(np.float32), grid=grid) as confident,
        envi_rows(path, one, dtype, grid=grid, nodata=0, classes=class_names, colours=colours) as label,
    ):

        def write(top: int, labels: NDArray[Any], confidence: NDArray[np.float32]) -> None:
            label(top, labels[..., None])
            confident(top, confidence[..., None])

        yield write
        beside.unlink(missing_ok=True)


def _write_categories(path: Path, class_names: Sequence[str]) -> None:
    """Write names of the values from 0 where GDAL reads them; a TIFF has no place for them."""
    root = ElementTree.Element("PAMDataset")
    names = ElementTree.SubElement(ElementTree.SubElement(root, "PAMRasterBand", band="1"), "CategoryNames")
    for name in ("unclassified", *class_names):
        ElementTree.SubElement(names, "Category").text = name
    ElementTree.indent(root)
    path.write_bytes(ElementTree.tostring(root, encoding="utf-8"))


@contextmanager
def _archive(path: Path, shape: tuple[int, int], dtype: np.dtype[Any]) -> Iterator[WriteMap]:
    """Fill both arrays beside the archive before they are packed."""
    with atomic_path(path) as temporary:
        arrays = {
            name: reserved(temporary.with_name(f"{name}.npy"), shape, np.dtype(kind))
            for name, kind in (("labels", dtype), ("confidence", np.float32))
        }

        def write(top: int, *rows: NDArray[Any]) -> None:
            for array, part in zip(arrays.values(), rows, strict=True):
                array[top : top + len(part)] = part

        yield write
        with temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)
