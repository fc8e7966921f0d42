"""Classical classifiers as modules: the estimators' own answers, whatever classes the training pixels have."""

import sys

import numpy as np
import pytest
import torch

from hsmamba.baselines import CLASSIFIERS, ClassicalClassifier, discriminants, make_classifier
from hsmamba.errors import MissingExtraError, SplitError

sklearn = pytest.importorskip("sklearn", reason="needs the classical extra")


def batches(classes=(0, 1, 3), pixels=12, chans=4, side=3, aux=True):
    """Patches of classes that differ in their first channels, in two batches."""
    generator = torch.Generator().manual_seed(0)
    target = torch.tensor(classes).repeat_interleave(pixels)
    hsi = torch.randn(len(target), chans, side, side, generator=generator)
    hsi[:, 0] += 3 * target[:, None, None]
    second = torch.randn(len(target), 1, side, side, generator=generator) if aux else None
    half = len(target) // 2
    return [
        (hsi[part], None if second is None else second[part], target[part]) for part in (slice(half), slice(half, None))
    ]


def whole(parts):
    return tuple(None if column[0] is None else torch.cat(column) for column in zip(*parts, strict=True))


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_classifier_tells_classes_apart_and_never_names_one_it_has_not_seen(name):
    model = make_classifier(name, 4, 5, aux_chans=1, largest_patch=3)
    assert (model.in_chans, model.aux_chans, model.num_classes) == (4, 1, 5)
    assert model.patch_size == min(3, max(CLASSIFIERS[name].windows))
    assert model.reduction == CLASSIFIERS[name].reduction
    parts = batches(side=model.patch_size)
    hsi, aux, target = whole(parts)
    with pytest.raises(ValueError, match=r"is not fitted; hsmamba\.finetune"):
        model(hsi, aux)
    model.fit(parts)
    scores = model(hsi, aux)
    torch.testing.assert_close(scores.exp().sum(1), torch.ones(len(target)))
    assert torch.isinf(scores[:, [2, 4]]).all() and torch.isfinite(scores.max(1).values).all()
    assert (scores.argmax(1) == target).float().mean() > 0.8


@pytest.mark.parametrize("name", ["svm-bands", "forest-bands", "lda-bands"])
@pytest.mark.parametrize("classes", [(1, 2), (0, 1, 2)])
def test_the_label_is_the_one_that_the_estimator_predicts(name, classes):
    model = make_classifier(name, 4, 3)
    parts = batches(classes, side=1, aux=False)
    hsi, _, _ = whole(parts)
    model.fit(parts)
    want = model.estimator.predict(hsi[:, :, 0, 0].numpy())
    assert model(hsi).argmax(1).tolist() == want.tolist()


def test_components_are_no_more_than_bands():
    assert make_classifier("forest-pca-means", 200, 3).in_chans == 30
    assert make_classifier("forest-pca-means", 8, 3).in_chans == 8
    assert make_classifier("lda-mnf", 200, 3).in_chans == 40
    assert make_classifier("svm-bands", 200, 3).in_chans == 200


def test_what_cannot_be_fitted_is_refused():
    with pytest.raises(ValueError, match=r"no classical classifier named 'forest'; there are: forest-bands"):
        make_classifier("forest", 4, 3)
    one = [(torch.rand(3, 4, 1, 1), None, torch.tensor([1, 1, 1]))]
    with pytest.raises(SplitError, match="all 3 training pixels are of one class"):
        make_classifier("forest-bands", 4, 3).fit(one)
    unlabelled = [(torch.rand(3, 4, 1, 1), None, torch.tensor([0, 1, -1]))]
    with pytest.raises(SplitError, match="1 of 3 patches to fit on are unlabelled"):
        make_classifier("forest-bands", 4, 3).fit(unlabelled)
    with pytest.raises(SplitError, match=r"cannot be fitted on 2 training pixels of 2 classes \(.*\); take more"):
        discriminants(np.random.rand(2, 3).astype(np.float32), np.array([0, 1]), 2)


def test_an_estimator_of_ones_own_serves():
    from sklearn.neighbors import KNeighborsClassifier

    model = ClassicalClassifier(KNeighborsClassifier(1), 4, 4, aux_chans=1, windows=(1, 3))
    parts = batches()
    model.fit(parts)
    hsi, aux, target = whole(parts)
    assert model.patch_size == 3 and (model(hsi, aux).argmax(1) == target).all()


def test_discriminants_are_those_of_scikit_learn():
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    generator = np.random.default_rng(0)
    for classes in ((0, 2), (0, 2, 3)):
        target = np.repeat(classes, 9)
        features = (generator.normal(size=(target.size, 5)) + target[:, None]).astype(np.float32)
        weight, bias = discriminants(features, target, 5)
        logits = features.astype(np.float64) @ weight.T + bias
        posterior = np.exp(logits - logits.max(1, keepdims=True))
        posterior /= posterior.sum(1, keepdims=True)
        oracle = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto").fit(features.astype(np.float64), target)
        np.testing.assert_allclose(posterior[:, list(classes)], oracle.predict_proba(features), atol=1e-9)
        far = 1e4 * generator.normal(size=(50, 5)) @ weight.T + bias
        assert set(far.argmax(1)) <= set(classes)


@pytest.mark.filterwarnings("error")
def test_a_class_of_one_pixel_is_told_apart_without_a_warning():
    features = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    features[0] += 9
    weight, bias = discriminants(features, np.array([0, 1, 1, 1, 2, 2, 2]), 3)
    assert (features @ weight.T + bias)[0].argmax() == 0


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    with pytest.raises(MissingExtraError, match=r"sklearn is needed to fit a random forest.*hsmamba\[classical\]"):
        make_classifier("forest-bands", 4, 3)
