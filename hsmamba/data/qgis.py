"""Styles beside rasters that QGIS opens with: `map.qml` for `map.tif`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from hsmamba.data.colours import class_colours

_MARK = "written by hsmamba"  # a style without it is the user's own, and stays


def style_path(path: Path) -> Path:
    """Where the style of a raster is."""
    return path.with_suffix(".qml")


def is_free(path: Path) -> bool:
    """Whether a style may be written there: nothing is, or what an earlier run of this library wrote."""
    return not path.exists() or _MARK in path.read_text(encoding="utf-8", errors="replace")


def class_style(class_names: Sequence[str]) -> bytes:
    """Make the style of a map of classes 1..K: every value with its colour and its name, 0 transparent.

    The elements are those of a raster layer with the renderer `paletted`, as QGIS 3 saves them.
    """
    root = ElementTree.Element("qgis", version="3.0", styleCategories="Symbology")
    root.append(ElementTree.Comment(f" {_MARK} "))
    pipe = ElementTree.SubElement(root, "pipe")
    renderer = ElementTree.SubElement(pipe, "rasterrenderer", type="paletted", band="1", opacity="1", alphaBand="-1")
    palette = ElementTree.SubElement(renderer, "colorPalette")
    colours = np.rint(class_colours(len(class_names)) * 255).astype(int)
    for value, (name, colour) in enumerate(zip(("unclassified", *class_names), colours, strict=True)):
        tone = "#" + "".join(f"{part:02x}" for part in colour)
        alpha = "255" if value else "0"
        ElementTree.SubElement(palette, "paletteEntry", value=str(value), color=tone, label=name, alpha=alpha)
    ElementTree.indent(root)
    head = b"<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
    body: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=False)
    return head + body + b"\n"
