"""The weights for any sensor that come with the package: what their records say is what comes out."""

import pytest

import hsmamba
from hsmamba.data import load_pairs
from hsmamba.engine.fusion.evaluate import evaluate_fusion
from hsmamba.engine.multisensor.recipe import by_image
from hsmamba.engine.recipe import load_recipe
from hsmamba.engine.results import read_results
from hsmamba.zoo.manifest import load_manifest, weights_folder
from tests.conftest import DATA, ROOT

RECORDS = {name: record for name, record in load_manifest().items() if load_recipe(record.recipe).task == "multisensor"}
EMBEDDED = [name for name in RECORDS if (weights_folder() / name).is_dir()]


def figures_of(name):
    return by_image(read_results(ROOT / "docs" / "results" / "multisensor" / f"{name}.csv"))


@pytest.mark.parametrize("name", RECORDS)
def test_the_record_holds_what_the_run_of_its_recipe_gave(name):
    record, recipe, images = RECORDS[name], load_recipe(RECORDS[name].recipe), figures_of(name)
    assert set(images) == {*recipe.datasets, *recipe.others}
    own = {record.architecture: record.metrics["reduced resolution"]}
    own[f"{record.architecture}, untrained"] = record.data["untrained"]
    for key, figures in {**own, **record.data["baselines"]}.items():
        method = key.removesuffix(", reduced resolution")
        for metric, value in figures.items():
            found = [one[method][metric] for one in images.values() if metric in one[method]]
            assert value == pytest.approx(sum(found) / len(found), abs=1e-3), (method, metric)
    assert record.license == recipe.license
    assert {"name", "source", "license"} <= record.data.keys()


@pytest.mark.parametrize("name", EMBEDDED)
@pytest.mark.parametrize("image", ["quickbird", "hsi_cuprite"])
def test_an_embedded_weight_gives_the_figures_of_an_image_that_it_has_not_seen(name, image):
    if image not in load_recipe(RECORDS[name].recipe).others:
        pytest.skip(f"{name} was trained on {image}")
    model = hsmamba.create_model(name, pretrained=True)
    try:
        pairs = load_pairs(image, DATA, val=0, test=0)
    except FileNotFoundError as error:
        pytest.skip(f"needs the data of {image}: {error}")
    (found,) = evaluate_fusion(model, pairs.to_judge(), baselines=False).reduced.values()
    assert found["bandwise"] == pytest.approx(figures_of(name)[image]["bandwise"], rel=2e-3, abs=2e-4)
