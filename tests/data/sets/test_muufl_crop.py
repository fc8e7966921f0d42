"""The crop of MUUFL Gulfport: hyperspectral image, LiDAR, labels."""

import numpy as np
import pytest

from hsmamba.data import load_scene
from hsmamba.errors import SceneError
from tests.conftest import DATA


def test_the_archive_becomes_a_scene_of_two_sources(tmp_path):
    path = tmp_path / "muufl_crop" / "muufl_crop_scene.npz"
    path.parent.mkdir()
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 12, (90, 90)).astype(np.uint8)
    arrays = {"hsi": rng.random((90, 90, 64), np.float32), "lidar": rng.random((90, 90, 2), np.float32)}
    np.savez(path, labels=labels, **arrays)
    scene = load_scene("muufl_crop", tmp_path)
    np.testing.assert_array_equal(scene.hsi, arrays["hsi"])
    np.testing.assert_array_equal(scene.aux, arrays["lidar"])
    np.testing.assert_array_equal(scene.labels, labels)
    assert scene.num_classes == 11 and scene.class_names[4] == "road"
    assert np.allclose(np.diff(scene.wavelengths), 9.516, atol=1e-3)
    np.savez(path, labels=labels, hsi=arrays["hsi"])
    with pytest.raises(SceneError, match=r"expected .*'lidar': \(90, 90, 2\).*: fetch the file anew"):
        load_scene("muufl_crop", tmp_path)


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not here")
def test_the_real_crop_has_its_eight_classes():
    scene = load_scene("muufl_crop", DATA)
    assert np.bincount(scene.labels.ravel()).tolist() == [1130, 2332, 798, 283, 0, 1055, 0, 655, 1684, 117, 46]
