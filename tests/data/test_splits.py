"""Splits: sizes by class, disjointness, guard bands, hashes, leakage."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from hsmamba.data import Split, block_split, leakage, load_scene, random_split, split_from_maps
from hsmamba.errors import HashMismatchError, ManifestError, MissingExtraError, SplitError, WeightsError


def fields(height=60, width=70, classes=4, seed=0):
    """Labels in rectangular fields with unlabelled paths between them."""
    generator = np.random.default_rng(seed)
    labels = np.zeros((height, width), np.uint8)
    values = generator.permutation(np.arange(len(range(0, height, 15)) * len(range(0, width, 14))) % classes + 1)
    corners = [(row, column) for row in range(0, height, 15) for column in range(0, width, 14)]
    for value, (row, column) in zip(values, corners, strict=True):
        labels[row : row + 13, column : column + 12] = value
    return labels


def by_class(labels, pixels):
    return np.bincount(labels.ravel()[pixels], minlength=labels.max() + 1)[1:]


def inside_some_patch(split, part, patch_size):
    """Count test pixels inside patches one by one, as a patch is cut."""
    seen = np.zeros(split.shape, bool)
    before = patch_size // 2
    for row, column in zip(*np.divmod(getattr(split, part), split.shape[1]), strict=True):
        top, left = row - before, column - before
        seen[max(top, 0) : top + patch_size, max(left, 0) : left + patch_size] = True
    return int(seen.ravel()[split.test].sum())


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


def test_fractions_that_binary_numbers_miss_are_meant_exactly():
    labels = np.ones((10, 10), int)
    assert random_split(labels, fraction=0.29).train.size == 29


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: random_split(fields(), count=10**6), SplitError, ["class 1", "1000000"]),
        (lambda: random_split(np.array([[1, 1, 2, 0]]), fraction=0.5), SplitError, ["class 2 has 1"]),
        (lambda: random_split(np.array([[1, 1, 4, 4]]), fraction=0.5), SplitError, ["label 2, 3", "renumber"]),
        (lambda: random_split(np.zeros((3, 3), int), fraction=0.5), SplitError, ["0..0"]),
        (lambda: random_split(np.ones((3, 3)), fraction=0.5), SplitError, ["float64"]),
        (lambda: random_split(fields(), fraction=0.5, count=3), ValueError, ["one of them"]),
        (lambda: random_split(fields()), ValueError, ["one of them"]),
        (lambda: random_split(fields(), fraction=5), ValueError, ["0.05 for 5 %"]),
        (lambda: random_split(fields(), count=0), ValueError, ["count is 0"]),
        (lambda: block_split(fields(), patch_size=0, fraction=0.1), ValueError, ["patch_size is 0"]),
        (lambda: block_split(fields(), patch_size=500, fraction=0.1), SplitError, ["cover every labelled pixel"]),
        (lambda: split_from_maps(np.ones((2, 2)), np.ones((2, 3))), SplitError, ["(2, 2)", "(2, 3)"]),
        (lambda: split_from_maps(np.eye(2), np.ones((2, 2))), SplitError, ["2 pixels", "twice"]),
        (lambda: split_from_maps(np.eye(2), np.zeros((2, 2))), SplitError, ["test map is 0"]),
        (lambda: Split([0], [1.5], [], (2, 2), "x"), SplitError, ["test", "float64"]),
        (lambda: Split([0], [4], [], (2, 2), "x"), SplitError, ["0..3"]),
    ],
)
def test_splits_that_cannot_be_are_refused(make, error, words):
    with pytest.raises(error) as caught:
        make()
    for word in words:
        assert word in str(caught.value)


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


def test_saved_splits_come_back_verified(tmp_path):
    split = random_split(fields(), fraction=0.05, seed=7).with_validation(fields(), fraction=0.2)
    path = tmp_path / "split.safetensors"
    split.save(path)
    again = Split.load(path)
    assert (again.id, again.shape, again.sha256) == (split.id, split.shape, split.sha256)
    for part in ("train", "val", "test"):
        assert np.array_equal(getattr(again, part), getattr(split, part))
    from safetensors import safe_open

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


def test_random_splits_of_indian_pines_leak(indian_pines):
    report = leakage(random_split(indian_pines.labels, fraction=0.05), 13)
    assert report.test_pixels == 9744 and report.share > 0.99


def test_leakage_of_several_scenes_does_not_cross_their_borders():
    shapes = [(5, 5), (5, 5)]
    split = Split(np.array([0, 24, 40]), np.array([1, 25, 48]), np.empty(0, np.int64), (1, 50), "two scenes")
    assert leakage(split, 3, shapes).inside_train == 1  # item 25 follows 24, but in the other scene
    assert leakage(split, 7, shapes).inside_train == 3  # item 40 is at row 3, column 0 of the second scene: 25, 48
    with pytest.raises(SplitError, match="the scenes have 25 in all"):
        leakage(split, 3, shapes[:1])
