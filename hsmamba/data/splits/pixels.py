"""What the makers of splits share: the check of labels, the number of pixels of a class, the draw."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hsmamba.errors import SplitError

Labels: TypeAlias = npt.ArrayLike  # (H, W) integers, 0 = unlabelled, classes 1..K
Indices: TypeAlias = "npt.NDArray[np.int64]"


def check_labels(labels: Labels) -> tuple[npt.NDArray[np.int64], Indices]:
    """Return labels as int64 (H, W) and the pixels of each class at its index; a class may have none."""
    values = np.asarray(labels)
    if values.ndim != 2 or values.dtype.kind not in "iu":
        raise SplitError(
            f"labels have shape {values.shape} and dtype {values.dtype}; expected integers (H, W), as a Scene has them "
            "(scene.labels)"
        )
    if not values.size or values.max() < 1 or values.min() < 0:
        low_high = f"{values.min()}..{values.max()}" if values.size else "nothing"
        raise SplitError(
            f"labels hold {low_high}; expected 0 (unlabelled) and classes from 1, as a Scene has them (scene.labels)"
        )
    return values.astype(np.int64), np.bincount(values.ravel().astype(np.int64)).astype(np.int64)


def check_amount(fraction: float | None, count: int | None) -> None:
    """Raise ValueError unless one of the two is given, and in its range."""
    if (fraction is None) == (count is None):
        raise ValueError(f"got fraction={fraction} and count={count}; give one of them")
    if fraction is not None and not 0 < fraction < 1:
        raise ValueError(f"fraction is {fraction}; expected a number between 0 and 1, e.g. 0.05 for 5 %")
    if count is not None and count < 1:
        raise ValueError(f"count is {count}; expected 1 or more pixels a class")


def quota(size: int, fraction: float | None, count: int | None) -> int:
    """Return the number of pixels to take of a class of `size`; none of a class without pixels."""
    if size == 0:
        return 0
    if fraction is None:
        return int(count or 0)
    # 0.29 * 100 is 28.999... in binary; the tolerance keeps such products at the whole number they stand for.
    return max(1, int(np.floor(fraction * size + 1e-9)))


def draw(members: Indices, wanted: int, generator: np.random.Generator) -> Indices:
    """Draw without replacement, from uniform numbers only: that stream is the same in every numpy release."""
    order = np.argsort(generator.random(members.size), kind="stable")
    return members[order[:wanted]]
