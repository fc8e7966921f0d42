"""Random splits: sizes by class, whole groups, the seed, refusals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hsmamba.data import block_split, group_split, random_split
from hsmamba.errors import SplitError
from tests.data.splits.samples import by_class, fields
from tests.refusals import refused


@given(fraction=st.floats(0.001, 0.9), seed=st.integers(0, 5))
def test_random_splits_take_the_fraction_of_each_class(fraction, seed):
    labels = fields(seed=seed)
    split = random_split(labels, fraction=fraction, seed=seed)
    sizes = by_class(labels, np.arange(labels.size))
    assert by_class(labels, split.train).tolist() == [max(1, int(np.floor(fraction * n + 1e-9))) for n in sizes]
    assert np.array_equal(np.union1d(split.train, split.test), np.flatnonzero(labels))
    assert not np.intersect1d(split.train, split.test).size and split.val.size == 0
    assert split.train.dtype == np.int64 and (np.diff(split.train) > 0).all()


def test_random_splits_take_a_count_and_follow_the_seed():
    labels = fields()
    split = random_split(labels, count=10, seed=3)
    assert by_class(labels, split.train).tolist() == [10] * 4
    assert split.sha256 == random_split(labels, count=10, seed=3).sha256
    assert split.sha256 != random_split(labels, count=10, seed=4).sha256


def test_a_capped_count_takes_what_a_class_can_give():
    labels = np.array([[1] * 9 + [2] * 4 + [3] * 2 + [5, 0]])
    with pytest.raises(SplitError, match=r"class 2 has 4 .*cap=True"):
        random_split(labels, count=5)
    split = random_split(labels, count=5, cap=True, seed=1)
    assert by_class(labels, split.train).tolist() == [5, 3, 1, 0, 1] and split.id == "random-5px-cap-seed1"
    assert by_class(labels, split.test).tolist() == [4, 1, 1, 0, 0]
    assert random_split(fields(), count=10, cap=True, seed=3).sha256 == random_split(fields(), count=10, seed=3).sha256


def test_classes_without_pixels_are_passed_over():
    labels = fields()
    gaps = np.array([0, 1, 10, 11, 14])[labels]
    for of in (lambda x: random_split(x, count=10, seed=3), lambda x: block_split(x, patch_size=5, fraction=0.1)):
        assert of(gaps).sha256 == of(labels).sha256
    groups = np.repeat(np.arange(60), 70)
    assert group_split(gaps.ravel(), groups).sha256 == group_split(labels.ravel(), groups).sha256
    with pytest.raises(SplitError, match="class 14: 1"):
        group_split([1, 1, 14, 1], [0, 1, 1, 2], test=0.4)


def test_fractions_that_binary_numbers_miss_are_meant_exactly():
    labels = np.ones((10, 10), int)
    assert random_split(labels, fraction=0.29).train.size == 29


test_splits_that_cannot_be_are_refused = refused(
    (lambda: random_split(fields(), count=10**6), SplitError, ["class 1", "1000000"]),
    (lambda: random_split(np.array([[1, 1, 2, 0]]), fraction=0.5), SplitError, ["class 2 has 1"]),
    (lambda: random_split(np.array([[1, -1]]), fraction=0.5), SplitError, ["-1..1", "scene.labels"]),
    (lambda: random_split(np.zeros((3, 3), int), fraction=0.5), SplitError, ["0..0"]),
    (lambda: random_split(np.ones((3, 3)), fraction=0.5), SplitError, ["float64"]),
    (lambda: random_split(fields(), fraction=0.5, count=3), ValueError, ["one of them"]),
    (lambda: random_split(fields()), ValueError, ["one of them"]),
    (lambda: random_split(fields(), fraction=5), ValueError, ["0.05 for 5 %"]),
    (lambda: random_split(fields(), count=0), ValueError, ["count is 0"]),
)


@pytest.mark.slow
@given(st.integers(0, 1000), st.integers(3, 8), st.sampled_from([0.0, 0.2]))
@settings(max_examples=6)
def test_a_group_is_on_one_side_only_and_every_class_on_each(seed, classes, val):
    generator = np.random.default_rng(seed)
    groups = np.repeat(np.arange(40), 20)
    labels = generator.integers(0, classes + 1, groups.size)
    split = group_split(labels, groups, test=0.3, val=val, seed=seed)
    parts = [part for part in (split.train, split.val, split.test) if part.size]
    assert len(parts) == (3 if val else 2)
    assert sum(part.size for part in parts) == np.count_nonzero(labels)
    sides = [set(groups[part]) for part in parts]
    assert sum(map(len, sides)) == len(set().union(*sides))
    for part in parts:
        assert set(labels[part]) == set(range(1, classes + 1))
    assert abs(split.test.size / np.count_nonzero(labels) - 0.3) < 0.1
    assert split.sha256 == group_split(labels, groups, test=0.3, val=val, seed=seed).sha256


def test_a_class_in_one_group_cannot_be_on_both_sides():
    with pytest.raises(SplitError, match="class 2: 1"):
        group_split([1, 1, 2, 1], [0, 1, 1, 2], test=0.4)
    with pytest.raises(ValueError, match="leave something to train"):
        group_split([1, 2], [0, 1], test=0.6, val=0.4)
    with pytest.raises(SplitError, match="same length"):
        group_split([1, 2, 1], [0, 1])
