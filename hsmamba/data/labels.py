"""Label maps as people have them, brought to one form: integers, 0 = unlabelled, classes 1..K.

What stands for "no label" is told by the file (its "no data" value), or it is a value that no class has: NaN, infinity,
a negative number, 255 or the highest number of the dtype. Beside -1, 0 is a class. Numbers of classes are kept as they
are, gaps included, so that the tiles of one data set agree; a legend (`classes=`) numbers codes anew, and names the
classes by them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from hsmamba.data.image import VALID, Array, check_array, is_dataarray, like
from hsmamba.data.validity import Validity
from hsmamba.errors import HsmambaWarning, SceneError

Classes: TypeAlias = "Sequence[int] | Mapping[int, str]"
Names: TypeAlias = "tuple[str, ...]"
Codes: TypeAlias = "npt.NDArray[np.int64]"
Mask: TypeAlias = "npt.NDArray[np.bool_]"

_MOST_CLASSES = 255  # numbers above are codes of a legend, unless every one below occurs or is named
_NO_CLASS = 2.0**31  # of floating point numbers: the lowest float32 and 1e300 stand for "no data"


def clean_labels(
    labels: Array,
    names: Names = (),
    classes: Classes | None = None,
    *,
    nodata: float | None = None,
    what: str = "labels",
) -> tuple[Array, Names]:
    """Bring a label map to integers with 0 = unlabelled and classes from 1; a map that is so is given back as it is.

    Args:
        labels: (H, W), or with a single band, of any real dtype.
        names: Name of class k at k - 1; empty where unknown.
        classes: Legend: the codes of the classes 1..K, or the names of the classes by code. Other codes are unlabelled.
        nodata: Declared value of unlabelled pixels, beside those that a DataArray declares itself.
        what: The map, in errors.

    Returns:
        The map on the same grid, and the names of its classes: `names`, else those of `classes`, else the codes where
        0 is one of the classes.

    Raises:
        SceneError: Several bands, numbers that are not whole, codes without a legend, or names that do not fit.
    """
    labels = _single_band(labels, what)
    declared = {float(value) for value in (nodata, *_declared(labels)) if value is not None}
    if classes is None and _is_clean(labels, declared, names):
        return labels, names
    codes, void = _whole_numbers(labels, declared, what)
    if classes is not None:
        legend = _legend(classes, names)
        numbers, names = _by_legend(codes, void, legend, what), tuple(legend.values())
    else:
        numbers, names = _by_number(_Map(labels, codes, void, declared, names, what))
    result = numbers.astype(_dtype_for(labels, numbers))
    return (
        like(labels, result, name="labels").drop_vars(VALID, errors="ignore") if is_dataarray(labels) else result
    ), names


def is_label_map(name: str, read: Callable[[], Array]) -> bool:
    """Tell whether a floating point array of a file is its label map: by its name, and by whole numbers in it."""
    spelled = name.lower()
    if "gt" not in spelled.split("_") and not any(word in spelled for word in ("label", "truth", "ground", "class")):
        return False
    values = np.asarray(read())
    finite = values[np.isfinite(values)]
    return bool(finite.size and (finite == np.floor(finite)).all() and finite.min() >= -1 and finite.max() > 0)


def _single_band(labels: Array, what: str) -> Array:
    """Take the map out of a raster with one band, wherever its axis is; refuse several."""
    if is_dataarray(labels) and labels.ndim == 3 and labels.sizes.get("band") == 1:
        labels = labels.isel(band=0, drop=True)
    elif isinstance(labels, np.ndarray) and labels.ndim == 3 and labels.shape[2] == 1:
        labels = labels[..., 0]
    if getattr(labels, "ndim", 2) == 3:
        raise SceneError(
            f"{what} has the shape {tuple(labels.shape)}, several bands; expected one that holds the numbers of the "
            "classes: take it out (labels=array[..., 0]). A picture in colours is no label map"
        )
    check_array(labels, what, ("y", "x"))
    return labels


def _declared(labels: Array) -> list[Any]:
    """What a DataArray says of its unlabelled pixels, as rioxarray and xarray note it."""
    if not is_dataarray(labels):
        return []
    keys = ("_FillValue", "missing_value", "nodata")
    notes = [source.get(key) for source in (labels.attrs, labels.encoding) for key in keys]
    return [value for value in notes if isinstance(value, (int, float, np.number))]


def _is_clean(labels: Array, declared: set[float], names: Names) -> bool:
    """Whether nothing is to be done, told without sorting the pixels."""
    if labels.dtype.kind not in "iu" or not labels.dtype.isnative or declared - {0.0}:
        return False
    if np.ma.isMaskedArray(labels) or Validity.of(labels).mask is not None:
        return False
    values = np.asarray(labels)
    if not values.size:
        return True
    low, high = int(values.min()), int(values.max())
    return low >= 0 and high < _MOST_CLASSES and high < np.iinfo(values.dtype).max and not (names and high > len(names))


def _whole_numbers(labels: Array, declared: set[float], what: str) -> tuple[Codes, Mask]:
    """Return the map as int64, 0 where it is void, and where that is: what is masked, declared, or no number."""
    void = np.zeros(labels.shape, dtype=bool)
    if np.ma.isMaskedArray(labels):
        void, labels = np.ma.getmaskarray(labels).copy(), np.ma.getdata(labels)
    if (mask := Validity.of(labels).mask) is not None:
        void |= ~mask
    values = np.asarray(labels)
    if values.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            void |= ~(np.abs(values) < _NO_CLASS)
    for value in declared:
        void |= np.isclose(values, value, rtol=1e-6, atol=0) if values.dtype.kind == "f" else values == value
    values = np.where(void, 0, values)
    if values.dtype.kind == "f" and (broken := values != np.floor(values)).any():
        raise SceneError(
            f"{what} holds {values[broken][0]:g} (dtype {values.dtype}); expected whole numbers, 0 = unlabelled: a map "
            "of classes is resampled by nearest neighbour"
        )
    return values.astype(np.int64), void


def _legend(classes: Classes, names: Names) -> dict[int, str]:
    """Return the names of the classes 1..K by code, in their order."""
    codes = [int(code) for code in classes]
    if len(set(codes)) != len(codes) or not codes or list(classes) != codes:
        raise SceneError(f"classes is {classes!r}; expected the code of every class once, integers")
    if isinstance(classes, Mapping):
        given: Sequence[str] = [str(name) for name in classes.values()]
    else:
        given = names or [str(code) for code in codes]
    if len(given) != len(codes):
        raise SceneError(f"there are {len(given)} class names for {len(codes)} codes of classes=; name every class")
    return dict(zip(codes, given, strict=True))


def _by_legend(codes: Codes, void: Mask, legend: Mapping[int, str], what: str) -> Codes:
    wanted = np.array(list(legend))
    order = np.argsort(wanted)
    place = np.searchsorted(wanted[order], codes).clip(0, len(wanted) - 1)
    known = wanted[order][place] == codes
    numbers = np.where(known & ~void, order[place] + 1, 0)
    others = np.unique(codes[~known & ~void])
    others = others[(others > 0) & (others != 255)]
    if others.size:
        _warn(
            f"{what} holds the codes {_listed(others)}, which classes= does not name: "
            f"{int(np.isin(codes, others).sum())} pixels are unlabelled"
        )
    return numbers


class _Map(NamedTuple):
    """A label map without a legend, and what is known of it."""

    labels: Array
    codes: Codes
    void: Mask
    declared: set[float]
    names: Names
    what: str


def _by_number(map: _Map) -> tuple[Codes, Names]:
    """Keep the numbers of the classes, but for maps that count from 0."""
    found = np.unique(map.codes[~map.void])
    empty = _void_values(map, found)
    unlabelled = map.void | np.isin(map.codes, empty)
    classes, names = np.setdiff1d(found, empty), map.names
    if _zero_is_a_class(map, found, classes):
        numbers = np.where(unlabelled, 0, map.codes + 1)
        names = names or tuple(str(k) for k in range(int(classes[-1]) + 1))
        _warn(
            f"{map.what}: -1 stands for unlabelled pixels, so that 0 is a class, and {_listed(classes)} become the "
            f"classes {_listed(classes + 1)}. Say so for every map of the data set with "
            f"classes=[{_listed(range(len(names)))}]; where 0 is unlabelled, too, give "
            f"classes=[{_listed(classes[classes > 0])}]"
        )
    else:
        numbers = np.where(unlabelled, 0, map.codes)
        _tell_of_void(map, found, empty, unlabelled)
    _check_range(numbers, names, map.what)
    return numbers, names


def _tell_of_void(map: _Map, found: Codes, empty: Codes, unlabelled: Mask) -> None:
    """Say which pixels are unlabelled, where that is not plain: undeclared values, or 0 beside another one."""
    classes = np.setdiff1d(found, [0, *empty])
    doubt = 0 in found and 0.0 not in map.declared and unlabelled.any() and classes.size
    if empty.size or doubt:
        which = _listed(empty) or "what has no data"
        _warn(
            f"{map.what}: {which} is taken as unlabelled, {int(unlabelled.sum())} pixels"
            + (f", and 0, too; where 0 is a class, give classes=[{_listed([0, *classes])}]" if doubt else "")
        )


def _void_values(map: _Map, found: Codes) -> Codes:
    """Find the values that no class has: negative ones, and the top of the range where it stands alone."""
    top = {255}
    if map.labels.dtype.kind in "iu":
        top.add(int(np.iinfo(map.labels.dtype).max))
    present = set(found.tolist())
    alone = [value for value in top & present if value - 1 not in present and value > len(map.names)]
    return np.array(sorted([*(value for value in present if value < 0), *alone]), dtype=np.int64)


def _zero_is_a_class(map: _Map, found: Codes, classes: Codes) -> bool:
    """Whether 0 is a class: -1 stands for unlabelled pixels, which nobody needs where 0 does."""
    if 0 not in found or 0.0 in map.declared or (map.names and classes[-1] >= len(map.names)):
        return False
    return -1.0 in map.declared or -1 in found


def _check_range(numbers: Codes, names: Names, what: str) -> None:
    high = int(numbers.max(initial=0))
    if names and high > len(names):
        raise SceneError(
            f"{what} reaches up to {high}, but there are {len(names)} class names; expected labels in "
            f"0..{len(names)}: name every class, or give the codes of the named ones with classes="
        )
    if not names and high > _MOST_CLASSES:
        present = np.unique(numbers[numbers > 0])
        if len(present) < high:
            raise SceneError(
                f"{what} holds {len(present)} codes up to {high}; expected classes 1..K: give the legend with "
                f'classes=[{_listed(present)}], or with names as {{{present[0]}: "..."}}'
            )


def _dtype_for(labels: Array, numbers: Codes) -> np.dtype[Any]:
    """Keep an integer dtype that holds the numbers, in the byte order of this machine."""
    dtype: np.dtype[Any] = labels.dtype.newbyteorder("=")
    fits = dtype.kind in "iu" and numbers.max(initial=0) <= np.iinfo(dtype).max
    return dtype if fits else np.dtype(np.int64)


def _listed(values: Any) -> str:
    """List numbers in a message: as many as a legend may well have."""
    numbers = [str(int(value)) for value in values]
    return ", ".join(numbers[:64]) + (", ..." if len(numbers) > 64 else "")


def _warn(text: str) -> None:
    warnings.warn(text, HsmambaWarning, stacklevel=4)
