"""OA, AA, kappa, F1 against scikit-learn."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hsmamba.metrics import ClassificationReport, confusion_matrix
from tests.refusals import refused


@settings(max_examples=60)
@given(st.integers(2, 9), st.integers(1, 300), st.integers(0, 2**31))
def test_agrees_with_scikit_learn(num_classes, pixels, seed):
    oracle = pytest.importorskip("sklearn.metrics", reason="scikit-learn is the oracle of these metrics")
    rng = np.random.default_rng(seed)
    truth = rng.integers(1, num_classes + 1, pixels)
    predicted = np.where(rng.random(pixels) < 0.7, truth, rng.integers(1, num_classes + 1, pixels))
    report = ClassificationReport.from_labels(truth, predicted, [f"c{k}" for k in range(num_classes)])
    present = np.unique(truth)
    classes = np.arange(1, num_classes + 1)
    np.testing.assert_array_equal(report.confusion[:, :-1], oracle.confusion_matrix(truth, predicted, labels=classes))
    assert report.oa == pytest.approx(oracle.accuracy_score(truth, predicted))
    recall = oracle.recall_score(truth, predicted, labels=present, average=None, zero_division=0)
    assert report.aa == pytest.approx(recall.mean())
    np.testing.assert_allclose(report.per_class[present - 1], recall)
    f1 = oracle.f1_score(truth, predicted, labels=present, average=None, zero_division=0)
    np.testing.assert_allclose(report.f1[present - 1], f1)
    if len(np.union1d(truth, predicted)) > 1:
        assert report.kappa == pytest.approx(oracle.cohen_kappa_score(truth, predicted), abs=1e-12)


def test_unlabelled_pixels_are_left_out_and_unclassified_ones_are_wrong():
    report = ClassificationReport.from_labels(np.array([0, 1, 1, 2, 2]), np.array([2, 1, 0, 2, 1]), ["a", "b"])
    assert report.confusion.tolist() == [[1, 0, 1], [1, 1, 0]]
    assert report.oa == 0.5
    assert report.per_class.tolist() == [0.5, 0.5]


def test_a_class_without_pixels_does_not_count():
    report = ClassificationReport.from_labels(np.array([1, 1]), np.array([1, 1]), ["a", "b"])
    assert report.aa == 1.0
    assert np.isnan(report.per_class[1])
    assert json.loads(report.to_json())["per_class"] == [1.0, None]
    assert str(report).endswith("no pixel of b: left out of AA and mean F1")


def test_without_a_pixel_every_figure_is_missing():
    report = ClassificationReport.from_labels(np.array([0]), np.array([1]), ["a", "b"])
    assert all(np.isnan(getattr(report, key)) for key in ("oa", "aa", "kappa", "mean_f1"))
    assert json.loads(report.to_json())["oa"] is None


def test_the_table_names_every_class_and_metric():
    text = str(ClassificationReport.from_labels(np.array([1, 2]), np.array([1, 1]), ["corn", "oats"]))
    for word in ("corn", "oats", "OA", "AA", "kappa", "F1", "50.00"):
        assert word in text


test_bad_labels_are_named = refused(
    (
        lambda: confusion_matrix(np.array([1]), np.array([3]), 2),
        ValueError,
        r"predicted holds classes 3\.\.3, expected 0\.\.2",
    ),
    (lambda: confusion_matrix(np.array([1, 1]), np.array([1]), 2), ValueError, "truth has 2 pixels and predicted 1"),
)


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    [
        (81 / 263, 263, 0.2553, 0.3662),
        (15 / 148, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1 / 29, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_is_that_of_the_literature(right, count, low, high):
    from hsmamba.metrics.classification import wilson_interval

    assert wilson_interval(right, count) == pytest.approx((low, high), abs=5e-5)


def test_wilson_interval_wants_a_share_of_something():
    from hsmamba.metrics.classification import wilson_interval

    with pytest.raises(ValueError, match="expected 0 to 1, of 1 or more"):
        wilson_interval(0.5, 0)
