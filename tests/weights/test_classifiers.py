"""The weights that come with the package: what their records say is what comes out."""

from dataclasses import replace

import numpy as np
import pytest

import hsmamba
from hsmamba.data import leakage, load_scenes
from hsmamba.engine.classification.evaluate import labels_of
from hsmamba.engine.classification.recipe import make_split, median_run
from hsmamba.engine.recipe import load_recipe
from hsmamba.engine.results import read_results, summarise
from hsmamba.errors import MissingExtraError, SceneError
from hsmamba.metrics.report import HEADLINES
from hsmamba.zoo.manifest import load_manifest, weights_folder
from hsmamba.zoo.source import find_folder
from tests.conftest import DATA, ROOT

RECORDS = {
    name: record for name, record in load_manifest().items() if load_recipe(record.recipe).task == "classification"
}
EMBEDDED = [name for name in RECORDS if (weights_folder() / name).is_dir()]


@pytest.mark.parametrize("name", RECORDS)
def test_the_record_holds_what_the_runs_of_its_recipe_gave(name):
    record = RECORDS[name]
    recipe = load_recipe(record.recipe)
    rows = read_results(ROOT / "docs" / "results" / f"{name}.csv")
    assert {(row["split"], row["seed"]) for row in rows} == {(s, k) for s in recipe.splits for k in recipe.seeds}
    summary = summarise(rows)
    chosen = median_run(recipe, rows)
    assert record.metrics == {**summary, "this weight": {key: chosen[key] for key in HEADLINES}}
    assert record.data["seed"] == chosen["seed"]
    assert record.data["split"]["sha256"] == chosen["split_sha256"]
    assert all(row["leakage"] == 0 for row in rows if row["split"] == "disjoint")


def scenes_of(recipe):
    """Load the data of a recipe; skip where they are not here."""
    try:
        scenes = load_scenes(recipe.scene, DATA)
    except (MissingExtraError, SceneError) as error:
        pytest.skip(f"needs the data of {recipe.scene}: {error}")
    return scenes if len(scenes) > 1 else scenes[0]


@pytest.mark.parametrize("name", EMBEDDED)
def test_an_embedded_weight_gives_the_metrics_of_its_record(name):
    recipe = load_recipe(RECORDS[name].recipe)
    model = hsmamba.create_model(name, pretrained=True)
    data = scenes_of(recipe)
    split = find_folder(name).load_split()
    assert split.sha256 == RECORDS[name].data["split"]["sha256"]
    split.check(labels_of(data, split))
    metrics, tolerance = RECORDS[name].metrics["this weight"], 0.1
    if name.startswith("mim"):  # minutes for all pixels: a quarter of them, which tells the shares of all to a point
        split = replace(split, test=split.test[::4])
        metrics, tolerance = {key: metrics[key] for key in ("oa", "kappa")}, 1.0
    report = hsmamba.evaluate(model, data, split, tta=recipe.tta)
    for key, value in metrics.items():
        # Another processor rounds otherwise, and a pixel on the edge between two classes may fall to the other side.
        assert 100 * getattr(report, key) == pytest.approx(value, abs=tolerance), key


@pytest.mark.parametrize("name", EMBEDDED)
def test_the_split_of_a_weight_is_made_again_by_its_recipe(name):
    record, recipe = RECORDS[name], load_recipe(RECORDS[name].recipe)
    split = make_split(recipe, scenes_of(recipe), record.data["split"]["name"], record.data["seed"])
    assert split.sha256 == record.data["split"]["sha256"]


def test_a_random_split_of_a_twentieth_trains_on_so_many_of_each_class_and_leaks():
    name = "md2f_mamba.indian_pines"
    recipe, split = load_recipe(RECORDS[name].recipe), find_folder(name).load_split()
    labels = np.asarray(scenes_of(recipe).labels).ravel()
    sizes = np.bincount(labels)[1:]
    np.testing.assert_array_equal(np.bincount(labels[split.train])[1:], np.maximum(1, np.floor(0.05 * sizes + 1e-9)))
    assert leakage(split, recipe.model_args["patch_size"]).share > 0.9  # the card says so
