"""Recipes of fusion networks: stopped, gone on with, published."""

import csv
import json

import numpy as np
import pytest
from scipy.io import savemat

import hsmamba
from hsmamba.data import load_pairs
from hsmamba.engine import recipe as recipes
from hsmamba.engine.fusion.evaluate import evaluate_fusion
from hsmamba.errors import HsmambaError, ManifestError
from hsmamba.zoo.source import read_folder
from tests.conftest import ROOT
from tests.engine.fusion.toys import images, same

TOML = (ROOT / "tests" / "engine" / "fusion" / "toy.toml").read_text(encoding="utf-8")


@pytest.fixture
def recipe(tmp_path):
    folder = tmp_path / "data" / "worldview2_ikonos"
    folder.mkdir(parents=True)
    ms, pan = images()
    savemat(folder / "imgIK.mat", {"I_MS": ms.astype(np.uint16), "I_PAN": pan.astype(np.uint16)})
    path = tmp_path / "toy.toml"
    path.write_text(TOML)
    return recipes.load_recipe(path)


@pytest.mark.slow
def test_a_recipe_that_is_stopped_goes_on_to_the_same_weight(recipe, tmp_path):
    data = tmp_path / "data"
    whole = recipes.run(recipe, tmp_path / "whole", data=data, progress=False)
    recipes.run(recipe, tmp_path / "broken", data=data, minutes=0, progress=False)
    record = read_folder(tmp_path / "broken" / "model").data
    assert record["epochs"] == 1
    assert "the recipe asks for 3: the run was stopped early" in record["training"]
    resumed = recipes.run(recipe, tmp_path / "broken", data=data, progress=False)
    assert resumed.record == whole.record
    folder = recipes.publish(recipe, tmp_path / "broken", tmp_path / "weights" / recipe.name)
    first, second = (hsmamba.create_model(f"local-dir:{at}") for at in (tmp_path / "whole" / "model", folder))
    assert same(first, second)
    found = read_folder(folder)
    assert found.data["epochs"] == 3
    card = (folder / "README.md").read_text()
    assert "| GSA, reduced resolution | " in card
    assert "GSA" not in card.partition("# ramsf")[0]  # the Hub's index is of the network's own results
    assert found.data["maximum"] == 2047
    assert found.license == "LicenseRef-NonProfit"
    again = evaluate_fusion(first, load_pairs(recipe.dataset, data, **recipe.pairs)).mean()
    assert again["ramsf"]["SAM"] == pytest.approx(found.metrics["reduced resolution"]["SAM"], abs=1e-3)
    rows = list(csv.DictReader((tmp_path / "broken" / "results.csv").open()))
    assert {row["method"] for row in rows} >= {"ramsf", "EXP", "GSA"}
    assert {row["resolution"] for row in rows} == {"reduced", "full"}


def test_the_command_line_trains_by_a_recipe(run, recipe, tmp_path, monkeypatch):
    monkeypatch.delenv("HSMAMBA_DATA", raising=False)
    arguments = ["train", tmp_path / "toy.toml", "-o", tmp_path / "runs", "--publish", tmp_path / "weight", "--json"]
    code, _, err = run(*arguments)
    assert code == 2
    assert "give the folder that holds worldview2_ikonos/imgIK.mat as --data" in err
    code, out, _ = run(*arguments, "--data", tmp_path / "data", "--minutes", 0)
    assert code == 0 and json.loads(out)["reduced"]["IKONOS, test"]["ramsf"]["PSNR"] > 0
    assert (tmp_path / "weight" / "model.safetensors").is_file()


def test_what_is_wrong_with_a_recipe_is_named(recipe, tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text(TOML.replace('"ikonos"', '"moon"'))
    with pytest.raises(ManifestError, match="no data set 'moon'; there are cave"):
        recipes.load_recipe(path)
    path.write_text(TOML.replace("seed =", "sede ="))
    with pytest.raises(ManifestError, match=r"missing \['seed'\], unknown \['sede'\]"):
        recipes.load_recipe(path)
    with pytest.raises(HsmambaError, match="holds no model yet"):
        recipes.publish(recipe, tmp_path / "nothing", tmp_path / "weight")
    path.write_text(TOML.replace("mlp_dims = [8]", 'mlp_dims = ["none", [8, "none"]]'))
    assert recipes.load_recipe(path).model_args["mlp_dims"] == [None, [8, None]]
