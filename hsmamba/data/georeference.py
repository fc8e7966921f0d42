"""Where an image lies on the ground, in whatever form it says so, and whether two images lie on the same."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hsmamba.data.image import Array, is_dataarray
from hsmamba.errors import HsmambaWarning, SceneError

Affine = tuple[float, float, float, float, float, float]
Point = tuple[float, float, float, float, float]
Cut = tuple[float, float, float, float]

_WHOLE: Cut = (0.0, 0.0, 1.0, 1.0)
_NO_TURN = 1e-9  # of a pixel's side; less is rounding


@dataclass(frozen=True)
class Georeference:
    """Where an image lies.

    Attributes:
        crs: Coordinate reference system as well-known text; None where it is not known.
        affine: (a, b, c, d, e, f): a point at column x and row y, counted from the upper left corner of the image, lies
            at (a x + b y + c, d x + e y + f); None where only ground control points or polynomials tell.
        gcps: Ground control points as (row, column, x, y, z), counted from the upper left corner of the image.
        rpcs: Rational polynomial coefficients as JSON, or None.
    """

    crs: str | None
    affine: Affine | None
    gcps: tuple[Point, ...] = ()
    rpcs: str | None = None

    @classmethod
    def of(cls, array: Array) -> Georeference | None:
        """Read it off an image; None where nothing is said: numpy, or coordinates that merely count the pixels."""
        if not is_dataarray(array):
            return None
        attrs = crs_variable(array)
        crs = attrs.get("crs_wkt") or attrs.get("spatial_ref") or None
        cut = _cut(array, attrs)
        gcps, rpcs = _gcps(attrs.get("gcps"), cut), _moved(attrs.get("rpcs"), cut)
        affine = None if gcps else _affine(array, attrs, cut)
        if crs is None and affine is not None and _counts_pixels(affine):
            affine = None
        return cls(crs, affine, gcps, rpcs) if affine or gcps or rpcs else None

    def corners(self, shape: tuple[int, ...]) -> npt.NDArray[np.float64] | None:
        """Coordinates (4, 2) of the corners of an image of these rows and columns; None where no affine tells them."""
        affine = self.affine or _fitted(self.gcps)
        if affine is None:
            return None
        height, width = shape[:2]
        a, b, c, d, e, f = affine
        points = np.array([(0, 0), (width, 0), (0, height), (width, height)], dtype=np.float64)
        return np.asarray(points @ np.array([[a, d], [b, e]]) + (c, f))


def crs_variable(array: Any) -> dict[str, Any]:
    """Attributes of the coordinate that holds the CRS of a DataArray, empty where there is none."""
    name = array.attrs.get("grid_mapping") or array.encoding.get("grid_mapping") or "spatial_ref"
    return array.coords[name].attrs if name in array.coords else {}


def _six(attrs: dict[str, Any]) -> Affine | None:
    """GDAL's six numbers, in the order of `Georeference.affine`."""
    numbers = [float(part) for part in str(attrs.get("GeoTransform", "")).split()]
    if len(numbers) != 6:
        return None
    c, a, b, f, d, e = numbers
    turned = max(abs(b), abs(d)) > _NO_TURN * max(abs(a), abs(e))
    return (a, b, c, d, e, f) if turned else (a, 0.0, c, 0.0, e, f)


def _is_named(array: Any) -> bool:
    return {"x", "y"} <= set(array.coords) and all(array.coords[axis].ndim == 1 for axis in ("x", "y"))


def _cut(array: Any, attrs: dict[str, Any]) -> Cut:
    """Upper edge, left edge and steps (rows, columns) of an image in the pixels of the one that it was cut from.

    Coordinates follow a crop, what else tells a place does not. They count pixels where no affine along the axes tells
    a place, or are those of the pixels' centres in two axes, as rioxarray has them where an image is rotated.
    """
    six = _six(attrs)
    if {"xc", "yc"} <= set(array.coords) and array.coords["xc"].ndim == 2 and six is not None:
        return _cut_of_centres(np.stack([np.asarray(array.coords[axis], np.float64) for axis in ("xc", "yc")]), six)
    if not _is_named(array):
        return _WHOLE
    along = not attrs.get("gcps") and six is not None and not (six[1] or six[3])
    edges, steps = [], []
    for axis, k, start in (("y", 4, 5), ("x", 0, 2)):
        values = np.asarray(array.coords[axis], dtype=np.float64)
        pixels = (values - six[start]) / six[k] if along and six is not None else values
        steps.append(float((pixels[-1] - pixels[0]) / (len(pixels) - 1)) if len(pixels) > 1 else 1.0)
        edges.append(float(pixels[0]) - steps[-1] / 2)
    cut = edges[0], edges[1], steps[0], steps[1]
    return _WHOLE if np.allclose(cut, _WHOLE, rtol=0, atol=1e-6) else cut


def _cut_of_centres(centres: npt.NDArray[np.float64], six: Affine) -> Cut:
    a, b, c, d, e, f = six
    height, width = centres.shape[1:]
    corners = centres[:, [0, 0, height - 1], [0, width - 1, 0]].T - (c, f)
    first, right, below = np.linalg.solve(np.array([[a, b], [d, e]]), corners.T).T
    across = float((right - first)[0]) / (width - 1) if width > 1 else 1.0
    down = float((below - first)[1]) / (height - 1) if height > 1 else 1.0
    cut = float(first[1]) - down / 2, float(first[0]) - across / 2, down, across
    return _WHOLE if np.allclose(cut, _WHOLE, rtol=0, atol=1e-6) else cut


def _affine(array: Any, attrs: dict[str, Any], cut: Cut) -> Affine | None:
    """From the coordinates, which follow every crop, else from GDAL's six numbers."""
    six = _six(attrs)
    if six is not None and (six[1] or six[3]):
        (a, b, c, d, e, f), (top, left, down, across) = six, cut
        return a * across, b * down, c + a * left + b * top, d * across, e * down, f + d * left + e * top
    if not _is_named(array):
        return six
    steps = {}
    for axis, known in (("x", np.nan if six is None else six[0]), ("y", np.nan if six is None else six[4])):
        values = np.asarray(array.coords[axis], dtype=np.float64)
        steps[axis] = (values[-1] - values[0]) / (len(values) - 1) if len(values) > 1 else known
        if not np.isfinite(steps[axis]) or not steps[axis]:
            return None
    left, top = (float(array.coords[axis][0]) - steps[axis] / 2 for axis in ("x", "y"))
    return float(steps["x"]), 0.0, left, 0.0, float(steps["y"]), top


def _counts_pixels(affine: Affine) -> bool:
    a, b, c, d, e, f = affine
    return (a, b, d) == (1, 0, 0) and abs(e) == 1 and abs(c) <= 0.5 and abs(f) <= 0.5


def _gcps(found: Any, cut: Cut) -> tuple[Point, ...]:
    """Read ground control points as rioxarray keeps them: GeoJSON, as text or parsed."""
    if not found:
        return ()
    top, left, down, across = cut
    features = (json.loads(found) if isinstance(found, str) else found)["features"]
    points = [(one["properties"], one["geometry"]["coordinates"]) for one in features]
    return tuple(
        (
            (float(at["row"]) - top) / down,
            (float(at["col"]) - left) / across,
            float(x),
            float(y),
            float((*z, 0.0)[0] or 0.0),
        )
        for at, (x, y, *z) in points
    )


def _moved(rpcs: Any, cut: Cut) -> str | None:
    """Rational polynomial coefficients of a crop; they count lines and samples from the middle of the first pixel."""
    if not rpcs or cut == _WHOLE:
        return rpcs or None
    table = json.loads(rpcs)
    for axis, edge, step in (("line", *cut[::2]), ("samp", *cut[1::2])):
        table[f"{axis}_off"] = (table[f"{axis}_off"] + 0.5 - edge) / step - 0.5
        table[f"{axis}_scale"] = table[f"{axis}_scale"] / step
    return json.dumps(table)


def _fitted(gcps: tuple[Point, ...]) -> Affine | None:
    """The affine nearest to ground control points."""
    if len(gcps) < 3:
        return None
    table = np.array(gcps)
    design = np.column_stack([table[:, 1], table[:, 0], np.ones(len(table))])
    solution, _, rank, _ = np.linalg.lstsq(design, table[:, 2:4], rcond=None)
    if rank < 3:
        return None
    (a, d), (b, e), (c, f) = solution.tolist()
    return a, b, c, d, e, f


def same_crs(a: str, b: str) -> bool:
    """Whether two texts name one coordinate reference system."""
    if a == b:
        return True
    from rasterio.crs import CRS  # whoever has a CRS in an array has rasterio

    return bool(CRS.from_user_input(a) == CRS.from_user_input(b))


def check_same_ground(one: Array, other: Array, names: tuple[str, str], *, tolerance: float) -> None:
    """Refuse two images of which the one lies elsewhere than the other; say where it cannot be told.

    Args:
        one: (h, w, ...); its pixels are the measure.
        other: Another image of the same ground, of any pixel size.
        names: What to call them.
        tolerance: How far their corners may lie apart, in pixels of `one`.

    Raises:
        SceneError: Another coordinate reference system, or corners further apart.

    Warns:
        HsmambaWarning: One image has a place and the other has none, or their places cannot be compared.
    """
    first, second = Georeference.of(one), Georeference.of(other)
    if first is None or second is None:
        if first is not second:
            lost, placed = names if first is None else names[::-1]
            _say(f"{lost} does not say where it lies, {placed} does; both are taken to show the same ground")
        return
    if first.crs and second.crs and not same_crs(first.crs, second.crs):
        raise SceneError(
            f"{names[0]} and {names[1]} have other coordinate reference systems ({_short(first.crs)} and "
            f"{_short(second.crs)}); reproject {names[0]} to the CRS of {names[1]}"
        )
    ours, theirs = first.corners(one.shape), second.corners(other.shape)
    if ours is None or theirs is None:
        if first != second:
            _say(f"the places of {names[0]} and {names[1]} cannot be compared (RPCs); they are taken to be the same")
        return
    height, width = one.shape[:2]
    sides = np.array([(ours[1] - ours[0]) / width, (ours[2] - ours[0]) / height]).T  # of a pixel, as columns
    apart = np.abs(np.linalg.solve(sides, (theirs - ours).T)).max(axis=1)
    if not (apart <= tolerance).all():
        raise SceneError(
            f"by their coordinates, edges of {names[0]} and of {names[1]} lie {apart[1]:.2f} (rows) and {apart[0]:.2f} "
            f"(columns) pixels of {names[0]} apart; crop or reproject both to the same ground"
        )


def _short(wkt: str) -> str:
    return wkt if len(wkt) <= 60 else f"{wkt[:60]}..."


def _say(text: str) -> None:
    warnings.warn(text, HsmambaWarning, stacklevel=4)
