"""Figures by unit (plot, image, block of ground), as they stand in a column of the table of results.

`3:1=12/15 4=0/2|7:1=9/9` says of unit 3 that 12 of its 15 pixels of class 1 and none of its 2 of class 4 are right;
`0:SAM=3.2104 ERGAS=2.51|1:...` gives the figures of a fused image in each unit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Counts: TypeAlias = "dict[int, dict[int, tuple[int, int]]]"  # unit -> class -> right pixels, pixels
Values: TypeAlias = "dict[int, dict[str, float]]"  # unit -> metric -> figure


def ground_units(shapes: Sequence[tuple[int, int]], block: int) -> NDArray[np.int64]:
    """Number the units of all pixels of some scenes.

    Args:
        shapes: Rows and columns of each scene.
        block: Side of the blocks of ground; 0 makes each scene a unit.

    Returns:
        (N,) unit of each pixel, scene after scene.
    """
    parts, first = [], 0
    for height, width in shapes:
        side = block or max(height, width)
        across = -(-width // side)
        rows, columns = np.arange(height) // side, np.arange(width) // side
        parts.append((first + rows[:, None] * across + columns).ravel())
        first += across * -(-height // side)
    return np.concatenate(parts)


def count(units: NDArray[Any], truth: NDArray[Any], predicted: NDArray[Any]) -> Counts:
    """Count right pixels and pixels by unit and true class; arrays (N,)."""
    keys, index = np.unique(np.stack([units, truth]), axis=1, return_inverse=True)
    index = index.ravel()
    total = np.bincount(index)
    right = np.bincount(index, weights=predicted == truth).astype(int)
    found: Counts = {}
    for (unit, cls), good, every in zip(keys.T.tolist(), right.tolist(), total.tolist(), strict=True):
        found.setdefault(unit, {})[cls] = (good, every)
    return found


def write_counts(counts: Counts) -> str:
    """Write counts as text."""
    return _join({unit: {cls: f"{a}/{b}" for cls, (a, b) in classes.items()} for unit, classes in counts.items()})


def write_values(values: Values) -> str:
    """Write figures as text, with five digits."""
    return _join({unit: {key: f"{value:.5g}" for key, value in figures.items()} for unit, figures in values.items()})


def read_counts(text: str) -> Counts:
    """Read back what `write_counts` wrote."""
    return {
        unit: {int(cls): (int(a), int(b)) for cls, (a, _, b) in ((k, v.partition("/")) for k, v in parts.items())}
        for unit, parts in _split(text).items()
    }


def read_values(text: str) -> Values:
    """Read back what `write_values` wrote."""
    return {unit: {key: float(value) for key, value in parts.items()} for unit, parts in _split(text).items()}


def _join(units: Mapping[int, Mapping[Any, str]]) -> str:
    return "|".join(f"{unit}:{' '.join(f'{k}={v}' for k, v in parts.items())}" for unit, parts in units.items())


def _split(text: str) -> dict[int, dict[str, str]]:
    units = (part.partition(":") for part in text.split("|") if part)
    return {int(unit): dict(item.split("=") for item in items.split()) for unit, _, items in units}
