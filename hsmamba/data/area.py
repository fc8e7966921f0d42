"""The part of an image that polygons hold, window by window."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hsmamba.data.drawing import bounds, burn, on_the_ground
from hsmamba.data.files.vectors import Geometry, read_features
from hsmamba.data.georeference import Affine, Georeference
from hsmamba.data.image import Array
from hsmamba.errors import SceneError


class Area:
    """Tells which pixels of a window have their centre within polygons.

    Args:
        polygons: In the coordinates of the image.
        affine: Of the image, as `Georeference.affine` has it.
    """

    def __init__(self, polygons: Sequence[Geometry], affine: Affine) -> None:
        self.polygons, self.affine = list(polygons), affine
        a, b, c, d, e, f = affine
        boxes = np.array([bounds(one) for one in polygons])[:, [[0, 1], [0, 3], [2, 1], [2, 3]]]  # (N, 4, 2)
        pixels = np.linalg.solve(np.array([[a, b], [d, e]]), (boxes - (c, f)).reshape(-1, 2).T).T.reshape(-1, 4, 2)
        self._first, self._last = pixels.min(axis=1), pixels.max(axis=1)  # column and row, of each polygon

    def __call__(self, rows: slice, columns: slice) -> npt.NDArray[np.bool_]:
        """Tell of a window, (h, w)."""
        shape = rows.stop - rows.start, columns.stop - columns.start
        near = (self._first < (columns.stop, rows.stop)).all(axis=1) & (self._last > (columns.start, rows.start)).all(
            axis=1
        )
        if not near.any():
            return np.zeros(shape, bool)
        a, b, c, d, e, f = self.affine
        x, y = columns.start, rows.start
        here = a, b, a * x + b * y + c, d, e, d * x + e * y + f
        return np.asarray(burn([(self.polygons[i], 1) for i in np.flatnonzero(near)], here, shape) > 0)

    def meets(self, shape: tuple[int, int]) -> bool:
        """Whether the boxes of the polygons reach into an image (H, W)."""
        return bool(((self._first < shape[::-1]).all(axis=1) & (self._last > 0).all(axis=1)).any())


def open_area(path: Path, image: Array, *, layer: str | None = None) -> Area:
    """Read polygons that limit the area of an image.

    Args:
        path: A shapefile, GeoJSON (`.geojson`, `.json`) or GeoPackage.
        image: (H, W, B), with CRS and place.
        layer: Name of the layer of a GeoPackage; not needed where there is just one.

    Raises:
        SceneError: No such file, or it is damaged, has no polygon or no CRS; the image has no place, or no polygon
            reaches into it.
        MissingExtraError: A package is not installed.
    """
    place = Georeference.of(image)
    if place is None or place.affine is None or place.crs is None:
        raise SceneError(
            f"the image does not say where it lies, so that the area of {str(path)!r} is not known in it; give a "
            "GeoTIFF, or an ENVI file with map info and coordinate system, or leave the area out"
        )
    features = read_features(path, None, layer, valued=False)
    if not features.geometries or any("Polygon" not in one["type"] for one in features.geometries):
        raise SceneError(f"{str(path)!r} has no polygons, or points beside them; give polygons alone for an area")
    area = Area(on_the_ground(path, features, place.crs), place.affine)
    if not area.meets((int(image.shape[0]), int(image.shape[1]))):
        raise SceneError(
            f"the polygons of {str(path)!r} lie outside the image; give those of its ground, or write them anew with "
            "the CRS that they are in"
        )
    return area
