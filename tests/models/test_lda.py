"""The linear model: its features, its closed form, and what it needs once it is fitted."""

import pytest
import torch

import hsmamba
from hsmamba.errors import SplitError


def patches(classes, pixels=10, chans=6, side=5):
    generator = torch.Generator().manual_seed(0)
    target = torch.tensor(classes).repeat_interleave(pixels)
    hsi = torch.randn(len(target), chans, side, side, generator=generator)
    hsi[:, :2] += 2 * target[:, None, None, None]
    return hsi, None, target


def test_the_patch_is_as_large_as_the_largest_window_or_limits_the_windows():
    model = hsmamba.create_model("lda")
    assert model.sizes == {"in_chans": 40, "num_classes": 16, "patch_size": 11, "aux_chans": 0}
    assert model.num_features == 120 and model.model_args["patch_size"] == 11
    small = hsmamba.create_model("lda", patch_size=5, aux_chans=2)
    assert small.means.windows == (1, 5) and small.num_features == 84
    assert hsmamba.create_model("lda", windows=(1, 3)).patch_size == 3
    with pytest.raises(ValueError, match="give the side of one or more"):
        hsmamba.create_model("lda", windows=())
    with pytest.raises(ValueError, match=r"patch_size is 13, and no window of \(1, 5, 11\) reaches so far"):
        hsmamba.create_model("lda", patch_size=13)


def test_it_is_the_classical_lda_as_tensors(tmp_path):
    pytest.importorskip("sklearn", reason="needs the classical extra")
    from hsmamba.baselines import ClassicalClassifier
    from hsmamba.baselines.classification import shrinkage_lda

    batch = patches((0, 1, 3))
    model = hsmamba.create_model("lda", in_chans=6, num_classes=5, windows=(1, 5))
    classical = ClassicalClassifier(shrinkage_lda(), 6, 5, windows=(1, 5))
    for one in (model, classical):
        one.fit([batch])
    hsi = batch[0]
    torch.testing.assert_close(model(hsi).softmax(1), classical(hsi).exp(), rtol=1e-3, atol=1e-5)
    assert model(hsi).softmax(1)[:, [2, 4]].max() == 0
    hsmamba.save_pretrained(model, tmp_path / "model")
    again = hsmamba.create_model(f"local-dir:{tmp_path / 'model'}")
    assert torch.equal(again(hsi), model(hsi)) and again.model_args["windows"] == [1, 5]


def test_what_cannot_be_fitted_is_refused():
    model = hsmamba.create_model("lda", in_chans=6, num_classes=3, windows=(1,))
    with pytest.raises(SplitError, match="of one class"):
        model.fit([patches((1,), side=1)])
    with pytest.raises(ValueError, match=r"no head to fit.*reset_classifier"):
        hsmamba.create_model("lda", in_chans=6, num_classes=0, windows=(1,)).fit([patches((0, 1), side=1)])


def test_a_head_that_was_taken_away_comes_back():
    model = hsmamba.create_model("lda", in_chans=6, num_classes=0)
    model.reset_classifier(4)
    assert model(torch.zeros(2, 6, 11, 11)).shape == (2, 4)
