"""The mean of discriminants, a logistic regression and trees, and the weight of the classes by unlabelled pixels."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import hsmamba
from hsmamba.data import Split
from hsmamba.models.linear_trees import LinearTrees
from tests.models.test_graph_lda import fields
from tests.models.test_lda import patches


def test_it_is_the_mean_of_three_probabilities(tmp_path):
    ensemble = pytest.importorskip("sklearn.ensemble", reason="needs the classical extra")
    linear_model = pytest.importorskip("sklearn.linear_model", reason="needs the classical extra")
    batch = patches((0, 1, 3), pixels=30, chans=12, side=1)
    hsi, _, target = batch
    model = hsmamba.create_model("linear_trees", in_chans=12, num_classes=5, trees=20)
    lda = hsmamba.create_model("lda", in_chans=12, num_classes=5, windows=(1,))
    for one in (model, lda):
        one.fit(iter([batch]))
    images = torch.randn(50, 12, 1, 1, generator=torch.Generator().manual_seed(1)) + 2
    known, asked = hsi[:, :, 0, 0].double().numpy(), images[:, :, 0, 0].double().numpy()
    mean, scale = known.mean(0), known.std(0).max()
    trees = ensemble.ExtraTreesClassifier(20, max_features=0.3, random_state=0)
    logistic = linear_model.LogisticRegression(max_iter=1000)
    parts = [
        trees.fit(hsi[:, :, 0, 0].numpy(), target.numpy()).predict_proba(images[:, :, 0, 0].numpy()),
        logistic.fit((known - mean) / scale, target.numpy()).predict_proba((asked - mean) / scale),
    ]
    expected = (lda(images) / 10).softmax(1)
    expected[:, [0, 1, 3]] += torch.from_numpy(sum(parts)).float()
    torch.testing.assert_close(model(images).exp(), expected / 3, rtol=1e-4, atol=1e-5)
    hsmamba.save_pretrained(model, tmp_path / "model")
    again = hsmamba.create_model(f"local-dir:{tmp_path / 'model'}")
    assert torch.equal(again(images), model(images))
    model.reset_classifier(4)
    assert model(images).shape == (50, 4) and not model.prior.any()


def test_two_classes_have_a_logistic_regression_too():
    pytest.importorskip("sklearn", reason="needs the classical extra")
    batch = patches((0, 1), pixels=20, chans=6, side=1)
    model = hsmamba.create_model("linear_trees", in_chans=6, num_classes=2, trees=5)
    model.fit([batch])
    assert (model(batch[0]).argmax(1) == batch[2]).float().mean() > 0.9


def test_pixels_without_labels_tell_how_common_classes_are():
    pytest.importorskip("sklearn", reason="needs the classical extra")
    batch = patches((0, 1, 3), pixels=30, chans=12, side=1)
    alike, common, again = (
        hsmamba.create_model("linear_trees", in_chans=12, num_classes=5, trees=20) for _ in range(3)
    )
    alike.fit([batch])
    assert not alike.prior.any()
    mostly = batch[0][batch[2] == 1]
    for one in (common, again):
        one.fit([batch], unlabelled=iter([(mostly[:10], None), (mostly[10:], None)]))
    share = alike(mostly).exp().mean(0)[[0, 1, 3]]
    torch.testing.assert_close(common.prior[[0, 1, 3]], torch.log(3 * share) / 2, rtol=1e-4, atol=1e-5)
    assert not common.prior[[2, 4]].any() and torch.equal(common.prior, again.prior)
    torch.testing.assert_close(common(batch[0]).exp().sum(1), torch.ones(90))


def test_unlabelled_pixels_are_those_of_images_with_labels(monkeypatch):
    given = []
    monkeypatch.setattr(LinearTrees, "fit", lambda self, batches, unlabelled=(): given.append(list(unlabelled)))
    scene, none = fields(), np.empty(0, np.int64)
    for first in (0, 1):
        split = Split(1600 * first + np.flatnonzero(scene.labels)[::20], none, none, (1, 3200), "one of two")
        model = hsmamba.create_model("linear_trees", in_chans=8, num_classes=3)
        hsmamba.finetune(model, [scene, replace(scene, hsi=scene.hsi + 1)], split, progress=False)
    assert [sum(len(hsi) for hsi, _ in one) for one in given] == [1600, 1600]


def test_it_classifies_another_scene():
    pytest.importorskip("sklearn", reason="needs the classical extra")
    scenes = [fields(seed=0), replace(fields(seed=0), hsi=fields(seed=0).hsi[::-1], labels=fields().labels[::-1])]
    train = np.concatenate([np.flatnonzero(scenes[0].labels == k)[:12] for k in (1, 2, 3)])
    split = Split(train, np.arange(1600, 3200), np.empty(0, np.int64), (1, 3200), "the second")
    model = hsmamba.create_model("linear_trees", in_chans=8, num_classes=3, trees=50)
    hsmamba.finetune(model, scenes, split, progress=False)
    assert [step.kind for step in model.transform.steps] == ["standardise", "pca"]
    assert hsmamba.evaluate(model, scenes, split).oa > 0.5
