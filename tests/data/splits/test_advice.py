"""What the errors of splits say to do, done: each time it works."""

import warnings

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from hsmamba.data import Compose, Split, Standardise, block_split, random_split
from tests.advice import alternatives, told
from tests.data.splits.samples import by_class, fields, inside_some_patch
from tests.data.transforms.samples import pixels

LABELS = fields()
ONE = (LABELS > 0).astype(np.uint8)
TWO = np.zeros((60, 70), np.uint8)
TWO[:, :30], TWO[:20, 40:60] = 1, 2
SPLIT = random_split(LABELS, count=5)


def saved(folder, split=SPLIT, name="split.safetensors"):
    split.save(folder / name)
    return folder / name


def load(path):
    found = Split.load(path)
    return found.sha256 == SPLIT.sha256 and found.id == SPLIT.id


def cut(folder):
    path = saved(folder)
    path.write_bytes(path.read_bytes()[:-9])
    return path


def changed(folder, drop="", **arrays):
    """A split of which arrays were replaced or dropped behind the back of its header."""
    with safe_open(saved(folder), "numpy") as file:
        header, old = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file({name: array for name, array in (old | arrays).items() if name != drop}, folder / "changed", header)
    return folder / "changed"


def transform(folder):
    Compose([Standardise()]).fit(pixels()).save(folder / "transform.safetensors")
    return folder / "transform.safetensors"


def plain(folder):
    save_file({"train": SPLIT.train}, folder / "plain.safetensors")
    return folder / "plain.safetensors"


def disjoint(labels, patch_size, fraction, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        split = block_split(labels, patch_size=patch_size, fraction=fraction, **options)
    return split.test.size > 0 and inside_some_patch(split, "train", patch_size) == 0


FEW = np.where((LABELS == 2) & (np.cumsum(LABELS == 2).reshape(LABELS.shape) > 4), 0, LABELS)  # four pixels of class 2


def left(**options):
    split = random_split(FEW, **options)
    return by_class(FEW, split.test).min() > 0


CASES = {
    "it is truncated or of another format; fetch or write the {} again": (
        lambda at: Split.load(cut(at)),
        lambda at, text: load(saved(at)),
    ),
    "so it is no {} file; give a file that hsmamba saved as": (
        lambda at: Split.load(plain(at)),
        lambda at, text: load(saved(at)),
    ),
    "holds a {}, expected a {}; give the {} file": (
        lambda at: Split.load(transform(at)),
        lambda at, text: load(saved(at)),
    ),
    "holds no readable split ({}); save it again": (
        lambda at: Split.load(changed(at, drop="val")),
        lambda at, text: load(saved(at)),
    ),
    "the file was changed: fetch or make the split again": (
        lambda at: Split.load(changed(at, train=SPLIT.train[1:])),
        lambda at, text: load(saved(at, random_split(LABELS, count=5))),
    ),
    "none is left to test; lower patch_size or fraction": (
        lambda at: disjoint(ONE, 71, 0.7),
        (lambda at, text: disjoint(ONE, 9, 0.7), lambda at, text: disjoint(ONE, 71, 0.0001)),
    ),
    "give strict=False to let such classes train only, or lower patch_size or fraction": (
        lambda at: disjoint(TWO, 31, 0.7),
        (
            lambda at, text: disjoint(TWO, 31, 0.7, strict=False),
            lambda at, text: disjoint(TWO, 5, 0.7),
            lambda at, text: disjoint(TWO, 31, 0.001),
        ),
    ),
    "got fraction={} and count={}; give one of them": (
        lambda at: random_split(LABELS, fraction=0.1, count=5),
        (
            lambda at, text: random_split(LABELS, count=5).train.size == 20,
            lambda at, text: random_split(LABELS, fraction=0.1).train.size > 20,
        ),
    ),
    "with cap=True (--cap), lower count, or set the labels of this class to 0": (
        lambda at: left(count=4),
        (
            lambda at, text: left(count=4, cap=True),
            lambda at, text: left(count=3),
            lambda at, text: random_split(np.where(FEW == 2, 0, FEW), count=4).train.size == 12,
        ),
    ),
    "use the split of this scene": (
        lambda at: SPLIT.check(LABELS[:-1]),
        lambda at, text: random_split(LABELS[:-1], count=5).check(LABELS[:-1]) is None,
    ),
    "use the split that was made for these labels": (
        lambda at: SPLIT.check(LABELS * 0),
        lambda at, text: SPLIT.check(LABELS) is None,
    ),
    "validation pixels already; start from one without": (
        lambda at: SPLIT.with_validation(LABELS, count=1).with_validation(LABELS, count=2),
        lambda at, text: SPLIT.with_validation(LABELS, count=2).val.size == 8,
    ),
}


@pytest.mark.parametrize(("words", "call", "mended"), alternatives(CASES))
def test_what_an_error_says_works(words, call, mended, tmp_path):
    assert mended(tmp_path, told(lambda: call(tmp_path), words))
