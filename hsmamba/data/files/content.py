"""What is inside a file: its arrays, still unread, and what its header tells about the bands."""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hsmamba.data.image import Array
from hsmamba.errors import HsmambaError, HsmambaWarning, SceneError

# Length of a unit in nm; the British spelling and the plural are brought to these first.
_UNITS = {"nanometer": 1.0, "nm": 1.0, "micrometer": 1e3, "micron": 1e3, "um": 1e3, "\u03bcm": 1e3}
_UNITS |= {"millimeter": 1e6, "mm": 1e6, "centimeter": 1e7, "cm": 1e7, "meter": 1e9, "m": 1e9, "angstrom": 0.1}
_UNKNOWN = frozenset({"", "unknown", "none", "?m", "\ufffdm"})  # the last two: a letter that another program lost


@dataclass(frozen=True)
class Variable:
    """An array of a file, not read yet."""

    shape: tuple[int, ...]  # of rasters (H, W, B)
    dtype: str  # as far as the header tells it
    read: Callable[[], Array]


@dataclass(frozen=True)
class Content:
    """What a file holds."""

    variables: dict[str, Variable]  # by name; a format without names has one array, named ""
    wavelengths: npt.NDArray[np.float64] | None = None  # band centres in nm
    bad_bands: npt.NDArray[np.bool_] | None = None  # (B,), True = bad
    class_names: tuple[str, ...] = ()  # of the classes 1..K of a label image
    nodata: float | None = None  # stands for "no data" in arrays read with `masked=False`
    fwhm: npt.NDArray[np.float64] | None = None  # width of each band at half its maximum, in nm
    band_names: tuple[str, ...] = ()


def is_real(dtype: str) -> bool:
    """Tell whether a variable's dtype is one of real numbers; others have the words of their formats."""
    try:
        return np.dtype(dtype).kind in "biuf"
    except TypeError:
        return False


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever a reader raises on damaged bytes into a SceneError that names the file."""
    try:
        yield
    except HsmambaError:
        raise
    except MemoryError as error:
        raise SceneError(
            f"{str(path)!r} asks for more memory than there is ({error}); it is damaged, or too large for this machine"
        ) from error
    except Exception as error:  # the formats' packages promise no set of exceptions
        raise SceneError(
            f"{str(path)!r} could not be read ({type(error).__name__}: {error}); it is truncated, or not what its "
            "extension says: fetch or write it again"
        ) from error


def nanometres(values: npt.ArrayLike, unit: str) -> npt.NDArray[np.float64] | None:
    """Convert wavelengths (B,) to nm; None for units that are no lengths (wavenumber, index, GHz)."""
    wavelengths = np.asarray(values, dtype=np.float64)
    factor = unit_length(unit, wavelengths)
    return None if factor is None else wavelengths * factor


def unit_length(unit: str, wavelengths: npt.NDArray[np.float64]) -> float | None:
    """Give the length of a header's unit in nm, None where it is no length.

    The unit is as a header spells it. Where it is empty, "Unknown" or damaged, wavelengths below 100 are taken as
    micrometres and all others as nanometres: no optical sensor has bands that leave a doubt.
    """
    # NFKC makes one letter of the micro sign and the Greek mu.
    spelled = unicodedata.normalize("NFKC", unit).strip().lower().replace("metre", "meter")
    if len(spelled) > 2:
        spelled = spelled.rstrip("s")
    if spelled in _UNKNOWN:
        return 1000.0 if wavelengths.size and np.nanmax(wavelengths) < 100 else 1.0
    return _UNITS.get(spelled)


def band_numbers(path: Path, field: str, texts: Sequence[str], bands: int) -> npt.NDArray[np.float64] | None:
    """Read one number a band, (bands,).

    None for an empty list. A list of another length or with what is no finite number is left out with a warning.
    """
    if not texts:
        return None
    why = f"it has {len(texts)} entries for {bands} bands"
    if len(texts) == bands:
        try:
            numbers = np.array([float(text) for text in texts])
            if np.isfinite(numbers).all():
                return numbers
            why = "it holds values that are not finite"
        except ValueError as error:
            why = str(error)
    left_out(path, field, why)
    return None


def left_out(path: Path, field: str, why: str) -> None:
    """Warn that something of a header is not used."""
    warnings.warn(f"{field!r} of {str(path)!r} is left out: {why}", HsmambaWarning, stacklevel=2)
