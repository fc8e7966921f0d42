"""The crop of MUUFL Gulfport, which comes with the package: hyperspectral image, LiDAR, labels."""

from importlib import resources

import numpy as np

from hsmamba.data import load_scene


def test_the_crop_is_a_scene_of_two_sources():
    scene = load_scene("muufl_crop")
    assert (scene.hsi.shape, scene.aux.shape, scene.hsi.dtype) == ((90, 90, 64), (90, 90, 2), np.float32)
    assert np.bincount(scene.labels.ravel()).tolist() == [1130, 2332, 798, 283, 0, 1055, 0, 655, 1684, 117, 46]
    assert scene.num_classes == 11 and scene.class_names[4] == "road"
    assert np.allclose(np.diff(scene.wavelengths), 9.516, atol=1e-3)
    assert (float(scene.hsi.min()), float(scene.hsi.max())) == (0, 1)


def test_vegetation_is_bright_in_the_near_infrared_and_buildings_are_high():
    scene = load_scene("muufl_crop")
    trees, road, building = (scene.labels == k for k in (1, 5, 8))
    red, infrared = (int(np.abs(scene.wavelengths - nm).argmin()) for nm in (670, 860))
    ratio = scene.hsi[..., infrared] / np.maximum(scene.hsi[..., red], 1e-6)
    assert np.median(ratio[trees]) > 2 * np.median(ratio[road])
    assert np.median(scene.aux[building][:, 0]) > np.median(scene.aux[road][:, 0]) + 2  # metres


def test_the_licence_comes_with_it():
    text = (resources.files("hsmamba") / "scenes" / "LICENSE.MUUFLGulfport").read_text(encoding="utf-8")
    assert "MIT" in text or "Permission is hereby granted" in text
