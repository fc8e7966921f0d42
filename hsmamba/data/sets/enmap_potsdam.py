"""Tiles of an EnMAP scene of Potsdam with land cover, out of the folder of data."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hsmamba.data.scene import PathLike, Scene, open_image, open_scene
from hsmamba.data.sets.catalog import find_data
from hsmamba.errors import DataNotFoundError, SceneError

CLASSES = ("roof", "pavement", "low vegetation", "tree", "soil", "water")
_PARTS = ("train", "validation")


def load_enmap_potsdam(root: PathLike | None = None) -> list[Scene]:
    """Load the tiles in the order of their names, float32 DataArrays with their grid; see `load_scenes`."""
    folder = find_data("enmap_potsdam", root)
    return [_tile(folder, name) for name in enmap_parts(root)]


def enmap_parts(root: PathLike | None = None) -> dict[str, str]:
    """Read which tiles the set gives for training ("train") and which for validation, by name in sorted order.

    Raises:
        DataNotFoundError: There is no such table.
        SceneError: It has another content.
    """
    path = find_data("enmap_potsdam", root) / "split.csv"
    if not path.is_file():
        raise DataNotFoundError(f"there is no {str(path)!r}, the table of the tiles; fetch the data anew")
    with path.open(encoding="utf-8", newline="") as file:
        parts = {row.get("tile", ""): row.get("split", "") for row in csv.DictReader(file)}
    if not parts or "" in parts or not set(parts.values()) <= set(_PARTS):
        raise SceneError(f"{str(path)!r} has no columns tile and split ({' or '.join(_PARTS)}); fetch the data anew")
    return dict(sorted(parts.items()))


def _tile(folder: Path, name: str) -> Scene:
    paths = [folder / part / name for part in ("images", "labels")]
    if missing := [repr(str(path)) for path in paths if not path.is_file()]:
        raise DataNotFoundError(f"there is no {' and no '.join(missing)}; fetch the data anew")
    scene = open_scene(paths[0], labels=_labels(paths[1]), class_names=CLASSES)
    hsi = scene.hsi
    return Scene(
        hsi=hsi.astype(np.float32).load(),  # type: ignore[union-attr]
        labels=scene.labels,
        class_names=CLASSES,
        wavelengths=scene.wavelengths,
        fwhm=scene.fwhm,
        bad_bands=scene.bad_bands,
        name=Path(name).stem,
        source="EnMAP, Potsdam, 24 July 2022, (c) DLR 2022; labels GeoBasis-DE/LGB",
        license="labels dl-de/by-2-0",
    )


def _labels(path: Path) -> npt.NDArray[np.uint8]:
    """Read the map, whose whole numbers are stored as float32."""
    values = np.asarray(open_image(path))
    whole = values.astype(np.uint8)
    if (whole != values).any() or whole.max() > len(CLASSES):
        raise SceneError(f"{str(path)!r} is no map of the classes 0 to {len(CLASSES)}; fetch the data anew")
    return whole.reshape(whole.shape[:2])
