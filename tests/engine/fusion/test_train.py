"""Training of fusion networks: what is learnt, chosen, interrupted, resumed."""

import csv
import re
import warnings

import numpy as np
import pytest
import torch

import hsmamba
from hsmamba.data import wald_pairs
from hsmamba.engine.fusion.train import gaussian_ssim, spectral_angle
from hsmamba.errors import HsmambaWarning, SceneError, WeightsError
from tests.engine.fusion.toys import images, make, same

QUICK = {"epochs": 2, "steps": 3, "batch_size": 2, "crop": 16, "lr": 3e-3, "progress": False}


def test_what_can_be_learnt_is_learnt(pairs):
    model = make("cf2n")
    result = hsmamba.finetune(model, pairs, **QUICK | {"steps": 20, "lr": 1e-2, "warmup_epochs": 0, "ema_decay": None})
    after = hsmamba.evaluate(model, pairs).mean()
    assert after["cf2n"]["PSNR"] > after["EXP"]["PSNR"] + 3
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    assert result.seconds > 0
    assert not model.training
    scores = [(record["val_psnr"], -record["val_ergas"]) for record in result.history]
    assert scores[result.best_epoch - 1] == max(scores)
    assert result.validation["val_psnr"] == pytest.approx(max(scores)[0])


def test_the_squared_error_is_a_loss(pairs):
    first, second = (
        hsmamba.finetune(make(), pairs, **QUICK | {"epochs": 1, "steps": 1, "batch_size": 1}, loss=loss).history[0][
            "loss"
        ]
        for loss in ("l1", "mse")
    )
    assert first**2 < second < first  # of errors below 1 that are not all equal


@pytest.mark.parametrize(
    "options",
    [{}, {"ema_decay": 0.9}, {"augment": False, "loss": "l1+ssim"}, {"loss": "l1+sam"}, {"loss": "mse"}],
)
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


def test_settings_that_suit_an_architecture_are_its_defaults(pairs):
    quick = {"epochs": 1, "steps": 1, "progress": False}
    assert hsmamba.finetune(make("mmapp", depth=1), pairs, **quick).settings.lr == 3e-4
    assert hsmamba.finetune(make("mmapp", depth=1), pairs, lr=1e-3, **quick).settings.lr == 1e-3
    assert hsmamba.finetune(make("ramsf"), pairs, **quick).settings.lr == 1e-3


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
    with pytest.raises(ValueError, match=r"loss is 'l2'; it is 'l1', 'mse', 'l1\+ssim' or 'l1\+sam'"):
        hsmamba.finetune(make(), pairs, loss="l2")


def test_the_similarity_of_the_loss_is_one_for_equal_images():
    image = torch.rand(2, 3, 16, 20, requires_grad=True)
    assert float(gaussian_ssim(image, image).detach()) == pytest.approx(1)
    noisy = gaussian_ssim(image, image.detach() + 0.2 * torch.randn(image.shape))
    assert float(noisy.detach()) < 0.95
    noisy.backward()
    assert torch.isfinite(image.grad).all()


@pytest.fixture(scope="module")
def trained(pairs, tmp_path_factory):
    """A network trained on 11-bit numbers, as it comes back from its folder."""
    model = make()
    hsmamba.finetune(model, pairs, **QUICK | {"epochs": 1})
    folder = tmp_path_factory.mktemp("trained")
    hsmamba.save_pretrained(model, folder)
    return hsmamba.create_model(f"local-dir:{folder}")


def fused(model, *scene, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return hsmamba.fuse(model, *scene, progress=False, **options).astype(float)


MS, PAN = (image[:256, :256] for image in images(64, 64))


def test_the_numbers_of_the_training_are_on_record(trained, pairs):
    for on, image, scale in (("hsi", images()[0], 2047), ("aux", images()[1][..., None], 2047)):
        known = trained.transform.range(on)
        np.testing.assert_allclose(known.after, known.before, rtol=1e-6)
        middle = np.median(image[: image.shape[0] // 2].reshape(-1, image.shape[2]), axis=0) / scale
        np.testing.assert_allclose(known.after[2], middle, rtol=0.05)


@pytest.mark.parametrize(("unit", "dtype"), [(1 / 8, np.uint8), (1 / 2047, np.float32), (10000 / 2047, np.uint16)])
def test_images_of_another_unit_are_refused_and_fused_as_the_error_says(trained, unit, dtype):
    right = fused(trained, MS, PAN)
    scene = [(np.rint(image * unit) if dtype != np.float32 else image * unit).astype(dtype) for image in (MS, PAN)]
    with pytest.raises(SceneError, match=r"not like those .*in training\).*1 is 2047 in ms.*maximum=") as caught:
        hsmamba.fuse(trained, *scene, progress=False)
    advice = re.search(r"of guide\): ([\d.]+), ([\d.]+)\?", str(caught.value))
    got = fused(trained, *scene, maximum=tuple(map(float, advice.groups())))
    assert np.sqrt(np.mean((got / unit - right) ** 2)) < 0.25 * right.std()


def test_one_glint_pixel_makes_no_other_unit(trained):
    right = fused(trained, MS, PAN)
    glint = MS.copy()
    glint[5, 5] = 65535
    far = np.s_[128:, 128:]
    np.testing.assert_allclose(fused(trained, glint, PAN)[far], right[far], rtol=1e-3)


def test_a_pair_of_maxima_is_kept_by_the_network(tmp_path):
    ms, pan = images()
    one, two = (wald_pairs(ms, pan * unit, sensor="QB", maximum=(2047, 2047 * unit), test=0.4) for unit in (1, 100))
    models = [make() for _ in range(2)]
    for model, pairs in zip(models, (one, two), strict=True):
        hsmamba.finetune(model, pairs, **QUICK | {"epochs": 1, "steps": 1})
    plain = fused(models[0], MS, PAN)
    np.testing.assert_allclose(fused(models[1], MS, PAN * 100), plain, rtol=1e-3)
    np.testing.assert_allclose(fused(models[1], MS, PAN, maximum=(2047, 2047)), plain, rtol=1e-3)
    with pytest.raises(SceneError, match=r"guide reaches .* 1 is 2047 in ms and 204700 in the guide"):
        fused(models[1], MS, PAN)
    tables = [hsmamba.evaluate(model, pairs) for model, pairs in zip(models, (one, two), strict=True)]
    for full in (False, True):
        for method, figures in tables[0].mean(full=full).items():
            assert tables[1].mean(full=full)[method] == pytest.approx(figures, rel=1e-3, abs=1e-3)


@pytest.mark.slow
def test_pairs_of_other_bands_are_refused_and_of_another_unit_told(trained, pairs):
    xr = pytest.importorskip("xarray")
    ms, pan = images()

    def of(*wavelengths):
        low = xr.DataArray(ms, dims=("y", "x", "band"), attrs={"wavelength": wavelengths})
        return wald_pairs(low, pan, sensor="QB", test=0.4)

    model = make()
    hsmamba.finetune(model, of(485, 560, 660, 830), **QUICK | {"epochs": 1, "steps": 1})
    for known in (model, make()):
        known.record = {"wavelengths": (485.0, 560.0, 660.0, 830.0)} if known is not model else None
        for others in ((830, 660, 560, 485), (485, 560, 660, 1650)):
            for do in (hsmamba.evaluate, lambda model, pairs: hsmamba.finetune(model, pairs, **QUICK)):
                with pytest.raises(SceneError, match=r"bands of the pairs 'scene' .*\(485, 560, 660, 830 nm\); make"):
                    do(known, of(*others))
        hsmamba.evaluate(known, of(490, 558, 662, 833))
    low = xr.DataArray(ms[..., ::-1], dims=("y", "x", "band"), attrs={"wavelength": (830, 660, 560, 485)})
    with pytest.warns(HsmambaWarning, match="in another order"):
        got = hsmamba.fuse(model, low, pan, progress=False)
    np.testing.assert_array_equal(got, hsmamba.fuse(model, ms, pan, progress=False))
    other = low.assign_attrs(wavelength=(400, 450, 500, 550))
    with pytest.warns(HsmambaWarning, match=r"not those that the weight was trained on .*as they stand"):
        assert hsmamba.fuse(model, other, pan, progress=False).shape == (*pan.shape[:2], 4)
    with pytest.raises(SceneError, match=r"not those that the weight was trained on .*simulate_bands"):
        hsmamba.fuse(model, low[..., :3].assign_attrs(wavelength=(400, 450, 500)), pan, progress=False)

    dark = wald_pairs(ms / 8, pan / 8, sensor="QB", test=0.4)
    for do in (hsmamba.evaluate, lambda model, pairs: hsmamba.finetune(make_like(model), pairs, **QUICK)):
        with pytest.warns(HsmambaWarning, match=r"look like images of another unit.*maximum=.*: 255, 255\?") as told:
            do(trained, dark)
        assert told[0].filename == __file__
    bright = wald_pairs(ms / 8, pan / 8, sensor="QB", maximum=255, test=0.4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hsmamba.evaluate(trained, bright)


def make_like(model):
    other = make()
    other.transform = model.transform
    return other


def test_a_scene_with_invalid_pixels_is_trained_on_and_judged():
    ms, pan = images()
    ms[20, 30, 1], ms[70, 90], pan[480:, :40] = np.nan, np.inf, 1e300
    with pytest.warns(HsmambaWarning, match="left out"):
        pairs = wald_pairs(ms, pan, sensor="QB", nan="mask", test=0.375)
    model = make()
    result = hsmamba.finetune(model, pairs, **QUICK)
    assert all(np.isfinite(record["loss"]) for record in result.history)
    report = hsmamba.evaluate(model, pairs)
    for full in (False, True):
        assert np.isfinite([list(figures.values()) for figures in report.mean(full=full).values()]).all()
    assert np.isfinite(model.transform.range("aux").after).all()


def test_a_weight_that_was_trained_further_says_nothing_stale(pairs):
    toy = make()
    toy.record = {
        "source": "toy.base",
        "license": "CC0-1.0",
        "data": {"name": "base", "license": "CC0-1.0", "maximum": 2047, "quantity": "counts", "split": {"train": [1]}},
        "metrics": {"PSNR": 30.0},
        "recipe": "toy.base",
    }
    hsmamba.finetune(toy, pairs, **QUICK)
    assert toy.record["source"] == "toy.base" and toy.record["license"] == "CC0-1.0"
    assert toy.record["data"] == {"name": "base", "license": "CC0-1.0"}
    assert toy.record["metrics"] == {} and toy.record["recipe"] is None


def test_the_spectral_angle_of_a_loss_is_that_of_sam_and_has_a_gradient_everywhere():
    truth = torch.rand(2, 5, 8, 8, generator=torch.Generator().manual_seed(0)) + 0.1
    turned = truth + 0.02 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(1))
    cosine = torch.nn.functional.cosine_similarity(turned.double(), truth.double(), dim=1)
    assert float(spectral_angle(turned, truth)) == pytest.approx(float(torch.arccos(cosine).mean()), rel=1e-2)
    assert float(spectral_angle(3 * truth, truth)) < 1e-3  # brightness is not its business
    for fused in (truth.clone(), torch.zeros_like(truth), turned):
        fused.requires_grad_()
        spectral_angle(fused, truth).backward()
        assert torch.isfinite(fused.grad).all()
