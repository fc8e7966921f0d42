"""The mean of nested discriminants: its groups, its closed form, the default transform, a scene from end to end."""

import numpy as np
import pytest
import torch

import hsmamba
from hsmamba.data import Scene, Split, block_split
from hsmamba.errors import SceneError
from tests.models.test_lda import patches


def fields(side=40, bands=10, seed=0):
    """Four fields of classes that differ by less than the noise of a pixel."""
    generator = np.random.default_rng(seed)
    labels = np.kron([[1, 2], [3, 1]], np.ones((side // 2, side // 2), np.uint8))
    spectra = generator.normal(size=(4, bands))
    return Scene(spectra[labels] + generator.normal(scale=1.5, size=(side, side, bands)), labels=labels)


def test_sizes_follow_from_the_levels():
    model = hsmamba.create_model("graph_lda")
    assert model.sizes == {"in_chans": 240, "num_classes": 16, "patch_size": 1, "aux_chans": 0}
    assert model.num_features == 240
    two = hsmamba.create_model("graph_lda", in_chans=24, aux_chans=2)
    assert two.patch_size == 5 and two.num_features == 28
    with pytest.raises(ValueError, match="in_chans is 30; it is 4 times the number of components"):
        hsmamba.create_model("graph_lda", in_chans=30)


def test_it_is_the_mean_of_discriminants_of_growing_ranges():
    pytest.importorskip("sklearn", reason="needs the classical extra")
    from hsmamba.baselines.classification import shrinkage_lda

    hsi, _, target = patches((0, 1, 3), pixels=30, chans=24, side=1)
    model = hsmamba.create_model("graph_lda", in_chans=24, num_classes=5)
    model.fit([(hsi, None, target)])
    features, posteriors = hsi[:, :, 0, 0].numpy(), []
    for part in ([0, 1, 2, 3], [4, 5]):
        for last in range(4):
            columns = [6 * level + k for level in range(last + 1) for k in part]
            one = shrinkage_lda().fit(features[:, columns].astype(np.float64), target.numpy())
            posteriors.append(one.predict_log_proba(features[:, columns]))
    pooled = torch.from_numpy(np.mean(posteriors, axis=0) / 10).softmax(1).float()
    torch.testing.assert_close(model(hsi).softmax(1)[:, [0, 1, 3]], pooled, rtol=1e-3, atol=1e-5)
    assert model(hsi).softmax(1)[:, [2, 4]].max() == 0


def test_it_is_surer_of_itself_with_many_pixels():
    pytest.importorskip("sklearn", reason="needs the classical extra")
    model = hsmamba.create_model("graph_lda", in_chans=8, num_classes=5, levels=2)
    spread = []
    for pixels in (15, 17):  # of each of five classes: ten a feature are 80
        hsi, _, target = patches(range(5), pixels=pixels, chans=8, side=1)
        model.fit([(hsi, None, target)])
        spread.append(model(hsi).std())
    assert 2.5 < spread[1] / spread[0] < 4.5


def test_it_beats_the_pixel_alone_on_ground_that_it_has_not_seen(tmp_path):
    pytest.importorskip("sklearn", reason="needs the classical extra")
    scene = fields()
    split = block_split(scene.labels, patch_size=5, fraction=0.05, seed=1)
    model = hsmamba.create_model("graph_lda", in_chans=24, num_classes=3)
    pixel = hsmamba.create_model("lda", in_chans=6, num_classes=3, windows=(1,))
    for one in (model, pixel):
        hsmamba.finetune(one, scene, split, progress=False)
    report = hsmamba.evaluate(model, scene, split)
    assert report.oa > 0.9 > 0.8 > hsmamba.evaluate(pixel, scene, split).oa
    hsmamba.save_pretrained(model, tmp_path / "model")
    again = hsmamba.create_model(f"local-dir:{tmp_path / 'model'}")
    np.testing.assert_array_equal(
        hsmamba.classify(again, scene, progress=False).labels, hsmamba.classify(model, scene, progress=False).labels
    )
    plots = Split(split.train, split.test, split.val, (1, 1600), "plots")  # patches of a list of scenes
    assert hsmamba.evaluate(again, [scene], plots).oa == report.oa


def test_a_scene_of_too_few_bands_is_told_what_fits():
    pytest.importorskip("sklearn", reason="needs the classical extra")
    scene = fields(bands=5)
    split = block_split(scene.labels, patch_size=5, fraction=0.05, seed=1)
    with pytest.raises(SceneError, match=r"takes 24 channels, 4 a component, the scene has 5 .*in_chans=20 or less"):
        hsmamba.finetune(hsmamba.create_model("graph_lda", in_chans=24, num_classes=3), scene, split, progress=False)
    hsmamba.finetune(hsmamba.create_model("graph_lda", in_chans=20, num_classes=3), scene, split, progress=False)
