"""The fusion weights that come with the package: what their records say is what comes out."""

import dataclasses

import pytest
import torch

import hsmamba
from hsmamba.baselines import BASELINES
from hsmamba.data import get_sensor, load_pairs, nikon_d700, simulate_bands
from hsmamba.data.pairs import FusionPairs, simulated_pair
from hsmamba.data.sets.cave import CAVE_VALIDATION, read_cave
from hsmamba.engine.fusion.evaluate import evaluate_fusion
from hsmamba.engine.fusion.train import validate
from hsmamba.engine.recipe import load_recipe
from hsmamba.engine.results import read_results
from hsmamba.zoo.manifest import load_manifest, weights_folder
from tests.conftest import DATA, ROOT

RECORDS = {name: record for name, record in load_manifest().items() if load_recipe(record.recipe).task == "fusion"}
EMBEDDED = [name for name in RECORDS if (weights_folder() / name).is_dir()]
# The slowest, of networks and of sensors that others show, too: of these the figure that chose their epoch is enough.
VALIDATED_ALONE = {"ramsf.landsat8", "ramsf.worldview2", "rsanet.ikonos"}
BETTER = {"SAM": -1, "ERGAS": -1, "Q2n": 1, "PSNR": 1, "HQNR": 1}


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
        if metric not in metrics[resolution]:  # Q2n, of guides of several channels
            continue
        own = metrics[resolution][metric]
        keys = [f"{method}, {resolution}" for method in BASELINES]
        best = max(sign * baselines[key][metric] for key in keys if key in baselines)
        assert sign * own > best, (metric, own, sign * best)


@pytest.mark.parametrize("name", [name for name in RECORDS if RECORDS[name].data["name"] == "CAVE"])
def test_a_weight_of_cave_is_well_above_bicubic(name):
    own = RECORDS[name].metrics["reduced resolution"]
    bicubic = RECORDS[name].data["baselines"]["bicubic, reduced resolution"]
    assert own["PSNR"] > bicubic["PSNR"] + (8 if name.startswith("le_mamba") else 3)
    assert own["ERGAS"] < 0.6 * bicubic["ERGAS"]
    assert own["SSIM"] > bicubic["SSIM"] + 0.03


@pytest.mark.parametrize("name", EMBEDDED)
def test_an_embedded_weight_gives_the_figures_of_its_record(name):
    record, recipe = RECORDS[name], load_recipe(RECORDS[name].recipe)
    model = hsmamba.create_model(name, pretrained=True).eval()
    assert model.in_chans == record.bands
    root = DATA
    try:
        pairs = (
            validation_scenes(root, recipe)
            if recipe.dataset == "cave"
            else load_pairs(recipe.dataset, root, **recipe.pairs)
        )
    except FileNotFoundError as error:
        pytest.skip(f"needs the data of {recipe.dataset}: {error}")
    # Another processor rounds otherwise, and the figures are of the weight before it was stored in half the space.
    assert validate(model, pairs) == pytest.approx(record.data["validation"], rel=5e-3)
    if recipe.dataset == "cave" or name in VALIDATED_ALONE:
        return  # the test scenes take minutes, as do the overlapping windows of a global network at full resolution
    if model.margin is None:
        pairs = dataclasses.replace(pairs, full=())
    report = evaluate_fusion(model, pairs, baselines=False)
    for kind, full in (("reduced resolution", False), ("full resolution", True)):
        for figures in report.mean(full=full).values():
            assert figures == pytest.approx(record.metrics[kind], rel=2e-3, abs=2e-4)


def validation_scenes(root, recipe):
    """Load what `load_cave` has for validation, alone."""
    pairs, ratio, sensor = [], recipe.pairs["ratio"], get_sensor("generic")
    for name in CAVE_VALIDATION:
        gt = torch.from_numpy(read_cave(root / "cave" / f"{name}.train.xz"))[:, 96:-96, 96:-96]
        guide = simulate_bands(gt[None], nikon_d700())[0]
        pairs.append(simulated_pair(name, gt, guide, ratio=ratio, sensor=sensor))
    return FusionPairs("two scenes", ratio, sensor, 1.0, (), val=tuple(pairs))
