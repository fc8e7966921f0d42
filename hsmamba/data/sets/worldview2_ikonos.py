"""The WorldView-2 and the IKONOS image of GRIP-UNINA, out of the folder of data: `I_MS` (320, 320, C), `I_PAN`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hsmamba.data.files.readers import open_file
from hsmamba.data.pairs import FusionPairs
from hsmamba.data.scene import PathLike
from hsmamba.data.sets.catalog import find_data
from hsmamba.data.wald import wald_pairs
from hsmamba.errors import SceneError


def load_worldview2(root: PathLike | None = None, **options: Any) -> FusionPairs:
    """Load the WorldView-2 image, 8 bands and PAN; root and errors as for `load_pairs`, options as for `wald_pairs`."""
    return _pairs(find_data("worldview2", root), sensor="WV2", name="WorldView-2", **options)


def load_ikonos(root: PathLike | None = None, **options: Any) -> FusionPairs:
    """Load the IKONOS image, 4 bands and PAN; arguments as for `load_worldview2`."""
    return _pairs(find_data("ikonos", root), sensor="IKONOS", name="IKONOS", **options)


def _pairs(path: Path, **options: Any) -> FusionPairs:
    variables = open_file(path, masked=False).variables
    if missing := {"I_MS", "I_PAN"} - variables.keys():
        raise SceneError(f"{path} has no variable {' and no '.join(sorted(missing))}")
    return wald_pairs(*(variables[name].read() for name in ("I_MS", "I_PAN")), **options)
