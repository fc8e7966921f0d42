"""What surrounds a product's arrays: its files, whose names stay in its folder, and XML that declares nothing."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from hsmamba.errors import SceneError

_MAX_BYTES = 2**26  # of a metadata file; the largest, DESIS's with every band's response, have some 5 MB


def find_main(path: Path, patterns: Sequence[str], image: str = "") -> Path | None:
    """Find the file that describes a product, where the path stands for one.

    Args:
        path: A folder, the file itself or the image beside it.
        patterns: Regular expressions of the file's whole name, the preferred one first; case does not matter.
        image: Regular expression of the image's name with a group for what both names begin with; the rest of the
            file's name is then "-METADATA.XML" in any case.

    Raises:
        SceneError: Several products in one folder.
    """
    if path.is_dir():
        names = sorted(entry.name for entry in path.iterdir())
        found = [_matching(names, pattern) for pattern in patterns]
        return path / _only(path, next(filter(None, found))) if any(found) else None
    begin = re.fullmatch(image, path.name, re.IGNORECASE) if image else None
    if begin:
        names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        beside = _matching(names, re.escape(begin[1]) + "-METADATA.XML")
        return path.with_name(beside[0]) if beside else None
    return path if any(_matching([path.name], pattern) for pattern in patterns) else None


def _matching(names: list[str], pattern: str) -> list[str]:
    return [name for name in names if re.fullmatch(pattern, name, re.IGNORECASE)]


def _only(folder: Path, names: list[str]) -> str:
    if len(names) > 1:
        raise SceneError(f"{str(folder)!r} holds several products: give the path of one of {', '.join(names)}")
    return names[0]


def product_file(folder: Path, name: str) -> Path:
    """Return the path of a file that the metadata of a product name, relative to the product's folder.

    Raises:
        SceneError: The name leads out of the folder, by itself or through a link, or there is no such file.
    """
    parts = PurePosixPath(name).parts
    if not parts or ".." in parts or re.search(r"[\\:\0]", name) or name.startswith("/"):
        raise SceneError(
            f"the metadata of {str(folder)!r} name the file {name!r}, which leads out of the product's folder; no "
            "product is delivered so: fetch it again from where it is distributed"
        )
    path = folder.joinpath(*parts)
    if not path.is_file():
        raise SceneError(
            f"the product {str(folder)!r} lacks its file {name!r}; unpack or fetch the whole product, or give the "
            "path of a whole one"
        )
    if folder.resolve() not in path.resolve().parents:
        raise SceneError(
            f"{str(path)!r} is a link out of the product's folder; put the file itself into {str(folder)!r}"
        )
    return path


def read_text_bytes(path: Path) -> bytes:
    """Read a metadata file as a whole, or raise SceneError where there is none or it is too large to be one."""
    if not path.is_file():
        raise SceneError(f"there is no file {str(path)!r}; check the path")
    size = path.stat().st_size
    if size > _MAX_BYTES:
        raise SceneError(f"{str(path)!r} has {size} bytes, more than metadata ever have; give a product's own file")
    return path.read_bytes()


def parse_xml(path: Path) -> Element:
    """Parse an XML file into elements with their local names, without the prefixes of namespaces.

    Raises:
        SceneError: No such file, XML that is damaged, or a document type declaration: through entities it could read
            other files or grow without bounds, and no product has one.
    """
    builder = TreeBuilder()
    parser = expat.ParserCreate()

    def refuse(*_: object) -> None:
        raise SceneError(
            f"{str(path)!r} has a document type declaration (<!DOCTYPE ...>), which no product has and which is never "
            "followed; fetch the product again from where it is distributed"
        )

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = lambda tag, attributes: builder.start(tag.rpartition(":")[2], attributes)
    parser.EndElementHandler = lambda tag: builder.end(tag.rpartition(":")[2])
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(read_text_bytes(path), True)
    except expat.ExpatError as error:
        raise SceneError(f"{str(path)!r} is damaged XML ({error}); unpack or fetch the product again") from error
    return builder.close()


def element_text(parent: Element, where: str, path: Path) -> str:
    """Return the text of the element at `where` below `parent`, or raise SceneError that names file and element."""
    text = (parent.findtext(where) or "").strip()
    if not text:
        raise SceneError(
            f"{str(path)!r} has no element {where!r} below {parent.tag!r}, or it is empty; expected the product's "
            "metadata as they are delivered: fetch them again"
        )
    return text


def element_number(parent: Element, where: str, path: Path) -> float:
    """Return the finite number in the element at `where` below `parent`, or raise SceneError."""
    return as_number(element_text(parent, where, path), where, path)


def as_number(text: str, what: str, path: Path) -> float:
    """Convert a finite number, or raise SceneError that says what of which file is none."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise SceneError(f"{str(path)!r} has {what} {text!r}; expected a finite number: fetch the product again")
    return number
