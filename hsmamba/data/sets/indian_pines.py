"""Indian Pines, out of the package tensorly: the usual labels, and those of the literature's fixed split."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np

from hsmamba._optional import optional_import
from hsmamba.data.arrays import read_arrays
from hsmamba.data.files.readers import open_file
from hsmamba.data.scene import Scene
from hsmamba.errors import SceneError

CLASSES = (
    *("Alfalfa", "Corn-notill", "Corn-mintill", "Corn", "Grass-pasture", "Grass-trees", "Grass-pasture-mowed"),
    *("Hay-windrowed", "Oats", "Soybean-notill", "Soybean-mintill", "Soybean-clean", "Wheat", "Woods"),
    *("Buildings-Grass-Trees-Drives", "Stone-Steel-Towers"),
)


def load_indian_pines() -> Scene:
    """Load the scene with its usual labels; see `load_scene`."""
    spec = importlib.util.find_spec("tensorly")  # finds the folder; to import tensorly would take seconds
    if spec is None or not spec.submodule_search_locations:
        optional_import("tensorly", "to load the Indian Pines scene")
        raise SceneError("tensorly has no folder to look for the Indian Pines arrays in; install it anew")
    folder = Path(spec.submodule_search_locations[0], "datasets", "data")
    cube, truth = (
        open_file(folder / f"Indian_pines_{part}.npy", masked=False).variables[""] for part in ("corrected", "gt")
    )
    if cube.shape != (145, 145, 200) or truth.shape != (145, 145):
        raise SceneError(
            f"the arrays in {str(folder)!r} have the shapes {cube.shape} and {truth.shape}; expected (145, 145, 200) "
            'and (145, 145): install another release of tensorly: pip install "tensorly>=0.8"'
        )
    return Scene(
        hsi=np.ascontiguousarray(cube.read()),
        labels=np.ascontiguousarray(truth.read()),
        class_names=CLASSES,
        name="indian_pines",
        source="AVIRIS, Indian Pines test site 3, June 1992; Purdue University; as bundled with tensorly",
        license="CC0-1.0 on its best known Hub copy",
    )


def load_indian_pines_fixed() -> Scene:
    """Load the scene with the labels of the fixed split; see `load_scene`."""
    scene = load_indian_pines()
    with resources.as_file(resources.files("hsmamba") / "splits" / "indian_pines_fixed.labels") as path:
        arrays, _config = read_arrays(path, kind="labels")
    labels = np.array(scene.labels)
    labels.ravel()[arrays["pixels"]] = arrays["labels"]
    return replace(scene, labels=labels, name="indian_pines_fixed")
