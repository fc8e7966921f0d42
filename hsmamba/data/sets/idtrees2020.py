"""The plots of the IDTReeS 2020 contest: crowns of trees drawn as labels."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hsmamba.data.drawing import burn
from hsmamba.data.files.vectors import read_features
from hsmamba.data.scene import PathLike, Scene, open_scene
from hsmamba.data.sets.catalog import find_data
from hsmamba.errors import DataNotFoundError

Crown: TypeAlias = "tuple[dict[str, Any], str]"  # geometry as GeoJSON, taxon

IDTREES_CLASSES = ("PIPA2", "QURU", "ACRU", "QUAL", "QUCO2", "QULA2", "AMLA", "NYSY")


def load_plots(root: PathLike | None = None) -> list[Scene]:
    """Load the plots out of the folder of data; see `load_idtrees`."""
    return load_idtrees(find_data("idtrees2020", root))


def load_idtrees(folder: PathLike, classes: Sequence[str] = IDTREES_CLASSES) -> list[Scene]:
    """Load the plots of the IDTReeS 2020 contest (NEON sites MLBS and OSBS), each a scene with two sources.

    The crowns of the field survey are drawn onto the pixels whose centres they hold; a pixel in the crowns of two
    trees stays unlabelled. Plots come in the order of their names, 20 x 20 pixels of 1 m: reflectance x 10000 (369
    bands, water absorption left out by the contest) and, as `aux`, the LiDAR canopy height in metres (1 band); both
    are float32 DataArrays with their grid and CRS.

    Args:
        folder: Holds `hsi/*.tif`, `chm/*.tif`, `crowns/train_SITE.shp` and `field/train_data.csv`.
        classes: Taxon codes of the classes 1..K; crowns of other taxa leave their pixels unlabelled.

    Returns:
        One scene a plot, those without a labelled pixel included.

    Raises:
        DataNotFoundError: Files are missing.
        SceneError: They do not fit each other.
        MissingExtraError: rioxarray, rasterio or pyshp is not installed.
    """
    folder = Path(folder)
    paths = sorted((folder / "hsi").glob("*.tif"))
    if not paths:
        raise DataNotFoundError(
            f"there is no hsi/*.tif in {str(folder)!r}; give the folder of the contest's training data"
        )
    taxa = _taxa(folder / "field" / "train_data.csv")
    sites = sorted({path.stem.partition("_")[0] for path in paths})
    crowns = {site: _crowns(folder / "crowns" / f"train_{site}.shp", taxa) for site in sites}
    scenes = []
    for path in paths:
        scene = open_scene(path, aux=folder / "chm" / path.name)
        hsi: Any = scene.hsi
        aux: Any = scene.aux
        labels = _draw_crowns(crowns[path.stem.partition("_")[0]], classes, hsi.rio.transform()[:6], scene.shape)
        scenes.append(
            Scene(
                hsi=hsi.astype(np.float32).load(),
                labels=labels,
                aux=aux.astype(np.float32).load(),
                class_names=tuple(classes),
                name=path.stem,
                source="IDTReeS 2020, Zenodo 3934932; NEON airborne data",
                license="CC BY 4.0",
            )
        )
    return scenes


def _taxa(path: Path) -> dict[str, str]:
    """Return the taxon of each tree."""
    if not path.is_file():
        raise DataNotFoundError(f"there is no {str(path)!r}, the contest's table of trees; fetch the data anew")
    with path.open(encoding="utf-8", newline="") as file:
        return {row["indvdID"]: row["taxonID"] for row in csv.DictReader(file)}


def _crowns(path: Path, taxa: dict[str, str]) -> list[Crown]:
    """Return the crowns of a site, with their taxa; a crown that the table does not know has the taxon ""."""
    if not path.is_file():
        raise DataNotFoundError(f"there is no {str(path)!r}, the crowns of a site; fetch the data anew")
    crowns = read_features(path, "indvdID")
    return [(crown, taxa.get(tree, "")) for crown, tree in zip(crowns.geometries, crowns.values, strict=True)]


def _draw_crowns(
    crowns: Sequence[Crown], classes: Sequence[str], transform: Any, shape: tuple[int, int]
) -> npt.NDArray[np.uint8]:
    """Draw the class of each crown onto a grid; 0 where there is none, another taxon, or more than one crown."""
    numbers = {taxon: k for k, taxon in enumerate(classes, start=1)}
    trees = burn([(crown, 1) for crown, _ in crowns], transform, shape, add=True)
    total = burn([(crown, numbers.get(taxon, 0)) for crown, taxon in crowns], transform, shape, add=True)
    return np.where(trees == 1, total, 0).astype(np.uint8)
