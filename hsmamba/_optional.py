"""Optional dependencies: imported where they are used, with an error that names the extra to install."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from types import ModuleType

from hsmamba.errors import MissingExtraError

EXTRAS = {
    "accelerate": "accelerate",
    "pyogrio": "app",
    "starlette": "app",
    "uvicorn": "app",
    "dask": "dask",
    "tensorly": "demo",
    "matplotlib": "demo",
    "sklearn": "classical",
    "rasterio": "geo",
    "rioxarray": "geo",
    "xarray": "geo",
    "h5py": "geo",
    "shapefile": "geo",
    "shapely": "geo",
    "zarr": "zarr",
}


def optional_import(module: str, purpose: str) -> ModuleType:
    """Import an optional module.

    Args:
        module: Dotted name; its first part is a key of `EXTRAS`.
        purpose: What it is needed for, as it stands in the error ("to read GeoTIFF files").

    Returns:
        The imported module.

    Raises:
        MissingExtraError: The package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.split(".")[0]
        extra = EXTRAS[package]
        raise MissingExtraError(
            f"{package} is needed {purpose} and could not be imported ({error}); "
            f'install it with: pip install "hsmamba[{extra}]"'
        ) from error


def is_there(module: str) -> bool:
    """Tell whether an optional module is installed, without importing it."""
    return find_spec(module) is not None
