"""Spatially disjoint splits: guard bands, classes too compact for them, Indian Pines."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hsmamba.data import Split, block_split, leakage, load_scene
from hsmamba.errors import MissingExtraError, SplitError
from tests.data.splits.samples import by_class, fields, inside_some_patch
from tests.refusals import refused


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 1000), patch_size=st.integers(1, 11), block_size=st.sampled_from([None, 3, 8]))
def test_block_splits_keep_training_patches_off_the_test_pixels(seed, patch_size, block_size):
    labels = fields(seed=seed % 3)
    split = block_split(labels, patch_size=patch_size, fraction=0.05, block_size=block_size, seed=seed)
    sizes = by_class(labels, np.arange(labels.size))
    assert by_class(labels, split.train).tolist() == np.floor(0.05 * sizes + 1e-9).astype(int).tolist()
    assert by_class(labels, split.test).min() > 0
    assert inside_some_patch(split, "train", patch_size) == 0 == leakage(split, patch_size).share
    # Nothing else was dropped: every labelled pixel is in a part or inside a training patch.
    everything = Split(split.train, np.setdiff1d(np.flatnonzero(labels), split.train), [], split.shape, "all")
    assert split.test.size == everything.test.size - inside_some_patch(everything, "train", patch_size)


def test_block_splits_follow_the_seed_and_larger_blocks_leave_more():
    labels = fields(150, 140)
    one, again, other = (block_split(labels, patch_size=9, fraction=0.05, seed=seed) for seed in (1, 1, 2))
    assert one.sha256 == again.sha256 != other.sha256
    small, large = (
        np.mean([block_split(labels, patch_size=9, fraction=0.05, block_size=b, seed=s).test.size for s in range(5)])
        for b in (2, 12)
    )
    assert small < large


def test_a_class_too_compact_for_both_sides_is_named():
    labels = fields()
    labels[:14, :13] = 0
    labels[3:8, 4:9] = 5
    with pytest.raises(SplitError, match=r"class 5 .* 11 x 11 pixels; give strict=False"):
        block_split(labels, patch_size=11, fraction=0.05)
    with pytest.warns(UserWarning, match="class 5"):
        split = block_split(labels, patch_size=11, fraction=0.05, strict=False)
    assert by_class(labels, split.train)[4] == 1 and by_class(labels, split.test)[4] == 0
    assert by_class(labels, split.test)[:4].min() > 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        block_split(labels, patch_size=7, fraction=0.05)  # half of this patch is narrower than the class


test_splits_that_cannot_be_are_refused = refused(
    (lambda: block_split(fields(), patch_size=0, fraction=0.1), ValueError, ["patch_size is 0"]),
    (lambda: block_split(fields(), patch_size=500, fraction=0.1), SplitError, ["cover every labelled pixel"]),
)


@pytest.fixture(scope="module")
def indian_pines():
    try:
        return load_scene("indian_pines")
    except MissingExtraError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("seed", range(5))
def test_indian_pines_splits_in_blocks_with_every_class_in_training(indian_pines, seed):
    labels = indian_pines.labels
    with pytest.warns(UserWarning, match=r"class 7 is left beyond the training patches of 13 x 13"):
        split = block_split(labels, patch_size=13, fraction=0.05, seed=seed, strict=False)
    sizes = by_class(labels, np.arange(labels.size))
    assert by_class(labels, split.train).tolist() == np.maximum(1, np.floor(0.05 * sizes + 1e-9)).astype(int).tolist()
    tested = by_class(labels, split.test)
    assert np.flatnonzero(tested == 0).tolist() == [6]  # 7 x 4 pixels: any of their patches covers them all
    assert split.test.size > 6000
    assert leakage(split, 13).inside_train == 0 == inside_some_patch(split, "train", 13)
