"""Cells: the same pixels for all methods, splits of every kind, what a weight has seen, figures of units."""

import dataclasses

import numpy as np
import pytest

import hsmamba
from hsmamba.data import Scene, load_pairs, random_split
from hsmamba.engine.benchmark import load_suite, run_cell
from hsmamba.engine.benchmark.classification import make_split
from hsmamba.engine.benchmark.fusion import _hash_of_test
from hsmamba.engine.benchmark.units import read_counts, read_values
from hsmamba.errors import SceneError, SplitError
from tests.engine.benchmark.suites import CLASSIFICATION, FUSION, write

ARGS = "args = { in_chans = 4, patch_size = 3, dim = 4, d_state = 1, filters = 1, expand = 1.0 }"


def cells(folder, text=CLASSIFICATION, *changes):
    return load_suite(write(folder, text, *changes)).cells()


def test_methods_see_the_same_pixels_and_units_add_up_to_the_figures(tmp_path):
    small, other = (run_cell(cell, None) for cell in cells(tmp_path)[:2])
    assert small["split_sha256"] == other["split_sha256"] and small["data_sha256"] == other["data_sha256"]
    assert (small["train"], small["val"], small["test"]) == (40, 0, 6930)
    assert small["cell"] != other["cell"] and small["version"] == hsmamba.__version__
    for row in (small, other):
        counts = read_counts(row["units"])
        assert set(counts) == set(range(9))  # blocks of 30 x 30 of a scene of 90 x 90
        right, every = np.sum([pair for unit in counts.values() for pair in unit.values()], axis=0)
        assert every == 6930 and row["oa"] == pytest.approx(100 * right / every, abs=0.01)
    assert "cannot learn" in small["notes"]  # three of the scene's classes have no pixels


def test_a_cell_gives_the_same_figures_again(tmp_path):
    first = cells(tmp_path)[0]
    one, two = (run_cell(first, None) for _ in range(2))
    same = [key for key in one if key not in ("train_seconds", "test_seconds", "date")]
    assert [one[key] for key in same] == [two[key] for key in same]


def test_the_second_source_is_seen_where_asked_for(tmp_path):
    two_sources = (ARGS, "aux = true\nargs = { in_chans = 9, patch_size = 3, depth = 1, d_state = 1, expand = 1.0 }")
    both = cells(tmp_path, CLASSIFICATION, two_sources, ("md2f_mamba", "msfmamba"))[0]
    assert run_cell(both, None)["split_sha256"] == run_cell(cells(tmp_path)[0], None)["split_sha256"]
    alone = cells(tmp_path, CLASSIFICATION, two_sources, ("md2f_mamba", "msfmamba"), ("aux = true", ""))[0]
    with pytest.raises(SceneError, match="takes an auxiliary source of 1 channels, the scene has none"):
        run_cell(alone, None)


def test_a_network_of_whole_images_joins_by_its_name(tmp_path):
    whole = (ARGS, "args = { in_chans = 4, dim = 4, neck_dim = 4, d_state = 1 }")
    cell = cells(tmp_path, CLASSIFICATION, whole, ("md2f_mamba", "mambahsi"), (", batch_size = 512", ""))[0]
    row = run_cell(cell, None)
    assert (row["method"], row["train"], row["test"], row["leakage"]) == ("small", 40, 6930, 1.0)
    assert row["split_sha256"] == run_cell(cells(tmp_path)[1], None)["split_sha256"]


def toy(seed, labels):
    rng = np.random.default_rng(seed)
    return Scene(rng.random((*labels.shape, 3)), labels)


def test_splits_of_every_kind(tmp_path):
    rng = np.random.default_rng(0)
    plots = [toy(k, rng.integers(0, 4, (12, 12))) for k in range(6)]
    labels = np.concatenate([plot.labels.ravel() for plot in plots])
    whole = make_split(plots, {"kind": "plots", "test": 0.3}, 1)
    few = make_split(plots, {"kind": "plots", "test": 0.3, "count": 5}, 1)
    np.testing.assert_array_equal(few.test, whole.test)
    assert set(few.train) < set(whole.train) and np.bincount(labels[few.train]).tolist() == [0, 5, 5, 5]
    assert not set(few.train // 144) & set(few.test // 144)
    random = make_split(plots[:1], {"kind": "random", "count": 3}, 4)
    assert random.sha256 == random_split(plots[0].labels, count=3, seed=4).sha256
    block = make_split(plots[:1], {"kind": "block", "fraction": 0.1, "patch_size": 3, "strict": False}, 0)
    assert block.id.startswith("block")
    with pytest.raises(SplitError, match="was made for a scene of"):
        make_split(plots, {"kind": "stored", "name": "enmap_potsdam", "count": 5}, 0)


def test_plots_within_a_stored_split_leave_its_test_pixels_alone(monkeypatch):
    plots = [toy(k, np.random.default_rng(k).integers(0, 4, (12, 12))) for k in range(9)]
    labels = np.concatenate([plot.labels.ravel() for plot in plots])
    whole = make_split(plots, {"kind": "plots", "test": 0.3}, 1)
    own = whole.with_validation(labels, fraction=0.1)
    monkeypatch.setattr("hsmamba.engine.benchmark.classification.load_split", {"own": own}.get)
    inner = make_split(plots, {"kind": "plots", "test": 0.3, "within": "own", "count": 5}, 2)
    assert not set(own.test // 144) & set(np.union1d(inner.train, inner.test) // 144)
    assert set(np.union1d(own.train, own.val) // 144) == set(np.union1d(inner.train, inner.test) // 144)
    assert np.bincount(labels[inner.train]).tolist() == [0, 5, 5, 5]
    beside = make_split(plots, {"kind": "pixels", "of": "own", "fraction": 0.5}, 2)
    assert set(beside.train) | set(beside.test) == set(own.test) and not set(beside.train) & set(beside.test)
    beside.check(labels[None])
    assert np.bincount(labels[beside.train]).tolist() == [0, *(np.bincount(labels[own.test])[1:] // 2)]


def test_fusion_on_own_rows_and_on_an_image_left_out(tmp_path, images):
    places = {(cell.data.name, cell.split, cell.method.name): cell for cell in cells(tmp_path, FUSION)}
    own, others = (run_cell(places["ikonos", split, "GSA"], images) for split in ("own", "others"))
    assert (own["train"], own["test"], others["train"], others["test"]) == (32 * 96, 64 * 96, 0, 128 * 96)
    cut = load_pairs("ikonos", images, test=0.5).cut
    assert len(read_values(own["units"])) == (64 - 2 * cut) // 8 * ((96 - 2 * cut) // 8)
    trained = run_cell(places["bgrn", "others", "rsanet"], images)
    assert trained["split_id"] == "others: IKONOS, train to train on" and trained["train"] == 104 * 96
    assert trained["data_sha256"] == run_cell(places["bgrn", "others", "GSA"], images)["data_sha256"]
    assert trained["SAM"] > 0 and trained["test"] == 128 * 96


def test_the_last_digits_of_what_was_filtered_are_no_other_data(tmp_path, images):
    pairs = load_pairs("ikonos", images, test=0.5)
    (pair,) = pairs.test

    def hash_with(**changes):
        return _hash_of_test(dataclasses.replace(pairs, test=(pair._replace(**changes),)))

    first = hash_with()
    assert hash_with(guide=pair.guide * (1 + 2**-22), ms=pair.ms * (1 + 2**-22)) == first
    assert hash_with(guide=pair.guide * 1.01) != first
    assert hash_with(gt=pair.gt * (1 + 2**-22)) != first


def test_a_network_is_adapted_to_the_test_pair_where_asked_for(tmp_path, images):
    text = ("finetune = { epochs = 1, steps = 1, batch_size = 1, crop = 32 }", "adapt = { steps = 1 }")
    places = {(cell.data.name, cell.split, cell.method.name): cell for cell in cells(tmp_path, FUSION, text)}
    row = run_cell(places["ikonos", "others", "rsanet"], images)
    assert row["split_id"] == "others: nothing to train on" and row["SAM"] > 0
    assert row["data_sha256"] == run_cell(places["ikonos", "others", "GSA"], images)["data_sha256"]
