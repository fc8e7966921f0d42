"""Splits by chance within each class."""

from __future__ import annotations

import numpy as np

from hsmamba.data.splits.pixels import Labels, check_amount, check_labels, draw, quota
from hsmamba.data.splits.split import Split
from hsmamba.errors import SplitError


def random_split(labels: Labels, *, fraction: float | None = None, count: int | None = None, seed: int = 0) -> Split:
    """Draw training pixels at random within each class; all other labelled pixels test.

    Patches of training pixels overlap nearly all test pixels of such a split: see `leakage` and `block_split`.

    Args:
        labels: (H, W) integer, 0 = unlabelled, 1..K.
        fraction: Share of each class in (0, 1): max(1, floor(fraction * n)) pixels; give this or `count`.
        count: Pixels of each class.
        seed: Seed of the draw.

    Returns:
        The split, without validation pixels.

    Raises:
        SplitError: A class has no pixels, or none would be left to test.
        ValueError: Not one of `fraction` and `count`, or a number out of range.
    """
    check_amount(fraction, count)
    values, sizes = check_labels(labels)
    generator = np.random.default_rng(seed)
    chosen = []
    for k, size in enumerate(sizes[1:], start=1):
        wanted = quota(int(size), fraction, count)
        if wanted >= size:
            raise SplitError(
                f"class {k} has {size} labelled pixels, {wanted} of them would train, so none would be left to test; "
                "lower count, or set the labels of this class to 0 and renumber the others"
            )
        chosen.append(draw(np.flatnonzero(values == k), wanted, generator))
    train = np.concatenate(chosen)
    amount = f"{fraction:g}" if fraction is not None else f"{count}px"
    test = np.setdiff1d(np.flatnonzero(values), train)
    shape = (values.shape[0], values.shape[1])
    return Split(train, test, np.empty(0, np.int64), shape, f"random-{amount}-seed{seed}")
