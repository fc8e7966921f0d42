"""Scenes, readers, transforms, patches, splits, data sets and pairs for fusion.

What needs torch is imported on first use, so that opening a scene does not wait for it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hsmamba.data.image import gather_pixels, iter_strips, like, neighbour_pairs
from hsmamba.data.scene import Scene, open_image, open_scene
from hsmamba.data.sensors import Sensor, get_sensor
from hsmamba.data.sets.catalog import list_splits, load_pairs, load_scene, load_scenes, load_split
from hsmamba.data.sets.idtrees2020 import load_idtrees
from hsmamba.data.splits.blocks import block_split
from hsmamba.data.splits.leakage import LeakageReport, leakage
from hsmamba.data.splits.random import group_split, random_split
from hsmamba.data.splits.split import Split, split_from_maps
from hsmamba.data.transforms.components import MNF, PCA
from hsmamba.data.transforms.compose import Compose
from hsmamba.data.transforms.diffuse import Diffuse
from hsmamba.data.transforms.step import Step
from hsmamba.data.transforms.steps import AddShape, Blank, MinMax, SelectBands, SensorScale, Standardise
from hsmamba.data.validity import valid_mask

if TYPE_CHECKING:
    from hsmamba.data.datasets import PatchDataset
    from hsmamba.data.degrade import bicubic_resize, degrade_ms, degrade_pan, interp23, mtf_filter, upsample
    from hsmamba.data.pairs import FusionPair, FusionPairs
    from hsmamba.data.patches import Patches, augment_d4, erase_rim
    from hsmamba.data.sets.cave import load_cave
    from hsmamba.data.sets.samples import load_sample_pair, write_samples
    from hsmamba.data.sets.worldview2_ikonos import load_ikonos, load_worldview2
    from hsmamba.data.srf import nikon_d700, read_response, response_matrix, simulate_bands
    from hsmamba.data.wald import wald_pairs

# The modules of the block above: all need torch, so one more of them costs nothing beside it.
_WITH_TORCH = (
    "datasets", "degrade", "pairs", "patches", "sets.cave", "sets.samples", "sets.worldview2_ikonos", "srf", "wald",
)  # fmt: skip

__all__ = [
    "MNF",
    "PCA",
    "AddShape",
    "Blank",
    "Compose",
    "Diffuse",
    "FusionPair",
    "FusionPairs",
    "LeakageReport",
    "MinMax",
    "PatchDataset",
    "Patches",
    "Scene",
    "SelectBands",
    "Sensor",
    "SensorScale",
    "Split",
    "Standardise",
    "Step",
    "augment_d4",
    "bicubic_resize",
    "block_split",
    "degrade_ms",
    "degrade_pan",
    "erase_rim",
    "gather_pixels",
    "get_sensor",
    "group_split",
    "interp23",
    "iter_strips",
    "leakage",
    "like",
    "list_splits",
    "load_cave",
    "load_idtrees",
    "load_ikonos",
    "load_pairs",
    "load_sample_pair",
    "load_scene",
    "load_scenes",
    "load_split",
    "load_worldview2",
    "mtf_filter",
    "neighbour_pairs",
    "nikon_d700",
    "open_image",
    "open_scene",
    "random_split",
    "read_response",
    "response_matrix",
    "simulate_bands",
    "split_from_maps",
    "upsample",
    "valid_mask",
    "wald_pairs",
    "write_samples",
]


def __getattr__(name: str) -> Any:
    """Import what needs torch, once."""
    if name in __all__:
        for module in _WITH_TORCH:
            found = importlib.import_module(f"{__name__}.{module}")
            if hasattr(found, name):
                return globals().setdefault(name, getattr(found, name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names."""
    return sorted({*globals(), *__all__})
