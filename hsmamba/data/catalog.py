"""Scenes and splits by name: those that come with a package, those of a folder of data, and their fixed splits."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hsmamba._optional import optional_import
from hsmamba.data._arrays import read_arrays
from hsmamba.data._formats import open_file
from hsmamba.data.plots import load_idtrees
from hsmamba.data.scene import Scene
from hsmamba.data.splits import Split
from hsmamba.errors import SceneError, SplitError

PathLike: TypeAlias = "str | os.PathLike[str]"

DATA_VARIABLE = "HSMAMBA_DATA"


def load_scene(name: str, root: PathLike | None = None) -> Scene:
    """Load a scene by its name.

    - "indian_pines": AVIRIS, 145 x 145 pixels of 20 m, 200 bands, 16 classes; from the package tensorly.
    - "indian_pines_fixed": the same cube, with the labels of the literature's fixed split, which are not wholly those
      of the usual map: 256 of its pixels are unlabelled there.
    - "dfc2018_houston_crop": 128 x 128 pixels of the IEEE GRSS data fusion contest of 2018, 48 bands, 12 classes; `aux`
      is the colour image of a quarter of the pixel size, (128, 128, 48): 4 x 4 fine pixels by 3 colours. A pixel has
      the label that at least half of its fine pixels have.

    Args:
        name: One of the names above.
        root: Folder that holds a folder of the scene's name, where the scene does not come with a package; default
            the environment variable HSMAMBA_DATA.

    Returns:
        The scene.

    Raises:
        SceneError: An unknown name, no folder of data, or arrays that are not those of the scene.
        MissingExtraError: The package that carries or reads the scene is not installed.
    """
    if name in _PLOTS:
        raise SceneError(f"{name!r} is a set of plots, not one scene; call load_scenes({name!r}, root)")
    return load_scenes(name, root)[0]


def load_scenes(name: str, root: PathLike | None = None) -> list[Scene]:
    """Load a set of plots by its name, or one scene as a list.

    Args:
        name: "idtrees2020" (see `load_idtrees`), or a name that `load_scene` knows.
        root: As for `load_scene`.

    Returns:
        The scenes.

    Raises:
        SceneError: As for `load_scene`.
        MissingExtraError: As for `load_scene`.
    """
    folder = root if root is not None else os.environ.get(DATA_VARIABLE)
    path = Path(folder) if folder is not None else None
    if name in _PLOTS:
        return _PLOTS[name](path)
    if name not in _SCENES:
        known = ", ".join(map(repr, (*_SCENES, *_PLOTS)))
        raise SceneError(f"there is no scene {name!r}; there is {known}, or open_scene(path)")
    return [_SCENES[name](path)]


def list_splits() -> list[str]:
    """List the fixed splits that come with the package."""
    folder = resources.files("hsmamba") / "splits"
    return sorted(path.name.removesuffix(_SUFFIX) for path in folder.iterdir() if path.name.endswith(_SUFFIX))


def load_split(name: str) -> Split:
    """Load a fixed split that comes with the package, and verify its hash.

    Args:
        name: Usually the name of the scene that it belongs to: "indian_pines_fixed", "dfc2018_houston_crop",
            "idtrees2020".

    Returns:
        The split.

    Raises:
        SplitError: There is no such split.
        HashMismatchError: Its pixels are not those on record.
    """
    if name not in list_splits():
        raise SplitError(f"there is no split {name!r}; there is {', '.join(map(repr, list_splits()))}")
    with resources.as_file(resources.files("hsmamba") / "splits" / f"{name}{_SUFFIX}") as path:
        return Split.load(path)


_SUFFIX = ".safetensors"


def _folder(root: Path | None, name: str) -> Path:
    """Return the folder of a scene's files."""
    if root is None:
        raise SceneError(
            f"the scene {name!r} comes with no package; give the folder that holds {name}/ as root= (--data on the "
            f"command line), or set the environment variable {DATA_VARIABLE}"
        )
    if not (root / name).is_dir():
        raise SceneError(f"there is no folder {name!r} in {str(root)!r}; fetch the data of the scene {name!r} first")
    return root / name


_INDIAN_PINES_CLASSES = (
    "Alfalfa",
    "Corn-notill",
    "Corn-mintill",
    "Corn",
    "Grass-pasture",
    "Grass-trees",
    "Grass-pasture-mowed",
    "Hay-windrowed",
    "Oats",
    "Soybean-notill",
    "Soybean-mintill",
    "Soybean-clean",
    "Wheat",
    "Woods",
    "Buildings-Grass-Trees-Drives",
    "Stone-Steel-Towers",
)


def _indian_pines(_: Path | None) -> Scene:
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
        class_names=_INDIAN_PINES_CLASSES,
        name="indian_pines",
        source="AVIRIS, Indian Pines test site 3, June 1992; Purdue University; as bundled with tensorly",
        license="CC0-1.0 on its best known Hub copy",
    )


def _indian_pines_fixed(_: Path | None) -> Scene:
    scene = _indian_pines(None)
    with resources.as_file(resources.files("hsmamba") / "splits" / "indian_pines_fixed.labels") as path:
        arrays, _config = read_arrays(path, kind="labels")
    labels = np.array(scene.labels)
    labels.ravel()[arrays["pixels"]] = arrays["labels"]
    return replace(scene, labels=labels, name="indian_pines_fixed")


def _dfc2018(root: Path | None) -> Scene:
    name = "dfc2018_houston_crop"
    variables = open_file(_folder(root, name) / "houston_dataset.mat", masked=False).variables
    shapes = {"hyprImg": (128, 128, 48), "rgbImg": (512, 512, 3), "clasLabs": (512, 512)}
    found = {key: variables[key].shape for key in shapes if key in variables}
    if found != shapes:
        raise SceneError(f"houston_dataset.mat has {found}; expected {shapes}: fetch the file anew")
    hsi, fine, labels = (np.asarray(variables[key].read()) for key in shapes)
    rows, columns = hsi.shape[:2]
    aux = fine.reshape(rows, 4, columns, 4, 3).swapaxes(1, 2).reshape(rows, columns, 48)
    return Scene(
        hsi=hsi,
        labels=_majority(labels.reshape(rows, 4, columns, 4).swapaxes(1, 2).reshape(rows, columns, 16)),
        aux=np.ascontiguousarray(aux),
        class_names=tuple(f"class {k}" for k in range(1, int(labels.max()) + 1)),
        name=name,
        source="IEEE GRSS Data Fusion Contest 2018, a crop; the file names no classes",
        license="research",
    )


def _majority(fine: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the label (H, W) that half or more of the fine pixels (H, W, n) have, else 0; ties go to the lower one."""
    counts = np.stack([(fine == k).sum(-1) for k in range(int(fine.max()) + 1)], -1)
    counts[..., 0] = 0
    return np.where(2 * counts.max(-1) >= fine.shape[-1], counts.argmax(-1), 0).astype(np.uint8)


def _idtrees(root: Path | None) -> list[Scene]:
    return load_idtrees(_folder(root, "idtrees2020"))


_SCENES: dict[str, Callable[[Path | None], Scene]] = {
    "indian_pines": _indian_pines,
    "indian_pines_fixed": _indian_pines_fixed,
    "dfc2018_houston_crop": _dfc2018,
}
_PLOTS: dict[str, Callable[[Path | None], list[Scene]]] = {"idtrees2020": _idtrees}
