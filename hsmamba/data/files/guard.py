"""What is looked at before a file is believed: what it is, how large it can be, what lies beside it."""

from __future__ import annotations

import html
import math
import os
import re
import stat
import struct
from collections.abc import Sequence
from pathlib import Path

from hsmamba.errors import SceneError

RATIO = 200  # of values that are read as a whole to what they were packed into; zlib packs zeros 1000 : 1
FLOOR = 2**28  # bytes; what declares less is read without a look at how well it is compressed
_BINARY = (b"\0", b"\x89")
_KINDS = {
    **dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "a TIFF file"),
    b"\x89HDF": "an HDF5 file",
    b"CDF": "a netCDF file",
    b"MATLAB": "a MATLAB file",
    **dict.fromkeys((b"PK\x03\x04", b"PK\x05\x06"), "a ZIP archive"),
    b"\x93NUMPY": "a numpy array",
    b"\xff\xd8\xff": "a JPEG image",
    b"\0\0\0\x0cjP": "a JPEG 2000 image",
    b"\x89PNG": "a PNG image",
    b"GIF8": "a GIF image",
    b"%PDF": "a PDF document",
    b"\x1f\x8b": "a gzip archive",
    b"ENVI": "an ENVI header",
    b"version https://git-lfs": "a pointer of Git LFS, whose data were not fetched",
    b"<VRTDataset": "a virtual raster (VRT), a text that names other files",
    b"<GDAL_WMS": "a description of a web service",
    b"/vsi": "a text that names another file",
    b"<": "XML or HTML text",
    b"": "no file of a known kind",
}
_UNREAL = {stat.S_ISDIR: "a folder", stat.S_ISFIFO: "a named pipe (FIFO)", stat.S_ISSOCK: "a socket"}
_UNREAL |= {stat.S_ISCHR: "a device", stat.S_ISBLK: "a device"}
# Suffixes of what GDAL reads beside a TIFF of the same stem: masks, overviews, places, metadata.
_SIDECARS = (".msk", ".ovr", ".aux", ".xml", ".tfw", ".tifw", ".tiffw", ".wld", ".tab", ".rpb", ".imd", ".txt", ".pvl")

# PROJ opens a grid that a coordinate reference system names by its path, and waits where that is a pipe.
_GRID = re.compile(
    r'(?:proj4_grids|nadgrids|geoidgrids|\bgrids\s*=|parameterfile)[\s",=\[]*[^"\]<>]*[/\\][^"\]<>\s]*', re.IGNORECASE
)
_TEXT_BYTES = 2**26
_ASCII_PARAMS = 34737  # the tag of a TIFF that has the texts of its coordinate reference system


def check_file(path: Path) -> None:
    """Raise SceneError unless there is a plain file, before anything opens it and waits for a pipe."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:  # ValueError: a null character
        if isinstance(error, FileNotFoundError):
            raise SceneError(f"there is no file {str(path)!r}; check the path") from None
        raise SceneError(f"{str(path)!r} cannot be looked at ({error}); check the path and its permissions") from error
    if not stat.S_ISREG(mode):
        kind = next((name for test, name in _UNREAL.items() if test(mode)), "no plain file")
        raise SceneError(f"{str(path)!r} is {kind}; expected a file: give the file with the data")


def check_kind(path: Path, *expected: str) -> None:
    """Raise SceneError, with what a file is by its first bytes, unless it is of an expected kind."""
    with path.open("rb") as file:
        head = file.read(64)
    start = head if head.startswith(_BINARY) else head.removeprefix(b"\xef\xbb\xbf").lstrip()
    kind = next(name for magic, name in _KINDS.items() if start.startswith(magic)) if head else "empty"
    if kind not in expected:
        raise SceneError(
            f"{str(path)!r} is {kind}; expected {expected[0]}, as its extension says: give one, or read this file by a "
            "package of its own and give the array"
        )


def check_size(path: Path, shape: Sequence[int], itemsize: int, *, ratio: int, stored: int | None = None) -> None:
    """Raise SceneError where a header declares more values than its file can hold.

    Args:
        path: The file.
        shape: Of the values.
        itemsize: Bytes of a value.
        ratio: The largest ratio of the values to their bytes in the file that is believed.
        stored: Bytes that hold the values; by default all of the file.
    """
    if min(shape, default=1) < 1:
        raise SceneError(f"{str(path)!r} declares the shape {tuple(shape)}; every size must be positive")
    stored = path.stat().st_size if stored is None else stored
    declared = math.prod(int(size) for size in shape) * itemsize
    if declared > max(FLOOR if ratio > 1 else 0, stored * ratio):
        raise SceneError(
            f"{str(path)!r} declares {' x '.join(map(str, shape))} values of {itemsize} bytes, {declared} bytes in "
            f"all, but has {max(stored, 0)} bytes for them: it is truncated, or its header is false; fetch or write it "
            "again"
        )


def check_sidecars(path: Path) -> None:
    """Raise SceneError where something beside a TIFF that GDAL would open is no plain file, lies elsewhere, or no TIFF.

    GDAL takes a mask or overviews of any format, a virtual raster among them, which names any other file.
    """
    stem = path.stem.lower()
    with os.scandir(path.absolute().parent) as entries:
        names = [entry.name for entry in entries if entry.name.lower().startswith((f"{stem}.", f"{stem}_rpc"))]
    for name in names:
        beside = path.absolute().parent / name
        if (
            name == path.name
            or beside.suffix.lower() not in _SIDECARS
            or beside.is_dir()
            or not os.path.lexists(beside)
        ):
            continue
        if beside.is_symlink() and not beside.exists():
            continue
        check_inside(beside, path)
        check_file(beside)
        if beside.suffix.lower() in (".msk", ".ovr"):
            check_kind(beside, "a TIFF file")
            check_crs(beside, tiff_text(beside))
        elif beside.stat().st_size > _TEXT_BYTES:
            raise SceneError(
                f"{str(beside)!r}, which belongs to {str(path)!r}, is too large for metadata; move it away"
            )
        else:
            check_crs(beside, html.unescape(beside.read_bytes().decode("latin-1")))


def check_inside(beside: Path, path: Path) -> None:
    """Raise SceneError where a file that belongs to another is a link that leads out of the folder."""
    folder = beside.absolute().parent.resolve()
    target = beside.resolve()
    if folder not in target.parents:
        raise SceneError(
            f"{str(beside)!r}, which belongs to {str(path)!r}, is a link out of its folder to {str(target)!r}; put the "
            "file itself there"
        )


def check_crs(path: Path, text: str) -> None:
    """Raise SceneError where the text of a coordinate reference system names a grid by its path."""
    if found := _GRID.search(text):
        raise SceneError(
            f"the coordinate reference system in {str(path)!r} names a file, {found[0][-80:]!r}; expected one without "
            "grids of a user: give the image a plain one, such as EPSG:32633"
        )


def tiff_text(path: Path) -> str:
    """Read the text of the coordinate reference system in the first image of a TIFF, "" where it has none."""
    with path.open("rb") as file:
        start = file.read(16)
        order, big = "<" if start[:2] == b"II" else ">", b"+" in start[2:4]
        count, entry, first = ("Q", "HHQQ", start[8:16]) if big else ("H", "HHII", start[4:8])
        file.seek(*struct.unpack(order + entry[-1], first))
        (entries,) = struct.unpack(order + count, file.read(struct.calcsize(order + count)))
        size = struct.calcsize(order + entry)
        for _ in range(min(entries, _TEXT_BYTES // size)):
            tag, _, length, place = struct.unpack(order + entry, file.read(size))
            if tag == _ASCII_PARAMS:
                file.seek(place)
                return file.read(min(length, _TEXT_BYTES)).decode("latin-1")
    return ""
