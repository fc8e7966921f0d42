"""Every experiment of the papers runs from its recipe to figures beside the paper's, on small files in its layout."""

import re
import warnings
from dataclasses import fields, replace
from importlib import resources

import numpy as np
import pytest
import torch

from hsmamba.engine import recipe as recipes
from hsmamba.engine.classification import recipe as classification
from hsmamba.engine.classification.evaluate import labels_of
from hsmamba.engine.fusion import recipe as fusion
from hsmamba.errors import ManifestError
from hsmamba.zoo.factory import create_model
from tests.data.sets import layouts

NAMES = [name for name in recipes.list_recipes() if name.endswith("_paper")]
TUNED = [name.removesuffix("_paper") + "_tuned" for name in NAMES]
# Small networks: what is run here is the recipe, not its figures.
TINY = {
    "md2f_mamba": {"dim": 16, "filters": 2},
    "mim": {"dim": 16},
    "mim_v1": {"dim": 16},
    "mim_v3": {"dim": 16},
    "mim_paper": {"dim": 16},
    "msfmamba": {},
    "mambahsi": {"dim": 8, "neck_dim": 8, "d_state": 2},
    "le_mamba": {"dim": 8, "enc_depths": [1, 1, 1], "dec_depths": [1, 1, 1]},
    "mmapp": {"dim": 8, "depth": 1},
    "rsanet": {"dim": 8, "depth": 1},
    "ramsf": {"dim": 8, "mlp_dims": [8]},
    "cf2n": {"dim": 8, "depth": 1},
    "msdcnn": {"dims": [6, 3], "shallow_dims": [4, 3]},
    "pannet": {"dim": 8, "depth": 1},
    "ssftt": {"dim": 16, "filters": 2},
}
MAKERS = {
    **{f"pancollection_{name}": (layouts.pancollection, name, bands) for name, bands in (("wv3", 8), ("qb", 4))},
    "pancollection_gf2": (layouts.pancollection, "gf2", 4, 1023),
    **{f"{name}_h5_x{ratio}": (layouts.mhif, name, ratio) for name in ("cave", "harvard") for ratio in (4, 8)},
    "sen12ms": (layouts.sen12ms,),
}


def make(recipe, folder):
    """Write the files that a recipe reads."""
    if recipe.task == "fusion":
        maker, *arguments = MAKERS[recipe.dataset]
        return maker(folder, *arguments)
    return layouts.SCENES[recipe.scene][0](folder) if recipe.scene in layouts.SCENES else folder


def small(recipe):
    """The recipe with a small network, two steps and pixels that the files have, all else as it is."""
    args = {**recipe.model_args, **TINY[recipe.architecture]}
    if recipe.task == "fusion":
        return replace(
            recipe, model_args=args, passes=0, finetune={**recipe.finetune, "epochs": 1, "steps": 2, "batch_size": 1}
        )
    epochs = 2 if recipe.architecture == "mambahsi" else 1  # whose epoch is one step
    finetune = {**recipe.finetune, "epochs": epochs, "batch_size": 128}
    few = {name: spec | ({"count": 5} if "count" in spec else {}) for name, spec in recipe.splits.items()}
    return replace(recipe, model_args=args, finetune=finetune, splits=few, seeds=recipe.seeds[:1], holdout=0.0)


def run(name, folder, monkeypatch):
    recipe = recipes.load_recipe(name)
    monkeypatch.setattr(classification, "_baselines", lambda *_: [])
    monkeypatch.setattr(fusion, "evaluate_fusion", lambda *args, **kwargs: _EVALUATE(*args, baselines=False, **kwargs))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not comparable")
        outcome = recipes.run(small(recipe), folder / "runs", data=make(recipe, folder / "data"), progress=False)
    assert f"beside {recipe.paper.citation}" in outcome.text
    assert (folder / "runs" / "paper.csv").is_file() == bool(recipe.paper.figures)
    return recipe, outcome


_EVALUATE = fusion.evaluate_fusion
_SPLIT = classification.make_split


def few(recipe, data, *rest):
    """The split of a recipe, of which up to five pixels of each class are left in either part."""
    split = _SPLIT(recipe, data, *rest)
    labels = labels_of(data, split).ravel()

    def some(pixels):
        return np.sort(np.concatenate([pixels[labels[pixels] == k][:5] for k in np.unique(labels[pixels])]))

    return replace(split, train=some(split.train), test=some(split.test))


def test_every_architecture_of_the_papers_has_its_recipes():
    found = {name.partition(".")[0] for name in NAMES}
    assert found == {*TINY}
    tags = {name.partition(".")[2].removesuffix("_paper") for name in NAMES}
    assert {"houston2013", "houston2018", "berlin", "augsburg", "wv3", "gf2", "qb", "cave_x8", "harvard_x4"} <= tags


@pytest.mark.parametrize("name", [*NAMES, *TUNED])
def test_the_network_of_a_recipe_can_be_built(name):
    recipe = recipes.load_recipe(name)
    sizes = {} if recipe.task == "classification" else {"in_chans": 8, "guide_chans": 1, "scale": 4}
    with torch.device("meta"):
        assert create_model(recipe.architecture, **sizes, **recipe.model_args)
    assert recipe.paper is not None and recipe.paper.citation
    assert bool(recipe.paper.source) == bool(recipe.paper.figures)


@pytest.mark.parametrize(
    "name", ["msfmamba.augsburg_paper", "mim_v3.pavia_university_paper", "md2f_mamba.houston2013_tuned"]
)
def test_an_experiment_of_a_classifier_runs(name, tmp_path, monkeypatch):
    recipe, outcome = run(name, tmp_path, monkeypatch)
    part = recipe.publish
    row = next(row for row in outcome.record["runs"] if row["split"] == part)
    assert row["epochs"] == 1 and row["test_pixels"] > 100
    known = np.isfinite(recipe.paper.figures[part]["oa"][1])
    assert f"{part}, oa" in outcome.text
    assert ("more than the spread" if known else "no spread is known") in outcome.text


def test_an_experiment_of_a_network_of_whole_images_runs(tmp_path, monkeypatch):
    _recipe, outcome = run("mambahsi.whu_hi_hanchuan_paper", tmp_path, monkeypatch)
    (row,) = outcome.record["runs"]
    assert (row["epochs"], row["train_pixels"], row["leakage"]) == (2, 16 * 5, 1.0)
    assert "no figures of the paper are known" in outcome.text and "differs: the release trains on" in outcome.text


@pytest.mark.parametrize("name", ["rsanet.qb_paper", "cf2n.sen12ms_paper", "mmapp.gf2_tuned"])
def test_an_experiment_of_a_fusion_network_runs(name, tmp_path, monkeypatch):
    recipe, outcome = run(name, tmp_path, monkeypatch)
    figures = next(iter(outcome.record["reduced"].values()))
    assert set(figures) == {recipe.architecture} and figures[recipe.architecture]["PSNR"] > 0


# What a tuned recipe changes is the same for all of an architecture, and below it is shown to be all that it changes.
ONE_TUNED = {name.partition(".")[0]: name for name in TUNED}.values()


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NAMES, *ONE_TUNED])
def test_every_experiment_runs(name, tmp_path, monkeypatch):
    if "indian_pines" in name:  # the one scene that is whole, as it comes with a package
        pytest.importorskip("tensorly")
    monkeypatch.setattr(classification, "make_split", few)
    run(name, tmp_path, monkeypatch)


OVERRIDES = {
    "md2f_mamba": {"seeds", "holdout", "transform", "model_args", "finetune"},
    "msfmamba": {"seeds", "holdout", "tta", "finetune"},
    "mmapp": {"model_args", "finetune"},
    **{key: {"finetune"} for key in ("rsanet", "ramsf", "cf2n", "le_mamba")},
}


@pytest.mark.parametrize("name", TUNED)
def test_a_tuned_recipe_is_the_papers_but_for_what_is_stated(name):
    assert name in recipes.list_recipes()
    ours, theirs = recipes.load_recipe(name), recipes.load_recipe(name.removesuffix("_tuned") + "_paper")
    folder = resources.files("hsmamba") / "recipes" / "tuned"
    stated = next(
        path for key in (ours.architecture, ours.task) if (path := folder / f"{key}.toml").is_file()
    ).read_text(encoding="utf-8")
    differing = {f.name for f in fields(ours) if getattr(ours, f.name) != getattr(theirs, f.name)}
    allowed = OVERRIDES.get(ours.architecture, OVERRIDES["md2f_mamba"])
    assert {"name", "paper"} < differing <= {"name", "paper", *allowed}
    assert repr(ours.paper) == repr(replace(theirs.paper, differs=(*theirs.paper.differs, recipes._DIFFERS)))  # NaN
    keys = {key for key in ours.finetune if ours.finetune[key] != theirs.finetune.get(key)}
    words = stated + "".join((folder / f"{key}.toml").read_text(encoding="utf-8") for key in like(stated))
    assert keys and all(f"\n{key} = " in words for key in keys)
    assert ours.finetune["schedule"] == "cosine" and ours.finetune["epochs"] == theirs.finetune["epochs"]


def like(text):
    return re.findall(r'^like = "tuned/(\w+)"$', text, re.MULTILINE)


def test_a_recipe_of_ones_own_may_be_like_a_tuned_one(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('like = "mim_v3.houston2013_tuned"\nname = "mim_v3.mine"\n[finetune]\nepochs = 3\n')
    mine, tuned = recipes.load_recipe(path), recipes.load_recipe("mim_v3.houston2013_tuned")
    assert mine.finetune == {**tuned.finetune, "epochs": 3} and mine.finetune["lr"] == 4e-3
    with pytest.raises(ManifestError, match=r"no recipe 'mim_v3\.nowhere_tuned'"):
        recipes.load_recipe("mim_v3.nowhere_tuned")


def test_a_pass_over_the_images_is_an_epoch(tmp_path):
    recipe = recipes.load_recipe("le_mamba.wv3_paper")
    pairs = fusion.load_pairs(recipe.dataset, layouts.pancollection(tmp_path, "wv3", 8), **recipe.pairs)
    few = replace(recipe, finetune={**recipe.finetune, "batch_size": 1})
    assert fusion.settings_of(few, pairs).steps == 3  # half of six images
    assert fusion.settings_of(recipe, pairs).steps == 1
    assert len(pairs.val) == 2 and len(pairs.train) == 6
