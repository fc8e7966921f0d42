"""Cubes of products that keep each band in a file of its own, some on a coarser grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hsmamba.data.products.cubes import Place
from hsmamba.data.products.rasters import Raster
from hsmamba.errors import SceneError


@dataclass(frozen=True)
class Layer:
    """A file of one band, whose pixels are repeated to reach the grid of the others."""

    raster: Raster
    repeat: int = 1

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns on the grid of the others."""
        return self.raster.shape[0] * self.repeat, self.raster.shape[1] * self.repeat

    def place(self) -> Place:
        """Return the place of the repeated pixels."""
        own = self.raster.place()
        x, dx, row_turn, y, column_turn, dy = own.geotransform
        return Place(own.crs, (x, dx / self.repeat, row_turn, y, column_turn, dy / self.repeat))

    def read(self, rows: slice, columns: slice) -> npt.NDArray[Any]:
        """Read a window (h, w) of the grid of the others."""
        n = self.repeat
        top, left = rows.start // n, columns.start // n
        block = self.raster.read(slice(top, -(-rows.stop // n)), slice(left, -(-columns.stop // n)))
        fine = block.repeat(n, axis=0).repeat(n, axis=1) if n > 1 else block
        return fine[rows.start - top * n : rows.stop - top * n, columns.start - left * n : columns.stop - left * n]


def common_grid(layers: Sequence[Layer]) -> tuple[tuple[int, int], Place]:
    """Return the shape and the place that all layers share, or raise SceneError that names one which does not."""
    first = layers[0]
    shape, place = first.shape, first.place()
    for layer in layers:
        own = layer.place()
        layer.raster.check((shape[0] // layer.repeat, shape[1] // layer.repeat), 1, repr(first.raster.path.name))
        near = np.allclose(own.geotransform, place.geotransform, rtol=0, atol=abs(place.geotransform[1]) / 100)
        if own.crs != place.crs or not near:
            raise SceneError(
                f"{str(layer.raster.path)!r} lies at {own.geotransform} in {own.crs}, {first.raster.path.name!r} at "
                f"{place.geotransform} in {place.crs}; expected one grid: fetch the product again"
            )
    return shape, place


def read_layers(
    layers: Sequence[Layer], rows: slice, columns: slice, which: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Read a window of some layers as float32 (h, w, b)."""
    return np.stack([layers[i].read(rows, columns) for i in which], axis=-1).astype(np.float32)
