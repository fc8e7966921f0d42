"""The face of scikit-learn: its own checks, scenes as maps, samples with a place, block splits."""

import numpy as np
import pytest

import hsmamba
from hsmamba.data import Scene, leakage
from hsmamba.data.splits.split import Split
from hsmamba.errors import SceneError
from tests.advice import told

pytest.importorskip("sklearn", reason="needs the classical extra")
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from hsmamba.sklearn import BlockSplits, Pixels, SceneClassifier, labelled_pixels

OF_PIXELS = {"model": "lda", "model_args": {"windows": (1,)}}


def scene(**options):
    rng = np.random.default_rng(0)
    labels = np.kron(rng.integers(1, 4, (6, 6)), np.ones((8, 8), int))
    cube = rng.normal(size=(4, 12))[labels] + 0.3 * rng.normal(size=(*labels.shape, 12))
    labels[::3] = 0
    return Scene(cube, labels, class_names=("corn", "oats", "rye"), **options)


@parametrize_with_checks([SceneClassifier(**OF_PIXELS)])
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


def test_a_scene_is_fitted_and_mapped():
    ground = scene()
    found = SceneClassifier("lda", components=6).fit(ground)
    assert found.classes_.tolist() == [1, 2, 3] and found.model_.class_names == ("corn", "oats", "rye")
    predicted, shares = found.predict(ground), found.predict_proba(ground)
    assert predicted.shape == ground.shape and shares.shape == (*ground.shape, 3)
    np.testing.assert_allclose(shares.sum(2), 1, atol=1e-5)
    np.testing.assert_array_equal(predicted, shares.argmax(2) + 1)
    known = ground.labels > 0
    assert (
        found.score(ground) == pytest.approx((predicted == ground.labels)[known].mean()) and found.score(ground) > 0.9
    )
    labels, confidence = hsmamba.classify(found.model_, ground, progress=False)
    np.testing.assert_array_equal(predicted, labels)
    np.testing.assert_allclose(shares.max(2), confidence, rtol=1e-6)


def test_a_cube_with_names_of_classes_in_a_map():
    ground = scene()
    names = np.array(["", "corn", "oats", "rye"])[ground.labels]
    found = SceneClassifier("lda", components=6).fit(np.asarray(ground.hsi), names)
    assert found.classes_.tolist() == ["corn", "oats", "rye"]
    assert found.predict(np.asarray(ground.hsi)).dtype.kind == "U"
    assert found.score(np.asarray(ground.hsi), names) > 0.9


def test_a_network_is_trained_by_its_settings_and_seed():
    ground = scene()
    options = {"components": 5, "patch_size": 5, "epochs": 1, "settings": {"warmup_epochs": 0}}
    one, two, other = (SceneClassifier("md2f_mamba", **options, seed=seed).fit(ground) for seed in (1, 1, 2))
    assert one.model_.patch_size == 5 and len(one.result_.history) == 1
    shares = [found.predict_proba(ground) for found in (one, two, other)]
    np.testing.assert_array_equal(shares[0], shares[1])
    assert (shares[0] != shares[2]).any()


def test_cross_validation_by_blocks_keeps_patches_apart():
    ground = scene()
    X, y = labelled_pixels(ground)
    splits = BlockSplits(2, fraction=0.1, patch_size=3)
    assert splits.get_n_splits() == 2
    for train, test in splits.split(X, y):
        found = Split(X.items[train], X.items[test], np.empty(0, int), ground.shape, "x")
        assert leakage(found, 3).inside_train == 0 and len(test) > len(train) > 0
    classifier = SceneClassifier("lda", model_args={"windows": (1, 3)}, components=6)
    scores = cross_val_score(classifier, X, y, cv=splits, error_score="raise")
    assert scores.shape == (2,) and (scores > 0.7).all()
    search = GridSearchCV(classifier, {"components": [2, 6]}, cv=splits, error_score="raise").fit(X, y)
    assert search.best_params_["components"] in (2, 6) and search.predict(X).shape == y.shape


def test_samples_are_pixels_that_keep_their_neighbours():
    ground = scene()
    X, y = labelled_pixels(ground)
    found = SceneClassifier("lda", components=6).fit(X, y)
    whole = found.predict_proba(ground).reshape(-1, 3)
    some = X[np.array([5, 3])]
    np.testing.assert_array_equal(found.predict_proba(some), whole[some.items])
    assert len(X[:7]) == 7 and isinstance(X[2], Pixels) and X.shape == (y.size, 12)


def test_invalid_pixels_are_masked_on_request():
    ground = scene()
    ground.hsi[4, 5] = np.nan
    found = SceneClassifier("lda", components=6, nan="mask").fit(ground)
    predicted = found.predict(ground)
    assert predicted[4, 5] == 0 and np.isnan(found.predict_proba(ground)[4, 5]).all() and (predicted > 0).sum() > 2000


def test_what_does_not_fit_says_what_to_do():
    ground = scene()
    table, y = np.asarray(ground.hsi).reshape(-1, 12), ground.labels.ravel() + 1
    told(lambda: SceneClassifier("md2f_mamba").fit(table, y), "a table has no neighbours, {} give the scene")
    assert SceneClassifier(**OF_PIXELS).fit(table, y).score(table, y) > 0.5
    with pytest.raises(SceneError, match="expected a map of 48 x 48 labels"):
        SceneClassifier().fit(ground, ground.labels[1:])
    with pytest.raises(SceneError, match="there are no labels"):
        SceneClassifier().fit(np.asarray(ground.hsi))
    with pytest.raises(SceneError, match="no labelled pixel"):
        SceneClassifier().fit(ground, ground.labels * 0)
    with pytest.raises(TypeError, match="labelled_pixels"):
        next(BlockSplits().split(table, y))
    with pytest.raises(SceneError, match="open it with labels="):
        labelled_pixels(Scene(ground.hsi))
