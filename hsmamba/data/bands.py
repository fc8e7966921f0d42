"""Bands of one image found among those of another by their wavelengths: as they are, reordered, or resampled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hsmamba.data.files.content import nanometres
from hsmamba.data.image import is_dataarray
from hsmamba.errors import SceneError

Wavelengths = npt.NDArray[np.float64]

_SAME = 0.25  # of the distance to the next band, within which a band is taken for the same,
_SAME_NM = (1.0, 10.0)  # but no less and no more than this
_BROAD_NM, _BROAD = 40.0, (0.4, 50.0)  # bands further apart are broad, and those of one name at two sensors overlap
_FINER = 0.5  # of a wanted band's width: bands that lie closer are so narrow that several make one
_REACH = 0.75  # of a band's width: how near the next measured band must be to stand for it


@dataclass(frozen=True, eq=False)
class BandMatch:
    """How wanted bands come from those at hand.

    Attributes:
        indices: Of the bands at hand that are used, int (N,): the wanted ones in their order, or what is mixed.
        mixing: (N, K) weights of the used bands in each of the K wanted ones; None where they are the wanted ones.
        note: What was done, in words; empty where nothing was.
    """

    indices: npt.NDArray[np.int64]
    mixing: npt.NDArray[np.float64] | None
    note: str


def wavelengths_of(array: Any) -> tuple[Wavelengths | None, Wavelengths | None]:
    """Read centres and widths (B,) of the bands in nm off a DataArray: its coordinates on band, else its attributes."""
    if not is_dataarray(array) or "band" not in array.dims:
        return None, None
    units = array.attrs.get("wavelength_units", "")
    unit = str(units if isinstance(units, str) else (*units, "")[0])
    found = [_numbers(array, name, unit) for name in ("wavelength", "fwhm")]
    return found[0], found[1] if found[0] is not None else None


def _numbers(array: Any, name: str, unit: str) -> Wavelengths | None:
    if name in array.coords and array.coords[name].dims == ("band",):
        return np.asarray(array.coords[name], dtype=np.float64)
    told = array.attrs.get(name)
    if not isinstance(told, (tuple, list, np.ndarray)) or len(told) != array.sizes["band"]:
        return None
    try:
        values = np.array([float(value) for value in told])
    except ValueError:
        return None
    # A width alone does not tell micrometres from nanometres.
    return nanometres(values, unit) if name == "wavelength" or unit else None


def match_bands(
    have: npt.ArrayLike,
    want: npt.ArrayLike,
    *,
    fwhm: npt.ArrayLike | None = None,
    bad: npt.NDArray[np.bool_] | None = None,
) -> BandMatch:
    """Find wanted bands among those at hand.

    A band is taken for the same where its centre lies within a quarter of the distance to the next wanted one, at least
    1 and at most 10 nm; broad bands, more than 40 nm apart, within two fifths, at most 50 nm. Where not all are found
    so, or the bands at hand are much narrower, every wanted band is resampled by a Gaussian response of its width, with
    weights that leave a spectrum unchanged that is linear in the wavelength.

    Args:
        have: Band centres (B,) at hand, in nm, in any order.
        want: Band centres (K,) that are wanted, in nm, in any order.
        fwhm: Widths of the wanted bands (K,) at half their maximum in nm; default the distance to the next band.
        bad: (B,) True for bands at hand that must not be used.

    Returns:
        The match.

    Raises:
        SceneError: Wanted bands lie where there are none at hand; the text names them.
    """
    here, wanted = np.asarray(have, dtype=np.float64), np.asarray(want, dtype=np.float64)
    usable = np.arange(here.size) if bad is None else np.flatnonzero(~bad)
    if not usable.size:
        raise SceneError("every band of the scene is marked as bad; correct its list of bad bands")
    nearest = usable[np.abs(here[usable][None] - wanted[:, None]).argmin(axis=1)]
    spacing = _spacing(wanted)
    width = spacing if fwhm is None else np.maximum(np.asarray(fwhm, dtype=np.float64), _SAME_NM[0])
    narrow = np.clip(_SAME * spacing, *_SAME_NM)
    tolerance = np.where(spacing > _BROAD_NM, np.minimum(_BROAD[0] * spacing, _BROAD[1]), narrow)
    same = (np.abs(here[nearest] - wanted) <= tolerance).all()
    finer = np.median(_spacing(here)[nearest]) < _FINER * np.median(width)
    if same and not finer and np.unique(nearest).size == nearest.size:
        return BandMatch(nearest, None, _in_words(nearest, here))
    missing = _uncovered(here[usable], wanted, width)
    if missing.any():
        listed = ", ".join(f"{nm:.0f}" for nm in wanted[missing][:8]) + (", ..." if missing.sum() > 8 else "")
        raise SceneError(
            f"the scene's {here.size} bands ({here.min():.0f} to {here.max():.0f} nm"
            + (f", {here.size - usable.size} of them bad" if usable.size < here.size else "")
            + f") do not cover {int(missing.sum())} of the {wanted.size} that are wanted: {listed} nm; take a scene of "
            "the same sensor, or train a model on this one"
        )
    mixing = _gaussian(here[usable], wanted, width)
    used = mixing.any(axis=1)
    note = f"resampled {int(used.sum())} bands to the {wanted.size} that are wanted, by Gaussian responses"
    return BandMatch(usable[used], mixing[used], note)


def _spacing(centres: Wavelengths) -> Wavelengths:
    """Distance of each band to its nearest neighbour, in nm; that of the nearest pair where bands coincide."""
    if centres.size < 2:
        return np.full(centres.shape, 4 * _SAME_NM[1])
    steps = np.abs(centres[:, None] - centres[None])
    np.fill_diagonal(steps, np.inf)
    return np.asarray(np.maximum(steps.min(axis=1), _SAME_NM[0]))


def _in_words(indices: npt.NDArray[np.int64], have: Wavelengths) -> str:
    if np.array_equal(indices, np.arange(have.size)):
        return ""
    order = "in the same order" if (np.diff(indices) > 0).all() else "in another order"
    return f"took {indices.size} of the scene's {have.size} bands by their wavelengths, {order}"


def _uncovered(have: Wavelengths, want: Wavelengths, width: Wavelengths) -> npt.NDArray[np.bool_]:
    """Mark wanted bands (K,) that no band at hand is near enough to, on both sides unless one is the same."""
    distance = have[None] - want[:, None]
    reach = (_REACH * width)[:, None]
    below = ((distance <= 0) & (distance >= -reach)).any(axis=1)
    above = ((distance >= 0) & (distance <= reach)).any(axis=1)
    same = np.abs(distance).min(axis=1) <= _SAME * width
    return np.asarray(~((below & above) | same))


def _gaussian(have: Wavelengths, want: Wavelengths, width: Wavelengths) -> npt.NDArray[np.float64]:
    """Weights (B, K) of the bands at hand, columns that sum to 1 and have their first moment at the wanted centre."""
    distance = have[:, None] - want[None]
    weight = np.exp(-4 * np.log(2) * (distance / width) ** 2)
    weight[np.abs(distance) > 1.5 * width] = 0
    zeroth, first, second = (np.sum(weight * distance**power, axis=0) for power in range(3))
    determinant = zeroth * second - first**2
    flat = determinant <= 1e-9 * (zeroth * width) ** 2  # one band alone, or several of one wavelength
    linear = weight * (second - first * distance) / np.where(flat, 1, determinant)
    return np.asarray(np.where(flat, weight / zeroth, linear))
