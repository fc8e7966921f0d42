"""What the errors of recipes and of classes say to do, done: each time it works."""

import re

import numpy as np
import pytest

import hsmamba
from hsmamba.data import MNF, Compose, Diffuse, Scene, Standardise
from hsmamba.engine import recipe as recipes
from hsmamba.engine.classification import images, runs
from hsmamba.engine.classification import recipe as room
from hsmamba.engine.parallel import Group
from hsmamba.errors import HsmambaWarning
from tests.advice import told
from tests.engine.classification.test_recipe import TOML

SHORT = re.sub(r"epochs = \d", "epochs = 1", re.sub(r"\ndisjoint = .*", "", TOML).replace("[0, 1, 2]", "[0, 1]"))


@pytest.fixture
def recipe(tmp_path, scene, monkeypatch):
    (tmp_path / "toy.toml").write_text(SHORT)
    monkeypatch.setattr(room, "load_scenes", lambda name, root: [scene])
    return recipes.load_recipe(tmp_path / "toy.toml")


def test_a_recipe_that_ran_is_published(recipe, tmp_path):
    runs, folder = tmp_path / "runs", tmp_path / "weights"
    told(lambda: room.median_run(recipe, []), "to publish; run the recipe first")
    recipes.run(recipe, runs, seeds=[0], progress=False)
    told(lambda: recipes.publish(recipe, runs, folder), "lacks the runs {}; run the recipe to its end first")
    recipes.run(recipe, runs, progress=False)
    assert hsmamba.create_model(f"local-dir:{recipes.publish(recipe, runs, folder)}").num_classes == 3


def test_a_recipe_is_given_as_a_file_and_without_options_of_other_tasks(recipe, tmp_path):
    told(lambda: recipes.load_recipe("toy"), "hsmamba train --list shows them", "or give a .toml file")
    assert recipes.load_recipe(tmp_path / "toy.toml") == recipe
    told(lambda: recipes.run(recipe, tmp_path / "runs", minutes=1), "leave it out (what can be is {})")
    assert recipes.run(recipe, tmp_path / "runs", seeds=[0], progress=False).record["runs"]


def test_a_part_of_a_scene_fits_where_the_whole_does_not(monkeypatch):
    hsi = np.random.default_rng(0).normal(size=(40, 40, 6)).astype(np.float32)
    scene = Scene(hsi)
    transform = Compose([Standardise(), MNF(3), Diffuse((0.9,))]).fit_scene(scene, np.arange(1600))
    model = hsmamba.create_model("lda", in_chans=6, num_classes=3, windows=(1,))
    monkeypatch.setattr("hsmamba.engine.classification.windows.available_bytes", lambda: 40 * 40 * 6 * 10)

    def classify(hsi):
        return hsmamba.classify(model, Scene(hsi), transform, scale=1, progress=False)

    told(lambda: classify(hsi), "take a part of the scene at a time, or a model without that step")
    assert classify(hsi[:20]).labels.shape == (20, 40)


def test_what_a_network_of_whole_images_cannot_take_is_mended(scene, split, monkeypatch):
    model = hsmamba.create_model("mambahsi", in_chans=12, num_classes=3, dim=8, neck_dim=8, d_state=2)
    quick = {"epochs": 1, "warmup_epochs": 0, "progress": False}
    words = "mixup and erase are for patches, and {} takes whole images; leave them out, or 0"
    told(lambda: hsmamba.finetune(model, scene, split, mixup=0.2, **quick), words)
    with monkeypatch.context() as several:
        two = Group()
        two.size = 2
        several.setattr(runs, "group", lambda: two)
        told(
            lambda: hsmamba.finetune(model, scene, split, **quick), "start it in one process, and other seeds or scenes"
        )
    hsmamba.finetune(model, scene, split, mixup=0, **quick)
    monkeypatch.setattr(images, "_FEW", 0)
    monkeypatch.setattr(images, "available_bytes", lambda: 10**5)
    text = told(lambda: hsmamba.classify(model, scene, progress=False), "set model.window = {} or less")
    model.window = int(re.search(r"window = (\d+)", text)[1])
    with pytest.warns(HsmambaWarning, match="sees it in windows"):
        assert (hsmamba.classify(model, scene, progress=False).labels > 0).all()
