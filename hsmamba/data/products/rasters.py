"""The raster files of a product: opened by the driver that its layout prescribes, read window by window."""

from __future__ import annotations

import os
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hsmamba._optional import optional_import
from hsmamba.data.files.content import reading
from hsmamba.data.products.cubes import Place, check_size
from hsmamba.errors import HsmambaWarning, SceneError

# Nothing but the file itself is looked at: neither its neighbours nor statistics, masks and overviews beside it.
_GDAL = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_PAM_ENABLED": "NO"}


class Raster:
    """One file.

    It stays open, since a tile of JPEG 2000 costs much to decode and GDAL keeps those it has seen; another process
    opens it anew, as a handle must not be shared.

    Attributes:
        path: The file.
        shape: Rows and columns.
        count: Number of bands.
    """

    def __init__(self, path: Path, driver: str = "GTiff") -> None:
        self.path, self._driver = path, driver
        self._lock = threading.Lock()
        self._process, self._opened = 0, None
        with self._lock, reading(path):
            file = self._file()
            self.shape: tuple[int, int] = file.shape
            self.count: int = file.count
            check_size((*self.shape, self.count))

    def _file(self) -> Any:
        if self._process != os.getpid():
            rasterio = optional_import("rasterio", "to read satellite products")
            with rasterio.Env(**_GDAL) as env, warnings.catch_warnings():
                if self._driver not in env.drivers():
                    raise SceneError(
                        f"{str(self.path)!r} needs GDAL's driver {self._driver}, which this rasterio lacks; the wheels "
                        "have it: pip install --force-reinstall rasterio"
                    )
                warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
                self._opened = rasterio.open(self.path, driver=self._driver)
            self._process = os.getpid()
        return self._opened

    def read(self, rows: slice, columns: slice, bands: npt.ArrayLike = 0) -> npt.NDArray[Any]:
        """Read a window of some bands, counted from 0, as stored: (h, w, b), or (h, w) for a single index."""
        indexes = np.asarray(bands) + 1
        window = ((rows.start, rows.stop), (columns.start, columns.stop))
        with self._lock, reading(self.path):
            block: npt.NDArray[Any] = self._file().read(indexes.tolist(), window=window)
        return block if block.ndim == 2 else block.transpose(1, 2, 0)

    def place(self) -> Place:
        """Return the place, or raise SceneError where the file has none."""
        with self._lock:
            file = self._file()
            if file.crs is None:
                raise SceneError(f"{str(self.path)!r} has no map projection; fetch the product again")
            return Place(file.crs, tuple(file.transform.to_gdal()))

    def check(self, shape: tuple[int, int], count: int, other: str) -> None:
        """Raise SceneError unless the file has this shape and number of bands, as `other` tells or has them."""
        if self.shape != shape or self.count != count:
            raise SceneError(
                f"{str(self.path)!r} has {self.shape} pixels (rows, columns) and {self.count} bands; expected {shape} "
                f"and {count} after {other}: fetch the product again"
            )


def warn_of_missing_mask(product: str, file: str) -> None:
    """Say that a product comes without a quality mask, so that only its "no data" value marks pixels."""
    warnings.warn(
        f"the product {product} lacks its quality mask {file}, so that defective pixels are taken as good ones; fetch "
        "the whole product to have them left out",
        HsmambaWarning,
        stacklevel=2,
    )
