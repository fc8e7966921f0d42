"""Labels drawn of polygons and points onto the grid of an image."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hsmamba._optional import optional_import
from hsmamba.data.files.content import reading
from hsmamba.data.files.vectors import Features, Geometry, as_crs, read_features
from hsmamba.data.georeference import Georeference
from hsmamba.data.image import VALID, Array, is_dataarray, like
from hsmamba.data.labels import Classes, Names, clean_labels
from hsmamba.errors import HsmambaWarning, SceneError

Numbers: TypeAlias = "npt.NDArray[np.int64]"

_TWO = -1  # of a pixel in features of two classes
_DEGREES = 400.0  # beyond every longitude and latitude
_LISTED = 12


def draw_labels(
    path: Path,
    hsi: Array,
    *,
    field: str | None,
    layer: str | None = None,
    names: Names = (),
    classes: Classes | None = None,
) -> tuple[Array, Names]:
    """Draw the features of a file as the label map of an image.

    A pixel gets the class of the polygons that hold its centre, or of the points in it; pixels of two classes are
    unlabelled. Texts are classes in sorted order, of the whole file, so that the tiles of a data set agree, or in the
    order of `names`. Whole numbers are classes as those of a label map are.

    Args:
        path: A file that `read_features` takes.
        hsi: The image (H, W, B), with CRS and place.
        field: Name of the field that holds the class.
        layer: Name of the layer of a GeoPackage.
        names: Names of the classes 1..K; empty where unknown.
        classes: Legend of numbers, see `clean_labels`.

    Returns:
        The label map (H, W) on the grid of the image, and the names of its classes.

    Raises:
        SceneError: The image has no place, the file no CRS or no such field, or values that are no classes.
        MissingExtraError: A package is not installed.

    Warns:
        HsmambaWarning: Features outside the image, classes without a pixel, pixels of two classes.
    """
    place = _place_of(hsi, path)
    features = read_features(path, field, layer)
    labels: Array
    with reading(path):
        legend, numbers = _numbered(path, features.values, names, classes)
        found = _drawn(path, features, numbers, legend, place, (int(hsi.shape[0]), int(hsi.shape[1])))
        found = np.where(found > len(legend), 0, found)
        if legend and isinstance(legend[0], str):
            labels = np.maximum(found, 0).astype(np.min_scalar_type(len(legend) + 1))
            names = tuple(legend)
        else:
            codes = np.array([0, *legend], dtype=np.int64)[np.maximum(found, 0)]
            what = f"the field of {str(path)!r}"
            labels, names = clean_labels(np.ma.masked_array(codes, found <= 0), names, classes, what=what)
    result = like(hsi, np.asarray(labels), name="labels")
    return result.drop_vars(VALID, errors="ignore") if is_dataarray(result) else result, names


def burn(shapes: Sequence[tuple[Geometry, int]], affine: Any, shape: tuple[int, int], *, add: bool = False) -> Numbers:
    """Burn numbers into a grid where geometries hold the centres of pixels.

    Args:
        shapes: Geometries in the coordinates of the grid, and their numbers.
        affine: Six numbers of the grid, as `Georeference.affine` has them.
        shape: Rows and columns (H, W).
        add: Add the numbers of all geometries up; by default the last one stays.

    Returns:
        int64 (H, W), 0 where there is no geometry.
    """
    rasterio = optional_import("rasterio", "to draw polygons")
    features = optional_import("rasterio.features", "to draw polygons")
    how = optional_import("rasterio.enums", "to draw polygons").MergeAlg
    if not shapes:
        return np.zeros(shape, dtype=np.int64)
    drawn = features.rasterize(
        shapes, out_shape=shape, transform=rasterio.Affine(*affine), merge_alg=how.add if add else how.replace,
        dtype="int32",
    )  # fmt: skip
    numbers: Numbers = drawn.astype(np.int64)
    return numbers


def _place_of(hsi: Array, path: Path) -> Georeference:
    place = Georeference.of(hsi)
    if place is None or place.affine is None or place.crs is None:
        lacking = "does not say where it lies" if place is None or place.affine is None else "has no CRS"
        raise SceneError(
            f"the scene {lacking}, so that {str(path)!r} cannot be drawn on it; give a GeoTIFF, or an ENVI file with "
            "map info and coordinate system, or labels as an array or image on the grid of the scene"
        )
    return place


def _numbered(path: Path, values: Sequence[Any], names: Names, classes: Classes | None) -> tuple[list[Any], list[int]]:
    """Return the classes, texts or numbers, and the place of each value among them: 0 for none, K + 1 for another."""
    texts = [_text(value) for value in values]
    known = sorted({text for text in texts if text})
    if not known:
        raise SceneError(f"{str(path)!r} has no feature with a value in this field; give another labels_field=")
    whole = {text: _whole(text) for text in known}
    if None not in whole.values():
        codes = sorted({code for code in whole.values() if code is not None})
        order: dict[int | None, int] = {code: k for k, code in enumerate(codes, start=1)}
        return codes, [order.get(whole[text], 0) if text else 0 for text in texts]
    if classes is not None:
        raise SceneError(
            f"classes= is a legend of numbers, and this field of {str(path)!r} holds texts "
            f"({_listed(known)}); choose and order them with class_names="
        )
    legend = list(names) or known
    if others := sorted(set(known) - set(legend)):
        _warn(f"{str(path)!r}: {_listed(others)} are not among class_names, and are unlabelled")
    place = {name: k for k, name in enumerate(legend, start=1)}
    return legend, [place.get(text, len(legend) + 1) if text else 0 for text in texts]


def _text(value: Any) -> str:
    """Write the value of a field; nothing for none and NaN."""
    if value is None or value != value:
        return ""
    return str(int(value)) if isinstance(value, bool) else str(value).strip()


def _whole(text: str) -> int | None:
    """The whole number that a text is, 3 and 3.0 alike."""
    try:
        number = float(text)
        return int(number) if number.is_integer() else None
    except ValueError:
        return None


def _drawn(
    path: Path, features: Features, numbers: Sequence[int], legend: Sequence[Any], place: Georeference, shape: Any
) -> Numbers:
    """Draw numbered features, and say which of them, and of the classes, are not to be seen."""
    notes = []
    geometries = on_the_ground(path, features, place.crs)
    inside = [_overlaps(one, place, shape) for one in geometries]
    if outside := len(inside) - sum(inside):
        notes.append(f"{outside} of {len(inside)} features lie outside the scene")
    ordered = [(one, k) for one, k, here in zip(geometries, numbers, inside, strict=True) if here and k]
    ordered.sort(key=lambda one: one[1])
    highest, lowest = (burn(each, place.affine, shape) for each in (ordered, ordered[::-1]))  # the last one stays
    found = np.where(highest == lowest, highest, _TWO)
    present = set(np.unique(found).tolist())
    if missing := [str(legend[k - 1]) for k in sorted(set(numbers)) if 0 < k <= len(legend) and k not in present]:
        notes.append(f"no pixel has the class {_listed(missing)}")
    if both := int((found == _TWO).sum()):
        notes.append(f"{both} pixels lie in features of two classes and are unlabelled")
    if notes:
        _warn(f"{str(path)!r}: {'; '.join(notes)}")
    return found


def on_the_ground(path: Path, features: Features, crs: str | None) -> list[Geometry]:
    """Bring geometries of a file to the CRS of an image.

    Raises:
        SceneError: Their own is not known, or cannot be that of these coordinates.
    """
    warp = optional_import("rasterio.warp", "to reproject polygons")
    theirs, ours = as_crs(path, features.crs), optional_import("rasterio.crs", "").CRS.from_user_input(crs)
    if theirs == ours:
        return features.geometries
    reach = max((abs(edge) for one in features.geometries for edge in bounds(one)), default=0.0)
    if theirs.is_geographic and reach > _DEGREES:
        raise SceneError(
            f"{str(path)!r} has coordinates up to {reach:.0f}, which are no degrees; GeoJSON is in longitude and "
            "latitude unless it names another CRS: write it anew with its CRS"
        )
    return list(warp.transform_geom(theirs, ours, features.geometries))


def _overlaps(geometry: Geometry, place: Georeference, shape: tuple[int, int]) -> bool:
    """Whether the bounding box of a geometry meets that of a grid; that of one beyond a projection is not finite."""
    (left, bottom), (right, top) = (edge(np.asarray(place.corners(shape)), axis=0) for edge in (np.min, np.max))
    west, south, east, north = bounds(geometry)
    return bool(west <= right and east >= left and south <= top and north >= bottom and np.isfinite(west + east))


def bounds(geometry: Geometry) -> tuple[float, float, float, float]:
    """West, south, east and north of a geometry."""
    west, south, east, north = optional_import("rasterio.features", "to draw polygons").bounds(geometry)
    return float(west), float(south), float(east), float(north)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")


def _warn(text: str) -> None:
    warnings.warn(text, HsmambaWarning, stacklevel=4)
