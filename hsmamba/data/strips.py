"""How a scene is cut along one axis into strips for training, validation and test."""

from __future__ import annotations

import warnings
from typing import TypeAlias

from hsmamba.errors import HsmambaWarning, SplitError

Strips: TypeAlias = "dict[str, tuple[int, int]]"

_VAL = 0.125  # of the axis
_GUARD = 8  # pixels of ms
_LEAST = 2  # blocks across a strip
_WINDOW = 8  # pixels of ms across training and test: what networks and the metrics need
_ROOM = 4  # blocks to train on, before some are kept for validation


def cut_strips(length: int, val: float | None, test: float, guard: int | None, ratio: int) -> Strips:
    """Cut an axis into strips, at least `guard` pixels apart, training first; the arguments are those of `wald_pairs`.

    Args:
        length: Blocks of the axis, of `ratio` pixels of `ms` each.
        val: Share for validation; None for an eighth, or none where that or the training would be too small.
        test: Share for the test.
        guard: Pixels of `ms`; None for 8, or a twelfth of the axis where that is less.
        ratio: Scale ratio.

    Returns:
        First pixel of `ms` and the one after the last, by "train", "val" and "test"; parts of share 0 are left out.

    Raises:
        SplitError: A strip would be narrower than two blocks, or than 8 pixels.
        ValueError: A share outside [0, 1).

    Warns:
        HsmambaWarning: `val` is None and the axis too short for a validation strip.
    """
    for key, share in (("val", val), ("test", test)):
        if share is not None and not 0 <= share < 1:
            raise ValueError(f"{key} is {share}; it must be in [0, 1)")
    window = max(_LEAST, -(-_WINDOW // ratio))
    least = {"train": window, "val": _LEAST, "test": window}
    apart = min(_GUARD, length * ratio // 12) if guard is None else guard
    gap = -(-apart // ratio)
    strips = _cut(length, _VAL if val is None else val, test, gap)
    if val is None and not (_fits(strips, least) and strips["train"][1] >= _ROOM):
        strips = _cut(length, 0, test, gap)
        if _fits(strips, least):
            warnings.warn(
                f"{length * ratio} pixels of ms along the axis leave no room for a validation strip at ratio {ratio}: "
                "finetune will keep its last epoch. val=0 says that this is meant, val=0.2 asks for a strip",
                HsmambaWarning,
                stacklevel=3,
            )
    if not _fits(strips, least):
        raise SplitError(_refusal(length, val or 0, test, gap, ratio, least))
    return {key: (start * ratio, stop * ratio) for key, (start, stop) in strips.items()}


def _cut(length: int, val: float, test: float, gap: int) -> Strips:
    """Cut 0..length into train, val and test, `gap` apart; there may be nothing left for the training."""
    strips, stop = {}, length
    for key, share in (("test", test), ("val", val)):
        if share:
            size = max(round(share * length), 1)
            strips[key] = (stop - size, stop)
            stop -= size + gap
    return {"train": (0, stop), **dict(reversed(strips.items()))}


def _fits(strips: Strips, least: dict[str, int]) -> bool:
    return all(stop - start >= least[key] for key, (start, stop) in strips.items())


def _refusal(length: int, val: float, test: float, gap: int, ratio: int, least: dict[str, int]) -> str:
    """Say what is too small, and the least change that mends it."""
    sizes = {key: stop - start for key, (start, stop) in _cut(length, val, test, gap).items()}
    listed = ", ".join(f"{max(size, 0) * ratio} for {key}" for key, size in sizes.items())
    needed = ", ".join(f"{least[key] * ratio}" for key in sizes)
    text = (
        f"with val={val:g}, test={test:g} and guard={gap * ratio} {length * ratio} pixels of ms along the axis come to "
        f"{listed}; at ratio {ratio} there must be {needed}"
    )
    for change in ({"val": 0.0}, {"guard": 0}, {"test": 0.0}, {"val": 0.0, "test": 0.0}):
        tried = {"val": val, "test": test, "guard": gap} | change
        if _fits(_cut(length, tried["val"], tried["test"], int(tried["guard"])), least):
            return f"{text}. It works with {' and '.join(f'{key}=0' for key in change)}"
    return f"{text}. Take a larger scene, or the other axis"
