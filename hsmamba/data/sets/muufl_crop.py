"""A crop of MUUFL Gulfport that comes with the package: HSI, LiDAR and labels, under the MIT licence."""

from __future__ import annotations

from importlib import resources

import numpy as np

from hsmamba.data.files.readers import open_file
from hsmamba.data.scene import Scene

CLASSES = (
    *("trees", "mostly grass", "mixed ground surface", "dirt and sand", "road", "water", "building shadow"),
    *("building", "sidewalk", "yellow curb", "cloth panels"),
)


def load_muufl() -> Scene:
    """Load the scene; see `load_scene`."""
    with resources.as_file(resources.files("hsmamba") / "scenes" / "muufl_crop.npz") as path:
        variables = open_file(path, masked=False).variables
        hsi, lidar, labels = (np.asarray(variables[key].read()) for key in ("hsi", "lidar", "labels"))
    return Scene(
        hsi=hsi,
        labels=labels,
        aux=lidar,
        class_names=CLASSES,
        wavelengths=np.linspace(405.8, 1005.3, hsi.shape[2]),
        name="muufl_crop",
        source="MUUFL Gulfport (Gader et al. 2013; labels: Du and Zare 2017), 90 x 90 pixels of it",
        license="MIT",
    )
