"""ENVI images: a flat file of numbers, mapped, and a text header, read in whatever encoding it has."""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hsmamba._optional import optional_import
from hsmamba.data.files.content import Content, Variable, band_numbers, left_out, unit_length
from hsmamba.data.files.guard import check_crs, check_file, check_inside, check_size
from hsmamba.data.files.lazy import blank, float_dtype, lazy_raster, usable_fill
from hsmamba.data.files.place import Place, describe, lay, per_band, place_of
from hsmamba.data.image import Array
from hsmamba.errors import HsmambaWarning, MissingExtraError, SceneError

Header: TypeAlias = "dict[str, str]"

# Codes of "data type"; 6 and 9 are complex. https://www.nv5geospatialsoftware.com/docs/enviheaderfiles.html
CODES = {1: "u1", 2: "i2", 3: "i4", 4: "f4", 5: "f8", 12: "u2", 13: "u4", 14: "i8", 15: "u8"}
_AXES = {"bsq": (1, 2, 0), "bil": (0, 2, 1), "bip": (0, 1, 2)}  # where rows, columns and bands are in the file
_SUFFIXES = ("", ".img", ".dat", ".raw", ".bsq", ".bil", ".bip", ".bin")
PLACE = ("map info", "projection info", "coordinate system string", "geo points", "rpc info")
_HEADER_BYTES = 2**26


def read_envi(path: Path, masked: bool) -> Content:
    """Map an image by its header `.hdr`; `masked` gives NaN where its "data ignore value" stands.

    A plain memory map (H, W, B), or a lazy DataArray (y, x, band) where the header tells a place, a scale or a value
    for "no data".
    """
    header = read_header(path)
    image = _image(path, header, masked)
    bands = image.shape[2]
    wavelengths, fwhm = _spectrum(path, header, bands)
    good = band_numbers(path, "bbl", _items(header, "bbl"), bands)
    names = _names(path, header, bands)
    attrs = _scales(path, header, bands)

    def read() -> Array:
        place = _place(path, header)
        if not place and image.fill is None and not attrs:
            return image.map()
        try:
            raster = describe(lay(lazy_raster(image, path), place), wavelengths, fwhm)
        except MissingExtraError as error:
            if image.fill is not None:
                raise
            _warn_without_place(path, error)
            return image.map()
        raster.attrs.update(attrs | ({"long_name": names} if names else {}))
        if image.fill is not None and not masked:
            raster.attrs["_FillValue"] = image.stored.type(image.fill)
        return raster

    return Content(
        {"": Variable(image.shape, str(image.dtype), read)},
        wavelengths,
        None if good is None else good == 0,
        tuple(_items(header, "class names"))[1:],  # the first is that of 0, unclassified
        image.fill,
        fwhm,
        names,
    )


def read_header(path: Path) -> Header:
    """Read the fields of a header; keys in lower case, lists with their braces.

    Raises:
        SceneError: It is no ENVI header, or a list in it has no end.
    """
    if path.stat().st_size > _HEADER_BYTES:
        raise SceneError(f"{str(path)!r} has {path.stat().st_size} bytes, too many for a header; give the text header")
    lines = _text(path.read_bytes()).replace("\r", "\n").split("\n")
    if not lines[0].strip().upper().startswith("ENVI"):
        raise SceneError(
            f'{str(path)!r} is no ENVI header: it starts with {lines[0][:20]!r}, expected "ENVI"; give the header '
            "of an ENVI image"
        )
    header: Header = {}
    rest = iter(lines[1:])
    for line in rest:
        key, equals, value = line.partition("=")
        if not equals or line.lstrip().startswith(";"):
            continue
        parts = [value.strip()]
        while parts[0].startswith("{") and not parts[-1].endswith("}"):
            following = next(rest, None)
            if following is None:
                raise SceneError(
                    f"{str(path)!r}: the list of {key.strip()!r} has no closing brace; complete the header"
                )
            if not following.lstrip().startswith(";"):
                parts.append(following.strip())
        header[" ".join(key.lower().split())] = "\n".join(part for part in parts if part)
    return header


def _text(data: bytes) -> str:
    """Decode a header: by its byte order mark, as UTF-8, or else as Latin-1, which has a letter for every byte."""
    for mark, encoding in ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"", "utf-8-sig")):
        if data.startswith(mark):
            try:
                return data.decode(encoding)
            except UnicodeDecodeError:
                continue
    return data.decode("latin-1")


def _items(header: Mapping[str, str], key: str) -> list[str]:
    """Split a list at its commas; an empty one and a trailing comma add nothing."""
    items = [item.strip() for item in header.get(key, "").strip("{}").split(",")]
    while items and not items[-1]:
        items.pop()
    return items


def _integer(path: Path, header: Header, key: str, default: int | None = None) -> int:
    text = header.get(key, "" if default is None else str(default))
    try:
        return int(text)
    except ValueError:
        found = f"has {key} = {text!r}" if text else f"has no {key!r}"
        raise SceneError(f"{str(path)!r} {found}; expected an integer: mend the header") from None


@dataclass(frozen=True)
class _Image:
    """Values (H, W, B) of a flat file, mapped when they are read."""

    data: Path
    file_shape: tuple[int, ...]
    axes: tuple[int, ...]
    stored: np.dtype[Any]
    offset: int
    fill: float | None
    masked: bool

    @property
    def shape(self) -> tuple[int, int, int]:
        rows, columns, bands = (self.file_shape[axis] for axis in self.axes)
        return rows, columns, bands

    @property
    def dtype(self) -> np.dtype[Any]:
        return float_dtype(self.stored) if self.masked and self.fill is not None else self.stored

    def map(self) -> npt.NDArray[Any]:
        flat = np.memmap(self.data, self.stored, "r", self.offset, self.file_shape)
        cube: npt.NDArray[Any] = flat.transpose(self.axes)
        return cube

    def window(self, rows: slice, columns: slice, bands: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        values: npt.NDArray[Any] = self.map()[rows, columns]
        if not np.array_equal(bands, np.arange(self.shape[2])):
            values = values[..., bands]
        if not self.masked or self.fill is None:
            return values
        return blank(values, [self.fill] * values.shape[2], self.dtype)


def _image(path: Path, header: Header, masked: bool) -> _Image:
    _check_layout(path, header)
    sizes = {name: _integer(path, header, key) for name, key in (("y", "lines"), ("x", "samples"), ("band", "bands"))}
    interleave = header.get("interleave", "bsq").lower()
    axes = _AXES[interleave]
    dtype = np.dtype("<>"[_integer(path, header, "byte order", 0)] + CODES[_integer(path, header, "data type")])
    shape = tuple(sizes[name] for _, name in sorted(zip(axes, sizes, strict=True)))
    offset = _integer(path, header, "header offset", 0)
    data = _data_file(path, header, interleave)
    image = _Image(data, shape, axes, dtype, offset, _fill(path, header, dtype), masked)
    check_size(path, image.shape, dtype.itemsize, ratio=1, stored=data.stat().st_size - offset)
    return image


def _check_layout(path: Path, header: Header) -> None:
    """Raise SceneError where the numbers are laid out in another way than is read."""
    kind = header.get("file type", "").lower()
    if "spectral library" in kind:
        raise SceneError(f"{str(path)!r} is a spectral library, no image; give the header of an image")
    if advice := _advice(kind, header):
        raise SceneError(
            f"{str(path)!r} describes a file that is compressed or of the type {kind!r}, expected plain numbers; "
            + advice
        )
    for key in ("major frame offsets", "minor frame offsets"):
        if any(item != "0" for item in _items(header, key)):
            raise SceneError(f"{str(path)!r} has {key}, which are not read; write the image without them")
    if (interleave := header.get("interleave", "bsq").lower()) not in _AXES:
        raise SceneError(f"{str(path)!r} has the interleave {interleave!r}; expected bsq, bil or bip: mend the header")
    code, order = _integer(path, header, "data type"), _integer(path, header, "byte order", 0)
    if code not in CODES or order not in (0, 1):
        raise SceneError(
            f"{str(path)!r} has the data type {code} and the byte order {order}; expected a type of real numbers, "
            f"{', '.join(map(str, CODES))}, and 0 or 1"
        )
    if (offset := _integer(path, header, "header offset", 0)) < 0:
        raise SceneError(f"{str(path)!r} has the header offset {offset}; expected 0 or more: mend the header")


def _advice(kind: str, header: Header) -> str:
    """Say what to do with a file that holds no plain numbers; nothing of one that does."""
    if kind.startswith("tiff"):
        return "open that file itself, under a name that ends in .tif"
    if kind.startswith(("jpeg", "jp2")):
        return "convert that file to GeoTIFF"
    compressed = header.get("file compression", "0").strip() not in ("", "0")
    return "unpack that file and set 'file compression' to 0" if compressed else ""


def _data_file(path: Path, header: Header, interleave: str) -> Path:
    """Find the file of the numbers beside the header, or beside the file that a linked header is."""
    named = header.get("data file", "").strip("{} ")
    if named and Path(named).name != named:
        raise SceneError(f"{str(path)!r} names the data file {named!r}; expected the name of a file beside the header")
    stem = path.name[: -len(".hdr")]
    names = [named] if named else [stem + suffix for suffix in dict.fromkeys(("", f".{interleave}", *_SUFFIXES))]
    for folder in dict.fromkeys((path.absolute().parent, path.resolve().parent)):
        there = {entry.name.lower(): entry for entry in sorted(folder.iterdir()) if entry.name != path.name}
        there |= {entry.name: entry for entry in there.values()}
        for name in names:
            found = folder / name if (folder / name).exists() else there.get(name.lower())
            if found is not None and not found.is_dir():
                check_inside(found, path)
                check_file(found)
                return found
    raise SceneError(
        f"{str(path)!r} has no data file beside it; expected one of {', '.join(names)}: put it there under "
        "one of these names"
    )


def _fill(path: Path, header: Header, dtype: np.dtype[Any]) -> float | None:
    text = header.get("data ignore value", "").strip("{} ")
    for kind in (int, float):
        try:
            return usable_fill(kind(text), dtype)
        except ValueError:
            continue
    if text.lower() not in ("", "none", "null", "undefined"):
        left_out(path, "data ignore value", f"{text!r} is no number")
    return None


def _spectrum(path: Path, header: Header, bands: int) -> tuple[npt.NDArray[np.float64] | None, ...]:
    """Centres and widths of the bands in nm, None where they are not known."""
    unit = header.get("wavelength units", "")
    centres = band_numbers(path, "wavelength", _items(header, "wavelength"), bands)
    if centres is None:
        return None, None
    factor = unit_length(unit, centres)
    if factor is None:
        left_out(path, "wavelength", f"its unit {unit!r} is no length")
        return None, None
    widths = band_numbers(path, "fwhm", _items(header, "fwhm"), bands)
    return centres * factor, None if widths is None else widths * factor


def _names(path: Path, header: Header, bands: int) -> tuple[str, ...]:
    names = tuple(" ".join(name.split()) for name in _items(header, "band names"))
    if names and len(names) != bands:
        left_out(path, "band names", f"it has {len(names)} entries for {bands} bands")
        return ()
    return names


def _scales(path: Path, header: Header, bands: int) -> dict[str, Any]:
    """Attributes of the scale and the offset that bring the numbers to a quantity."""
    gains = band_numbers(path, "data gain values", _items(header, "data gain values"), bands)
    offsets = band_numbers(path, "data offset values", _items(header, "data offset values"), bands)
    found: dict[str, Any] = {}
    if gains is not None:
        found |= per_band("scale_factor", "scales", gains.tolist())
    elif "reflectance scale factor" in header:
        factor = band_numbers(path, "reflectance scale factor", _items(header, "reflectance scale factor"), 1)
        found |= {"scale_factor": 1 / float(factor[0])} if factor is not None and factor[0] > 0 else {}
    if offsets is not None:
        found |= per_band("add_offset", "offsets", offsets.tolist())
    return {"scale_factor": 1.0, "add_offset": 0.0} | found if found else {}


def _place(path: Path, header: Header) -> Place:
    """Have GDAL understand the fields that tell a place, by a header of a pixel in memory that has them alone."""
    fields = {key: header[key] for key in PLACE if header.get(key, "").strip("{} \n")}
    check_crs(path, " ".join(fields.values()))
    if not _is_usable(path, fields):
        fields.pop("map info", None)
    if not set(fields) & {"map info", "geo points", "rpc info", "coordinate system string"}:
        return Place()
    try:
        io = optional_import("rasterio.io", "to read the place of ENVI images")
        errors = optional_import("rasterio.errors", "to read the place of ENVI images")
        optional_import("rioxarray", "to read the place of ENVI images")
    except MissingExtraError as error:
        _warn_without_place(path, error)
        return Place()
    lines = ["ENVI", "samples = 1", "lines = 1", "bands = 1", "data type = 1", "interleave = bsq", "byte order = 0"]
    lines += [f"{key} = {' '.join(value.split())}" for key, value in fields.items()]
    name = {"dirname": uuid.uuid4().hex}
    text = "\n".join([*lines, ""]).encode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.NotGeoreferencedWarning)
        with (
            io.MemoryFile(text, filename="a.hdr", **name),
            io.MemoryFile(bytes(16), filename="a.img", **name) as pixel,
            pixel.open(driver="ENVI") as file,
        ):
            place = place_of(file)
    if place.gcps[0] and not place.gcps[1]:  # "geo points" are latitudes and longitudes, and ENVI's datum is WGS-84
        crs = optional_import("rasterio.crs", "to read the place of ENVI images").CRS.from_epsg(4326)
        return replace(place, gcps=(place.gcps[0], crs))
    return place


def _is_usable(path: Path, fields: Header) -> bool:
    """Tell whether "map info" has a place: GDAL reads words as 0, and "Arbitrary" is how ENVI says that it has none."""
    if "map info" not in fields:
        return False
    items = _items(fields, "map info")
    if items[0].lower().startswith(("arbitrary", "pseudo")) and "coordinate system string" not in fields:
        return False
    try:
        numbers = [float(item) for item in items[1:7]]
    except ValueError:
        numbers = []
    if len(numbers) < 6 or not np.isfinite(numbers).all() or 0 in numbers[4:]:
        left_out(path, "map info", "expected a projection, then a pixel, its place and its size, six numbers")
        return False
    return True


def _warn_without_place(path: Path, error: MissingExtraError) -> None:
    warnings.warn(f"{str(path)!r} is opened without its place: {error}", HsmambaWarning, stacklevel=3)
