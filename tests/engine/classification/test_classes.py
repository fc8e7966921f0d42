"""Classes of a model and of data: by name, else by number; never by the pixels at hand."""

import json
import warnings
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import hsmamba
from hsmamba.data import PatchDataset, Scene, Split
from hsmamba.engine.classification.classes import has_classes, in_model_classes, shown_in_classes
from hsmamba.errors import HsmambaWarning, SceneError, SplitError
from tests.refusals import refused

QUICK = {"epochs": 1, "lr": 1e-2, "batch_size": 16, "warmup_epochs": 0, "progress": False}
ABC = ("corn", "oats", "wheat")


class Model:
    def __init__(self, num_classes=3, class_names=()):
        self.num_classes, self.class_names = num_classes, class_names


def every(scene):
    none = np.empty(0, np.int64)
    return Split(none, np.flatnonzero(np.asarray(scene.labels)), none, scene.shape, "all")


@given(st.permutations(ABC), st.lists(st.integers(0, 3), min_size=1))
def test_labels_are_brought_to_the_numbers_of_the_model_by_name(names, labels):
    numbers = in_model_classes(Model(3, ABC), labels, tuple(names))
    assert [(ABC[k - 1] if k else "") for k in numbers] == [(names[k - 1] if k else "") for k in labels]


def test_classes_that_do_not_occur_are_not_asked_for():
    assert in_model_classes(Model(3, ABC), [0, 1, 1], ("wheat", "rye")).tolist() == [0, 3, 3]
    assert in_model_classes(Model(5), [2, 2], ABC).tolist() == [2, 2]
    assert in_model_classes(Model(3, ABC), [2, 0], ()).tolist() == [2, 0]
    assert in_model_classes(Model(3, ("1", "2", "3")), [2, 0], ()).tolist() == [2, 0]
    assert in_model_classes(Model(3, ("10", "20", "30")), [2, 1], ("10", "30")).tolist() == [3, 1]


test_classes_in_doubt_are_refused = refused(
    (partial(in_model_classes, Model(3, ABC), [2], ("corn", "rye")), SceneError, ["rye", "corn, oats, wheat", "to 0"]),
    (partial(in_model_classes, Model(3, ABC), [4], ()), SceneError, ["3 classes, the data 4", "reset_classifier(4)"]),
    (partial(in_model_classes, Model(3), [4], ()), SceneError, ["3 classes, the data 4"]),
    (partial(in_model_classes, Model(3, ABC), [4], ("corn", "oats")), SceneError, ["up to 4", "2 class names"]),
    (partial(in_model_classes, Model(3, ABC), [1], ("corn", "corn")), SceneError, ["two classes named 'corn'"]),
    (
        partial(in_model_classes, Model(3, ("0", "1", "2")), [1], ()),
        SceneError,
        ["the codes 0, 1, 2", "classes=[0, 1, 2]", "class_names=('0', '1', '2')"],
    ),
    (partial(in_model_classes, Model(3), [1], ("10", "30")), SceneError, ["codes 10, 30", "model.class_names ="]),
)


def test_a_tile_without_a_class_is_evaluated(make_model, scene, transform):
    model = make_model()
    model.transform, model.class_names = transform, ABC
    whole = hsmamba.evaluate(model, scene, every(scene))
    for names in ((), ABC):
        tile = Scene(scene.hsi, np.where(scene.labels == 3, 0, scene.labels), class_names=names)
        report = hsmamba.evaluate(model, tile, every(tile))
        assert report.class_names == ABC and np.isnan(report.per_class[2]) and np.isnan(report.f1[2])
        assert report.aa == pytest.approx(np.mean(report.per_class[:2]))
        np.testing.assert_array_equal(report.confusion[:2], whole.confusion[:2])
        assert "no pixel of wheat: left out of AA and mean F1" in str(report)
        assert json.loads(report.to_json())["per_class"][2] is None


def test_names_in_another_order_change_nothing(make_model, scene, split, transform):
    model = make_model()
    model.transform, model.class_names = transform, ABC
    turned = Scene(scene.hsi, np.where(scene.labels, 4 - scene.labels, 0), class_names=ABC[::-1])
    want = hsmamba.evaluate(model, scene, split)
    two = replace(split, shape=(1, 2 * scene.labels.size))
    for data, chosen in (
        (turned, split),
        (PatchDataset(turned, transform, 5), split),
        ([turned, scene], two),
    ):
        report = hsmamba.evaluate(model, data, chosen)
        assert report.class_names == ABC
        np.testing.assert_array_equal(report.confusion, want.confusion)


def test_a_class_without_training_or_test_pixels_is_told(make_model, scene, split, transform):
    model = make_model(num_classes=4)
    unnamed = Scene(scene.hsi, scene.labels)
    with pytest.warns(HsmambaWarning, match=r"one of 1 of the model's 4 classes \(class 4\).*classes=\[1, 2, 3\]"):
        hsmamba.finetune(model, unnamed, split, transform=transform, class_weights="balanced", **QUICK)
    report = hsmamba.evaluate(model, unnamed, split)
    assert report.class_names == ("class 1", "class 2", "class 3", "class 4") and report.support[3] == 0
    no_labels = Scene(scene.hsi, np.zeros_like(scene.labels))
    with pytest.raises(SplitError, match=r"none of the \d+ test pixels .* is labelled"):
        hsmamba.evaluate(model, no_labels, split)


def test_training_keeps_the_numbers_of_the_model(make_model, scene, split, transform):
    turned = Scene(scene.hsi, np.where(scene.labels, 4 - scene.labels, 0), class_names=ABC[::-1])
    states = []
    for data in (scene, turned, PatchDataset(turned, transform, 5)):
        model = make_model()
        model.class_names = ABC
        chosen = {} if isinstance(data, PatchDataset) else {"transform": transform}
        with warnings.catch_warnings():
            warnings.simplefilter("error", HsmambaWarning)
            hsmamba.finetune(model, data, split, **chosen, **QUICK)
        assert model.class_names == ABC
        states.append(model.state_dict())
    assert turned.class_names == ABC[::-1] and turned.labels.max() == 3
    for state in states[1:]:
        assert all(torch.equal(value, states[0][key]) for key, value in state.items())


def test_plots_agree_by_name(make_model, scene, split, transform):
    half = Scene(scene.hsi, np.where(scene.labels == 3, 1, 0), class_names=("wheat",))
    two = replace(split, shape=(1, 2 * scene.labels.size))
    model = make_model()
    hsmamba.finetune(model, [scene, half], two, transform=transform, **QUICK)
    assert model.class_names == ABC
    with pytest.raises(SceneError, match=r"scene 1 has no class names.*class_names="):
        hsmamba.finetune(make_model(), [scene, replace(scene, class_names=())], two, transform=transform, **QUICK)


def test_other_classes_want_a_new_head_and_the_advice_works(make_model, scene, split, transform):
    model = make_model()
    model.class_names = ("beech", "oak", "pine")
    with pytest.raises(SceneError, match=r"corn, oats, wheat.*beech, oak, pine.*model\.reset_classifier\(3\)"):
        hsmamba.finetune(model, scene, split, transform=transform, **QUICK)
    assert model.class_names == ("beech", "oak", "pine") and model.transform is None
    model.reset_classifier(3)
    hsmamba.finetune(model, scene, split, transform=transform, **QUICK)
    assert model.class_names == ABC


def test_labels_without_names_are_said_to_be_the_classes_of_the_model(make_model, scene, split, transform):
    model = make_model()
    model.class_names = ABC
    with pytest.warns(HsmambaWarning, match=r"taken as numbers of the model's classes \(corn, oats, wheat\)"):
        hsmamba.finetune(model, replace(scene, class_names=()), split, transform=transform, **QUICK)
    assert model.class_names == ABC


def test_a_head_can_stay_where_the_classes_are_the_models(scene):
    assert has_classes(Model(3, ABC), scene) and has_classes(Model(3), scene)
    assert not has_classes(Model(3, ("a", "b", "c")), scene) and not has_classes(Model(4), scene)
    assert has_classes(Model(3, ABC), replace(scene, class_names=()))
    assert not has_classes(Model(16, tuple("abcdefghijklmnop")), replace(scene, class_names=()))


def test_a_picture_has_the_classes_of_the_model(scene):
    turned = Scene(scene.hsi, np.where(scene.labels, 4 - scene.labels, 0), class_names=ABC[::-1])
    shown = shown_in_classes(Model(3, ABC), turned)
    assert shown.class_names == ABC and np.array_equal(shown.labels, scene.labels)
    other = shown_in_classes(Model(2, ("a", "b")), scene)
    assert other.labels is None and other.class_names == ("a", "b")
    assert shown_in_classes(Model(4), Scene(scene.hsi)).class_names == ("class 1", "class 2", "class 3", "class 4")
