"""Salinas-A, a corner of the AVIRIS scene of the Salinas valley, out of the folder of data."""

from __future__ import annotations

import numpy as np

from hsmamba.data.scene import PathLike, Scene, open_scene
from hsmamba.data.sets.catalog import find_data
from hsmamba.errors import SceneError

# Codes of the map of the whole valley, of which six classes lie in this corner.
CLASSES = {
    1: "Brocoli_green_weeds_1",
    10: "Corn_senesced_green_weeds",
    11: "Lettuce_romaine_4wk",
    12: "Lettuce_romaine_5wk",
    13: "Lettuce_romaine_6wk",
    14: "Lettuce_romaine_7wk",
}


def load_salinas_a(root: PathLike | None = None) -> Scene:
    """Load the scene; see `load_scene`."""
    folder = find_data("salinas_a", root)
    scene = open_scene(
        folder / "SalinasA_corrected.mat",
        variable="salinasA_corrected",
        labels=folder / "SalinasA_gt.mat",
        labels_variable="salinasA_gt",
        classes=CLASSES,
    )
    if scene.hsi.shape != (83, 86, 204):
        raise SceneError(f"{str(folder)!r} has a cube of {scene.hsi.shape}; expected (83, 86, 204): fetch the set anew")
    return Scene(
        hsi=np.asarray(scene.hsi),
        labels=scene.labels,
        class_names=scene.class_names,
        name="salinas_a",
        source="AVIRIS, Salinas valley, 1998; NASA/JPL, prepared by UPV/EHU",
        license="not stated",
    )
