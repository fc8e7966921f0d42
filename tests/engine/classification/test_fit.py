"""Models that are fitted in one step, through the doors that train networks."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import hsmamba
from hsmamba import classify, evaluate, finetune
from hsmamba.baselines import make_classifier
from hsmamba.data import PatchDataset
from hsmamba.engine import default_transform
from hsmamba.errors import HsmambaWarning, SceneError
from tests.engine.classification.test_evaluate import make_plots, split_of

pytest.importorskip("sklearn", reason="needs the classical extra")


def lda(**kwargs):
    return hsmamba.create_model("lda", **{"in_chans": 8, "num_classes": 3, "windows": (1, 3), **kwargs})


def test_lda_is_fitted_on_components_of_its_own_and_saved_like_a_network(scene, split, tmp_path):
    model = lda()
    result = finetune(model, scene, split, progress=False)
    assert [step.kind for step in model.transform.steps] == ["standardise", "mnf"]
    assert (result.best_epoch, len(result.history), result.validation) == (1, 1, None)
    assert result.seconds > 0 and result.split.train.size == split.train.size
    assert not model.training and model.class_names == scene.class_names
    report = evaluate(model, scene, split)
    assert report.oa > 0.9
    hsmamba.save_pretrained(model, tmp_path / "model", split=split)
    again = hsmamba.create_model(f"local-dir:{tmp_path / 'model'}")
    labels = classify(again, scene, progress=False).labels
    assert np.array_equal(labels, classify(model, scene, progress=False).labels)
    assert (labels.ravel()[split.test] == scene.labels.ravel()[split.test]).mean() == report.oa


def test_validation_pixels_take_no_part_in_the_fit(scene, split):
    divided = split.with_validation(scene.labels, fraction=0.3)
    with_val, without = lda(), lda()
    result = finetune(with_val, scene, divided, progress=False)
    finetune(without, scene, replace(divided, val=divided.val[:0]), progress=False)
    assert torch.equal(with_val.head.weight, without.head.weight)
    assert result.validation.confusion.sum() == divided.val.size
    assert result.history[0]["val_oa"] == result.validation.oa


def test_settings_of_a_training_run_are_refused(scene, split, tmp_path):
    with pytest.raises(TypeError, match=r"lda is fitted in one step.*leave epochs=, lr= out"):
        finetune(lda(), scene, split, epochs=3, lr=1e-3)
    with pytest.raises(TypeError, match=r"fitted in one step; leave checkpoint= out"):
        finetune(lda(), scene, split, checkpoint=tmp_path / "c.pt")


def test_two_sources_of_plots(tmp_path):
    plots = make_plots()
    split = split_of(plots)
    models = [
        lda(in_chans=10, aux_chans=1, num_classes=2),
        make_classifier("forest-pca-means", 10, 2, aux_chans=1, largest_patch=8),
    ]
    for model in models:
        finetune(model, plots, split, progress=False)
        assert evaluate(model, plots, split).oa > 0.9
        assert evaluate(model, PatchDataset(plots, model.transform, model.patch_size), split).oa > 0.9
        assert classify(model, plots[0], progress=False).confidence.max() > 0.9


def test_a_forest_classifies_but_is_not_saved(scene, split, tmp_path):
    model = make_classifier("forest-pca", 12, 3)
    finetune(model, scene, split, progress=False)
    assert classify(model, scene, progress=False).labels.shape == scene.shape
    assert evaluate(model, scene, split).oa > 0.9
    with pytest.raises(ValueError, match=r"ClassicalClassifier has no tensors.*create_model\('lda'\)"):
        hsmamba.save_pretrained(model, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_class_without_training_pixels_is_named_and_never_predicted(scene, split):
    kept = split.train[scene.labels.ravel()[split.train] != 2]
    model = lda()
    with pytest.warns(HsmambaWarning, match=r"no training pixel has one of 1 .*\(oats\)"):
        finetune(model, scene, replace(split, train=kept), progress=False)
    assert evaluate(model, scene, split).confusion[:, 1].sum() == 0


def test_components_that_a_scene_cannot_give_are_refused_with_what_it_can(scene, split):
    with pytest.raises(SceneError, match="in_chans=12 or less"):
        finetune(lda(in_chans=40), scene, split)
    assert default_transform(scene, split, 12, reduction="mnf").steps[-1].kind == "mnf"
    kinds = [step.kind for step in default_transform(scene, split, 4, reduction="pca-unscaled").steps]
    assert kinds == ["standardise", "pca"]
    with pytest.raises(ValueError, match="reduction is 'ica'; it is one of network, pca, pca-unscaled, mnf"):
        default_transform(scene, split, 4, reduction="ica")
