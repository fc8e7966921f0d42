"""Sample images that come with the package, to try things on: as arrays, and written as files."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsmamba._files import atomic_path
from hsmamba._optional import is_there, optional_import
from hsmamba.data.files.readers import open_file
from hsmamba.data.scene import PathLike
from hsmamba.data.sets.landsat8 import CENTRES
from hsmamba.data.sets.muufl_crop import load_muufl
from hsmamba.data.writers import write_raster


def load_sample_pair() -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Load a pair of images to sharpen: a crop of a Landsat-8 image, CC0, by the U.S. Geological Survey.

    Rows 504 to 599 and columns 464 to 591 of a CC0 crop of the bands, EPSG:32616, of Collection 1 level 1. As always
    with Landsat, the panchromatic grid begins half of its pixel up and left of that of the bands.

    Returns:
        The bands 1 to 7 of OLI, (96, 128, 7) of 30 m, and its panchromatic band, (192, 256) of 15 m, both uint16
        digital numbers of level 1.
    """
    variables = _sample()
    return variables["ms"].astype(np.uint16), variables["pan"].astype(np.uint16)


def _sample() -> dict[str, NDArray[Any]]:
    with resources.as_file(resources.files("hsmamba") / "scenes" / "landsat8_sample.npz") as path:
        return {name: np.asarray(found.read()) for name, found in open_file(path, masked=False).variables.items()}


def sample_paths(folder: PathLike) -> tuple[Path, ...]:
    """Where `write_samples` writes: a scene, its labels and LiDAR, the coarse image and the sharp one of a pair."""
    suffix = ".tif" if is_there("rioxarray") and is_there("rasterio") else ".npy"
    return tuple(Path(folder) / f"{name}{suffix}" for name in ("scene", "labels", "lidar", "ms", "pan"))


def write_samples(folder: PathLike) -> tuple[Path, ...]:
    """Write the sample images as files.

    The scene is the crop of MUUFL Gulfport (`load_scene("muufl_crop")`), the pair that of `load_sample_pair`.

    Args:
        folder: Where to; made where it is not there.

    Returns:
        The paths of `sample_paths`: GeoTIFFs, of the pair with their place, where the `geo` extra is installed, else
        `.npy`.

    Raises:
        OSError: A file cannot be written.
    """
    paths = sample_paths(folder)
    Path(folder).mkdir(parents=True, exist_ok=True)
    scene, pair = load_muufl(), _sample()
    images = (scene.hsi, scene.labels, scene.aux, pair["ms"], pair["pan"])
    for path, image, name in zip(paths, images, (None, None, None, "ms", "pan"), strict=True):
        if path.suffix == ".npy":
            with atomic_path(path) as temporary, temporary.open("wb") as file:
                np.save(file, np.asarray(image))
        else:
            write_raster(path, np.asarray(image) if name is None else _placed(np.asarray(image), name, pair))
    return paths


def _placed(image: NDArray[Any], name: str, pair: dict[str, NDArray[Any]]) -> Any:
    """Give an image of the pair its place, and its bands their wavelengths."""
    from hsmamba.data.files.place import Place, lay

    xarray, rasterio = (optional_import(module, "to write GeoTIFF files") for module in ("xarray", "rasterio"))
    bands = np.atleast_3d(image)
    attrs = {"wavelength": tuple(CENTRES.values())} if bands.shape[2] == len(CENTRES) else {}
    raster = xarray.DataArray(bands, dims=("y", "x", "band"), attrs=attrs)
    transform = rasterio.Affine(*pair[f"{name}_affine"].tolist())
    return lay(raster, Place(rasterio.CRS.from_epsg(int(pair["epsg"])), transform))
