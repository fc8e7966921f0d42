"""The report of leakage against patches counted one by one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsmamba.data import Split, leakage, load_scene, random_split
from hsmamba.errors import SplitError
from tests.data.splits.samples import inside_some_patch


@given(
    patch_size=st.integers(1, 8),
    train=st.lists(st.integers(0, 199), max_size=6, unique=True),
    val=st.lists(st.integers(200, 209), max_size=2, unique=True),
)
def test_leakage_counts_what_patches_show(patch_size, train, val):
    test = np.setdiff1d(np.arange(300), train + val)
    split = Split(np.array(train, int), test, np.array(val, int), (15, 20), "x")
    report = leakage(split, patch_size)
    assert report.inside_train == inside_some_patch(split, "train", patch_size)
    assert report.inside_val == inside_some_patch(split, "val", patch_size)
    assert report.share == report.inside_train / test.size
    assert f"{report.inside_train} of {test.size} test pixels" in str(report)


def test_leakage_of_a_split_without_test_pixels_is_none():
    assert leakage(Split([0], [], [], (2, 2), "x"), 3).share == 0


def test_leakage_of_several_scenes_does_not_cross_their_borders():
    shapes = [(5, 5), (5, 5)]
    split = Split(np.array([0, 24, 40]), np.array([1, 25, 48]), np.empty(0, np.int64), (1, 50), "two scenes")
    assert leakage(split, 3, shapes).inside_train == 1  # item 25 follows 24, but in the other scene
    assert leakage(split, 7, shapes).inside_train == 3  # item 40 is at row 3, column 0 of the second scene: 25, 48
    with pytest.raises(SplitError, match="the scenes have 25 in all"):
        leakage(split, 3, shapes[:1])


def test_random_splits_of_indian_pines_leak():
    pytest.importorskip("tensorly", reason="needs the demo extra")
    report = leakage(random_split(load_scene("indian_pines").labels, fraction=0.05), 13)
    assert report.test_pixels == 9744 and report.share > 0.99
