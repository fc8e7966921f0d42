"""Indian Pines: the scene that everybody knows, and the labels of the fixed split."""

import numpy as np
import pytest

from hsmamba.data import Scene, load_scene, load_split


def test_indian_pines_is_the_scene_that_everybody_knows():
    pytest.importorskip("tensorly", reason="needs the demo extra")
    scene = load_scene("indian_pines")
    assert isinstance(scene, Scene) and scene.hsi.shape == (145, 145, 200) and scene.hsi.dtype == np.uint16
    assert (int(scene.hsi.min()), int(scene.hsi.max())) == (955, 9604)
    sizes = np.bincount(scene.labels.ravel())[1:].tolist()
    assert sizes == [46, 1428, 830, 237, 483, 730, 28, 478, 20, 972, 2455, 593, 205, 1265, 386, 93]
    assert scene.class_names[8] == "Oats" and scene.num_classes == 16
    assert "CC0" in scene.license
    assert len(scene.wavelengths) == 200 and (scene.wavelengths[0], scene.wavelengths[-1]) == (400.02, 2489.11)


def test_the_fixed_split_brings_its_own_labels():
    pytest.importorskip("tensorly")
    usual, fixed = load_scene("indian_pines").labels, load_scene("indian_pines_fixed").labels
    assert np.count_nonzero(usual != fixed) == 256 and not usual[usual != fixed].any()
    split = load_split("indian_pines_fixed")
    split.check(fixed)
    counts = np.bincount(fixed.ravel()[split.train])[1:]
    assert sorted(counts) == [15] * 3 + [50] * 13
    assert np.count_nonzero(usual) == split.train.size + split.test.size - 256 + 139
