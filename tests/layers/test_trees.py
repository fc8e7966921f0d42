"""A forest as tensors names what scikit-learn's names."""

import numpy as np
import pytest
import torch

from hsmamba.layers.trees import Trees


@pytest.mark.parametrize("kind", ["ExtraTreesClassifier", "RandomForestClassifier"])
def test_every_tree_names_the_class_that_it_names_in_scikit_learn(kind):
    ensemble = pytest.importorskip("sklearn.ensemble", reason="needs the classical extra")
    generator = np.random.default_rng(0)
    features = generator.normal(size=(300, 5)).astype(np.float32).round(1)  # values that lie on thresholds
    target = np.array([1, 4, 7])[(features[:, 0] + features[:, 1] > 0).astype(int) + (features[:, 2] > 0.5)]
    forest = getattr(ensemble, kind)(7, random_state=0).fit(features, target)
    trees = Trees.of(forest.estimators_, forest.classes_)
    more = generator.normal(size=(500, 5)).astype(np.float32).round(1)
    wanted = np.stack([forest.classes_[one.predict(more).astype(int)] for one in forest.estimators_], axis=1)
    np.testing.assert_array_equal(trees(torch.from_numpy(more)).numpy(), wanted)


def test_trees_that_are_not_fitted_name_no_class():
    assert (Trees(3)(torch.zeros(2, 4)) == -1).all()
