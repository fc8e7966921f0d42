"""Recipes: runs, their results, the choice of the weight, what continues after an interrupt."""

import csv
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import hsmamba
from hsmamba.engine import recipe as recipes
from hsmamba.engine.classification import recipe as recipe_module
from hsmamba.engine.classification.network import network_for
from hsmamba.engine.results import summarise
from hsmamba.errors import HsmambaError, HsmambaWarning, ManifestError
from hsmamba.zoo.source import read_folder
from tests.conftest import ROOT

TOML = (ROOT / "tests" / "engine" / "classification" / "toy.toml").read_text(encoding="utf-8")


@pytest.fixture
def recipe(tmp_path, scene, monkeypatch, few):
    path = tmp_path / "toy.toml"
    path.write_text(TOML)
    monkeypatch.setattr(recipe_module, "load_scenes", lambda name, root: [scene])
    return recipes.load_recipe(path)


def test_a_recipe_runs_once_and_is_published(recipe, scene, tmp_path):
    out = tmp_path / "runs"
    outcome = recipes.run(recipe, out, progress=False)
    rows, summary = outcome.record["runs"], outcome.record["summary"]
    assert [(row["split"], row["seed"]) for row in rows] == [(s, k) for s in ("random", "disjoint") for k in range(3)]
    assert all(row["leakage"] == 0 for row in rows if row["split"] == "disjoint")
    assert all(row["leakage"] > 0.5 for row in rows if row["split"] == "random")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert recipes.run(recipe, out, progress=False) == outcome
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    with (out / "results.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 6

    assert summary == summarise(rows)
    assert f"md2f_mamba.toy, split random: 3 runs\n  seed 0: OA {rows[0]['oa']:.2f}" in outcome.text
    random = [row["oa"] for row in rows if row["split"] == "random"]
    assert summary["random"]["oa"] == {"mean": round(np.mean(random), 2), "std": round(np.std(random, ddof=1), 2)}
    folder = recipes.publish(recipe, out, tmp_path / "weights" / recipe.name)
    chosen = recipe_module.median_run(recipe, rows)
    scores = [(row["val_oa"], -row["val_loss"]) for row in rows if row["split"] == "random"]
    assert (chosen["val_oa"], -chosen["val_loss"]) == sorted(scores)[1]
    assert all(row["val_oa"] == "" for row in rows if row["split"] == "disjoint")
    model = hsmamba.create_model(f"local-dir:{folder}")
    found = read_folder(folder)
    assert found.metrics["random"] == summary["random"]
    assert found.data["seed"] == chosen["seed"]
    assert found.data.get("baselines", {}) == outcome.record["baselines"]
    report = hsmamba.evaluate(model, scene, found.load_split())
    assert round(100 * report.oa, 2) == chosen["oa"] == found.metrics["this weight"]["oa"]
    assert "CC0-1.0" in (folder / "README.md").read_text()


def test_classical_classifiers_stand_beside_a_run_also_where_it_ended_without_them(recipe, tmp_path, monkeypatch):
    pytest.importorskip("sklearn", reason="needs the classical extra")
    out, options = tmp_path / "runs", {"splits": ["disjoint"], "seeds": [0], "progress": False}
    with monkeypatch.context() as without, pytest.warns(HsmambaWarning, match=r"hsmamba\[classical\].*run the recipe"):
        without.setitem(sys.modules, "sklearn.svm", None)
        before = recipes.run(recipe, out, **options).record
    assert before["baselines"] == {} and not (out / "baselines.csv").exists()
    monkeypatch.setattr(recipe_module, "_run", lambda *_: pytest.fail("the run is there"))
    after = recipes.run(recipe, out, **options)
    assert after.record["runs"] == before["runs"]
    with (out / "baselines.csv").open() as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert rows.keys() == {"svm-bands", "lda-mnf-means"}
    classical = after.record["baselines"]
    assert classical["svm-bands, disjoint"]["oa"] == {"mean": float(rows["svm-bands"]["oa"]), "std": 0.0}
    assert f"  svm-bands, disjoint: OA {classical['svm-bands, disjoint']['oa']['mean']:.2f}" in after.text
    assert rows["svm-bands"]["split_sha256"] == before["runs"][0]["split_sha256"]


def test_models_fitted_in_one_step_are_judged_among_the_classical_classifiers(recipe, scene):
    pytest.importorskip("sklearn", reason="needs the classical extra")
    rows = recipe_module.baseline_rows(replace(recipe, beside=("lda",)), [scene], "disjoint", 0)
    assert [row["method"] for row in rows] == ["svm-bands", "lda-mnf-means", "lda"]
    model = network_for("lda", scene)
    split = recipe_module.make_split(recipe, scene, "disjoint", 0)
    hsmamba.finetune(model, scene, split, progress=False)
    assert rows[-1]["oa"] == round(100 * hsmamba.evaluate(model, scene, split).oa, 2)


def test_an_interrupted_recipe_continues_to_the_same_weights(recipe, tmp_path, monkeypatch):
    whole = recipes.run(recipe, tmp_path / "whole", splits=["random"], seeds=[1], progress=False)
    module = sys.modules["hsmamba.engine.training"]
    write = module.write_log

    def interrupt(path, history):
        write(path, history)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "write_log", interrupt)
    with pytest.raises(KeyboardInterrupt):
        recipes.run(recipe, tmp_path / "broken", splits=["random"], seeds=[1], progress=False)
    monkeypatch.setattr(module, "write_log", write)
    rows = recipes.run(recipe, tmp_path / "broken", splits=["random"], seeds=[1], progress=False)
    assert rows.record["runs"][0]["oa"] == whole.record["runs"][0]["oa"]
    first, second = (
        load_file(tmp_path / kind / "random-seed1/model/model.safetensors") for kind in ("whole", "broken")
    )
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_what_is_wrong_with_a_recipe_is_named(recipe, tmp_path):
    with pytest.raises(ManifestError, match=r"no recipe 'nothing'; hsmamba train --list shows them"):
        recipes.load_recipe("nothing")
    with pytest.raises(ManifestError, match=r"did you mean .*mim\.indian_pines_paper"):
        recipes.load_recipe("mim.indianpines_paper")
    path = tmp_path / "bad.toml"
    path.write_text(TOML.replace("seeds =", "sedes ="))
    with pytest.raises(ManifestError, match=r"missing \['seeds'\], unknown \['sedes'\]"):
        recipes.load_recipe(path)
    path.write_text("name = ")
    with pytest.raises(ManifestError, match="not TOML"):
        recipes.load_recipe(path)
    with pytest.raises(ManifestError, match="'elsewhere' is of kind None"):
        recipes.run(recipe, tmp_path / "runs", splits=["elsewhere"], progress=False)
    with pytest.raises(HsmambaError, match="lacks the runs"):
        recipes.publish(recipe, tmp_path / "runs", tmp_path / "weight")
