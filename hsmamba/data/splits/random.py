"""Splits by chance: of the pixels of each class, or of whole scenes (plots)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hsmamba.data.splits.pixels import Labels, check_amount, check_labels, draw, quota
from hsmamba.data.splits.split import Split
from hsmamba.errors import SplitError

_LAYOUTS = 20_000  # of groups


def random_split(
    labels: Labels, *, fraction: float | None = None, count: int | None = None, cap: bool = False, seed: int = 0
) -> Split:
    """Draw training pixels at random within each class; all other labelled pixels test, none validates.

    Patches of training pixels overlap nearly all test pixels of such a split: see `leakage` and `block_split`.

    Args:
        labels: (H, W) integer, 0 = unlabelled, 1..K.
        fraction: Share of each class in (0, 1): max(1, floor(fraction * n)) pixels; give this or `count`.
        count: Pixels of each class.
        cap: Take fewer of a class that has no more than that, so that one pixel is left to test; a class of a single
            pixel then trains only.
        seed: Seed of the draw.

    Raises:
        SplitError: No class has pixels, or none of a class would be left to test.
        ValueError: Not one of `fraction` and `count`, or a number out of range.
    """
    check_amount(fraction, count)
    values, sizes = check_labels(labels)
    generator = np.random.default_rng(seed)
    chosen = []
    for k, size in enumerate(sizes[1:], start=1):
        wanted = quota(int(size), fraction, count)
        if cap:
            wanted = min(wanted, max(int(size) - 1, min(int(size), 1)))
        elif wanted >= size > 0:
            raise SplitError(
                f"class {k} has {size} labelled pixels, {wanted} of them would train, so none would be left to test; "
                "take fewer of such a class with cap=True (--cap), lower count, or set the labels of this class to 0"
            )
        chosen.append(draw(np.flatnonzero(values == k), wanted, generator))
    train = np.concatenate(chosen)
    amount = (f"{fraction:g}" if fraction is not None else f"{count}px") + "-cap" * cap
    test = np.setdiff1d(np.flatnonzero(values), train)
    shape = (values.shape[0], values.shape[1])
    return Split(train, test, np.empty(0, np.int64), shape, f"random-{amount}-seed{seed}")


def group_split(
    labels: npt.ArrayLike, groups: npt.ArrayLike, *, test: float = 0.3, val: float = 0.0, seed: int = 0, name: str = ""
) -> Split:
    """Split the items of several scenes by scene (plot): all labelled items of a group are in the same part.

    Of many random layouts, the one is taken whose shares of every class come nearest to those asked for, so that the
    classes occur on each side as evenly as whole groups allow.

    Args:
        labels: (N,) of a `PatchDataset`, 0 = unlabelled, classes 1..K.
        groups: (N,) group of each item: `PatchDataset.groups`, or coarser numbers where scenes share ground.
        test: Share of each class to test on, in (0, 1).
        val: Share of each class to validate on, in [0, 1).
        seed: Seed of the layouts.
        name: Id of the split; default says the arguments.

    Returns:
        The split, of shape (1, N).

    Raises:
        SplitError: Labels and groups do not fit, or some class cannot be on every side.
        ValueError: A share out of range.
    """
    values, of_item = np.asarray(labels).ravel(), np.asarray(groups).ravel()
    if values.shape != of_item.shape or not values.size or values.max() < 1:
        raise SplitError(f"labels and groups have the shapes {values.shape} and {of_item.shape}, with labels up to "
                         f"{values.max(initial=0)}; expected two of the same length, with classes from 1")  # fmt: skip
    if not (0 < test < 1 and 0 <= val < 1 and test + val < 1):
        raise ValueError(f"test is {test}, val {val}; expected shares that leave something to train on")
    _, index = np.unique(of_item, return_inverse=True)
    labelled = values > 0
    classes, of_class = np.unique(values[labelled], return_inverse=True)  # a class without pixels is not waited for
    counts = np.zeros((index.max() + 1, len(classes)))
    np.add.at(counts, (index[labelled], of_class), 1)
    wanted = np.array([1 - test - val, val, test])
    sides = [side for side in range(3) if wanted[side]]
    generator = np.random.default_rng(seed)
    best, best_cost = None, np.inf
    for _ in range(_LAYOUTS):
        side_of = np.searchsorted(np.cumsum(wanted), generator.random(len(counts)), side="right").clip(0, 2)
        sums = np.stack([counts[side_of == side].sum(0) for side in sides])
        cost = np.abs(sums / sums.sum(0) - wanted[sides, None]).max() if (sums > 0).all() else np.inf
        if cost < best_cost:
            best, best_cost = side_of, cost
    if best is None:
        raise SplitError(
            f"no layout of {len(counts)} groups has every class on every side; a class lives in too few groups "
            f"({', '.join(f'class {k}: {int((found > 0).sum())}' for k, found in zip(classes, counts.T, strict=True))})"
        )
    part = np.where(labelled, best[index], -1)
    train, val_items, test_items = (np.flatnonzero(part == side) for side in range(3))
    name = name or f"groups-test{test:g}-val{val:g}-seed{seed}"
    return Split(train, test_items, val_items, (1, values.size), name)
