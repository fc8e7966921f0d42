"""What a folder holds of a set, and what is wrong; what is known of each."""

import numpy as np
import pytest

from hsmamba.data import load_scenes, load_split
from hsmamba.data.sets.catalog import CATALOG
from hsmamba.data.sets.check import check_data, describe
from hsmamba.errors import SceneError
from tests.conftest import DATA
from tests.data.sets import layouts


def wrong(found):
    return [one.text for one in found if one.ok is False]


@pytest.mark.parametrize("name", CATALOG)
def test_the_facts_of_every_set_are_told(name):
    record = describe(name)
    assert record["title"] and record["page"] and record["license"] and record["citation"]
    assert record["copies"] or not CATALOG[name].path
    if CATALOG[name].kind == "scene":
        assert len(record["shape"]) == 3 and (record["classes"] or name == "dfc2018_houston_crop")


def test_a_scene_that_is_a_part_is_told_by_size_and_pixels(tmp_path):
    root = layouts.augsburg(tmp_path)
    found = check_data("augsburg", root)
    assert found == check_data("augsburg", root / "augsburg")
    texts = "\n".join(map(str, found))
    assert "WRONG rows, columns and bands: (24, 20, 180), expected (332, 485, 180)" in texts
    assert "expected 13507" in texts and "train: " in texts and "not the file on record" in texts
    assert all("expected" in text for text in wrong(found))
    assert wrong(check_data("berlin", root)) and "no berlin in" in wrong(check_data("berlin", root))[0]


def test_pairs_are_told_by_part(tmp_path):
    root = layouts.pancollection(tmp_path, "qb", 4)
    found = check_data("pancollection_qb", root)
    assert not wrong(found) and any("train: " in one.text and "gt (6, 4, 64, 64)" in one.text for one in found)
    assert check_data("pancollection_qb", root / "pancollection" / "qb") == found
    (root / "pancollection" / "qb" / "train_qb.h5").unlink()
    assert wrong(check_data("pancollection_qb", root)) == ["train: there is no train_qb.h5"]
    layouts.pancollection(tmp_path, "gf2", 4, high=2047)
    assert "the first guide reaches" in wrong(check_data("pancollection_gf2", root))[0]


def test_sets_with_readers_of_their_own_are_loaded(tmp_path):
    assert not wrong(check_data("harvard", layouts.harvard(tmp_path)))
    assert not wrong(check_data("muufl_crop", tmp_path))
    assert wrong(check_data("cave", tmp_path))
    with pytest.raises(SceneError, match="no data set 'moon'; hsmamba data list shows them all"):
        check_data("moon", tmp_path)


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not here")
def test_the_real_scene_is_whole():
    found = check_data("salinas_a", DATA)
    assert not wrong(found) and sum("the file on record" in one.text for one in found) == 2


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not here")
@pytest.mark.parametrize("name", ["salinas_a", "muufl_crop", "dfc2018_houston_crop", "enmap_potsdam", "idtrees2020"])
def test_numbers_and_pixels_of_what_is_here_are_those_on_record(name):
    if name in ("enmap_potsdam", "idtrees2020"):  # GeoTIFF and shapefiles
        pytest.importorskip("rasterio", reason="needs the geo extra")
    facts, scenes = CATALOG[name].facts, load_scenes(name, DATA)
    ends = min(np.nanmin(scene.hsi) for scene in scenes), max(np.nanmax(scene.hsi) for scene in scenes)
    assert ends == facts.values
    if facts.classes:
        kinds = len(facts.classes) + 1
        counts = sum(np.bincount(np.asarray(scene.labels).ravel(), minlength=kinds)[1:] for scene in scenes)
        assert list(counts) == list(facts.classes.values())


def test_the_fixed_split_has_the_pixels_on_record():
    pytest.importorskip("tensorly", reason="carries the scene")
    (scene,), split = load_scenes("indian_pines_fixed"), load_split("indian_pines_fixed")
    facts, labels = CATALOG["indian_pines_fixed"].facts, np.asarray(scene.labels).ravel()
    for pixels, counts in (
        (np.arange(labels.size), facts.classes.values()),
        (split.train, facts.train),
        (split.test, facts.test),
    ):
        assert np.bincount(labels[pixels], minlength=17)[1:].tolist() == list(counts)
