"""Scenes, readers, transforms, patches, splits and datasets.

What needs torch (patches, datasets) is imported on first use, so that opening a scene does not wait for it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hsmamba.data.io import load_scene, open_scene
from hsmamba.data.scene import Scene, gather_pixels, iter_strips, like, neighbour_pairs, valid_mask
from hsmamba.data.splits import LeakageReport, Split, block_split, leakage, random_split, split_from_maps
from hsmamba.data.steps import MNF, PCA, MinMax, SelectBands, SensorScale, Standardise, Step
from hsmamba.data.transforms import Compose

if TYPE_CHECKING:
    from hsmamba.data.datasets import PatchDataset
    from hsmamba.data.patches import Patches, augment_d4

_WITH_TORCH = {
    "PatchDataset": "hsmamba.data.datasets",
    "Patches": "hsmamba.data.patches",
    "augment_d4": "hsmamba.data.patches",
}

__all__ = [
    "MNF",
    "PCA",
    "Compose",
    "LeakageReport",
    "MinMax",
    "PatchDataset",
    "Patches",
    "Scene",
    "SelectBands",
    "SensorScale",
    "Split",
    "Standardise",
    "Step",
    "augment_d4",
    "block_split",
    "gather_pixels",
    "iter_strips",
    "leakage",
    "like",
    "load_scene",
    "neighbour_pairs",
    "open_scene",
    "random_split",
    "split_from_maps",
    "valid_mask",
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
