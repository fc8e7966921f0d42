"""Rectangles of an image that hold valid pixels alone, so that no filter in them meets an invalid one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Box = tuple[slice, slice]

_LEAST = (16, 8, 4, 2, 1)  # sides to hope for, the default crop first


def whole_rectangles(good: npt.NDArray[np.bool_], most: int) -> list[Box]:
    """Cut a grid into rectangles that are True throughout.

    Args:
        good: (H, W).
        most: How many rectangles at most.

    Returns:
        Rows and columns of each, disjoint, the largest first; all of the grid where it is all True. They hold a square
        of 16 x 16, or of 8, 4, 2 or 1 where there is none of more.
    """
    if good.all():
        return [(slice(0, good.shape[0]), slice(0, good.shape[1]))]
    rest = good.copy()
    found: list[Box] = []
    least = next((side for side in _LEAST if _largest(good, side) is not None), 1)
    while len(found) < most and (box := _largest(rest, least)) is not None:
        found.append(box)
        rest[box] = False
    return found


def _largest(good: npt.NDArray[np.bool_], least: int) -> Box | None:
    """Find the rectangle with the most places for a square of a side; None where there is none."""
    best, found = 0, None
    heights = np.zeros(good.shape[1], np.int64)
    for row, line in enumerate(good):
        heights = np.where(line, heights + 1, 0)
        for left, right, height in _below(heights.tolist()):
            places = max(height - least + 1, 0) * max(right - left - least + 1, 0)
            if places > best:
                best, found = places, (slice(row - height + 1, row + 1), slice(left, right))
    return found


def _below(heights: list[int]) -> Iterator[tuple[int, int, int]]:
    """Give the rectangles (left, right, height) below a skyline that could not be wider."""
    rising: list[tuple[int, int]] = []
    for right, height in enumerate([*heights, 0]):
        left = right
        while rising and rising[-1][1] >= height:
            left, tall = rising.pop()
            yield left, right, tall
        rising.append((left, height))
