"""Splits by group: whole groups, every class on each side."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hsmamba.data import group_split
from hsmamba.errors import SplitError


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
