"""Sets of plots: crowns drawn onto pixels, splits that keep plots whole, the stored splits."""

import csv
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hsmamba.data import (
    MNF,
    Compose,
    PatchDataset,
    Scene,
    SelectBands,
    Standardise,
    group_split,
    leakage,
    list_splits,
    load_idtrees,
    load_scene,
    load_scenes,
    load_split,
)
from hsmamba.errors import SceneError, SplitError
from tests.conftest import DATA, ROOT


def square(left, top, side):
    right, bottom = left + side, top - side
    return [[[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]]


def make_contest(folder, crowns, taxa):
    """Write a plot of 8 x 8 pixels of 1 m whose upper left corner is (100, 200), with crowns (tree, polygon)."""
    rasterio = pytest.importorskip("rasterio")
    shapefile = pytest.importorskip("shapefile")
    for name in ("hsi", "chm", "crowns", "field"):
        (folder / name).mkdir(parents=True)
    generator = np.random.default_rng(0)
    for name, bands, dtype in (("hsi", 5, "int16"), ("chm", 1, "float32")):
        profile = {"driver": "GTiff", "width": 8, "height": 8, "count": bands, "dtype": dtype, "crs": "EPSG:32617"}
        transform = rasterio.transform.from_origin(100, 200, 1, 1)
        with rasterio.open(folder / name / "MLBS_1.tif", "w", transform=transform, **profile) as file:
            file.write(generator.integers(1, 99, (bands, 8, 8)).astype(dtype))
    with shapefile.Writer(str(folder / "crowns" / "train_MLBS")) as writer:
        writer.field("indvdID", "C")
        for tree, polygon in crowns:
            writer.poly(polygon)
            writer.record(tree)
    with (folder / "field" / "train_data.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerows([("indvdID", "taxonID"), *taxa.items()])


def test_crowns_become_labels_and_overlaps_are_left_out(tmp_path):
    crowns = [
        ("a", square(100, 200, 3)),
        ("b", square(102, 198, 3)),
        ("c", square(106, 194, 2)),
        ("d", square(100, 194, 1)),
    ]
    make_contest(tmp_path / "set", crowns, {"a": "OAK", "b": "PINE", "c": "BIRCH", "d": "OAK"})
    (plot,) = load_idtrees(tmp_path / "set", classes=("OAK", "PINE"))
    expected = np.zeros((8, 8), int)
    expected[:3, :3] = 1
    expected[2:5, 2:5] = 2
    expected[2, 2] = 0  # in two crowns
    expected[6, 0] = 1
    assert plot.labels.tolist() == expected.tolist()  # the birch is no class
    assert plot.hsi.shape == (8, 8, 5) and plot.aux.shape == (8, 8, 1) and plot.class_names == ("OAK", "PINE")
    assert plot.hsi.rio.crs.to_epsg() == 32617


def test_missing_parts_of_the_contest_are_named(tmp_path):
    with pytest.raises(SceneError, match=r"no hsi/\*\.tif"):
        load_idtrees(tmp_path)
    make_contest(tmp_path / "set", [("a", square(100, 200, 3))], {"a": "OAK"})
    (tmp_path / "set" / "crowns" / "train_MLBS.shp").unlink()
    with pytest.raises(SceneError, match=r"train_MLBS\.shp.*crowns"):
        load_idtrees(tmp_path / "set")


@given(st.integers(0, 1000), st.integers(3, 8), st.sampled_from([0.0, 0.2]))
@settings(max_examples=15, deadline=None)
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


def test_a_transform_is_fitted_on_the_items_of_several_scenes():
    generator = np.random.default_rng(0)
    scenes = [
        Scene(generator.normal(k, 1, (6, 7, 4)), np.ones((6, 7), int), generator.normal(k, 2, (6, 7, 2)), ("a",))
        for k in range(3)
    ]
    items = np.r_[3:20, 50, 90:126]
    transform = Compose([Standardise(), MNF(2, window=3), Standardise(on="aux")]).fit_scene(scenes, items)
    dataset = PatchDataset(scenes, Compose([SelectBands([0, 1, 2, 3])]).fit(scenes[0].hsi.reshape(-1, 4)), 1)
    hsi = dataset.batch(items)[0][:, :, 0, 0].numpy()
    np.testing.assert_allclose(transform.steps[0](hsi).mean(0), 0, atol=1e-6)
    alone = Compose([Standardise(), MNF(2, window=3), Standardise(on="aux")]).fit_scene(scenes[0], items[:17])
    same = Compose([Standardise(), MNF(2, window=3), Standardise(on="aux")]).fit_scene(scenes, items[:17])
    np.testing.assert_array_equal(alone(scenes[0].hsi), same(scenes[0].hsi))
    with pytest.raises(SceneError, match=r"0\.\.125"):
        transform.fit_scene(scenes, [126])


def test_stored_splits_are_whole_and_named():
    assert list_splits() == ["dfc2018_houston_crop", "idtrees2020", "indian_pines_fixed"]
    fixed = load_split("indian_pines_fixed")  # loading verifies the hash
    assert (fixed.train.size, fixed.test.size, fixed.shape) == (695, 9671, (145, 145))
    plots = load_split("idtrees2020")
    sides = [set(part // 400) for part in (plots.train, plots.val, plots.test)]
    assert [len(side) for side in sides] == [35, 10, 20] and len(set().union(*sides)) == 65
    assert leakage(load_split("dfc2018_houston_crop"), 11).inside_train == 0
    with pytest.raises(SplitError, match=r"there is no split 'salinas'.*idtrees2020"):
        load_split("salinas")


def test_the_fixed_split_brings_its_own_labels():
    pytest.importorskip("tensorly")
    usual, fixed = load_scene("indian_pines").labels, load_scene("indian_pines_fixed").labels
    assert np.count_nonzero(usual != fixed) == 256 and not usual[usual != fixed].any()
    split = load_split("indian_pines_fixed")
    split.check(fixed)
    counts = np.bincount(fixed.ravel()[split.train])[1:]
    assert sorted(counts) == [15] * 3 + [50] * 13
    assert np.count_nonzero(usual) == split.train.size + split.test.size - 256 + 139


def test_scenes_of_a_folder_say_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.delenv("HSMAMBA_DATA", raising=False)
    with pytest.raises(SceneError, match="set the environment variable HSMAMBA_DATA"):
        load_scene("dfc2018_houston_crop")
    with pytest.raises(SceneError, match="no folder 'dfc2018_houston_crop'"):
        load_scene("dfc2018_houston_crop", tmp_path)
    with pytest.raises(SceneError, match="set of plots"):
        load_scene("idtrees2020", tmp_path)


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the data folder beside the repository")
def test_real_data_give_the_stored_splits(tmp_path):
    pytest.importorskip("tensorly")
    script = [sys.executable, "tools/make_splits.py", str(DATA), "--out", str(tmp_path)]
    subprocess.run(script, cwd=ROOT, check=True, capture_output=True)
    made = sorted(tmp_path.iterdir())
    assert len(made) == 4
    for path in made:
        assert path.read_bytes() == (ROOT / "hsmamba" / "splits" / path.name).read_bytes()


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the data folder beside the repository")
def test_two_source_scenes_of_a_folder():
    houston = load_scene("dfc2018_houston_crop", DATA)
    assert houston.hsi.shape == houston.aux.shape == (128, 128, 48) and houston.num_classes == 12
    load_split("dfc2018_houston_crop").check(houston.labels)
    plots = load_scenes("idtrees2020", DATA)
    labels = np.concatenate([plot.labels.ravel() for plot in plots])
    assert len(plots) == 70 and np.bincount(labels).tolist() == [15631, 3536, 2547, 2050, 1590, 804, 801, 574, 467]
    load_split("idtrees2020").check(labels.reshape(1, -1))
