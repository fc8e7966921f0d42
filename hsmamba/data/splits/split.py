"""A split: the pixels of a scene that train, validate and test, with a hash, saved and verified."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from hsmamba.data.arrays import read_arrays, write_arrays
from hsmamba.data.splits.pixels import Indices, Labels, check_amount, draw
from hsmamba.errors import HashMismatchError, ManifestError, SplitError

if TYPE_CHECKING:
    from typing_extensions import Self

PARTS = ("train", "test", "val")


@dataclass(frozen=True, eq=False)
class Split:
    """Pixels of one scene, each in one part at most.

    Attributes:
        train: int64 (N,), sorted flat indices row * W + column.
        test: int64 (M,), likewise.
        val: int64 (L,), likewise; may be empty.
        shape: Rows and columns (H, W) of the scene.
        id: Name that says how the split was made.

    Raises:
        SplitError: An index is outside the scene, or occurs twice.
    """

    train: Indices
    test: Indices
    val: Indices
    shape: tuple[int, int]
    id: str

    def __post_init__(self) -> None:
        """Sort the indices and hold the parts against each other."""
        object.__setattr__(self, "shape", (int(self.shape[0]), int(self.shape[1])))
        for part in PARTS:
            values = np.asarray(getattr(self, part))
            if values.ndim != 1 or (values.size and values.dtype.kind not in "iu"):
                raise SplitError(f"{part} has shape {values.shape} and dtype {values.dtype}; expected integers (N,)")
            object.__setattr__(self, part, np.sort(values.astype(np.int64)))
        every = np.sort(np.concatenate([self.train, self.test, self.val]))
        total = self.shape[0] * self.shape[1]
        if every.size and (every[0] < 0 or every[-1] >= total):
            raise SplitError(
                f"the indices of split {self.id!r} run from {every[0]} to {every[-1]}; a scene of {self.shape[0]} x "
                f"{self.shape[1]} pixels has 0..{total - 1}"
            )
        twice = every[1:][every[1:] == every[:-1]]
        if twice.size:
            raise SplitError(
                f"{twice.size} pixels of split {self.id!r} occur twice, the first is {twice[0]} (row, column "
                f"{divmod(int(twice[0]), self.shape[1])}); a pixel belongs to one part only"
            )

    def __repr__(self) -> str:
        """Say what it holds, without the indices."""
        counts = ", ".join(f"{getattr(self, part).size} {part}" for part in PARTS)
        return f"Split({self.id!r}: {counts} of {self.shape[0]} x {self.shape[1]} pixels)"

    @property
    def sha256(self) -> str:
        """Hash of the pixels: of the text "H W" and each part's name, length and little-endian int64 indices."""
        digest = hashlib.sha256(f"{self.shape[0]} {self.shape[1]}".encode())
        for part in PARTS:
            indices: Indices = getattr(self, part)
            digest.update(f" {part} {indices.size} ".encode())
            digest.update(indices.astype("<i8").tobytes())
        return digest.hexdigest()

    def describe(self, labels: Labels | None = None, class_names: Sequence[str] = ()) -> str:
        """Describe the split in a table of pixels, by class where labels are given.

        Args:
            labels: (H, W), 0 = unlabelled.
            class_names: Name of class k at k - 1.

        Raises:
            SplitError: The split does not belong to these labels.
        """
        lines = [f"split {self.id} of {self.shape[0]} x {self.shape[1]} pixels, sha256 {self.sha256[:12]}"]
        lines.append(f"{'class':<32}{'train':>8}{'val':>8}{'test':>8}")
        if labels is not None:
            self.check(labels)
            values = np.asarray(labels).ravel()
            last = max(len(class_names), int(values.max()))
            counts = {part: np.bincount(values[getattr(self, part)], minlength=last + 1) for part in PARTS}
            for k in range(1, last + 1):
                name = f"{k} {class_names[k - 1]}" if k <= len(class_names) else str(k)
                lines.append(f"{name:<32}{counts['train'][k]:>8}{counts['val'][k]:>8}{counts['test'][k]:>8}")
        lines.append(f"{'all':<32}{self.train.size:>8}{self.val.size:>8}{self.test.size:>8}")
        return "\n".join(lines)

    def check(self, labels: Labels) -> None:
        """Raise SplitError unless the split belongs to a label map (H, W): same grid, every pixel of it labelled."""
        values = np.asarray(labels)
        if values.shape != self.shape:
            raise SplitError(
                f"split {self.id!r} was made for a scene of {self.shape} pixels, the labels have {values.shape}; "
                "use the split of this scene"
            )
        for part in PARTS:
            unlabelled = int((values.ravel()[getattr(self, part)] == 0).sum())
            if unlabelled:
                raise SplitError(
                    f"{unlabelled} of the {getattr(self, part).size} {part} pixels of split {self.id!r} are "
                    "unlabelled; use the split that was made for these labels"
                )

    def with_validation(
        self, labels: Labels, *, fraction: float | None = None, count: int | None = None, seed: int = 0
    ) -> Split:
        """Make a split with training pixels of each class, drawn at random, in the validation part.

        A class of n training pixels gives `fraction` * n, rounded to the nearest, or `count`, but n - 1 at most: a
        class of a few pixels keeps them all, and none loses its last training pixel. The test part stays as it is,
        and as far from every other pixel as it was.

        Args:
            labels: (H, W) or (H * W,), 0 = unlabelled.
            fraction: Share of the training pixels, in (0, 1); give this or `count`.
            count: Pixels a class.
            seed: Seed of the draw.

        Raises:
            SplitError: There are validation pixels already, or the labels do not belong to the split.
            ValueError: Not one of `fraction` and `count`, or a number out of range.
        """
        check_amount(fraction, count)
        if self.val.size:
            raise SplitError(f"split {self.id!r} has {self.val.size} validation pixels already; start from one without")
        values = np.asarray(labels).reshape(-1)
        if values.size != self.shape[0] * self.shape[1]:
            raise SplitError(f"split {self.id!r} is for {self.shape} pixels, the labels have {values.size} in all")
        self.check(values.reshape(self.shape))
        generator = np.random.default_rng(seed)
        moved = []
        for k in np.unique(values[self.train]):
            members = self.train[values[self.train] == k]
            wanted = int(np.floor(fraction * members.size + 0.5)) if fraction is not None else int(count or 0)
            wanted = min(wanted, members.size - 1)
            moved.append(draw(members, wanted, generator))
        val = np.concatenate([np.empty(0, np.int64), *moved])
        amount = f"{fraction:g}" if fraction is not None else f"{count}px"
        return replace(self, train=np.setdiff1d(self.train, val), val=val, id=f"{self.id}+val{amount}-seed{seed}")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the split to a safetensors file, whole or not at all."""
        config = {"id": self.id, "shape": list(self.shape), "sha256": self.sha256}
        write_arrays(path, {part: getattr(self, part) for part in PARTS}, kind="split", config=config)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read back what `save` wrote, and verify its hash.

        Raises:
            WeightsError: The file is missing or damaged.
            HashMismatchError: The pixels are not those that were saved.
            ManifestError: The file holds no split, or one of an unknown schema.
        """
        arrays, config = read_arrays(path, kind="split")
        try:
            recorded, shape, name = config["sha256"], config["shape"], config["id"]
            if arrays.keys() != set(PARTS) or not isinstance(name, str) or not _is_shape(shape):
                raise TypeError(f"arrays {sorted(arrays)}, id {name!r}, shape {shape!r}")
            split = cls(**arrays, shape=tuple(shape), id=name)
        except (KeyError, TypeError, IndexError) as error:
            raise ManifestError(f"{str(path)!r} holds no readable split ({error!r}); save it again") from error
        if split.sha256 != recorded:
            raise HashMismatchError(
                f"the pixels in {str(path)!r} have the SHA-256 {split.sha256}, on record is {recorded}; "
                "the file was changed: fetch or make the split again"
            )
        return split


def _is_shape(value: object) -> bool:
    """Whether a JSON value is rows and columns of a scene."""
    return isinstance(value, list) and len(value) == 2 and all(type(n) is int and 0 < n < 1 << 31 for n in value)


def split_from_maps(train_map: Labels, test_map: Labels, *, name: str = "maps") -> Split:
    """Make a split of two given label images.

    Args:
        train_map: (H, W), pixels other than 0 train.
        test_map: (H, W), pixels other than 0 test.
        name: Id of the split.

    Raises:
        SplitError: The maps differ in shape, a pixel is in both, or one of them is empty.
    """
    train, test = np.asarray(train_map), np.asarray(test_map)
    if train.ndim != 2 or train.shape != test.shape:
        raise SplitError(f"the maps have the shapes {train.shape} and {test.shape}; expected (H, W) twice the same")
    for part, values in (("training", train), ("test", test)):
        if not values.any():
            raise SplitError(f"the {part} map is 0 everywhere; expected the labels of the {part} pixels")
    shape = (train.shape[0], train.shape[1])
    return Split(np.flatnonzero(train), np.flatnonzero(test), np.empty(0, np.int64), shape, name)
