"""What a GeoTIFF tells in words: attributes, and the facts of its bands."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hsmamba.data.files.content import band_numbers, left_out, nanometres, unit_length
from hsmamba.data.files.place import per_band

_IN_TEXT = re.compile(
    r"(\d+(?:\.\d+)?)\s*(nm|nanomet(?:er|re)s?|um|\u03bcm|micromet(?:er|re)s?|microns?)\b", re.IGNORECASE
)
# What other software writes as tags although the format has its own place for it.
_ELSEWHERE = {"_FillValue", "missing_value", "fill_value", "nodata", "scales", "offsets", "crs", "transform", "gcps"}


@dataclass(frozen=True)
class Told:
    """What a file tells in words; rasterio takes UTF-8 alone, and other words are left out with a warning."""

    path: Path
    file: Any
    indexes: tuple[int, ...]

    def tags(self, domain: str | None = None) -> list[dict[str, str]]:
        """Tags of each band."""
        return [self._readable("tags of bands", {}, self.file.tags, i, ns=domain) for i in self.indexes]

    def own_tags(self) -> dict[str, str]:
        """Tags of the file."""
        tags: dict[str, str] = self._readable("tags", {}, self.file.tags)
        return tags

    def each(self, what: str) -> list[str]:
        """A text of each band, "" where it has none."""
        texts = self._readable(what, None, getattr, self.file, what)
        return ["" if texts is None else texts[i - 1] or "" for i in self.indexes]

    def _readable(self, what: str, instead: Any, read: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
        try:
            return read(*args, **keywords)
        except UnicodeDecodeError as error:
            left_out(self.path, what, f"no text in UTF-8 ({error})")
            return instead


def attributes(told: Told) -> dict[str, Any]:
    """Attributes as rioxarray names them; what a file tells of each band is a tuple."""
    attrs: dict[str, Any] = {key: _parsed(text) for key, text in told.own_tags().items()}
    tags, file = told.tags(), told.file
    attrs |= {key: tuple(_parsed(tag[key]) for tag in tags) for key in tags[0] if all(key in tag for tag in tags)}
    attrs = {key: value for key, value in attrs.items() if key not in _ELSEWHERE}
    attrs |= per_band("scale_factor", "scales", [file.scales[i - 1] for i in told.indexes])
    attrs |= per_band("add_offset", "offsets", [file.offsets[i - 1] for i in told.indexes])
    for key, texts in (("long_name", told.each("descriptions")), ("units", told.each("units"))):
        if any(texts):
            attrs[key] = tuple(texts)
    return attrs


def _parsed(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return text if "_" in text else kind(text)  # Python's own numbers may hold underscores, dates do
        except ValueError:
            continue
    return text


@dataclass(frozen=True)
class BandFacts:
    """What a GeoTIFF tells of its bands: centres and widths in nm, which are bad, names."""

    wavelengths: npt.NDArray[np.float64] | None
    fwhm: npt.NDArray[np.float64] | None
    bad_bands: npt.NDArray[np.bool_] | None
    names: tuple[str, ...]


def band_facts(told: Told) -> BandFacts:
    """Look for them in the bands' tags, GDAL's IMAGERY domain and the descriptions."""
    path = told.path
    tags = [{key.lower(): text for key, text in tag.items()} for tag in told.tags()]
    imagery, texts = told.tags("IMAGERY"), told.each("descriptions")
    wavelengths = _wavelengths(path, tags, imagery, texts)
    bad = _numbers(path, tags, "bbl")
    return BandFacts(
        wavelengths,
        _fwhm(path, tags, imagery, wavelengths),
        None if bad is None else bad == 0,
        tuple(texts) if any(texts) else (),
    )


def _numbers(path: Path, tags: list[dict[str, str]], key: str) -> npt.NDArray[np.float64] | None:
    """One number a band, where every band has that tag."""
    if not all(key in tag for tag in tags):
        return None
    return band_numbers(path, key, [tag[key] for tag in tags], len(tags))


def _wavelengths(
    path: Path, tags: list[dict[str, str]], imagery: list[dict[str, str]], texts: list[str]
) -> npt.NDArray[np.float64] | None:
    if all("wavelength" in tag for tag in tags):
        numbers, unit = _numbers(path, tags, "wavelength"), _unit(tags)
        result = None if numbers is None else nanometres(numbers, unit)
        if numbers is not None and result is None:
            left_out(path, "wavelength", f"its unit {unit!r} is no length")
        return result
    if all("CENTRAL_WAVELENGTH_UM" in domain for domain in imagery):
        numbers = _numbers(path, imagery, "CENTRAL_WAVELENGTH_UM")
        return None if numbers is None else numbers * 1e3
    found = [_IN_TEXT.search(unicodedata.normalize("NFKC", text)) for text in texts]
    if None in found:
        return None
    each = [nanometres([float(match[1])], match[2]) for match in found if match is not None]
    return np.concatenate([one for one in each if one is not None])


def _unit(tags: list[dict[str, str]]) -> str:
    return tags[0].get("wavelength_units", tags[0].get("wavelength_unit", ""))


def _fwhm(
    path: Path, tags: list[dict[str, str]], imagery: list[dict[str, str]], wavelengths: npt.NDArray[np.float64] | None
) -> npt.NDArray[np.float64] | None:
    """Widths have the unit of the wavelengths beside them."""
    if wavelengths is not None and all({"fwhm", "wavelength"} <= tag.keys() for tag in tags):
        numbers = _numbers(path, tags, "fwhm")
        factor = unit_length(_unit(tags), np.array([float(tag["wavelength"]) for tag in tags]))
        return None if numbers is None or factor is None else numbers * factor
    numbers = _numbers(path, imagery, "FWHM_UM")
    return None if numbers is None else numbers * 1e3
