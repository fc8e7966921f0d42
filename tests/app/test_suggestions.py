"""Where the next label tells most."""

import numpy as np

from hsmamba.app.suggestions import least_sure, most_different
from hsmamba.data import Scene


def test_the_least_sure_places_are_apart_and_not_labelled():
    confidence = np.full((30, 30), 0.9, np.float32)
    confidence[4:7, 4:7], confidence[20:23, 20:23], confidence[10:13, 25:28] = 0.2, 0.3, 0.1
    confidence[15, 15] = np.nan
    labels = np.zeros((30, 30), np.uint8)
    labels[11, 26] = 1
    found = least_sure(confidence, labels, 2)
    assert found == [(5, 5), (21, 21)]
    assert least_sure(np.full((5, 5), np.nan, np.float32), np.zeros((5, 5), np.uint8)) == []


def test_the_most_different_spectra_are_those_without_a_label():
    rng = np.random.default_rng(0)
    kinds = np.zeros((24, 24), int)
    kinds[:, 12:], kinds[12:, :4] = 1, 2
    cube = rng.normal(size=(3, 12))[kinds] + 0.05 * rng.normal(size=(24, 24, 12))
    labels = np.zeros((24, 24), np.uint8)
    labels[0, 0], labels[0, 23] = 1, 2
    (first, *_) = most_different(Scene(cube), labels, 3)
    assert kinds[first] == 2
    assert len(most_different(Scene(cube), np.zeros((24, 24), np.uint8), 3)) == 3
    assert most_different(Scene(np.ones((4, 4, 3))), np.zeros((4, 4), np.uint8)) == []
