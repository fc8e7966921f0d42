"""The scenes of the tables out of the folder of data, in whichever of their forms is there; and their splits."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hsmamba.data.files.content import is_real, reading
from hsmamba.data.files.guard import RATIO, check_file, check_size
from hsmamba.data.files.readers import open_file
from hsmamba.data.scene import PathLike, Scene
from hsmamba.data.sets.facts import Copy, Facts, PublishedScene, Stored
from hsmamba.data.sets.scene_table import EHU_SCENES, INDIAN_PINES_FILES, WHU_SCENES
from hsmamba.data.sets.source_table import SOURCE_SCENES
from hsmamba.data.splits.split import Split, split_from_maps
from hsmamba.errors import DataNotFoundError, HsmambaWarning, SceneError

Numbers: TypeAlias = "npt.NDArray[Any]"

SCENES: Mapping[str, PublishedScene] = {
    **EHU_SCENES,
    **WHU_SCENES,
    **SOURCE_SCENES,
    "indian_pines": INDIAN_PINES_FILES,
}


@dataclass(frozen=True)
class FoundCopy:
    """A form of a scene that lies in a folder of data.

    Attributes:
        name: Of the scene.
        copy: The form.
        folder: Of the scene.
        root: Folder of data.
    """

    name: str
    copy: Copy
    folder: Path
    root: Path

    def path(self, stored: Stored) -> Path:
        """Find the file of an array, or raise DataNotFoundError."""
        path = locate(stored, self.folder, self.root)
        if path is None:
            raise DataNotFoundError(_lacking(self.name, self.folder, [stored]))
        return path

    def read(self, stored: Stored) -> Numbers:
        """Read an array; SceneError where its file holds no such one."""
        return read_stored(self.path(stored), stored.variables)

    def grid(self) -> tuple[int, int]:
        """Look up rows and columns of the cube without reading it."""
        path = self.path(self.copy.hsi)
        shapes = [variable.shape for variable in open_file(path, masked=False).variables.values()]
        cubes = [shape for shape in shapes if len(shape) == 3]
        if not cubes:
            raise SceneError(f"{str(path)!r} has no cube; fetch the set anew")
        return cubes[0][0], cubes[0][1]


def locate(stored: Stored, folder: Path, root: Path) -> Path | None:
    """Find the file of an array in the folder of its set, however deep, or in the other folder that it names."""
    where = root / stored.folder if stored.folder else folder
    for name in stored.files:
        if (where / name).is_file():
            return where / name
        if found := next(iter(sorted(where.rglob(name))), None):
            return found
    return None


def find_copy(name: str, folder: Path, root: Path) -> FoundCopy:
    """Find the form in which a folder holds a scene.

    Raises:
        DataNotFoundError: None is whole; the text says what the one with the most files lacks.
    """
    copies = SCENES[name].copies
    lacking = [[part for part in copy.parts if locate(part, folder, root) is None] for copy in copies]
    best = min(range(len(copies)), key=lambda i: (len(lacking[i]), i))
    if lacking[best]:
        raise DataNotFoundError(_lacking(name, folder, lacking[best]))
    return FoundCopy(name, copies[best], folder, root)


def _lacking(name: str, folder: Path, parts: list[Stored]) -> str:
    facts = SCENES[name].facts
    listed = ", ".join(f"{part.folder}/{part}" if part.folder else str(part) for part in parts)
    return (
        f"{str(folder)!r} holds no whole copy of {facts.title}: it lacks {listed}; fetch it from {facts.page} and put "
        f"it there (hsmamba data info {name} shows all files)"
    )


def read_stored(path: Path, variables: tuple[str, ...]) -> Numbers:
    """Read the array of a file that has one of these names, or is alone in it.

    Raises:
        SceneError: There is no such array.
    """
    found = open_file(path, masked=False).variables
    names = [name for name in found if is_real(found[name].dtype) and len(found[name].shape) in (2, 3)]
    chosen = next((name for name in variables if name in names), names[0] if len(names) == 1 else None)
    if chosen is None:
        listed = "; ".join(f"{name!r} {found[name].shape} {found[name].dtype}" for name in found) or "nothing"
        raise SceneError(
            f"{str(path)!r} has no array {' or '.join(variables) or 'alone'}; it has {listed}: give the file as it is "
            "distributed, or rename the array"
        )
    with reading(path):
        return np.asarray(found[chosen].read())


def load_published(name: str, root: PathLike | None = None) -> Scene:
    """Load a scene of the tables; see `hsmamba.data.load_scene`, which calls this with the folder of data.

    Warns:
        HsmambaWarning: Its rows and columns are not those of the published scene.

    Raises:
        DataNotFoundError: No form of the scene is whole.
        SceneError: An array is not there, or has other bands or another grid.
    """
    base = Path(root or "")
    found = find_copy(name, base / SCENES[name].folder, base)
    return read_scene(found)


def read_scene(found: FoundCopy) -> Scene:
    """Read a scene in the form that was found."""
    facts, copy = SCENES[found.name].facts, found.copy
    if copy.struct:
        hsi, labels, aux = _read_struct(found)
    else:
        hsi = found.read(copy.hsi)
        aux = [array[..., None] if array.ndim == 2 else array for array in map(found.read, copy.aux)]
        labels = read_labels(found, (hsi.shape[0], hsi.shape[1]))
    _check_shape(found, hsi.shape, facts)
    classes = tuple(facts.classes)
    return Scene(
        hsi=hsi,
        labels=labels,
        aux=_beside(aux) if aux else None,
        class_names=() if facts.codes else classes,
        classes=dict(zip(facts.codes, classes, strict=True)) if facts.codes else None,
        name=found.name,
        source=f"{facts.title}: {facts.citation}",
        license=facts.license,
    )


def _check_shape(found: FoundCopy, shape: tuple[int, ...], facts: Facts) -> None:
    """Refuse another number of bands, and say where the scene is another size."""
    where = str(found.path(found.copy.hsi))
    if len(shape) != 3 or shape[2] != facts.shape[2]:
        raise SceneError(
            f"{where!r} has a cube of {shape}; expected {facts.shape}, rows, columns and bands: fetch the set anew"
        )
    if shape[:2] != facts.shape[:2]:
        warnings.warn(
            f"{where!r} has {shape[0]} x {shape[1]} pixels, {facts.title} {facts.shape[0]} x {facts.shape[1]}: it is a "
            "part of it or another version, and its figures are not comparable",
            HsmambaWarning,
            stacklevel=4,
        )


def _beside(arrays: list[Numbers]) -> Numbers:
    """Put images of other sensors one behind the other; one alone stays as it is stored."""
    if len(arrays) == 1:
        return arrays[0]
    grids = {array.shape[:2] for array in arrays}
    if len(grids) > 1:
        raise SceneError(f"the other sources have the grids {sorted(grids)}; resample them to the grid of hsi")
    return np.concatenate([array.astype(np.float32) for array in arrays], axis=-1)


def _read_struct(found: FoundCopy) -> tuple[Numbers, Numbers, list[Numbers]]:
    """Read MUUFL Gulfport, whose one structure holds cube, labels (-1: none) and the LiDAR of two flights."""
    import scipy.io

    path = found.path(found.copy.hsi)
    check_file(path)
    with reading(path):
        check_size(path, (path.stat().st_size,), 1, ratio=RATIO)
        held = scipy.io.loadmat(
            str(path), variable_names=list(found.copy.hsi.variables), squeeze_me=True, struct_as_record=False
        )
        hsi = held[found.copy.hsi.variables[0]]
        labels = np.asarray(hsi.sceneLabels.labels)
        lidar = np.asarray(np.atleast_1d(hsi.Lidar)[0].z, dtype=np.float32)
        cube = np.asarray(hsi.Data)
    codes = np.where(labels < 0, 0, labels).astype(np.uint8)
    return cube, codes, [lidar[..., None] if lidar.ndim == 2 else lidar]


def read_labels(found: FoundCopy, grid: tuple[int, int]) -> Numbers:
    """Read the labels of a scene, or make them of the maps of its split."""
    if found.copy.labels is not None:
        return turned(found.read(found.copy.labels), grid)
    train, test = (turned(found.read(part), grid) for part in (found.copy.train, found.copy.test) if part is not None)
    if train.shape != test.shape:
        raise SceneError(f"the maps of {found.name} have the grids {train.shape} and {test.shape}; fetch the set anew")
    return np.where(train > 0, train, test).astype(np.uint8)


def turned(values: Numbers, grid: tuple[int, int]) -> Numbers:
    """Bring a map to a grid whose rows and columns it has exchanged; every other one stays as it is."""
    flat = values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values
    return flat.T if flat.shape == grid[::-1] != grid else flat


def load_published_split(name: str, root: Path, samples: int | None = None) -> Split:
    """Read the split that is distributed with a scene; see `hsmamba.data.load_split`."""
    return read_split(find_copy(name, root / SCENES[name].folder, root), samples)


def read_split(found: FoundCopy, samples: int | None = None) -> Split:
    """Read the split of a scene in the form that was found.

    Args:
        found: The scene.
        samples: Training pixels a class, of sets with maps for several numbers.

    Raises:
        DataNotFoundError: The files of the split are not there.
        SceneError: This form has none, or none of so many pixels.
        SplitError: A pixel lies outside the scene, or in both parts.
    """
    name, copy = found.name, found.copy
    if copy.index is not None:
        return _split_of_index(found, copy.index)
    parts = [part for part in (copy.train, copy.test) if part is not None]
    if not parts:
        raise SceneError(f"this copy of {name} has no split; fetch the one with {_splits(SCENES[name])}")
    several = any("{samples}" in file for part in parts for file in part.files)
    if several and samples is None:
        raise SceneError(f"{name} has maps for several numbers of pixels; give samples=, e.g. samples=100")
    if samples is not None and not several:
        raise SceneError(f"{name} has one split; leave samples= out")
    named = [replace(part, files=tuple(file.format(samples=samples) for file in part.files)) for part in parts]
    grid = found.grid()
    train, test = (turned(found.read(part), grid) for part in named)
    return split_from_maps(train, test, name=f"{name}-distributed" + (f"-{samples}" if samples else ""))


def _splits(spec: PublishedScene) -> str:
    files = [part.files[0] for copy in spec.copies for part in (copy.index, copy.train) if part is not None]
    return " or ".join(files)


def _split_of_index(found: FoundCopy, index: Stored) -> Split:
    path, grid = found.path(index), found.grid()
    parts = []
    for variable in index.variables:
        places = read_stored(path, (variable,)).astype(np.int64)
        if places.ndim != 2 or places.shape[1] != 2 or (places < 0).any() or (places >= grid).any():
            raise SceneError(
                f"{variable!r} in {str(path)!r} holds no rows and columns of {grid[0]} x {grid[1]} pixels, counted "
                "from 0; fetch the set anew"
            )
        parts.append(places[:, 0] * grid[1] + places[:, 1])
    return Split(parts[0], parts[1], np.empty(0, np.int64), grid, f"{found.name}-distributed")
