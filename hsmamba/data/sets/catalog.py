"""Data sets by name: one table, one folder of data, one error where they are not there; and their fixed splits."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from hsmamba.data.scene import PathLike, Scene
from hsmamba.data.sets.facts import Facts
from hsmamba.data.sets.pair_table import BIGEARTHNET, HARVARD, PAIR_SETS, SEN1FLOODS11, SEN12MS, TERRAMESH
from hsmamba.data.sets.sample_table import (
    CAVE,
    CROPS,
    DFC2018_CROP,
    ENMAP_POTSDAM,
    EO1,
    IDTREES,
    IKONOS,
    INDIAN_PINES_FIXED,
    LANDSAT8,
    MUUFL_CROP,
    QUICKBIRD,
    SENTINEL2,
    WORLDVIEW2,
)
from hsmamba.data.sets.scene_files import SCENES, load_published_split
from hsmamba.data.sets.scene_table import EHU_SCENES, INDIAN_PINES_FILES, WHU_SCENES
from hsmamba.data.sets.source_table import SOURCE_SCENES
from hsmamba.data.splits.split import Split
from hsmamba.errors import DataNotFoundError, SceneError, SplitError

if TYPE_CHECKING:
    from hsmamba.data.pairs import FusionPairs

Kind: TypeAlias = Literal["scene", "plots", "pairs"]

DATA_VARIABLE = "HSMAMBA_DATA"
_SUFFIX = ".safetensors"
_DOORS: dict[Kind, str] = {
    "scene": "one scene; call load_scene",
    "plots": "a set of plots; call load_scenes",
    "pairs": "pairs for fusion; call load_pairs",
}


@dataclass(frozen=True)
class DataSet:
    """An entry of the catalogue."""

    kind: Kind
    loader: str  # "module:function" of `hsmamba.data.sets`, imported only when it is asked for: pairs need torch
    facts: Facts
    path: str = ""  # file or folder that the folder of data must hold; empty where the data come with a package
    named: bool = False  # whether the loader serves several sets and is told the name
    optional: bool = False  # whether a folder of data is looked at, although a package has the data, too

    @property
    def source(self) -> str:
        """Who distributes it."""
        return self.facts.page if self.facts.page.startswith("http") else self.facts.title


def _published() -> dict[str, DataSet]:
    """Make the entries of the tables of scenes."""
    scenes = {**EHU_SCENES, **WHU_SCENES, **SOURCE_SCENES}
    return {
        name: DataSet("scene", "scene_files:load_published", spec.facts, spec.folder, named=True)
        for name, spec in scenes.items()
    }


def _pairs() -> dict[str, DataSet]:
    """Make the entries of the tables of pairs."""
    files = {
        name: DataSet("pairs", "h5_pairs:load_h5_pairs", spec.facts, spec.folder, named=True)
        for name, spec in PAIR_SETS.items()
    }
    radar = {"sen12ms": SEN12MS, "bigearthnet_s1s2": BIGEARTHNET, "terramesh": TERRAMESH, "sen1floods11": SEN1FLOODS11}
    return {
        **files,
        "harvard": DataSet("pairs", "harvard:load_harvard", HARVARD, "harvard"),
        **{
            name: DataSet("pairs", "sar_optical:load_sar_optical", facts, name, named=True)
            for name, facts in radar.items()
        },
    }


CATALOG: dict[str, DataSet] = {
    "indian_pines": DataSet("scene", "indian_pines:load_indian_pines", INDIAN_PINES_FILES.facts, optional=True),
    "indian_pines_fixed": DataSet("scene", "indian_pines:load_indian_pines_fixed", INDIAN_PINES_FIXED, optional=True),
    "dfc2018_houston_crop": DataSet(
        "scene", "dfc2018_houston_crop:load_dfc2018", DFC2018_CROP, "dfc2018_houston_crop/houston_dataset.mat"
    ),
    "muufl_crop": DataSet("scene", "muufl_crop:load_muufl", MUUFL_CROP),
    **_published(),
    "enmap_potsdam": DataSet("plots", "enmap_potsdam:load_enmap_potsdam", ENMAP_POTSDAM, "enmap_potsdam"),
    "idtrees2020": DataSet("plots", "idtrees2020:load_plots", IDTREES, "idtrees2020"),
    "cave": DataSet("pairs", "cave:load_cave", CAVE, "cave"),
    "worldview2": DataSet("pairs", "worldview2_ikonos:load_worldview2", WORLDVIEW2, "worldview2_ikonos/imgWV2.mat"),
    "ikonos": DataSet("pairs", "worldview2_ikonos:load_ikonos", IKONOS, "worldview2_ikonos/imgIK.mat"),
    "quickbird": DataSet("pairs", "quickbird_toulouse:load_quickbird", QUICKBIRD, "quickbird_toulouse"),
    "landsat8": DataSet("pairs", "landsat8:load_landsat8", LANDSAT8, "landsat8_cc0"),
    "sentinel2": DataSet("pairs", "sentinel2:load_sentinel2", SENTINEL2, "sentinel2_cc0"),
    "eo1": DataSet("pairs", "eo1_paris:load_eo1", EO1, "eo1_paris/paris_data_hs_pan.mat"),
    "hsi_chikusei": DataSet("pairs", "hsi_crops:load_chikusei", CROPS["Chikusei"], "hsi_crops/chikusei_48x48.tif"),
    "hsi_dc_mall": DataSet("pairs", "hsi_crops:load_dc_mall", CROPS["Washington DC Mall"], "hsi_crops/dc_48x48.tif"),
    "hsi_beltsville": DataSet(
        "pairs", "hsi_crops:load_beltsville", CROPS["Beltsville"], "hsi_crops/Beltsville_48x48.tif"
    ),
    "hsi_cuprite": DataSet("pairs", "hsi_crops:load_cuprite", CROPS["Cuprite"], "hsi_crops/Cuprite_48x48.tif"),
    **_pairs(),
}


def list_data(*kinds: Kind) -> list[str]:
    """List the data sets of some kinds, of all by default."""
    return [name for name, entry in CATALOG.items() if not kinds or entry.kind in kinds]


def data_root(root: PathLike | None = None) -> Path | None:
    """Return the folder of data: the one given, else that of the environment variable HSMAMBA_DATA, else None."""
    folder = root if root is not None else os.environ.get(DATA_VARIABLE)
    return Path(folder) if folder else None


def find_data(name: str, root: PathLike | None = None) -> Path:
    """Find the file or folder of a data set.

    Args:
        name: Name in the catalogue.
        root: Folder of data; default the environment variable HSMAMBA_DATA.

    Raises:
        DataNotFoundError: No folder of data is named, or it does not hold the set.
    """
    entry = CATALOG[name]
    folder = data_root(root)
    remedy = (
        f"give the folder that holds {entry.path} as root= (--data on the command line) or in the environment "
        f"variable {DATA_VARIABLE}"
    )
    if not folder:
        raise DataNotFoundError(f"the data set {name!r} ({entry.source}) comes with no package; {remedy}")
    path = Path(folder, entry.path)
    if not path.exists():
        raise DataNotFoundError(
            f"there is no {entry.path} in {str(folder)!r}; fetch the data set {name!r} ({entry.source}) and {remedy}"
        )
    return path


def load_scene(name: str, root: PathLike | None = None) -> Scene:
    """Load a scene by its name.

    `list_data("scene")` has the names, and `hsmamba data info NAME` tells what a scene is and which files hold it. Some
    need words:

    - "indian_pines" comes with the package tensorly, unless the folder of data has its files.
    - "indian_pines_fixed", "pavia_university_fixed" and "houston2013_fixed" have the labels of the literature's fixed
      splits, which are not wholly those of the usual maps.
    - "dfc2018_houston_crop" has as `aux` the colour image of a quarter of the pixel size, (128, 128, 48): 4 x 4 fine
      pixels by 3 colours. A pixel has the label that at least half of its fine pixels have.
    - "muufl_crop" comes with this package; `aux` is LiDAR, height in m and intensity.

    Args:
        name: Of a set of the kind "scene".
        root: Folder of data, where the scene does not come with a package; default the environment variable
            HSMAMBA_DATA.

    Raises:
        DataNotFoundError: The data are not there; the text says what is to lie where.
        SceneError: An unknown name, or arrays that are not those of the scene.
        MissingExtraError: The package that carries or reads the scene is not installed.
    """
    scene: Scene = _load(name, root, "scene")
    return scene


def load_scenes(name: str, root: PathLike | None = None) -> list[Scene]:
    """Load a set of plots by its name, or a scene of `load_scene` as a list.

    - "idtrees2020": see `load_idtrees`.
    - "enmap_potsdam": 16 tiles of 32 x 32 pixels of 30 m of one EnMAP scene, 224 bands of which six are bad, six
      classes of land cover.

    Root and errors are those of `load_scene`.
    """
    found: Scene | list[Scene] = _load(name, root, "scene", "plots")
    return [found] if isinstance(found, Scene) else found


def load_pairs(name: str, root: PathLike | None = None, **options: Any) -> FusionPairs:
    """Load pairs for fusion by the name of their data set.

    Args:
        name: Of a set of the kind "pairs"; `list_data("pairs")` has them all.
        root: Folder of data; default the environment variable HSMAMBA_DATA.
        **options: Of the set's own reader: `load_cave`, `load_worldview2`, ...; for most of them those of `wald_pairs`.

    Raises:
        DataNotFoundError: The data are not there; the text says what is to lie where.
        SceneError: An unknown name, or files that are something else.
    """
    pairs: FusionPairs = _load(name, root, "pairs", **options)
    return pairs


def _load(name: str, root: PathLike | None, *kinds: Kind, **options: Any) -> Any:
    if name not in CATALOG:
        known = ", ".join(map(repr, list_data(*kinds)))
        raise SceneError(f"there is no data set {name!r}; there is {known}, and files are opened by open_scene(path)")
    entry = CATALOG[name]
    if entry.kind not in kinds:
        raise SceneError(f"the data set {name!r} is {_DOORS[entry.kind]}({name!r}, ...)")
    module, _, function = entry.loader.partition(":")
    loader = getattr(importlib.import_module(f"hsmamba.data.sets.{module}"), function)
    if entry.named:
        find_data(name, root)
        return loader(name, data_root(root), **options)
    if entry.optional:
        return loader(data_root(root))
    return loader(root, **options) if entry.path else loader()


def list_splits() -> list[str]:
    """List the fixed splits that come with the package."""
    folder = resources.files("hsmamba") / "splits"
    return sorted(path.name.removesuffix(_SUFFIX) for path in folder.iterdir() if path.name.endswith(_SUFFIX))


def load_split(name: str, root: PathLike | None = None, samples: int | None = None) -> Split:
    """Load a fixed split that comes with the package, with its hash verified, or with the data of a scene.

    Args:
        name: Of the data set that it belongs to; `list_splits` has those of the package.
        root: Folder of data, for those that come with the data; default the environment variable HSMAMBA_DATA.
        samples: Training pixels a class, of WHU-Hi, whose maps are for 25, 50, 100, 150, 200 and 300.

    Raises:
        SplitError: There is no such split.
        HashMismatchError: Its pixels are not those on record.
        DataNotFoundError: The folder of data does not hold it.
        SceneError: Its files are something else.
    """
    if name in list_splits():
        with resources.as_file(resources.files("hsmamba") / "splits" / f"{name}{_SUFFIX}") as path:
            return Split.load(path)
    with_data = [key for key, spec in SCENES.items() if any(copy.index or copy.train for copy in spec.copies)]
    if name not in with_data:
        raise SplitError(
            f"there is no split {name!r}; there is {', '.join(map(repr, list_splits()))}, and with the data that of "
            f"{', '.join(with_data)}"
        )
    find_data(name, root)
    return load_published_split(name, data_root(root) or Path(), samples)
