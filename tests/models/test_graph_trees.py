"""The mean of discriminants and trees: both parts, a folder of them, and a head that was taken away."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import hsmamba
from hsmamba.data import Split, block_split
from hsmamba.engine.classification.fitting import default_transform, sizes_for
from hsmamba.models.graph_trees import GraphTrees
from tests.models.test_graph_lda import fields
from tests.models.test_lda import patches


def test_it_is_the_mean_of_both_probabilities(tmp_path):
    ensemble = pytest.importorskip("sklearn.ensemble", reason="needs the classical extra")
    batch = patches((0, 1, 3), pixels=30, chans=24, side=1)
    hsi, _, target = batch
    model = hsmamba.create_model("graph_trees", in_chans=24, num_classes=5, trees=20)
    linear = hsmamba.create_model("graph_lda", in_chans=24, num_classes=5)
    for one in (model, linear):
        one.fit(iter([batch]))
    features = torch.randn(50, 24, 1, 1, generator=torch.Generator().manual_seed(1)) + 2
    trees = ensemble.ExtraTreesClassifier(20, max_features=0.3, random_state=0)
    votes = torch.zeros(50, 5)
    votes[:, [0, 1, 3]] = torch.from_numpy(
        trees.fit(hsi[:, :, 0, 0].numpy(), target.numpy()).predict_proba(features[:, :, 0, 0].numpy())
    ).float()
    torch.testing.assert_close(model(features).exp(), (linear(features).softmax(1) + votes) / 2)
    hsmamba.save_pretrained(model, tmp_path / "model")
    again = hsmamba.create_model(f"local-dir:{tmp_path / 'model'}")
    assert torch.equal(again(features), model(features))
    model.reset_classifier(4)
    assert model(features).shape == (50, 4)


def test_it_is_fitted_and_used_like_any_other():
    pytest.importorskip("sklearn", reason="needs the classical extra")
    scene = fields()
    split = block_split(scene.labels, patch_size=5, fraction=0.05, seed=1)
    model = hsmamba.create_model("graph_trees", in_chans=24, num_classes=3, trees=50)
    hsmamba.finetune(model, scene, split, progress=False)
    assert hsmamba.evaluate(model, scene, split).oa > 0.9


def test_trees_learn_from_pixels_without_labels_that_they_are_sure_of():
    pytest.importorskip("sklearn", reason="needs the classical extra")
    generator = torch.Generator().manual_seed(0)
    target = torch.arange(400) % 2
    hsi = (torch.randn(400, 24, 1, 1, generator=generator) + 0.7 * target[:, None, None, None]).float()
    held = [(hsi[:8], None, target[:8])]
    alone, more = (hsmamba.create_model("graph_trees", in_chans=24, num_classes=2, trees=30) for _ in range(2))
    alone.fit(held)
    more.fit(held, unlabelled=iter([(hsi[8:200], None), (hsi[200:], None)]))
    assert torch.equal(alone.head.weight, more.head.weight)
    right = [(model.trees(hsi[:, :, 0, 0]) == target[:, None]).float().mean() for model in (alone, more)]
    assert right[1] > right[0] + 0.05


def test_no_label_beside_those_of_the_training_is_looked_at():
    pytest.importorskip("sklearn", reason="needs the classical extra")
    scene = fields()
    split = block_split(scene.labels, patch_size=5, fraction=0.05, seed=1)
    hidden = np.zeros_like(scene.labels)
    hidden.flat[split.train] = scene.labels.flat[split.train]
    models = []
    for labels in (scene.labels, hidden):
        model = hsmamba.create_model("graph_trees", in_chans=24, num_classes=3, trees=10)
        kept = split if labels is scene.labels else replace(split, test=np.empty(0, np.int64))
        hsmamba.finetune(model, replace(scene, labels=labels), kept, progress=False)
        models.append(model.state_dict())
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])


def test_pixels_without_labels_are_those_of_the_one_scene_to_classify(monkeypatch):
    given = []
    monkeypatch.setattr(GraphTrees, "fit", lambda self, batches, unlabelled=(): given.append(list(unlabelled)))
    scene = fields()
    train = block_split(scene.labels, patch_size=5, fraction=0.05, seed=1).train
    for scenes in ([scene], [scene, scene]):
        split = Split(train, np.empty(0, np.int64), np.empty(0, np.int64), (1, 1600 * len(scenes)), "some")
        model = hsmamba.create_model("graph_trees", num_classes=3, **sizes_for("graph_trees", 10, scenes=len(scenes)))
        hsmamba.finetune(model, scenes, split, progress=False)
    assert sum(len(hsi) for hsi, aux in given[0]) == 1600 and given[1] == []


def test_other_scenes_are_classified_by_what_is_near():
    pytest.importorskip("sklearn", reason="needs the classical extra")
    assert sizes_for("graph_trees", 10) == {"in_chans": 40, "levels": 4}
    assert sizes_for("graph_lda", 200, components=6) == {"in_chans": 24, "levels": 4}
    assert sizes_for("lda", 200) == {"in_chans": 40}
    assert sizes_for("graph_trees", 10, scenes=2, components=6) == {"in_chans": 12, "levels": 2}
    sizes = sizes_for("graph_trees", 10, scenes=2)
    scenes = [fields(seed=0), replace(fields(seed=0), hsi=fields(seed=0).hsi[::-1], labels=fields().labels[::-1])]
    train = block_split(scenes[0].labels, patch_size=5, fraction=0.05, seed=1).train
    split = Split(train, np.arange(1600, 3200), np.empty(0, np.int64), (1, 3200), "the second")
    model = hsmamba.create_model("graph_trees", num_classes=3, trees=50, **sizes)
    hsmamba.finetune(model, scenes, split, progress=False)
    assert [step.kind for step in model.transform.steps] == ["add_shape", "standardise", "pca", "diffuse"]
    assert model.transform.steps[-1].shares == (0.9,)
    assert hsmamba.evaluate(model, scenes, split).oa > 0.8
    many = replace(split, train=np.arange(1600))
    kinds = [step.kind for step in default_transform(scenes, many, 20, reduction="diffused", levels=2).steps]
    assert kinds == ["standardise", "mnf", "diffuse"]
