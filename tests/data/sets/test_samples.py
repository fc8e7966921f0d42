"""The sample images that come with the package."""

import numpy as np
import pytest

import hsmamba
from hsmamba.data import load_sample_pair, load_scene, open_image, open_scene, write_samples
from hsmamba.data.georeference import check_same_ground
from hsmamba.data.sets.landsat8 import CENTRES


def test_the_pair_is_one_that_fits():
    ms, pan = load_sample_pair()
    assert (ms.shape, pan.shape, ms.dtype, pan.dtype) == ((96, 128, 7), (192, 256), np.uint16, np.uint16)
    low = pan.reshape(96, 2, 128, 2).mean((1, 3))
    assert np.corrcoef(low.ravel(), ms[..., 3].astype(float).ravel())[0, 1] > 0.9


def test_written_they_open_with_their_place(tmp_path):
    pytest.importorskip("rioxarray", reason="needs the geo extra")
    scene, labels, lidar, ms, pan = write_samples(tmp_path / "new")
    opened = open_scene(scene, labels=labels, aux=lidar)
    want = load_scene("muufl_crop")
    np.testing.assert_array_equal(np.asarray(opened.hsi), want.hsi)
    np.testing.assert_array_equal(np.asarray(opened.labels), want.labels)
    low, high = open_image(ms), open_image(pan)
    check_same_ground(low, high, ("ms", "pan"), tolerance=0.5)
    assert low.rio.crs.to_epsg() == 32616 and hsmamba.open_scene(ms).wavelengths.tolist() == list(CENTRES.values())
    np.testing.assert_array_equal(np.asarray(low), load_sample_pair()[0])


def test_without_the_extra_they_are_arrays(tmp_path, monkeypatch):
    monkeypatch.setattr("hsmamba.data.sets.samples.is_there", lambda module: False)
    paths = write_samples(tmp_path)
    assert [path.name for path in paths] == ["scene.npy", "labels.npy", "lidar.npy", "ms.npy", "pan.npy"]
    np.testing.assert_array_equal(np.load(paths[4]), load_sample_pair()[1])
