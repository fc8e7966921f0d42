"""Shares of results in their mean."""

import numpy as np
import pytest
import torch

from hsmamba.data.pairs import FusionPair
from hsmamba.engine.fusion.heldout import Held
from hsmamba.engine.fusion.stacking import LEAST, mean_of, shares


def held(truth, fold):
    return Held(FusionPair("tile", truth, truth, truth, truth), fold)


def test_errors_that_cancel_are_shared_alike_and_what_is_worse_is_left_out():
    rng = np.random.default_rng(0)
    one, two = rng.normal(size=(2, 5000))
    errors = np.stack([one, two, 30 + one])
    found = shares(errors @ errors.T, 0.02)
    assert set(found) == {0, 1} and sum(found.values()) == pytest.approx(1)
    assert found[0] == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.7])
def test_independent_errors_are_weighted_by_their_inverse_power(ratio):
    products = np.diag([1.0, ratio / (1 - ratio)])
    assert shares(products, 0.0)[0] == pytest.approx(ratio, abs=1e-4)
    assert abs(shares(products, 1.0)[0] - 0.5) < abs(ratio - 0.5) or ratio == 0.5


def test_shares_are_of_some_size_and_alone_is_whole():
    products = np.diag([1.0, 60.0, 60.0])
    assert all(share >= LEAST for share in shares(products).values())
    assert shares(np.array([[2.0]])) == {0: pytest.approx(1)}
    assert sum(shares(np.zeros((3, 3))).values()) == pytest.approx(1)  # all are perfect


def test_pixels_get_the_mean_that_the_other_folds_ask_for():
    rng = np.random.default_rng(0)
    truth = torch.from_numpy(rng.uniform(1, 2, (2, 20, 20)))
    fold = torch.zeros(20, 20, dtype=torch.int64)
    fold[:, 10:] = 1
    left, right = truth.clone(), truth.clone()
    left[:, :, 10:] += 5  # right on the first fold alone
    right[:, :, :10] += 5
    found, (mean,) = mean_of([[left], [right]], [held(truth, fold)], 1e-6)
    assert found[0] == pytest.approx(0.5) == found[1]
    assert float((mean - truth).abs().min()) == pytest.approx(5)  # each fold trusts what was right on the other
    _, (mean,) = mean_of([[left], [right]], [held(truth, torch.zeros_like(fold))], 1e-6)
    torch.testing.assert_close(mean, (left + right) / 2)
