"""Sets of small plots: the trees of the IDTReeS 2020 contest, and splits that keep every plot whole."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hsmamba._optional import optional_import
from hsmamba.data.io import open_scene
from hsmamba.data.scene import Scene
from hsmamba.data.splits import Split
from hsmamba.errors import SceneError, SplitError

PathLike: TypeAlias = "str | os.PathLike[str]"
Crown: TypeAlias = "tuple[dict[str, Any], str]"  # geometry as GeoJSON, taxon

IDTREES_CLASSES = ("PIPA2", "QURU", "ACRU", "QUAL", "QUCO2", "QULA2", "AMLA", "NYSY")
_LAYOUTS = 20_000


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
        SceneError: Files are missing, or do not fit each other.
        MissingExtraError: rioxarray, rasterio or pyshp is not installed.
    """
    folder = Path(folder)
    paths = sorted((folder / "hsi").glob("*.tif"))
    if not paths:
        raise SceneError(f"there is no hsi/*.tif in {str(folder)!r}; give the folder of the contest's training data")
    taxa = _taxa(folder / "field" / "train_data.csv")
    sites = sorted({path.stem.partition("_")[0] for path in paths})
    crowns = {site: _crowns(folder / "crowns" / f"train_{site}.shp", taxa) for site in sites}
    scenes = []
    for path in paths:
        scene = open_scene(path, aux=folder / "chm" / path.name)
        hsi: Any = scene.hsi
        aux: Any = scene.aux
        labels = _draw_crowns(crowns[path.stem.partition("_")[0]], classes, hsi.rio.transform(), scene.shape)
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
        raise SceneError(f"there is no {str(path)!r}, the contest's table of trees; fetch the data anew")
    with path.open(encoding="utf-8", newline="") as file:
        return {row["indvdID"]: row["taxonID"] for row in csv.DictReader(file)}


def _crowns(path: Path, taxa: dict[str, str]) -> list[Crown]:
    """Return the crowns of a site, with their taxa; a crown that the table does not know has the taxon ""."""
    shapefile: Any = optional_import("shapefile", "to read crown polygons")
    if not path.is_file():
        raise SceneError(f"there is no {str(path)!r}, the crowns of a site; fetch the data anew")
    with shapefile.Reader(str(path)) as reader:
        return [
            (record.shape.__geo_interface__, taxa.get(record.record["indvdID"], "")) for record in reader.shapeRecords()
        ]


def _draw_crowns(
    crowns: Sequence[Crown], classes: Sequence[str], transform: Any, shape: tuple[int, int]
) -> npt.NDArray[np.uint8]:
    """Draw the class of each crown onto a grid; 0 where there is none, another taxon, or more than one crown."""
    features: Any = optional_import("rasterio.features", "to draw crown polygons")
    numbers = {taxon: k for k, taxon in enumerate(classes, start=1)}
    count = np.zeros(shape, np.int64)
    total = np.zeros(shape, np.int64)
    for geometry, taxon in crowns:
        inside = features.rasterize([geometry], out_shape=shape, transform=transform).astype(bool)
        count += inside
        total[inside] += numbers.get(taxon, 0)
    return np.where(count == 1, total, 0).astype(np.uint8)


def group_split(
    labels: npt.ArrayLike, groups: npt.ArrayLike, *, test: float = 0.3, val: float = 0.0, seed: int = 0, name: str = ""
) -> Split:
    """Split the items of several scenes by scene (plot): all labelled items of a group are in the same part.

    Of many random layouts, the one is taken whose shares of every class come nearest to those asked for, so that the
    classes occur on each side as evenly as whole groups allow.

    Args:
        labels: (N,) of a `PatchDataset`, 0 = unlabelled, classes 1..K.
        groups: (N,) group of each item: `PatchDataset.groups`, or coarser numbers where scenes share ground.
        test: Share of each class to test on, in (0, 1).
        val: Share of each class to validate on, in [0, 1).
        seed: Seed of the layouts.
        name: Id of the split; default says the arguments.

    Returns:
        The split, of shape (1, N).

    Raises:
        SplitError: Labels and groups do not fit, or some class cannot be on every side.
        ValueError: A share out of range.
    """
    values, of_item = np.asarray(labels).ravel(), np.asarray(groups).ravel()
    if values.shape != of_item.shape or not values.size or values.max() < 1:
        raise SplitError(f"labels and groups have the shapes {values.shape} and {of_item.shape}, with labels up to "
                         f"{values.max(initial=0)}; expected two of the same length, with classes from 1")  # fmt: skip
    if not (0 < test < 1 and 0 <= val < 1 and test + val < 1):
        raise ValueError(f"test is {test}, val {val}; expected shares that leave something to train on")
    _, index = np.unique(of_item, return_inverse=True)
    counts = np.zeros((index.max() + 1, int(values.max())))
    labelled = values > 0
    np.add.at(counts, (index[labelled], values[labelled] - 1), 1)
    wanted = np.array([1 - test - val, val, test])
    sides = [side for side in range(3) if wanted[side]]
    generator = np.random.default_rng(seed)
    best, best_cost = None, np.inf
    for _ in range(_LAYOUTS):
        side_of = np.searchsorted(np.cumsum(wanted), generator.random(len(counts)), side="right").clip(0, 2)
        sums = np.stack([counts[side_of == side].sum(0) for side in sides])
        cost = np.abs(sums / sums.sum(0) - wanted[sides, None]).max() if (sums > 0).all() else np.inf
        if cost < best_cost:
            best, best_cost = side_of, cost
    if best is None:
        raise SplitError(
            f"no layout of {len(counts)} groups has every class on every side; a class lives in too few groups "
            f"({', '.join(f'class {k + 1}: {int((counts[:, k] > 0).sum())}' for k in range(counts.shape[1]))})"
        )
    part = np.where(labelled, best[index], -1)
    train, val_items, test_items = (np.flatnonzero(part == side) for side in range(3))
    return Split(
        train=train,
        test=test_items,
        val=val_items,
        shape=(1, values.size),
        id=name or f"groups-test{test:g}-val{val:g}-seed{seed}",
    )
