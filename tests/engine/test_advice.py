"""What the errors of the doors and of scene files say to do, done: each time it works."""

import re
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

import hsmamba
from hsmamba.data import Compose, PatchDataset, Scene, Standardise, open_scene, random_split, wald_pairs
from hsmamba.errors import HsmambaError
from tests.engine.fusion.toys import images, make

QUICK = {"epochs": 1, "warmup_epochs": 0, "progress": False}


def told(call):
    """What the error of a call says."""
    with pytest.raises((HsmambaError, ValueError, TypeError)) as caught:
        call()
    return str(caught.value)


@pytest.fixture
def model(make_model, scene, split):
    network = make_model()
    hsmamba.finetune(network, scene, split, **QUICK)
    return network


@pytest.fixture
def holed(scene):
    cube = np.array(scene.hsi)
    cube[0, 0] = np.nan
    return replace(scene, hsi=cube)


@pytest.fixture
def with_holes():
    ms, guide = (np.array(image, dtype=np.float32) for image in images())
    ms[0, 0] = np.nan
    return ms, guide


def doors(model, scene, split):
    return {
        "classify": lambda **options: hsmamba.classify(model, scene, progress=False, **options),
        "evaluate": lambda **options: hsmamba.evaluate(model, scene, split, **options),
        "finetune": lambda **options: hsmamba.finetune(model, scene, split, **QUICK, **options),
        "PatchDataset": lambda **options: PatchDataset(scene, model.transform, 5, **options),
        "fit_scene": lambda **options: Compose([Standardise()]).fit_scene(scene, np.arange(30), **options),
    }


@pytest.mark.parametrize("door", ["classify", "evaluate", "finetune", "PatchDataset", "fit_scene"])
def test_invalid_pixels_of_a_scene_are_masked_where_the_error_says_so(door, model, holed, split):
    call = doors(model, holed, split)[door]
    advice = dict(re.findall(r'(nan)="(\w+)"', told(call)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        call(**advice)
    assert advice == {"nan": "mask"}


@pytest.mark.parametrize("door", ["fuse", "wald_pairs"])
def test_invalid_pixels_of_a_pair_are_masked_where_the_error_says_so(door, with_holes):
    calls = {
        "fuse": lambda **options: hsmamba.fuse(make(), *with_holes, maximum=2047, progress=False, **options),
        "wald_pairs": lambda **options: wald_pairs(*with_holes, sensor="QB", val=0.125, test=0.375, **options),
    }
    advice = dict(re.findall(r'(nan)="(\w+)"', told(calls[door])))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        calls[door](**advice)
    assert advice == {"nan": "mask"}


def test_numbers_of_another_unit_are_scaled_or_taken_as_the_error_says(model, scene, split):
    bright = replace(scene, hsi=np.asarray(scene.hsi, np.float64) + 40)
    model.transform = Compose(model.transform.steps).fit_scene(bright, split.train)
    small = replace(bright, hsi=bright.hsi / 1e4)
    text = told(lambda: hsmamba.classify(model, small, progress=False))
    factors = [float(number) for number in re.findall(r"pass scale=([\d.e+-]+)", text)]
    assert factors == [1e4, 1.0]
    whole = hsmamba.classify(model, bright, progress=False).labels
    np.testing.assert_array_equal(hsmamba.classify(model, small, scale=factors[0], progress=False).labels, whole)
    with pytest.warns(hsmamba.errors.HsmambaWarning, match="not like those"):
        hsmamba.classify(model, small, scale=factors[1], progress=False)


def test_a_file_of_several_arrays_is_opened_by_the_argument_that_is_named(tmp_path):
    cubes = {"first": np.ones((4, 5, 3)), "second": np.full((4, 5, 3), 2.0)}
    np.savez(tmp_path / "a.npz", **cubes)
    text = told(lambda: open_scene(tmp_path / "a.npz"))
    assert re.search(r"give (\w+)=", text)[1] == "variable"
    for name in re.findall(r"'(\w+)' \(", text):
        np.testing.assert_array_equal(open_scene(tmp_path / "a.npz", variable=name).hsi, cubes[name])


def test_dimensions_are_brought_to_the_order_that_is_named(scene):
    xarray = pytest.importorskip("xarray", reason="needs the geo extra")
    turned = xarray.DataArray(scene.hsi, dims=("y", "x", "band")).transpose("x", "y", "band")
    text = told(lambda: Scene(turned))
    order = re.findall(r'"(\w+)"', re.search(r"transpose\(([^)]*)\)", text)[1])
    np.testing.assert_array_equal(Scene(turned.transpose(*order)).hsi, scene.hsi)


def test_codes_of_a_legend_are_told_by_the_argument_that_is_named(scene):
    codes = np.array([0, 1000, 2000, 3000])[np.asarray(scene.labels)]
    text = told(lambda: Scene(scene.hsi, codes))
    assert "classes=" in text
    legend = [int(code) for code in re.search(r"classes=\[([\d, ]+)\]", text)[1].split(",")]
    np.testing.assert_array_equal(Scene(scene.hsi, codes, classes=legend).labels, scene.labels)


def test_a_class_of_few_pixels_is_capped_as_the_error_says(scene):
    labels = np.array(scene.labels)
    few = np.flatnonzero(labels == 1)[5:]
    labels.ravel()[few] = 0
    text = told(lambda: random_split(labels, count=12))
    assert "cap=True" in text
    assert np.bincount(labels.ravel()[random_split(labels, count=12, cap=True).train])[1] < 5


def test_other_classes_get_the_head_that_the_error_names(model, scene):
    labels = np.where(np.asarray(scene.labels) == 1, 4, scene.labels)
    other = Scene(scene.hsi, labels, class_names=("a", "b", "c", "d"))
    split = random_split(other.labels, fraction=0.2)
    text = told(lambda: hsmamba.finetune(model, other, split, **QUICK))
    model.reset_classifier(int(re.search(r"reset_classifier\((\d+)\)", text)[1]))
    hsmamba.finetune(model, other, split, **QUICK)
    assert model.class_names == ("a", "b", "c", "d")


def test_a_scene_smaller_than_a_patch_is_taken_with_a_smaller_one(make_model, scene):
    small = Scene(np.asarray(scene.hsi)[:4, :4], np.asarray(scene.labels)[:4, :4])
    text = told(lambda: hsmamba.classify(make_model(in_chans=12), small, progress=False))
    assert "smaller patch_size" in text
    torch.manual_seed(0)
    assert hsmamba.classify(make_model(in_chans=12, patch_size=3), small, progress=False).labels.shape == (4, 4)
