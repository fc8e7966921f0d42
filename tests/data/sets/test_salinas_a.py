"""Salinas-A: the codes of the valley become six classes."""

import numpy as np
import pytest
from scipy.io import savemat

from hsmamba.data import load_scene
from hsmamba.errors import SceneError
from tests.conftest import DATA


def test_codes_become_classes_and_another_cube_is_refused(tmp_path):
    folder = tmp_path / "salinas_a"
    folder.mkdir()
    codes = np.zeros((83, 86), np.uint8)
    codes[0, :7] = (1, 10, 11, 12, 13, 14, 0)
    cube = np.arange(83 * 86 * 204, dtype=np.int16).reshape(83, 86, 204)
    savemat(folder / "SalinasA_corrected.mat", {"salinasA_corrected": cube})
    savemat(folder / "SalinasA_gt.mat", {"salinasA_gt": codes})
    scene = load_scene("salinas_a", tmp_path)
    assert scene.labels[0, :7].tolist() == [1, 2, 3, 4, 5, 6, 0] and not scene.labels[1:].any()
    assert scene.class_names[0] == "Brocoli_green_weeds_1" and scene.num_classes == 6
    np.testing.assert_array_equal(scene.hsi, cube)
    savemat(folder / "SalinasA_corrected.mat", {"salinasA_corrected": cube[..., :100]})
    with pytest.raises(SceneError, match=r"cube of \(83, 86, 100\); expected \(83, 86, 204\)"):
        load_scene("salinas_a", tmp_path)


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not here")
def test_the_real_scene_has_its_six_classes():
    scene = load_scene("salinas_a", DATA)
    assert np.bincount(scene.labels.ravel()).tolist() == [1790, 391, 1343, 616, 1525, 674, 799]
