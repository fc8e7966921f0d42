"""Data sets by name: one table, one folder of data, one error where they are not there; and their fixed splits."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from hsmamba.data.scene import PathLike, Scene
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
    path: str = ""  # file or folder that the folder of data must hold; empty where the data come with a package
    source: str = ""  # who distributes it


_NAPLES = "GRIP-UNINA, University Federico II of Naples"
_CROPS = "crops of 48 x 48 pixels made with MultiSpec"

CATALOG: dict[str, DataSet] = {
    "indian_pines": DataSet("scene", "indian_pines:load_indian_pines"),
    "indian_pines_fixed": DataSet("scene", "indian_pines:load_indian_pines_fixed"),
    "dfc2018_houston_crop": DataSet(
        "scene",
        "dfc2018_houston_crop:load_dfc2018",
        "dfc2018_houston_crop/houston_dataset.mat",
        "IEEE GRSS Data Fusion Contest 2018, a crop",
    ),
    "muufl_crop": DataSet("scene", "muufl_crop:load_muufl"),
    "salinas_a": DataSet(
        "scene", "salinas_a:load_salinas_a", "salinas_a", "NASA/JPL AVIRIS, prepared by UPV/EHU: the folder SalinasA"
    ),
    "enmap_potsdam": DataSet(
        "plots", "enmap_potsdam:load_enmap_potsdam", "enmap_potsdam", "EnMAP, DLR 2022, with labels of LGB"
    ),
    "idtrees2020": DataSet("plots", "idtrees2020:load_plots", "idtrees2020", "IDTReeS 2020, Zenodo 3934932"),
    "cave": DataSet("pairs", "cave:load_cave", "cave", "Columbia University multispectral image database"),
    "worldview2": DataSet("pairs", "worldview2_ikonos:load_worldview2", "worldview2_ikonos/imgWV2.mat", _NAPLES),
    "ikonos": DataSet("pairs", "worldview2_ikonos:load_ikonos", "worldview2_ikonos/imgIK.mat", _NAPLES),
    "quickbird": DataSet("pairs", "quickbird_toulouse:load_quickbird", "quickbird_toulouse", "Orfeo ToolBox, samples"),
    "landsat8": DataSet("pairs", "landsat8:load_landsat8", "landsat8_cc0", "USGS, a crop"),
    "sentinel2": DataSet("pairs", "sentinel2:load_sentinel2", "sentinel2_cc0", "Copernicus Sentinel data, a crop"),
    "eo1": DataSet("pairs", "eo1_paris:load_eo1", "eo1_paris/paris_data_hs_pan.mat", "USGS and NASA, EO-1, Paris"),
    "hsi_chikusei": DataSet("pairs", "hsi_crops:load_chikusei", "hsi_crops/chikusei_48x48.tif", _CROPS),
    "hsi_dc_mall": DataSet("pairs", "hsi_crops:load_dc_mall", "hsi_crops/dc_48x48.tif", _CROPS),
    "hsi_beltsville": DataSet("pairs", "hsi_crops:load_beltsville", "hsi_crops/Beltsville_48x48.tif", _CROPS),
    "hsi_cuprite": DataSet("pairs", "hsi_crops:load_cuprite", "hsi_crops/Cuprite_48x48.tif", _CROPS),
}


def list_data(*kinds: Kind) -> list[str]:
    """List the data sets of some kinds, of all by default."""
    return [name for name, entry in CATALOG.items() if not kinds or entry.kind in kinds]


def find_data(name: str, root: PathLike | None = None) -> Path:
    """Find the file or folder of a data set.

    Args:
        name: Name in the catalogue.
        root: Folder of data; default the environment variable HSMAMBA_DATA.

    Raises:
        DataNotFoundError: No folder of data is named, or it does not hold the set.
    """
    entry = CATALOG[name]
    folder = root if root is not None else os.environ.get(DATA_VARIABLE)
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

    - "indian_pines": AVIRIS, 145 x 145 pixels of 20 m, 200 bands, 16 classes; from the package tensorly.
    - "indian_pines_fixed": the same cube, with the labels of the literature's fixed split, which are not wholly those
      of the usual map: 256 of its pixels are unlabelled there.
    - "dfc2018_houston_crop": 128 x 128 pixels of the IEEE GRSS data fusion contest of 2018, 48 bands, 12 classes; `aux`
      is the colour image of a quarter of the pixel size, (128, 128, 48): 4 x 4 fine pixels by 3 colours. A pixel has
      the label that at least half of its fine pixels have.
    - "muufl_crop": CASI over Gulfport, which comes with this package: 90 x 90 pixels of 1 m, 64 bands, 11 classes of
      which eight occur; `aux` is LiDAR, height in m and intensity.
    - "salinas_a": AVIRIS, 83 x 86 pixels of 3.7 m, 204 bands, six classes.

    Args:
        name: One of the names above.
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
    return loader(root, **options) if entry.path else loader()


def list_splits() -> list[str]:
    """List the fixed splits that come with the package."""
    folder = resources.files("hsmamba") / "splits"
    return sorted(path.name.removesuffix(_SUFFIX) for path in folder.iterdir() if path.name.endswith(_SUFFIX))


def load_split(name: str) -> Split:
    """Load a fixed split that comes with the package, and verify its hash.

    Args:
        name: Of the data set that it belongs to; `list_splits` has them all.

    Raises:
        SplitError: There is no such split.
        HashMismatchError: Its pixels are not those on record.
    """
    if name not in list_splits():
        raise SplitError(f"there is no split {name!r}; there is {', '.join(map(repr, list_splits()))}")
    with resources.as_file(resources.files("hsmamba") / "splits" / f"{name}{_SUFFIX}") as path:
        return Split.load(path)
