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


@dataclass(frozen=True)
class Georeference:
    """Where an image lies.

    Attributes:
        crs: Coordinate reference system as well-known text; None where it is not known.
        affine: (a, b, c, d, e, f): a point at column x and row y, counted from the upper left corner of the image, lies
            at (a x + b y + c, d x + e y + f); None where only ground control points or polynomials tell.
        gcps: Ground control points as (row, column, x, y).
        rpcs: Rational polynomial coefficients as JSON, or None.
    """

    crs: str | None
    affine: Affine | None
    gcps: tuple[tuple[float, float, float, float], ...] = ()
    rpcs: str | None = None

    @classmethod
    def of(cls, array: Array) -> Georeference | None:
        """Read it off an image; None where nothing is said: numpy, or coordinates that merely count the pixels."""
        if not is_dataarray(array):
            return None
        attrs = array.coords["spatial_ref"].attrs if "spatial_ref" in array.coords else {}
        crs = attrs.get("crs_wkt") or attrs.get("spatial_ref") or None
        gcps, rpcs = _gcps(attrs.get("gcps"), array), attrs.get("rpcs")
        affine = None if gcps else _affine(array, attrs)
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


def _affine(array: Any, attrs: dict[str, Any]) -> Affine | None:
    """From the coordinates, which follow every crop, else from GDAL's six numbers."""
    named = {"x", "y"} <= set(array.coords) and all(array.coords[axis].ndim == 1 for axis in ("x", "y"))
    numbers = [float(part) for part in str(attrs.get("GeoTransform", "")).split()]
    c, a, b, f, d, e = numbers if len(numbers) == 6 else (np.nan, np.nan, 0.0, np.nan, 0.0, np.nan)
    if b or d or not named:  # coordinates cannot tell a rotation, nor a crop of a rotated image
        return (a, b, c, d, e, f) if len(numbers) == 6 else None
    steps = {}
    for axis, known in (("x", a), ("y", e)):
        values = np.asarray(array.coords[axis], dtype=np.float64)
        steps[axis] = (values[-1] - values[0]) / (len(values) - 1) if len(values) > 1 else known
        if not np.isfinite(steps[axis]) or not steps[axis]:
            return None
    left, top = (float(array.coords[axis][0]) - steps[axis] / 2 for axis in ("x", "y"))
    return float(steps["x"]), 0.0, left, 0.0, float(steps["y"]), top


def _counts_pixels(affine: Affine) -> bool:
    a, b, c, d, e, f = affine
    return (a, b, d) == (1, 0, 0) and abs(e) == 1 and abs(c) <= 0.5 and abs(f) <= 0.5


def _gcps(found: Any, array: Any) -> tuple[tuple[float, float, float, float], ...]:
    """Read ground control points as rioxarray keeps them: GeoJSON, as text or parsed."""
    if not found:
        return ()
    # Beside such points the coordinates count pixels, so they tell how much a crop has cut off.
    top, left = (float(array[axis][0]) - 0.5 if axis in array.coords else 0.0 for axis in ("y", "x"))
    features = (json.loads(found) if isinstance(found, str) else found)["features"]
    points = [(one["properties"], one["geometry"]["coordinates"]) for one in features]
    return tuple((float(at["row"]) - top, float(at["col"]) - left, float(x), float(y)) for at, (x, y, *_) in points)


def _fitted(gcps: tuple[tuple[float, float, float, float], ...]) -> Affine | None:
    """The affine nearest to ground control points."""
    if len(gcps) < 3:
        return None
    table = np.array(gcps)
    design = np.column_stack([table[:, 1], table[:, 0], np.ones(len(table))])
    solution, _, rank, _ = np.linalg.lstsq(design, table[:, 2:], rcond=None)
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
