"""Pairs for fusion out of HDF5 files: PanCollection, and the copies of CAVE and Harvard of LE-Mamba's authors.

Coarse images, and the same on the guide's grid, are those of the files: nothing is simulated anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from hsmamba.data.pairs import FusionPair, FusionPairs, GivenImage
from hsmamba.data.products.hdf5 import dataset, open_hdf5
from hsmamba.data.scene import PathLike
from hsmamba.data.sensors import get_sensor
from hsmamba.data.sets.facts import Stored
from hsmamba.data.sets.pair_table import ARRAYS, PAIR_SETS, PairSet
from hsmamba.data.sets.scene_files import locate
from hsmamba.errors import DataNotFoundError, SceneError


def part_files(spec: PairSet, root: Path) -> dict[str, Path]:
    """Find the file of each part that there is."""
    found = {part: locate(Stored(names), root / spec.folder, root) for part, names in spec.files.items()}
    return {part: path for part, path in found.items() if path is not None}


def load_h5_pairs(
    name: str,
    root: PathLike | None = None,
    *,
    limit: int | None = None,
    val: int | None = None,
    maximum: float | None = None,
) -> FusionPairs:
    """Load a set of the table; `hsmamba.data.load_pairs` calls this with the folder of data.

    Args:
        name: Of the set.
        root: Folder of data.
        limit: Images of each part that are read at most, the first ones; None for all. All training images of
            PanCollection are 3 to 6 GB of memory.
        val: Images for validation that are read at most; None for `limit`.
        maximum: Number that is 1; default the sensor's, as PanCollection states it.

    Returns:
        The pairs; parts without a file are empty.

    Raises:
        DataNotFoundError: There is no file for training and none for tests.
        SceneError: A file holds something else.
    """
    spec = PAIR_SETS[name]
    files = part_files(spec, Path(root or ""))
    if not {"train", "test"} & files.keys():
        listed = ", ".join(names[0] for names in spec.files.values())
        raise DataNotFoundError(
            f"there is none of {listed} in {str(Path(root or '', spec.folder))!r}; fetch {spec.facts.title} from "
            f"{spec.facts.page} and put the files there"
        )
    bound = spec.maximum if maximum is None else maximum
    most = {"val": limit if val is None else val}
    parts = {part: _read(files[part], spec, part, bound, most.get(part, limit)) for part in files}
    return FusionPairs(
        name=spec.facts.title,
        ratio=spec.ratio,
        sensor=get_sensor(spec.sensor),
        maximum=bound,
        train=tuple(
            GivenImage(one.name, one.gt, one.ms, one.ms_up, one.guide)
            for one in parts.get("train", ())
            if one.gt is not None
        ),
        val=parts.get("val", ()),
        test=parts.get("test", ()),
        full=parts.get("full", ()),
        cut=spec.cut,
    )


def _read(path: Path, spec: PairSet, part: str, maximum: float, limit: int | None) -> tuple[FusionPair, ...]:
    with open_hdf5(path) as file:
        arrays = {key: dataset(file, _name(file, key), 4) for key in ARRAYS if key != "gt" or part != "full"}
        shapes = {key: tuple(int(side) for side in array.shape) for key, array in arrays.items()}
        _check(path, shapes, spec.ratio)
        count = min(shapes["ms"][0], limit or shapes["ms"][0])

        def image(key: str, number: int) -> torch.Tensor:
            values = arrays[key][number].astype(np.float32)  # one by one: the files hold float64, twice as much
            return torch.from_numpy(values / np.float32(maximum))

        return tuple(
            FusionPair(
                f"{part} {number + 1}",
                image("ms", number),
                image("guide", number),
                image("ms_up", number),
                image("gt", number) if "gt" in arrays else None,
            )
            for number in range(count)
        )


def _name(file: Any, key: str) -> str:
    """Find which name an array has in a file; the usual one where it has none, for the error."""
    return next((name for name in ARRAYS[key] if name in file), ARRAYS[key][0])


def _check(path: Path, shapes: dict[str, tuple[int, ...]], ratio: int) -> None:
    """Raise SceneError unless the arrays are of the same images."""
    count, bands, rows, columns = shapes["ms"]
    fine = (rows * ratio, columns * ratio)
    fits = (
        shapes["ms_up"] == (count, bands, *fine)
        and shapes.get("gt", shapes["ms_up"]) == shapes["ms_up"]
        and (shapes["guide"][0], *shapes["guide"][2:]) == (count, *fine)
    )
    if not fits:
        raise SceneError(
            f"the arrays in {str(path)!r} have the shapes {shapes}; expected as many of each, ratio {ratio}: fetch the "
            "file anew"
        )
