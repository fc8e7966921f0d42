"""Scenes, readers, transforms, patches, splits and datasets.

What needs torch (patches, datasets) is imported on first use, so that opening a scene does not wait for it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hsmamba.data.catalog import list_splits, load_scene, load_scenes, load_split
from hsmamba.data.io import open_image, open_scene
from hsmamba.data.plots import group_split, load_idtrees
from hsmamba.data.scene import Scene, gather_pixels, iter_strips, like, neighbour_pairs, valid_mask
from hsmamba.data.splits import LeakageReport, Split, block_split, leakage, random_split, split_from_maps
from hsmamba.data.steps import MNF, PCA, Blank, MinMax, SelectBands, SensorScale, Standardise, Step
from hsmamba.data.transforms import Compose

if TYPE_CHECKING:
    from hsmamba.data.datasets import PatchDataset
    from hsmamba.data.degrade import (
        bicubic_resize,
        degrade_ms,
        degrade_pan,
        interp23,
        mtf_filter,
        upsample,
    )
    from hsmamba.data.fusion_sets import load_cave, load_ikonos, load_worldview2
    from hsmamba.data.pairs import FusionPair, FusionPairs, wald_pairs
    from hsmamba.data.patches import Patches, augment_d4, erase_rim
    from hsmamba.data.sensors import Sensor, get_sensor
    from hsmamba.data.srf import nikon_d700, read_response, response_matrix, simulate_bands

_WITH_TORCH = {
    "FusionPair": "hsmamba.data.pairs",
    "FusionPairs": "hsmamba.data.pairs",
    "load_cave": "hsmamba.data.fusion_sets",
    "load_ikonos": "hsmamba.data.fusion_sets",
    "load_worldview2": "hsmamba.data.fusion_sets",
    "wald_pairs": "hsmamba.data.pairs",
    "Sensor": "hsmamba.data.sensors",
    "bicubic_resize": "hsmamba.data.degrade",
    "degrade_ms": "hsmamba.data.degrade",
    "erase_rim": "hsmamba.data.patches",
    "degrade_pan": "hsmamba.data.degrade",
    "get_sensor": "hsmamba.data.sensors",
    "interp23": "hsmamba.data.degrade",
    "mtf_filter": "hsmamba.data.degrade",
    "nikon_d700": "hsmamba.data.srf",
    "read_response": "hsmamba.data.srf",
    "response_matrix": "hsmamba.data.srf",
    "simulate_bands": "hsmamba.data.srf",
    "upsample": "hsmamba.data.degrade",
    "PatchDataset": "hsmamba.data.datasets",
    "Patches": "hsmamba.data.patches",
    "augment_d4": "hsmamba.data.patches",
}

__all__ = [
    "MNF",
    "PCA",
    "Blank",
    "Compose",
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
]


def __getattr__(name: str) -> Any:
    """Import what needs torch, once."""
    if name not in _WITH_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_WITH_TORCH[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return sorted({*globals(), *__all__})
