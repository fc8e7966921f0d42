"""Labels that a person gives, stroke by stroke, and takes back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

MOST_CLASSES = 254
_KEPT = 200  # strokes that can be taken back


@dataclass(frozen=True)
class _Stroke:
    """What a stroke changed: the pixels, and what they were."""

    items: NDArray[np.int64]
    labels: NDArray[np.uint8]
    groups: NDArray[np.int32]


class LabelSheet:
    """Labels on a grid, and which stroke each of them is of.

    Pixels of one stroke, or of one patch of a map that was loaded, lie side by side and look alike: they are one place,
    and labels are held out place by place.

    Args:
        shape: Rows and columns (H, W).

    Attributes:
        names: Names of the classes 1..K.
        labels: (H, W) uint8, 0 = unlabelled, classes 1..K.
        groups: (H, W) int32, the number of the place of every label.
        version: Grows with every change.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self.names: list[str] = []
        self.labels = np.zeros(shape, np.uint8)
        self.groups = np.zeros(shape, np.int32)
        self.version = 0
        self._undo: list[_Stroke] = []
        self._last = 0

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.labels.shape[0], self.labels.shape[1]

    @property
    def counts(self) -> list[int]:
        """Labelled pixels of each class."""
        return [int(n) for n in np.bincount(self.labels.ravel(), minlength=len(self.names) + 1)[1:]]

    @property
    def can_undo(self) -> bool:
        """Whether there is a stroke to take back."""
        return bool(self._undo)

    def add_class(self, name: str) -> int:
        """Add a class at the end; return its number.

        Raises:
            ValueError: The name is empty or taken, or there are 254 classes.
        """
        name = self._free(name)
        if len(self.names) >= MOST_CLASSES:
            raise ValueError(f"there are {MOST_CLASSES} classes; take one of them")
        self.names.append(name)
        self.version += 1
        return len(self.names)

    def rename_class(self, label: int, name: str) -> None:
        """Give a class another name.

        Raises:
            ValueError: There is no such class, or the name is empty or taken.
        """
        self._check(label)
        if name.strip() != self.names[label - 1]:
            self.names[label - 1] = self._free(name)
            self.version += 1

    def remove_class(self, label: int) -> None:
        """Remove a class with its labels; those after it move up. What was before cannot be brought back.

        Raises:
            ValueError: There is no such class.
        """
        self._check(label)
        del self.names[label - 1]
        self.groups[self.labels == label] = 0
        self.labels[self.labels == label] = 0
        self.labels[self.labels > label] -= 1
        self._undo.clear()
        self.version += 1

    def paint(self, path: Sequence[tuple[float, float]], label: int, radius: int = 0) -> int:
        """Label the pixels along a line, as one place.

        Args:
            path: Points (row, column) of the line; one for a click.
            label: Class 1..K; 0 takes labels away.
            radius: Pixels around the line that are labelled, too.

        Returns:
            Pixels that changed.

        Raises:
            ValueError: There is no such class, or no point.
        """
        if label:
            self._check(label)
        if not path:
            raise ValueError("the stroke has no point; click or draw on the image")
        items = self._along(path, max(0, int(radius)))
        return self._set(items, np.full(items.size, label, np.uint8), self._last + 1)

    def load(self, labels: NDArray[np.integer], names: Sequence[str]) -> NDArray[np.uint8]:
        """Take labels of a map, each patch of a class as one place; classes are found by name, or added.

        Args:
            labels: (H, W), 0 = unlabelled, classes 1..K.
            names: Of the classes; those beyond are named by number.

        Returns:
            (n,) the number that each class of the map has here, 0 for those that it does not hold.

        Raises:
            ValueError: The map is of another size, or has too many classes.
        """
        if labels.shape != self.shape:
            raise ValueError(f"the labels are {labels.shape}, the scene is {self.shape} (rows, columns)")
        items = np.flatnonzero(labels)
        found = np.unique(labels.ravel()[items])
        named = {int(k): names[k - 1] if k <= len(names) else f"class {k}" for k in found}
        missing = [name for name in named.values() if name not in self.names]
        if len(self.names) + len(set(missing)) > MOST_CLASSES:
            raise ValueError(f"the labels have {len(found)} classes; {MOST_CLASSES} is the most")
        self.names += dict.fromkeys(missing)
        numbers = np.zeros(int(found.max(initial=0)) + 1, np.uint8)
        for k, name in named.items():
            numbers[k] = self.names.index(name) + 1
        values = numbers[labels.ravel()[items]]
        self._set(items, values, patches(np.asarray(labels)).ravel()[items] + self._last)
        self.version += 1
        return numbers

    def undo(self) -> None:
        """Take the last stroke back; nothing where there is none."""
        if self._undo:
            stroke = self._undo.pop()
            self.labels.ravel()[stroke.items], self.groups.ravel()[stroke.items] = stroke.labels, stroke.groups
            self.version += 1

    def clear(self) -> None:
        """Take all labels away, which can be taken back."""
        items = np.flatnonzero(self.labels)
        self._set(items, np.zeros(items.size, np.uint8), 0)

    def _set(self, items: NDArray[np.int64], values: NDArray[np.uint8], groups: NDArray[np.int32] | int) -> int:
        labels, of_items = self.labels.ravel(), self.groups.ravel()  # views
        places = np.where(values > 0, groups, 0).astype(np.int32)
        changed = labels[items] != values
        items, values, places = items[changed], values[changed], places[changed]
        if items.size:
            self._undo = [*self._undo[1 - _KEPT :], _Stroke(items, labels[items].copy(), of_items[items].copy())]
            labels[items], of_items[items] = values, places
            self._last = max(self._last, int(places.max()))
            self.version += 1
        return int(items.size)

    def _along(self, path: Sequence[tuple[float, float]], radius: int) -> NDArray[np.int64]:
        """Flat indices of the pixels of a line of some width."""
        points = np.asarray(path, np.float64).reshape(-1, 2)
        if not np.isfinite(points).all():
            raise ValueError("the stroke has a point that is no number; draw it again")
        points = np.clip(points, -1 - radius, np.array(self.shape) + radius)
        between = [points[:1]]
        for start, stop in pairwise(points):
            steps = max(1, int(np.ceil(np.abs(stop - start).max())))
            between.append(start + (stop - start) * np.arange(1, steps + 1)[:, None] / steps)
        centres = np.unique(np.floor(np.concatenate(between)).astype(np.int64), axis=0)
        reach = np.arange(-radius, radius + 1)
        disc = np.argwhere(np.hypot(*np.meshgrid(reach, reach)) <= radius + 0.5) - radius
        pixels = (centres[:, None] + disc).reshape(-1, 2)
        inside = pixels[((pixels >= 0) & (pixels < self.shape)).all(axis=1)]
        return np.unique(inside[:, 0] * self.shape[1] + inside[:, 1])

    def _check(self, label: int) -> None:
        if not 1 <= label <= len(self.names):
            raise ValueError(f"there is no class {label}; add a class first, or choose one of {len(self.names)}")

    def _free(self, name: str) -> str:
        name = " ".join(name.split())
        if not name:
            raise ValueError("a class needs a name")
        if name in self.names:
            raise ValueError(f"there is a class {name!r} already; choose another name")
        return name


def patches(labels: NDArray[np.integer]) -> NDArray[np.int32]:
    """Number the patches of a map: pixels of one class that touch each other, by an edge or a corner."""
    found, last = np.zeros(labels.shape, np.int32), 0
    for k in np.unique(labels[labels > 0]):
        here, count = ndimage.label(labels == k, np.ones((3, 3)))
        found[here > 0] = here[here > 0] + last
        last += count
    return found
