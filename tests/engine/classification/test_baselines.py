"""Classical classifiers beside a model: the same pixels, the same bands, the same classes."""

import json
from dataclasses import replace

import numpy as np
import pytest

import hsmamba
from hsmamba import classify, evaluate, finetune
from hsmamba.baselines import CLASSIFIERS
from hsmamba.data import Compose, PatchDataset, SelectBands, Standardise
from hsmamba.engine import fit_baseline
from hsmamba.errors import HsmambaWarning, SplitError
from tests.engine.classification.test_evaluate import make_plots, small_model, split_of

pytest.importorskip("sklearn", reason="needs the classical extra")


def fitted(scene, split, **kwargs):
    model = hsmamba.create_model("lda", **{"in_chans": 8, "num_classes": 3, "windows": (1, 3), **kwargs})
    finetune(model, scene, split, progress=False)
    return model


def test_every_classifier_is_judged_on_the_pixels_of_the_model(scene, split):
    model = fitted(scene, split)
    report = evaluate(model, scene, split, baselines=True)
    assert report.baselines.keys() == CLASSIFIERS.keys()
    np.testing.assert_array_equal(report.confusion, evaluate(model, scene, split).confusion)
    for name, other in report.baselines.items():
        assert other.confusion.sum() == split.test.size and other.class_names == report.class_names
        assert other.oa > 0.8, name
    told = json.loads(report.to_json())["baselines"]["lda-mnf"]
    assert told["oa"] == report.baselines["lda-mnf"].oa
    table = str(report).split("\n\n")[-1].splitlines()
    assert table[0] == "beside classical classifiers, fitted on the same training pixels"
    assert table[1].split() == ["OA", "AA", "kappa", "x", "100", "mean", "F1"]
    assert table[2].split() == ["this", "model", *(f"{value:.2f}" for value in report.percent().values())]
    ranked = [float(line.split()[1]) for line in table[3:]]
    assert len(ranked) == len(CLASSIFIERS) and ranked == sorted(ranked, reverse=True)


def test_they_are_those_that_can_be_fitted_alone_and_no_validation_pixel_trains(scene, split, few):
    divided = split.with_validation(scene.labels, fraction=0.4)
    report = evaluate(fitted(scene, divided), scene, divided, baselines=True)
    alone = fit_baseline("svm-bands", scene, replace(divided, val=divided.val[:0]))
    want = evaluate(alone, scene, divided)
    np.testing.assert_array_equal(report.baselines["svm-bands"].confusion, want.confusion)
    assert classify(alone, scene, progress=False).labels.shape == scene.shape
    on_val = evaluate(fitted(scene, divided), scene, divided, part="val", baselines=True)
    assert on_val.baselines["svm-bands"].confusion.sum() == divided.val.size


def test_bands_that_the_model_does_not_read_take_no_part(scene, split, few):
    spoilt = scene.hsi.copy()
    spoilt[..., 10:] = np.nan
    broken = replace(scene, hsi=spoilt, bad_bands=np.arange(12) == 3)
    model = hsmamba.create_model("lda", in_chans=10, num_classes=3, windows=(1, 3))
    transform = Compose([SelectBands(range(10)), Standardise()]).fit_scene(broken, split.train)
    finetune(model, broken, split, transform=transform, progress=False)
    report = evaluate(model, broken, split, baselines=True)
    whole = replace(scene, hsi=scene.hsi[..., :10])
    want = evaluate(fit_baseline("svm-bands", whole, split), whole, split)
    np.testing.assert_array_equal(report.baselines["svm-bands"].confusion, want.confusion)


def test_masked_pixels_are_left_out_of_the_fit_and_count_as_wrong(scene, split, few):
    model = fitted(scene, split)
    scene.hsi.reshape(-1, 12)[[*split.test[:3], *split.train[:2]]] = np.nan
    report = evaluate(model, scene, split, nan="mask", baselines=True)
    for one in (report, *report.baselines.values()):
        assert one.confusion.sum() == split.test.size and one.confusion[:, -1].sum() == 3


def test_two_sources_of_plots_serve_where_the_model_looks_at_both(few):
    plots = make_plots()
    split = split_of(plots)
    both, one = small_model(), fitted(plots, split, num_classes=2)
    finetune(both, plots, split, epochs=1, progress=False)
    assert evaluate(both, plots, split, baselines=True).baselines["svm-bands"].oa > 0.9
    assert evaluate(one, plots, split, baselines=True).baselines["svm-bands"].oa < 0.7


def test_classes_are_those_of_the_model(scene, split, few):
    model = fitted(scene, split)
    named = ("wheat", "corn", "oats")
    labels = np.array([0, *(1 + named.index(name) for name in scene.class_names)])[scene.labels]
    report = evaluate(model, replace(scene, labels=labels, class_names=named), split, baselines=True)
    assert report.baselines["svm-bands"].class_names == scene.class_names
    assert report.baselines["svm-bands"].oa > 0.8


def test_what_cannot_be_fitted_is_left_out_and_said(scene, split, few):
    model = fitted(scene, split)
    values = scene.labels.ravel()[split.train]
    one_each = np.array([split.train[values == k][0] for k in (1, 2, 3)])
    with pytest.warns(HsmambaWarning, match=r"left out the classical classifier lda-mnf-means"):
        report = evaluate(model, scene, replace(split, train=one_each), baselines=True)
    assert report.baselines.keys() == {"svm-bands"}


def test_what_has_no_baselines_is_refused(scene, split):
    model = fitted(scene, split)
    with pytest.raises(SplitError, match=r"no training pixels, on which the classical"):
        evaluate(model, scene, replace(split, train=split.train[:0]), baselines=True)
    with pytest.raises(TypeError, match=r"give its scenes; leave baselines= out"):
        evaluate(model, PatchDataset(scene, model.transform, model.patch_size), split, baselines=True)
    with pytest.raises(ValueError, match="no classical classifier named 'knn'"):
        fit_baseline("knn", scene, split)
