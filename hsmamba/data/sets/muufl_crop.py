"""A crop of MUUFL Gulfport, out of the folder of data: hyperspectral image and LiDAR."""

from __future__ import annotations

import numpy as np

from hsmamba.data.files.readers import open_file
from hsmamba.data.scene import PathLike, Scene
from hsmamba.data.sets.catalog import find_data
from hsmamba.errors import SceneError

CLASSES = (
    *("trees", "mostly grass", "mixed ground surface", "dirt and sand", "road", "water", "building shadow"),
    *("building", "sidewalk", "yellow curb", "cloth panels"),
)
_SHAPES = {"hsi": (90, 90, 64), "lidar": (90, 90, 2), "labels": (90, 90)}


def load_muufl(root: PathLike | None = None) -> Scene:
    """Load the scene; see `load_scene`."""
    path = find_data("muufl_crop", root)
    variables = open_file(path, masked=False).variables
    found = {key: variables[key].shape for key in _SHAPES if key in variables}
    if found != _SHAPES:
        raise SceneError(f"{str(path)!r} has {found}; expected {_SHAPES}: fetch the file anew")
    hsi, lidar, labels = (np.asarray(variables[key].read()) for key in _SHAPES)
    return Scene(
        hsi=hsi,
        labels=labels,
        aux=lidar,
        class_names=CLASSES,
        wavelengths=np.linspace(405.8, 1005.3, 64),
        name="muufl_crop",
        source="MUUFL Gulfport (Gader et al. 2013; scene labels: Du and Zare 2017), 90 x 90 pixels of it",
        license="MIT",
    )
