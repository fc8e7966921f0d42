"""What a folder holds of a data set, and what is wrong with it."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hsmamba.data.products.hdf5 import dataset, open_hdf5
from hsmamba.data.scene import PathLike, Scene
from hsmamba.data.sets import catalog
from hsmamba.data.sets.facts import Copy, PublishedScene, Stored
from hsmamba.data.sets.pair_table import ARRAYS, PAIR_SETS
from hsmamba.data.sets.scene_files import SCENES, FoundCopy, find_copy, locate, read_scene, read_split
from hsmamba.data.splits.split import Split
from hsmamba.errors import HsmambaError, SceneError

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: whether it is as expected, None where it only tells, and what it is."""

    ok: bool | None
    text: str

    def __str__(self) -> str:
        """Give a line for people."""
        return f"{ {True: 'ok', False: 'WRONG', None: '-'}[self.ok]:<6}{self.text}"


def describe(name: str) -> dict[str, Any]:
    """Give what is known of a data set as plain values.

    Args:
        name: Of the set.

    Returns:
        "name", "kind", the fields of `Facts`, and "copies": for each form in which the set is passed on its files in
        words.

    Raises:
        SceneError: There is no such set.
    """
    entry = _entry(name)
    record = asdict(entry.facts)
    files = record.pop("files")
    copies = [_files_of(copy) for copy in SCENES[name].copies] if name in SCENES else [list(files)] if files else []
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in record.items()}
    plain["values"] = "" if entry.facts.values is None else "{:g} to {:g}".format(*entry.facts.values)
    plain["sha256"] = f"of {len(record['sha256'])} files" if record["sha256"] else ""
    plain["train"], plain["test"] = (sum(record[part]) or "" for part in ("train", "test"))
    return {"name": name, "kind": entry.kind, "folder": entry.path, **plain, "copies": copies}


def _files_of(copy: Copy) -> list[str]:
    """Name the files of a form and what each of them is."""
    parts = {"cube": copy.hsi, "labels": copy.labels, "training map": copy.train, "test map": copy.test}
    parts |= {f"other source {number}": part for number, part in enumerate(copy.aux, start=1)}
    parts["pixels of the split"] = copy.index
    return [f"{part.folder}/{part}: {what}".removeprefix("/") for what, part in parts.items() if part is not None]


def _entry(name: str) -> catalog.DataSet:
    if name not in catalog.CATALOG:
        raise SceneError(f"there is no data set {name!r}; hsmamba data list shows them all")
    return catalog.CATALOG[name]


def check_data(name: str, folder: PathLike) -> list[Finding]:
    """Look whether a folder holds a data set: files, shapes, values, pixels a class, hashes where they are known.

    Args:
        name: Of the set.
        folder: Folder of data, which holds that of the set, or the folder of the set itself.

    Returns:
        What was found; the set is whole where none is wrong.

    Raises:
        SceneError: There is no such set.
    """
    entry = _entry(name)
    root = Path(folder)
    if name in SCENES and (entry.path or locate_all(SCENES[name], root)):
        spec = SCENES[name]
        if _is_root(root):
            return _guarded(lambda: _scene(name, spec, catalog.find_data(name, root), root))
        return _guarded(lambda: _scene(name, spec, root, root.parent))
    if name in PAIR_SETS:
        return _guarded(lambda: _pairs(name, root))
    return _guarded(lambda: _loaded(name, root))


def _is_root(folder: Path) -> bool:
    """Tell whether a folder holds the folders of sets, and is not that of one."""
    return any((folder / Path(entry.path).parts[0]).is_dir() for entry in catalog.CATALOG.values() if entry.path)


def locate_all(spec: PublishedScene, root: Path) -> bool:
    """Tell whether the files of a scene are there that comes with a package, too."""
    return all(locate(part, root / spec.folder, root) for part in spec.copies[0].parts)


def _guarded(look: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """Collect findings; an error of a reader is the last one."""
    found: list[Finding] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they say is found here, too
        try:
            found.extend(look())
        except HsmambaError as error:
            found.append(Finding(False, str(error)))
    return found


def _scene(name: str, spec: PublishedScene, folder: Path, root: Path) -> Iterator[Finding]:
    found = find_copy(name, folder, root)
    yield from _files(found)
    scene = read_scene(found)
    facts = spec.facts
    shape = (*scene.shape, scene.num_bands)
    yield _compared("rows, columns and bands", shape, facts.shape)
    if scene.aux is not None:
        yield Finding(None, f"other sources: {scene.aux.shape[2]} bands ({facts.aux})")
    low, high = float(np.min(scene.hsi)), float(np.max(scene.hsi))
    if facts.values is None:
        yield Finding(None, f"numbers from {low:g} to {high:g}")
    else:
        yield Finding(
            facts.values[0] <= low and high <= facts.values[1],
            f"numbers from {low:g} to {high:g}, expected within {facts.values[0]:g} to {facts.values[1]:g}",
        )
    yield from _classes(scene, facts.classes)
    yield from _split(found, scene, spec)


def _files(found: FoundCopy) -> Iterator[Finding]:
    known = SCENES[found.name].facts.sha256
    stored: list[Stored] = [*found.copy.parts]
    if found.copy.index is not None:
        stored.append(found.copy.index)
    for part in stored:
        path = locate(part, found.folder, found.root)
        if path is None:
            yield Finding(None, f"{part.files[0]} is not there: no split")
            continue
        expected = known.get(path.name)
        if expected is None:
            yield Finding(True, f"{path}")
        else:
            same = _sha256(path) == expected
            yield Finding(
                True if same else None, f"{path}, {'the file on record' if same else 'not the file on record'}"
            )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _compared(what: str, got: object, expected: object) -> Finding:
    same = got == expected
    return Finding(same, f"{what}: {got}" + ("" if same else f", expected {expected}"))


def _classes(scene: Scene, expected: object) -> Iterator[Finding]:
    if scene.labels is None:
        return
    wanted = dict(expected) if isinstance(expected, dict) else {}
    counts = np.bincount(np.asarray(scene.labels).ravel(), minlength=len(scene.class_names) + 1)[1:]
    for number, (name, count) in enumerate(zip(scene.class_names, counts.tolist(), strict=True), start=1):
        known = wanted.get(name, 0)
        text = f"class {number} {name}: {count} pixels"
        yield Finding(None, text) if not known else _count(text, count, known)


def _count(text: str, got: int, expected: int) -> Finding:
    return Finding(got == expected, text + ("" if got == expected else f", expected {expected}"))


def _split(found: FoundCopy, scene: Scene, spec: PublishedScene) -> Iterator[Finding]:
    copy: Copy = found.copy
    several = any("{samples}" in file for part in (copy.train, copy.test) if part for file in part.files)
    if several or not (copy.index or copy.train):
        return
    if copy.index is not None and locate(copy.index, found.folder, found.root) is None:
        return
    yield from _parts(read_split(found), scene, spec)


def _parts(split: Split, scene: Scene, spec: PublishedScene) -> Iterator[Finding]:
    split.check(np.asarray(scene.labels))
    values = np.asarray(scene.labels).ravel()
    for part, expected in (("train", spec.facts.train), ("test", spec.facts.test)):
        pixels = getattr(split, part)
        counts = tuple(np.bincount(values[pixels], minlength=len(scene.class_names) + 1)[1:].tolist())
        text = f"{part}: {pixels.size} pixels"
        if not expected or counts == expected:
            yield Finding(True if expected else None, text)
        else:
            yield Finding(False, f"{text}, by class {counts}, expected {expected}")


def _pairs(name: str, root: Path) -> Iterator[Finding]:
    from hsmamba.data.sets.h5_pairs import part_files

    spec = PAIR_SETS[name]
    if not (root / spec.folder).is_dir():
        spec = replace(spec, folder="")
    files = part_files(spec, root)
    for part, names in spec.files.items():
        if part not in files:
            yield Finding(part not in ("train", "test"), f"{part}: there is no {names[0]}")
            continue
        with open_hdf5(files[part]) as file:
            shapes = {}
            for key, spelled in ARRAYS.items():
                if key == "gt" and part == "full":
                    continue
                array = dataset(file, next((one for one in spelled if one in file), spelled[0]), 4)
                shapes[key] = tuple(int(side) for side in array.shape)
            largest = float(np.max(array[0]))
        yield Finding(True, f"{part}: {files[part]}, " + ", ".join(f"{key} {shape}" for key, shape in shapes.items()))
        fits = largest <= spec.maximum * 1.01
        yield Finding(fits, f"{part}: the first guide reaches {largest:g}, 1 is {spec.maximum:g}")


def _loaded(name: str, root: Path) -> Iterator[Finding]:
    """Load a set whose reader has a file of its own, and say what came out."""
    entry = catalog.CATALOG[name]
    if entry.kind == "pairs":
        pairs = catalog.load_pairs(name, root, **({"ratio": 4} if name == "cave" else {}))
        counts = {part: len(getattr(pairs, part)) for part in ("train", "val", "test", "full")}
        yield Finding(True, f"{pairs.in_chans} bands, {pairs.guide_chans} of the guide, ratio {pairs.ratio}")
        yield Finding(None, ", ".join(f"{count} images for {part}" for part, count in counts.items()))
        return
    scenes = catalog.load_scenes(name, root)
    yield Finding(
        True, f"{len(scenes)} of {scenes[0].shape[0]} x {scenes[0].shape[1]} pixels, {scenes[0].num_bands} bands"
    )
    if len(scenes) == 1 and entry.facts.shape:
        yield _compared("rows, columns and bands", (*scenes[0].shape, scenes[0].num_bands), entry.facts.shape)
        yield from _classes(scenes[0], entry.facts.classes)
