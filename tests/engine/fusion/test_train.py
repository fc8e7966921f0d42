"""Training of fusion networks: what is learnt, chosen, interrupted, resumed."""

import csv

import pytest
import torch

import hsmamba
from hsmamba.data import wald_pairs
from hsmamba.engine.fusion.train import gaussian_ssim
from hsmamba.errors import SceneError, WeightsError
from tests.engine.fusion.toys import images, make, same

QUICK = {"epochs": 2, "steps": 3, "batch_size": 2, "crop": 16, "lr": 3e-3, "progress": False}


def test_what_can_be_learnt_is_learnt(pairs):
    model = make("cf2n")
    result = hsmamba.finetune(model, pairs, **QUICK | {"epochs": 2, "steps": 20, "lr": 1e-2, "warmup_epochs": 0})
    after = hsmamba.evaluate(model, pairs).mean()
    assert after["cf2n"]["PSNR"] > after["EXP"]["PSNR"] + 3
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    assert result.seconds > 0
    assert not model.training
    scores = [(record["val_psnr"], -record["val_ergas"]) for record in result.history]
    assert scores[result.best_epoch - 1] == max(scores)
    assert result.validation["val_psnr"] == pytest.approx(max(scores)[0])


@pytest.mark.parametrize("options", [{}, {"ema_decay": 0.9}, {"augment": False, "loss": "l1+ssim"}])
def test_a_resumed_run_gives_the_same_bits(pairs, tmp_path, options):
    settings = QUICK | {"epochs": 3} | options
    whole, broken = make(), make()
    result = hsmamba.finetune(whole, pairs, **settings)
    checkpoint, log = tmp_path / "c.pt", tmp_path / "h.csv"
    hsmamba.finetune(broken, pairs, checkpoint=checkpoint, callback=lambda record, model: True, **settings)
    other = make()
    with torch.no_grad():
        next(other.parameters()).add_(1)
    resumed = hsmamba.finetune(other, pairs, checkpoint=checkpoint, resume=checkpoint, log=log, **settings)
    assert same(whole, other)
    assert [r["loss"] for r in resumed.history] == [r["loss"] for r in result.history]
    assert len(list(csv.DictReader(log.open()))) == 3
    with pytest.raises(WeightsError, match=r"crop: 16 there, 32 here"):
        hsmamba.finetune(make(), pairs, resume=checkpoint, **settings | {"crop": 32})


def test_a_network_that_brings_its_loss_is_trained_by_it(pairs):
    model = make("mmapp", depth=1)
    result = hsmamba.finetune(model, pairs, **QUICK | {"epochs": 2, "steps": 5})
    assert result.history[1]["loss"] < result.history[0]["loss"]
    assert not same(model, make("mmapp", depth=1))


def test_the_random_state_of_the_caller_is_left_alone(pairs):
    model = make()
    torch.manual_seed(5)
    want = torch.rand(3)
    torch.manual_seed(5)
    hsmamba.finetune(model, pairs, **QUICK | {"epochs": 1})
    assert torch.equal(torch.rand(3), want)


def test_without_validation_the_last_epoch_is_kept():
    result = hsmamba.finetune(make(), wald_pairs(*images(), sensor="QB", val=0), **QUICK)
    assert (result.best_epoch, result.validation) == (2, None)


def test_what_does_not_fit_is_named(pairs):
    with pytest.raises(SceneError, match=r"ms is \(1, 4, .* takes \(B, 8, h, w\)"):
        hsmamba.finetune(make(in_chans=8), pairs, **QUICK)
    with pytest.raises(ValueError, match="loss is 'l2'; it is 'l1' or"):
        hsmamba.finetune(make(), pairs, loss="l2")


def test_the_similarity_of_the_loss_is_one_for_equal_images():
    image = torch.rand(2, 3, 16, 20, requires_grad=True)
    assert float(gaussian_ssim(image, image).detach()) == pytest.approx(1)
    noisy = gaussian_ssim(image, image.detach() + 0.2 * torch.randn(image.shape))
    assert float(noisy.detach()) < 0.95
    noisy.backward()
    assert torch.isfinite(image.grad).all()
