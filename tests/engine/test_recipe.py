"""Recipes by task: one door loads, runs and publishes, and refuses options of the other task."""

import re

import pytest

import hsmamba
from hsmamba.engine import ClassificationSettings, FusionSettings
from hsmamba.engine import recipe as recipes
from hsmamba.errors import ManifestError
from tests.conftest import ROOT

FUSION, CLASSIFIER = "ramsf.ikonos", "md2f_mamba.indian_pines"


def test_every_task_has_the_same_furniture():
    for task, room in recipes.TASKS.items():
        assert room.__name__ == f"hsmamba.engine.{task}.recipe"
        assert all(callable(getattr(room, name)) for name in ("Recipe", "parse", "run", "publish"))
    assert sorted(name for task in recipes.TASKS for name in recipes.list_recipes(task)) == recipes.list_recipes()
    assert FUSION in recipes.list_recipes("fusion") and CLASSIFIER in recipes.list_recipes("classification")


def test_a_file_without_a_task_is_of_a_classifier_and_an_unknown_one_is_named(tmp_path):
    text = (ROOT / "hsmamba" / "recipes" / f"{CLASSIFIER}.toml").read_text()
    path = tmp_path / "x.toml"
    path.write_text(re.sub(r"\ntask = .*", "", text))
    assert recipes.load_recipe(path) == recipes.load_recipe(CLASSIFIER)
    path.write_text(text.replace('task = "classification"', 'task = "detection"'))
    with pytest.raises(ManifestError, match="no task 'detection'; there are classification, fusion, multi"):
        recipes.load_recipe(path)


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        (CLASSIFIER, {"minutes": 1.0}, "minutes cannot be chosen for md2f_mamba.indian_pines, a recipe of class"),
        (FUSION, {"seeds": [1]}, "seeds cannot be chosen for ramsf.ikonos, a recipe of fusion"),
        (FUSION, {"splits": ["a"], "seeds": [1]}, r"seeds, splits cannot be .* \(what can be is minutes\)"),
        (FUSION, {"hours": 1}, "hours cannot be chosen"),
    ],
)
def test_options_of_the_other_task_are_refused(name, options, text, tmp_path):
    with pytest.raises(ValueError, match=text):
        recipes.run(recipes.load_recipe(name), tmp_path / "runs", **options)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ([CLASSIFIER, "--minutes", "1"], "minutes cannot be chosen"),
        ([FUSION, "--split", "random"], "splits cannot be chosen"),
        ([FUSION, "--seed", "0"], "seeds cannot be chosen"),
    ],
)
def test_the_command_line_refuses_them_too(run, args, text, tmp_path):
    code, _, err = run("train", *args, "-o", tmp_path / "runs")
    assert code == 2 and text in err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", recipes.list_recipes())
def test_every_recipe_of_the_package_can_be_read(name):
    recipe = recipes.load_recipe(name)
    assert recipe.name == name and hsmamba.is_model(recipe.architecture)
    assert "seed" not in recipe.finetune
    if recipe.task != "classification":
        assert FusionSettings(**recipe.finetune)
        assert {"name", "source", "license", "sensor"} <= recipe.data.keys()
    else:
        assert ClassificationSettings(**recipe.finetune)
        assert "val_fraction" not in recipe.finetune and recipe.publish in recipe.splits
