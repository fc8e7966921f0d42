"""A split: disjoint parts, hash, file, table, validation pixels."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from hsmamba.data import Split, block_split, leakage, random_split, split_from_maps
from hsmamba.errors import HashMismatchError, ManifestError, SplitError, WeightsError
from tests.data.splits.samples import by_class, fields, inside_some_patch
from tests.refusals import refused

test_splits_that_cannot_be_are_refused = refused(
    (lambda: split_from_maps(np.ones((2, 2)), np.ones((2, 3))), SplitError, ["(2, 2)", "(2, 3)"]),
    (lambda: split_from_maps(np.eye(2), np.ones((2, 2))), SplitError, ["2 pixels", "twice"]),
    (lambda: split_from_maps(np.eye(2), np.zeros((2, 2))), SplitError, ["test map is 0"]),
    (lambda: Split([0], [1.5], [], (2, 2), "x"), SplitError, ["test", "float64"]),
    (lambda: Split([0], [4], [], (2, 2), "x"), SplitError, ["0..3"]),
)


@given(fraction=st.floats(0.01, 0.99), train=st.floats(0.001, 0.3), seed=st.integers(0, 3))
def test_validation_comes_from_training_and_leaves_every_class_a_pixel(fraction, train, seed):
    labels = fields()
    split = random_split(labels, fraction=train, seed=seed)
    both = split.with_validation(labels, fraction=fraction, seed=seed)
    assert np.array_equal(np.union1d(both.train, both.val), split.train)
    assert np.array_equal(both.test, split.test)
    before, after = by_class(labels, split.train), by_class(labels, both.val)
    wanted = np.floor(fraction * before + 0.5)
    assert after.tolist() == np.minimum(wanted, before - 1).tolist()
    assert by_class(labels, both.train).min() >= 1


def test_validation_of_a_block_split_keeps_the_guard():
    labels = fields()
    split = block_split(labels, patch_size=9, fraction=0.1).with_validation(labels.ravel(), count=2)
    assert by_class(labels, split.val).tolist() == [2] * 4
    assert inside_some_patch(split, "val", 9) == 0 == leakage(split, 9).inside_val
    with pytest.raises(SplitError, match="validation pixels already"):
        split.with_validation(labels, count=2)


def test_labels_of_another_scene_are_refused():
    labels = fields()
    split = random_split(labels, fraction=0.1)
    split.check(labels)
    with pytest.raises(SplitError, match=r"\(60, 70\) pixels, the labels have \(70, 60\)"):
        split.check(labels.T)
    with pytest.raises(SplitError, match="4199 in all"):
        split.with_validation(np.ones(4200 - 1, int), count=1)
    other = labels.copy()
    other.ravel()[split.train[:3]] = 0
    with pytest.raises(SplitError, match=r"3 of the .* train pixels .* unlabelled"):
        split.check(other)


def test_saved_splits_come_back_verified(tmp_path):
    split = random_split(fields(), fraction=0.05, seed=7).with_validation(fields(), fraction=0.2)
    path = tmp_path / "split.safetensors"
    split.save(path)
    again = Split.load(path)
    assert (again.id, again.shape, again.sha256) == (split.id, split.shape, split.sha256)
    for part in ("train", "val", "test"):
        assert np.array_equal(getattr(again, part), getattr(split, part))
    with safe_open(path, framework="numpy") as file:
        header = file.metadata()
    save_file(load_file(path) | {"train": split.train[1:]}, path, header)
    with pytest.raises(HashMismatchError) as error:
        Split.load(path)
    assert split.sha256 in str(error.value)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(WeightsError, match="truncated"):
        Split.load(path)
    save_file({"train": split.train}, path, {"hsmamba": '{"kind": "split", "schema": 1, "config": {}}'})
    with pytest.raises(ManifestError, match="no readable split"):
        Split.load(path)


def test_the_hash_stands_for_pixels_parts_and_grid():
    base = Split([0, 1], [2], [], (2, 3), "a")
    assert base.sha256 == Split([1, 0], [2], [], (2, 3), "b").sha256
    others = [
        Split([0], [1, 2], [], (2, 3), "a"),
        Split([0, 1], [], [2], (2, 3), "a"),
        Split([0, 1], [2], [], (3, 2), "a"),
        Split([0, 1], [3], [], (2, 3), "a"),
    ]
    assert len({split.sha256 for split in [base, *others]}) == 5


def test_maps_give_their_pixels():
    train = np.array([[1, 0], [0, 2]])
    split = split_from_maps(train, 3 - train - 2 * (train == 1) - (train == 2), name="given")
    assert split.train.tolist() == [0, 3] and split.test.tolist() == [1, 2] and split.id == "given"


def test_the_table_counts_pixels_by_class():
    labels = fields()
    split = random_split(labels, count=10)
    text = split.describe(labels, ["corn", "oats", "wheat", "woods"])
    lines = {line.split()[1]: line.split()[2:] for line in text.splitlines()[2:-1]}
    sizes = by_class(labels, np.arange(labels.size))
    assert lines["wheat"] == ["10", "0", str(sizes[2] - 10)]
    assert text.splitlines()[-1].split() == ["all", "40", "0", str(sizes.sum() - 40)]
    assert split.sha256[:12] in split.describe()


@pytest.mark.parametrize(
    ("config", "arrays"),
    [
        ({"shape": [2.0, 3]}, {}),
        ({"shape": [2]}, {}),
        ({"shape": [10**30, 3]}, {}),
        ({"shape": "23"}, {}),
        ({"id": 3}, {}),
        ({"sha256": None}, {}),
        ({}, {"other": np.zeros(1, np.int64)}),
        ({}, {"train": np.zeros(2)}),
        ({}, {"train": np.array([0, 0])}),
        ({}, {"train": np.array([2**63 + 1], np.uint64)}),
        ({}, {"train": np.zeros((1, 1), np.int64)}),
    ],
)
def test_fields_of_another_kind_are_refused(config, arrays, tmp_path):
    path = tmp_path / "split.safetensors"
    Split([0, 1], [2], [], (2, 3), "a").save(path)
    with safe_open(path, framework="numpy") as file:
        header = json.loads(file.metadata()["hsmamba"])
    header["config"] |= config
    save_file(load_file(path) | arrays, path, {"hsmamba": json.dumps(header)})
    with pytest.raises((ManifestError, SplitError, HashMismatchError)):
        Split.load(path)
