"""The fusion weights that come with the package: what their records say is what comes out."""

import os
from pathlib import Path

import pytest

import hsmamba
from hsmamba.engine import fusion_recipe as recipes
from hsmamba.engine.fusion_evaluate import evaluate_fusion
from hsmamba.engine.recipe import load_recipe, read_results
from hsmamba.zoo.manifest import load_manifest, weights_folder

ROOT = Path(__file__).resolve().parents[1]
RECORDS = {
    name: record
    for name, record in load_manifest().items()
    if isinstance(load_recipe(record.recipe), recipes.FusionRecipe)
}
EMBEDDED = [name for name in RECORDS if (weights_folder() / name).is_dir()]
CLASSICAL = ("EXP", "Brovey", "GSA", "MTF-GLP-HPM")
BETTER = {"SAM": -1, "ERGAS": -1, "Q2n": 1, "HQNR": 1}


@pytest.mark.parametrize("name", RECORDS)
def test_the_record_holds_what_the_run_of_its_recipe_gave(name):
    record, recipe = RECORDS[name], load_recipe(RECORDS[name].recipe)
    rows = read_results(ROOT / "docs" / "results" / "fusion" / f"{name}.csv")
    own = {f"{record.architecture}, {kind}": figures for kind, figures in record.metrics.items()}
    for key, figures in {**own, **record.data["baselines"]}.items():
        method, _, resolution = key.partition(", ")
        runs = [row for row in rows if row["method"] == method and row["resolution"] == resolution.partition(" ")[0]]
        assert runs
        for metric, value in figures.items():
            assert value == pytest.approx(sum(row[metric] for row in runs) / len(runs), abs=1e-3), (method, metric)
    assert record.license == recipe.license
    assert 1 <= record.data["best_epoch"] <= record.data["epochs"] <= recipe.finetune["epochs"]
    assert record.data["epochs_of_recipe"] == recipe.finetune["epochs"]
    assert {"name", "source", "license", "sensor"} <= record.data.keys()


@pytest.mark.parametrize("name", [name for name in RECORDS if RECORDS[name].data["name"] != "CAVE"])
def test_a_pansharpening_weight_beats_the_classical_methods(name):
    metrics, baselines = RECORDS[name].metrics, RECORDS[name].data["baselines"]
    for metric, sign in BETTER.items():
        resolution = "full resolution" if metric == "HQNR" else "reduced resolution"
        own = metrics[resolution][metric]
        best = max(sign * baselines[f"{method}, {resolution}"][metric] for method in CLASSICAL)
        assert sign * own > best, (metric, own, sign * best)


@pytest.mark.parametrize("name", [name for name in RECORDS if RECORDS[name].data["name"] == "CAVE"])
def test_a_weight_of_cave_is_well_above_bicubic(name):
    own = RECORDS[name].metrics["reduced resolution"]
    bicubic = RECORDS[name].data["baselines"]["bicubic, reduced resolution"]
    assert own["PSNR"] > bicubic["PSNR"] + (8 if name.startswith("le_mamba") else 3)
    assert own["SAM"] < bicubic["SAM"]
    assert own["ERGAS"] < bicubic["ERGAS"]


@pytest.mark.parametrize("name", EMBEDDED)
def test_an_embedded_weight_loads_and_gives_the_figures_of_its_record(name):
    model = hsmamba.create_model(name, pretrained=True).eval()
    recipe, record = load_recipe(RECORDS[name].recipe), RECORDS[name]
    assert model.in_chans == record.bands
    if record.data["name"] == "CAVE":
        pytest.skip("a minute for each network; docs/results/fusion has the figures")
    data = os.environ.get("HSMAMBA_DATA") or ROOT.parent / "shared" / "data"
    try:
        pairs = recipes.load_pairs(recipe, data)
    except FileNotFoundError as error:
        pytest.skip(f"needs the data of {recipe.dataset}: {error}")
    means = evaluate_fusion(model, pairs, baselines=False)
    for full, resolution in ((False, "reduced"), (True, "full")):
        for metric, value in record.metrics[f"{resolution} resolution"].items():
            # Another processor rounds otherwise.
            assert means.mean(full=full)[model.architecture][metric] == pytest.approx(value, rel=2e-3, abs=2e-4), metric
