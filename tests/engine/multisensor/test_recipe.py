"""Leave one image out: each is judged by a network that has not seen it, and the weight is trained on all."""

import csv

import numpy as np
import pytest
from scipy.io import savemat

import hsmamba
from hsmamba.engine import recipe as recipes
from hsmamba.engine.multisensor.recipe import table
from hsmamba.errors import HsmambaError, ManifestError
from hsmamba.zoo.source import read_folder
from tests.engine.fusion.toys import images, same

TOML = """
task = "multisensor"
name = "bandwise.toy"
datasets = ["ikonos", "worldview2"]

seed = 3
versions = 2
license = "MIT"

[model_args]
dim = 4
dilations = [1]

[finetune]
epochs = 2
steps = 2
batch_size = 4

[data]
name = "Toys"
source = "made"
license = "none"
"""


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data" / "worldview2_ikonos"
    folder.mkdir(parents=True)
    for name, bands in (("IK", 4), ("WV2", 8)):
        ms, pan = images(64, 64, bands)
        savemat(folder / f"img{name}.mat", {"I_MS": ms.astype(np.uint16), "I_PAN": pan.astype(np.uint16)})
    return tmp_path / "data"


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "toy.toml"
    path.write_text(TOML)
    return recipes.load_recipe(path)


@pytest.mark.slow
def test_a_run_that_is_stopped_goes_on_to_the_same_weight_and_figures(recipe, data, tmp_path):
    whole = recipes.run(recipe, tmp_path / "whole", data=data, progress=False)
    broken = tmp_path / "broken"
    stopped = recipes.run(recipe, broken, data=data, minutes=0, progress=False)
    assert "stopped in" in stopped.text and not (broken / "results.csv").exists()
    for _ in range(4):
        gone_on = recipes.run(recipe, broken, data=data, minutes=0, progress=False)
    assert gone_on.record == whole.record
    first, second = (hsmamba.create_model(f"local-dir:{tmp_path / out / 'model'}") for out in ("whole", "broken"))
    assert same(first, second)


def test_each_image_is_judged_by_a_network_that_was_trained_on_the_others(recipe, data, tmp_path):
    outcome = recipes.run(recipe, tmp_path / "runs", data=data, progress=False)
    rows = list(csv.DictReader((tmp_path / "runs" / "results.csv").open()))
    assert {(row["image"], row["trained_on"]) for row in rows} == {("ikonos", "worldview2"), ("worldview2", "ikonos")}
    assert {row["method"] for row in rows} >= {"bandwise", "bandwise, untrained", "GSA", "MTF-GLP-HPM"}
    folder = recipes.publish(recipe, tmp_path / "runs", tmp_path / "weight")
    found = read_folder(folder)
    assert found.license == "MIT" and found.params < 1000
    assert found.data["split"]["train"] == ["IKONOS, train", "WorldView-2, train"]
    means = [np.mean([outcome.record[image][m]["SAM"] for image in outcome.record]) for m in ("bandwise", "GSA")]
    assert found.metrics["reduced resolution"]["SAM"] == pytest.approx(means[0], abs=1e-4)
    assert found.data["baselines"]["GSA, reduced resolution"]["SAM"] == pytest.approx(means[1], abs=1e-4)
    assert found.data["untrained"]["SAM"] > 0 and not any("bandwise" in name for name in found.data["baselines"])
    assert "| ikonos |" in (tmp_path / "runs" / "report.txt").read_text()


def test_the_table_names_the_best_method_and_the_best_figures():
    figures = {
        "moon": {
            "net": {"SAM": 1.0, "ERGAS": 2.0, "Q2n": 0.9},
            "net, untrained": {"SAM": 1.5, "ERGAS": 2.5, "Q2n": 0.85},
            "A": {"SAM": 1.2, "ERGAS": 2.2, "Q2n": 0.8},
            "B": {"SAM": 1.1, "ERGAS": 2.4, "Q2n": 0.7},
        }
    }
    last = table(figures, "net").splitlines()[-1]
    own, plain = "1.000 / 2.000 / 0.9000", "1.500 / 2.500 / 0.8500"
    assert last == f"| moon | {own} | {plain} | 1.200 / 2.200 / 0.8000 (A) | 1.100 / 2.200 / 0.8000 |"


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ('"worldview2"]', '"moon"]', "no data set 'moon'; there are cave"),
        (
            '"ikonos", "worldview2"',
            '"ikonos"',
            r"datasets is \['ikonos'\]; name two or more, of which each is left out",
        ),
        ("versions", "version", r"missing \['versions'\], unknown \['version'\]"),
    ],
)
def test_what_is_wrong_with_a_recipe_is_named(old, new, text, tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text(TOML.replace(old, new))
    with pytest.raises(ManifestError, match=text):
        recipes.load_recipe(path)


def test_a_network_of_one_size_and_a_run_without_a_model_are_refused(recipe, data, tmp_path):
    with pytest.raises(HsmambaError, match="holds no model yet"):
        recipes.publish(recipe, tmp_path / "nothing", tmp_path / "weight")
    path = tmp_path / "other.toml"
    path.write_text(TOML.replace("bandwise.toy", "ramsf.toy").replace("dim = 4\ndilations = [1]", ""))
    with pytest.raises(ManifestError, match="ramsf is for images of one size; take bandwise"):
        recipes.run(recipes.load_recipe(path), tmp_path / "runs", data=data, progress=False)
