"""How far the test side of a split was seen in training: pixels inside the patches of others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hsmamba.data.image import pixel_mask, windows_around
from hsmamba.data.splits.split import PARTS, Split
from hsmamba.errors import SplitError


@dataclass(frozen=True)
class LeakageReport:
    """How far the test side of a split was seen in training."""

    patch_size: int | None
    test_pixels: int
    inside_train: int  # test pixels that lie inside the patch of a training pixel
    inside_val: int  # and of a validation pixel

    @property
    def share(self) -> float:
        """Share of the test pixels that lie inside a training patch, 0..1."""
        return self.inside_train / self.test_pixels if self.test_pixels else 0.0

    def __str__(self) -> str:
        """Say it in a line."""
        side = self.patch_size
        where = "an image of training pixels" if side is None else f"a training patch of {side} x {side} pixels"
        return f"{self.inside_train} of {self.test_pixels} test pixels ({100 * self.share:.1f} %) lie inside {where}"


def leakage(split: Split, patch_size: int | None, shapes: Sequence[tuple[int, int]] | None = None) -> LeakageReport:
    """Count the test pixels that lie inside a patch which training (or validation) looks at.

    Args:
        split: The split.
        patch_size: Side P; a pixel sits at index P // 2 of its patch. None for a network that looks at whole scenes.
        shapes: Rows and columns of each scene, where the split is one of the items of several.

    Raises:
        SplitError: The split has another number of items than the scenes have pixels.
        ValueError: `patch_size` is below 1.
    """
    if patch_size is not None and patch_size < 1:
        raise ValueError(f"patch_size is {patch_size}; expected 1 or more")
    shapes = [split.shape] if shapes is None else shapes
    starts = np.cumsum([0, *(height * width for height, width in shapes)])
    if starts[-1] != split.shape[0] * split.shape[1]:
        raise SplitError(f"split {split.id!r} is for {split.shape} pixels, the scenes have {starts[-1]} in all")
    parts = {part: pixel_mask(getattr(split, part), split.shape).ravel() for part in PARTS}
    inside = {"train": 0, "val": 0}
    for part in inside:
        for shape, start, end in zip(shapes, starts[:-1], starts[1:], strict=True):
            centres = parts[part][start:end].reshape(shape)
            reached = np.full(shape, centres.any()) if patch_size is None else windows_around(centres, patch_size)
            inside[part] += int((reached.ravel() & parts["test"][start:end]).sum())
    return LeakageReport(patch_size, split.test.size, inside["train"], inside["val"])
