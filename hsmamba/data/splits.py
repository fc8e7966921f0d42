"""Which labelled pixels train, validate and test: random, spatially disjoint or given, with a report of the leakage."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hsmamba.data._arrays import read_arrays, write_arrays
from hsmamba.data._blocks import confined_classes, covered, draw_training_pixels
from hsmamba.errors import HashMismatchError, ManifestError, SplitError

if TYPE_CHECKING:
    from typing_extensions import Self

Labels: TypeAlias = npt.ArrayLike
Indices: TypeAlias = "npt.NDArray[np.int64]"

_PARTS = ("train", "test", "val")
_LAYOUTS = 64


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
        for part in _PARTS:
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

    @property
    def sha256(self) -> str:
        """Hash of the pixels: of the text "H W" and each part's name, length and little-endian int64 indices."""
        digest = hashlib.sha256(f"{self.shape[0]} {self.shape[1]}".encode())
        for part in _PARTS:
            indices: Indices = getattr(self, part)
            digest.update(f" {part} {indices.size} ".encode())
            digest.update(indices.astype("<i8").tobytes())
        return digest.hexdigest()

    def describe(self, labels: Labels | None = None, class_names: Sequence[str] = ()) -> str:
        """Describe the split in a table of pixels, by class where labels are given.

        Args:
            labels: (H, W), 0 = unlabelled.
            class_names: Name of class k at k - 1.

        Returns:
            Text of several lines.

        Raises:
            SplitError: The split does not belong to these labels.
        """
        lines = [f"split {self.id} of {self.shape[0]} x {self.shape[1]} pixels, sha256 {self.sha256[:12]}"]
        lines.append(f"{'class':<32}{'train':>8}{'val':>8}{'test':>8}")
        if labels is not None:
            self.check(labels)
            values = np.asarray(labels).ravel()
            last = max(len(class_names), int(values.max()))
            counts = {part: np.bincount(values[getattr(self, part)], minlength=last + 1) for part in _PARTS}
            for k in range(1, last + 1):
                name = f"{k} {class_names[k - 1]}" if k <= len(class_names) else str(k)
                lines.append(f"{name:<32}{counts['train'][k]:>8}{counts['val'][k]:>8}{counts['test'][k]:>8}")
        lines.append(f"{'all':<32}{self.train.size:>8}{self.val.size:>8}{self.test.size:>8}")
        return "\n".join(lines)

    def check(self, labels: Labels) -> None:
        """Check that the split belongs to a label map: same grid, and every pixel of it labelled.

        Args:
            labels: (H, W), 0 = unlabelled.

        Raises:
            SplitError: It does not.
        """
        values = np.asarray(labels)
        if values.shape != self.shape:
            raise SplitError(
                f"split {self.id!r} was made for a scene of {self.shape} pixels, the labels have {values.shape}; "
                "use the split of this scene"
            )
        for part in _PARTS:
            unlabelled = int((values.ravel()[getattr(self, part)] == 0).sum())
            if unlabelled:
                raise SplitError(
                    f"{unlabelled} of the {getattr(self, part).size} {part} pixels of split {self.id!r} are "
                    "unlabelled; use the split that was made for these labels"
                )

    def with_validation(
        self, labels: Labels, *, fraction: float | None = None, count: int | None = None, seed: int = 0
    ) -> Split:
        """Move training pixels of each class, drawn at random, into the validation part.

        A class of n training pixels gives `fraction` * n, rounded to the nearest, or `count`, but n - 1 at most: a
        class of a few pixels keeps them all, and none loses its last training pixel. The test part stays as it is,
        and as far from every other pixel as it was.

        Args:
            labels: (H, W) or (H * W,), 0 = unlabelled.
            fraction: Share of the training pixels, in (0, 1); give this or `count`.
            count: Pixels a class.
            seed: Seed of the draw.

        Returns:
            A new split.

        Raises:
            SplitError: There are validation pixels already, or the labels do not belong to the split.
            ValueError: Not one of `fraction` and `count`, or a number out of range.
        """
        _check_amount(fraction, count)
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
            moved.append(_draw(members, wanted, generator))
        val = np.concatenate([np.empty(0, np.int64), *moved])
        amount = f"{fraction:g}" if fraction is not None else f"{count}px"
        return replace(self, train=np.setdiff1d(self.train, val), val=val, id=f"{self.id}+val{amount}-seed{seed}")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the split to a safetensors file, whole or not at all.

        Args:
            path: The file.

        Raises:
            OSError: The file cannot be written.
        """
        config = {"id": self.id, "shape": list(self.shape), "sha256": self.sha256}
        write_arrays(path, {part: getattr(self, part) for part in _PARTS}, kind="split", config=config)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a split back and verify its hash.

        Args:
            path: A file that `save` wrote.

        Raises:
            WeightsError: The file is missing or damaged.
            HashMismatchError: The pixels are not those that were saved.
            ManifestError: The file holds no split, or one of an unknown schema.
        """
        arrays, config = read_arrays(path, kind="split")
        try:
            split = cls(**{part: arrays[part] for part in _PARTS}, shape=tuple(config["shape"]), id=str(config["id"]))
            recorded = config["sha256"]
        except (KeyError, TypeError, IndexError) as error:
            raise ManifestError(f"{str(path)!r} holds no readable split ({error!r}); save it again") from error
        if split.sha256 != recorded:
            raise HashMismatchError(
                f"the pixels in {str(path)!r} have the SHA-256 {split.sha256}, on record is {recorded}; "
                "the file was changed: fetch or make the split again"
            )
        return split


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
    _check_amount(fraction, count)
    values, sizes = _labels(labels)
    generator = np.random.default_rng(seed)
    chosen = []
    for k, size in enumerate(sizes[1:], start=1):
        wanted = _quota(int(size), fraction, count)
        if wanted >= size:
            raise SplitError(
                f"class {k} has {size} labelled pixels, {wanted} of them would train, so none would be left to test; "
                "lower count, or set the labels of this class to 0 and renumber the others"
            )
        chosen.append(_draw(np.flatnonzero(values == k), wanted, generator))
    train = np.concatenate(chosen)
    amount = f"{fraction:g}" if fraction is not None else f"{count}px"
    return _complement(values, train, f"random-{amount}-seed{seed}")


def block_split(
    labels: Labels,
    *,
    patch_size: int,
    fraction: float,
    block_size: int | None = None,
    seed: int = 0,
    strict: bool = True,
) -> Split:
    """Draw training pixels from compact blocks, and test only where no training patch reaches.

    The scene is tiled from a random offset. Tiles go to the training side, rarest class first, until each class has
    max(1, floor(fraction * n)) pixels there; each tile is the one of eight random candidates that costs the test side
    least. Every labelled pixel inside a training patch is dropped, all the others test, so `leakage` is 0 at this
    patch size. Layouts that leave a class without test pixels are drawn again, up to 64 times.

    Args:
        labels: (H, W) integer, 0 = unlabelled, 1..K.
        patch_size: Side P of the patches that will be used: it sets the guard between the sides.
        fraction: Share of each class to train on, in (0, 1).
        block_size: Side of a tile in pixels. By default ceil(sqrt(N / K)) for N training pixels of K classes: one
            tile holds what an average class needs, so large classes are drawn from several places. Larger tiles
            leave more to test and make the training side less varied.
        seed: Seed of the draw.
        strict: Raise where a class has no test pixel. False warns instead and lets the class train only; a class no
            wider than half a patch cannot be on both sides.

    Returns:
        The split, without validation pixels; `with_validation` keeps the guard.

    Raises:
        SplitError: A class has no pixels, or cannot be tested (`strict`), or nothing is left to test.
        ValueError: A number out of range.
    """
    _check_amount(fraction, None)
    if patch_size < 1 or (block_size is not None and block_size < 1):
        raise ValueError(f"patch_size is {patch_size}, block_size {block_size}; expected 1 or more pixels")
    values, sizes = _labels(labels)
    quotas = np.array([0, *(_quota(int(size), fraction, None) for size in sizes[1:])])
    side = block_size or int(np.ceil(np.sqrt(quotas.sum() / (len(quotas) - 1))))
    train, tested = _disjoint_layout(values, quotas, patch_size, side, np.random.default_rng(seed))
    missing = sorted(set(range(1, len(sizes))) - set(np.unique(tested).tolist()))
    if not tested.any():
        raise SplitError(
            f"patches of {patch_size} x {patch_size} around {train.size} training pixels cover every labelled pixel, "
            "so none is left to test; lower patch_size or fraction"
        )
    if missing:
        text = (
            f"no test pixel of class {', '.join(map(str, missing))} is left beyond the training patches of "
            f"{patch_size} x {patch_size} pixels"
        )
        if strict:
            raise SplitError(
                f"{text}; give strict=False to let such classes train only, or lower patch_size or fraction"
            )
        warnings.warn(f"{text}: it trains only", stacklevel=2)
    name = f"block{side}-patch{patch_size}-{fraction:g}-seed{seed}"
    return Split(train, np.flatnonzero(tested), np.empty(0, np.int64), (values.shape[0], values.shape[1]), name)


def _disjoint_layout(
    values: Indices, quotas: Indices, patch_size: int, side: int, generator: np.random.Generator
) -> tuple[Indices, Indices]:
    """Return the training pixels (N,) and the labels (H, W) of the test side of a layout that serves every class.

    A class too compact to be on both sides is not waited for. Where no layout serves every other class, it is the one
    with the fewest classes missing, and among those the one with most test pixels.
    """
    confined = confined_classes(values, patch_size)
    best = ((-len(quotas) - 1, 0), values, values)
    for _ in range(_LAYOUTS):
        train = draw_training_pixels(values, quotas, patch_size, side, generator)
        tested = np.where(covered(_mask(train, (values.shape[0], values.shape[1])), patch_size), 0, values)
        missing = set(range(1, len(quotas))) - set(np.unique(tested).tolist())
        score = (-len(missing), int(np.count_nonzero(tested)))
        if score > best[0]:
            best = (score, train, tested)
        if missing <= confined:
            return train, tested
    return best[1], best[2]


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


@dataclass(frozen=True)
class LeakageReport:
    """How far the test side of a split was seen in training.

    Attributes:
        patch_size: Side P of the patches.
        test_pixels: Pixels of the test part.
        inside_train: Test pixels that lie inside the patch of a training pixel.
        inside_val: Test pixels that lie inside the patch of a validation pixel.
    """

    patch_size: int
    test_pixels: int
    inside_train: int
    inside_val: int

    @property
    def share(self) -> float:
        """Share of the test pixels that lie inside a training patch, 0..1."""
        return self.inside_train / self.test_pixels if self.test_pixels else 0.0

    def __str__(self) -> str:
        """Say it in a line."""
        return (
            f"{self.inside_train} of {self.test_pixels} test pixels ({100 * self.share:.1f} %) lie inside a training "
            f"patch of {self.patch_size} x {self.patch_size} pixels"
        )


def leakage(split: Split, patch_size: int, shapes: Sequence[tuple[int, int]] | None = None) -> LeakageReport:
    """Count the test pixels that lie inside a patch which training (or validation) looks at.

    Args:
        split: The split.
        patch_size: Side P; a pixel sits at index P // 2 of its patch.
        shapes: Rows and columns of each scene, where the split is one of the items of several.

    Raises:
        SplitError: The split has another number of items than the scenes have pixels.
        ValueError: `patch_size` is below 1.
    """
    shapes = [split.shape] if shapes is None else shapes
    starts = np.cumsum([0, *(height * width for height, width in shapes)])
    if starts[-1] != split.shape[0] * split.shape[1]:
        raise SplitError(f"split {split.id!r} is for {split.shape} pixels, the scenes have {starts[-1]} in all")
    parts = {part: _mask(getattr(split, part), split.shape).ravel() for part in _PARTS}
    inside = {"train": 0, "val": 0}
    for part in inside:
        for shape, start, end in zip(shapes, starts[:-1], starts[1:], strict=True):
            reached = covered(parts[part][start:end].reshape(shape), patch_size).ravel()
            inside[part] += int((reached & parts["test"][start:end]).sum())
    return LeakageReport(patch_size, split.test.size, inside["train"], inside["val"])


def _mask(pixels: Indices, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    mask = np.zeros(shape, dtype=bool)
    mask.ravel()[pixels] = True
    return mask


def _complement(values: npt.NDArray[Any], train: Indices, name: str) -> Split:
    test = np.flatnonzero((values > 0) & ~_mask(train, (values.shape[0], values.shape[1])))
    return Split(train, test, np.empty(0, np.int64), (values.shape[0], values.shape[1]), name)


def _check_amount(fraction: float | None, count: int | None) -> None:
    if (fraction is None) == (count is None):
        raise ValueError(f"got fraction={fraction} and count={count}; give one of them")
    if fraction is not None and not 0 < fraction < 1:
        raise ValueError(f"fraction is {fraction}; expected a number between 0 and 1, e.g. 0.05 for 5 %")
    if count is not None and count < 1:
        raise ValueError(f"count is {count}; expected 1 or more pixels a class")


def _quota(size: int, fraction: float | None, count: int | None) -> int:
    """Return the pixels to take of a class of `size`."""
    if fraction is None:
        return int(count or 0)
    # 0.29 * 100 is 28.999... in binary; the tolerance keeps such products at the whole number they stand for.
    return max(1, int(np.floor(fraction * size + 1e-9)))


def _draw(members: Indices, wanted: int, generator: np.random.Generator) -> Indices:
    """Draw without replacement, from uniform numbers only: that stream is the same in every numpy release."""
    order = np.argsort(generator.random(members.size), kind="stable")
    return members[order[:wanted]]


def _labels(labels: Labels) -> tuple[npt.NDArray[np.int64], Indices]:
    """Return labels as int64 (H, W) and the pixels of each class at its index; every class from 1 must occur."""
    values = np.asarray(labels)
    if values.ndim != 2 or values.dtype.kind not in "iu":
        raise SplitError(f"labels have shape {values.shape} and dtype {values.dtype}; expected integers (H, W)")
    if not values.size or values.max() < 1 or values.min() < 0:
        low_high = f"{values.min()}..{values.max()}" if values.size else "nothing"
        raise SplitError(f"labels hold {low_high}; expected 0 (unlabelled) and classes from 1")
    sizes = np.bincount(values.ravel().astype(np.int64))
    empty = np.flatnonzero(sizes[1:] == 0) + 1
    if empty.size:
        raise SplitError(
            f"no pixel has the label {', '.join(map(str, empty))}, though labels reach up to {values.max()}; renumber "
            "the classes 1..K without gaps"
        )
    return values.astype(np.int64), sizes.astype(np.int64)
