"""What leaves the app: the map, the labels, the model, and a program that makes the map again."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsmamba._files import atomic_path, write_text
from hsmamba._optional import optional_import
from hsmamba._version import __version__
from hsmamba.app.learning import Request, Result
from hsmamba.data import Scene
from hsmamba.data.class_maps import map_rows
from hsmamba.data.colours import class_colours
from hsmamba.data.georeference import Georeference
from hsmamba.data.writers import raster_file

_PIXELS = (1.0, 0.0, 0.0, 0.0, -1.0, 0.0)  # columns to the right and rows upwards, as GIS programs draw a bare image


def write_map(path: Path, scene: Scene, result: Result) -> None:
    """Write the map with its colours and names, and its confidence beside it, see `map_rows`."""
    with map_rows(path, result.labels.shape, result.labels.dtype, grid=scene.hsi, class_names=result.names) as write:
        write(0, result.labels, result.confidence)


def write_labels(path: Path, scene: Scene, labels: NDArray[np.uint8], names: list[str]) -> None:
    """Write labels as polygons of a GeoPackage with the field `class`, or as a GeoTIFF with colours and names.

    Polygons follow the pixels, so that drawn on the grid they are the labels again. Of a scene without a place they are
    in pixels, without a CRS.

    Args:
        path: A `.gpkg` or `.tif`.
        scene: The scene.
        labels: (H, W), 0 = unlabelled.
        names: Of the classes.

    Raises:
        MissingExtraError: A package is not installed.
        ValueError: Nothing is labelled.
    """
    if not labels.any():
        raise ValueError("nothing is labelled yet; label some pixels first")
    if path.suffix != ".gpkg":
        tags = {f"class_{k}": name for k, name in enumerate(names, start=1)}
        told: dict[str, Any] = {"grid": scene.hsi, "nodata": 0, "tags": tags, "colours": class_colours(len(names))}
        with atomic_path(path) as temporary, raster_file(temporary, (*labels.shape, 1), labels.dtype, **told) as write:
            write(0, labels[..., None])
        return
    features = optional_import("rasterio.features", "to write labels as polygons")
    affine = optional_import("rasterio", "to write labels as polygons").Affine
    shapely = optional_import("shapely", "to write labels as polygons")
    pyogrio = optional_import("pyogrio.raw", "to write GeoPackages")
    place = Georeference.of(scene.hsi)
    known = place is not None and place.affine is not None
    six = place.affine if place is not None and place.affine is not None else _PIXELS
    found = list(features.shapes(labels, mask=labels > 0, connectivity=4, transform=affine(*six)))
    geometries = shapely.to_wkb([shapely.geometry.shape(outline) for outline, _ in found])
    classes = np.array([names[int(value) - 1] for _, value in found], dtype=object)
    told = {"geometry_type": "Polygon", "crs": place.crs if known and place else None, "driver": "GPKG"}
    with atomic_path(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="'crs' was not provided")  # of a scene without a place
        pyogrio.write(
            str(temporary), np.asarray(geometries, dtype=object), [classes], ["class"], layer="labels", **told
        )


def write_model(folder: Path, scene: Scene, result: Result) -> None:
    """Write the model folder, with what it was trained on and how labels that were held out agreed."""
    from hsmamba.zoo.save import save_pretrained

    data = {"name": scene.name, "source": scene.source, "license": scene.license, "seed": result.request.seed}
    options: dict[str, Any] = {"data": data, "recipe": f"hsmamba app, {result.split.train.size} labels"}
    if result.accuracy is not None:
        options["metrics"] = {f"labels {result.accuracy.kind}": {"oa": round(100 * result.accuracy.share, 2)}}
    save_pretrained(result.model, folder, split=result.split, **options)


def write_script(path: Path, opening: str, result: Result) -> None:
    """Write the program that makes the map of a result again; it needs the library alone.

    Args:
        path: A `.py`.
        opening: Call that opens the scene, as the program has it.
        result: The result.
    """
    write_text(path, script(opening, result))


def script(opening: str, result: Result) -> str:
    """Return the program of `write_script`."""
    runs = "\n".join(f"    {name!r}: {_runs(result.sheet == k)!r}," for k, name in enumerate(result.names, 1))
    return _SCRIPT.format(
        version=__version__,
        opening=opening,
        model=result.request.model,
        seed=result.request.seed,
        runs=runs,
        settings=_settings(result.request, result.model),
    )


def write_all(path: Path, scene: Scene, labels: NDArray[np.uint8], names: list[str], result: Result, opening: str
              ) -> None:  # fmt: skip
    """Write map, confidence, styles, labels, model and program into one `.zip`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_map(folder / "map.tif", scene, result)
        for suffix in (".gpkg", ".tif"):
            write_labels(folder / f"labels{suffix}", scene, labels, names)
        write_model(folder / "model", scene, result)
        write_script(folder / "make_map.py", opening, result)
        zip_folder(folder, path)


def zip_folder(folder: Path, path: Path) -> None:
    """Pack what is in a folder into a `.zip`."""
    with atomic_path(path) as temporary:
        made = shutil.make_archive(str(temporary.with_suffix("")), "zip", folder)
        if made != str(temporary):
            shutil.move(made, temporary)


def _settings(request: Request, model: Any) -> str:
    """The arguments of `finetune` that a network is trained by; one that is fitted has none."""
    if callable(getattr(model, "fit", None)):
        return ""
    return f", seed={request.seed}" + ("" if request.epochs is None else f", epochs={request.epochs}")


def _runs(mask: NDArray[np.bool_]) -> str:
    """Write the pixels of a mask as "row:first-last", the rows' runs one after the other."""
    found = []
    for row in np.flatnonzero(mask.any(axis=1)):
        edges = np.flatnonzero(np.diff(np.pad(mask[row].astype(np.int8), 1)))
        for first, stop in zip(edges[::2], edges[1::2], strict=True):
            found.append(f"{row}:{first}" + (f"-{stop - 1}" if stop - first > 1 else ""))
    return " ".join(found)


_SCRIPT = '''"""The map that was made in hsmamba app, made again: `python make_map.py [SCENE]` writes map.tif.

Written by hsmamba {version}.
"""

import sys

import numpy as np
import torch

import hsmamba
from hsmamba.data.class_maps import map_rows
from hsmamba.engine.classification.network import network_for

# The labels of each class: "row:column", or "row:first-last" for columns that lie side by side.
LABELS = {{
{runs}
}}

scene = hsmamba.open_scene(sys.argv[1]) if sys.argv[1:] else {opening}
labels = np.zeros(scene.shape, np.uint8)
for number, runs in enumerate(LABELS.values(), start=1):
    for row, columns in (run.split(":") for run in runs.split()):
        first, _, last = columns.partition("-")
        labels[int(row), int(first) : int(last or first) + 1] = number
scene.class_names, scene.labels = tuple(LABELS), labels

none = np.empty(0, np.int64)
split = hsmamba.Split(train=np.flatnonzero(labels), val=none, test=none, shape=scene.shape, id="app")
torch.manual_seed({seed})
model = network_for({model!r}, scene)
hsmamba.finetune(model, scene, split, nan="mask"{settings})

scene.class_names, scene.labels = (), None
found, confidence = (np.asarray(part) for part in hsmamba.classify(model, scene, nan="mask"))
with map_rows("map.tif", found.shape, found.dtype, grid=scene.hsi, class_names=list(LABELS)) as write:
    write(0, found, confidence)
print("wrote map.tif")
'''
