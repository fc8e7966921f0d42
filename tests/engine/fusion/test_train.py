"""finetune, evaluate and recipes of fusion networks: what is learnt, chosen, interrupted, resumed, printed, kept."""

import csv
import json

import numpy as np
import pytest
import torch
from scipy.io import savemat

import hsmamba
from hsmamba.data import interp23, load_pairs, wald_pairs
from hsmamba.engine import FusionSettings
from hsmamba.engine.fusion import recipe as recipes
from hsmamba.engine.fusion.evaluate import evaluate_fusion, predict
from hsmamba.engine.fusion.train import gaussian_ssim
from hsmamba.engine.recipe import list_recipes, load_recipe
from hsmamba.errors import HsmambaError, ManifestError, SceneError, WeightsError

QUICK = {"epochs": 2, "steps": 3, "batch_size": 2, "crop": 16, "lr": 3e-3, "progress": False}


def images(rows=128, columns=96, bands=4):
    """A scene whose bands are mixtures of the guide's detail and of colours that change slowly."""
    rng = np.random.default_rng(0)
    size = (rows * 4, columns * 4)
    detail = torch.from_numpy(rng.normal(size=(1, 1, *(n // 8 for n in size))))
    pan = interp23(detail, 8)[0, 0].numpy()
    slow = interp23(torch.from_numpy(rng.normal(size=(1, bands, rows // 16, columns // 16))), 16)[0].numpy()
    low = pan.reshape(rows, 4, columns, 4).mean(axis=(1, 3))
    ms = 1000 + 100 * low[..., None] * rng.uniform(0.5, 1.5, bands) + 40 * slow.transpose(1, 2, 0)
    return ms, 1000 + 100 * pan


@pytest.fixture(scope="module")
def pairs():
    return wald_pairs(*images(), sensor="QB", val=0.125, test=0.375, name="toy")


def make(name="ramsf", **options):
    torch.manual_seed(0)
    kept = {"dim": 8, "mlp_dims": (8,)} if name == "ramsf" else {"dim": 8}
    return hsmamba.create_model(name, **{"in_chans": 4, **kept, **options})


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


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


class Copy(torch.nn.Module):
    """Gives back the up-sampled image."""

    in_chans, guide_chans, scale = 4, 1, 4

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, ms, guide, ms_up):
        return ms_up


@pytest.mark.parametrize("name", ["ramsf", "cf2n"])
def test_figures_are_of_what_fuse_gives_and_validation_sees_whole_images(pairs, name):
    model, pair = make(name).eval(), pairs.test[0]
    ms, guide = (image.permute(1, 2, 0).numpy() for image in (pair.ms, pair.guide))
    fused = torch.from_numpy(hsmamba.fuse(model, ms, guide, maximum=1, progress=False)).permute(2, 0, 1)
    torch.testing.assert_close(predict(model, pair), fused.clamp(0, 1), atol=1e-5, rtol=0)
    with torch.no_grad():
        whole = model(pair.ms[None], pair.guide[None], pair.ms_up[None])[0].clamp(0, 1)
    torch.testing.assert_close(predict(model, pair, whole=True), whole, atol=1e-5, rtol=0)
    differing = (whole - predict(model, pair)).abs().max()
    assert (differing > 1e-4) == (model.margin is None)


def test_the_table_has_the_classical_methods_and_all_metrics(pairs):
    report = hsmamba.evaluate(Copy(), pairs)
    assert list(report.reduced) == ["toy, test"]
    assert list(report.full) == ["toy, full resolution"]
    for full, metrics in ((False, recipes.REDUCED), (True, recipes.FULL)):
        means = report.mean(full=full)
        assert list(means) == ["bicubic", "EXP", "Brovey", "GSA", "MTF-GLP-HPM", "Copy"]
        assert means["Copy"] == pytest.approx(means["EXP"], rel=1e-3, abs=1e-4)
        assert all(list(figures) == list(metrics) for figures in means.values())
    text = str(report)
    assert "reduced resolution, mean of 1 image" in text
    assert f"{report.mean()['GSA']['ERGAS']:.4f}" in text


def test_what_does_not_fit_is_named(pairs):
    with pytest.raises(SceneError, match=r"ms is \(1, 4, .* takes \(B, 8, h, w\)"):
        hsmamba.finetune(make(in_chans=8), pairs, **QUICK)
    with pytest.raises(TypeError, match="finetune has no setting mixup; there are: epochs"):
        hsmamba.finetune(make(), pairs, mixup=1.0)
    with pytest.raises(TypeError, match="pairs bring their own split"):
        hsmamba.finetune(make(), pairs, transform=object())
    with pytest.raises(ValueError, match="loss is 'l2'; it is 'l1' or"):
        hsmamba.finetune(make(), pairs, loss="l2")
    with pytest.raises(SceneError, match="have no test images"):
        hsmamba.evaluate(make(), wald_pairs(*images(), sensor="QB", test=0))


def test_the_similarity_of_the_loss_is_one_for_equal_images():
    image = torch.rand(2, 3, 16, 20, requires_grad=True)
    assert float(gaussian_ssim(image, image).detach()) == pytest.approx(1)
    noisy = gaussian_ssim(image, image.detach() + 0.2 * torch.randn(image.shape))
    assert float(noisy.detach()) < 0.95
    noisy.backward()
    assert torch.isfinite(image.grad).all()


TOML = """
task = "fusion"
name = "ramsf.toy"
dataset = "ikonos"
seed = 3
license = "LicenseRef-NonProfit"

[pairs]
val = 0.125
test = 0.375

[model_args]
dim = 8
mlp_dims = [8]

[finetune]
epochs = 3
steps = 2
batch_size = 2
crop = 16
lr = 1e-3

[data]
name = "Toy"
license = "none"
"""


@pytest.fixture
def recipe(tmp_path):
    folder = tmp_path / "data" / "worldview2_ikonos"
    folder.mkdir(parents=True)
    ms, pan = images()
    savemat(folder / "imgIK.mat", {"I_MS": ms.astype(np.uint16), "I_PAN": pan.astype(np.uint16)})
    path = tmp_path / "toy.toml"
    path.write_text(TOML)
    return load_recipe(path)


def test_a_recipe_that_is_stopped_goes_on_to_the_same_weight(recipe, tmp_path):
    data = tmp_path / "data"
    whole = recipes.run_fusion_recipe(recipe, tmp_path / "whole", data, progress=False)
    recipes.run_fusion_recipe(recipe, tmp_path / "broken", data, minutes=0, progress=False)
    record = hsmamba.zoo.hub.read_folder(tmp_path / "broken" / "model").data
    assert record["epochs"] == 1
    assert "the recipe asks for 3: the run was stopped early" in record["training"]
    resumed = recipes.run_fusion_recipe(recipe, tmp_path / "broken", data, progress=False)
    assert resumed.reduced == whole.reduced
    folder = recipes.publish_fusion(recipe, tmp_path / "broken", tmp_path / "weights" / recipe.name)
    first, second = (hsmamba.create_model(f"local-dir:{at}") for at in (tmp_path / "whole" / "model", folder))
    assert same(first, second)
    found = hsmamba.zoo.hub.read_folder(folder)
    assert found.data["epochs"] == 3
    card = (folder / "README.md").read_text()
    assert "| GSA, reduced resolution | " in card
    assert "GSA" not in card.partition("# ramsf")[0]  # the Hub's index is of the network's own results
    assert found.data["maximum"] == 2047
    assert found.license == "LicenseRef-NonProfit"
    again = evaluate_fusion(first, load_pairs(recipe.dataset, data, **recipe.pairs)).mean()
    assert again["ramsf"]["SAM"] == pytest.approx(found.metrics["reduced resolution"]["SAM"], abs=1e-3)
    rows = list(csv.DictReader((tmp_path / "broken" / "results.csv").open()))
    assert {row["method"] for row in rows} >= {"ramsf", "EXP", "GSA"}
    assert {row["resolution"] for row in rows} == {"reduced", "full"}


def test_the_command_line_trains_by_a_recipe(recipe, tmp_path, monkeypatch, capsys):
    from hsmamba import cli

    arguments = ["train", tmp_path / "toy.toml", "-o", tmp_path / "runs", "--publish", tmp_path / "weight", "--json"]
    for more, code in (([], 2), (["--data", tmp_path / "data", "--minutes", 0], 0)):
        monkeypatch.setattr("sys.argv", ["hsmamba", *map(str, arguments + more)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == code
    out = capsys.readouterr()
    assert "the data set 'ikonos' (GRIP-UNINA" in out.err and "(--data on the command line)" in out.err
    assert json.loads(out.out)["reduced"]["IKONOS, test"]["ramsf"]["PSNR"] > 0
    assert (tmp_path / "weight" / "model.safetensors").is_file()


def test_what_is_wrong_with_a_recipe_is_named(recipe, tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text(TOML.replace('"ikonos"', '"moon"'))
    with pytest.raises(ManifestError, match="no data set 'moon'; there are cave"):
        load_recipe(path)
    path.write_text(TOML.replace("seed =", "sede ="))
    with pytest.raises(ManifestError, match=r"missing \['seed'\], unknown \['sede'\]"):
        load_recipe(path)
    with pytest.raises(HsmambaError, match="holds no model yet"):
        recipes.publish_fusion(recipe, tmp_path / "nothing", tmp_path / "weight")
    path.write_text(TOML.replace("mlp_dims = [8]", 'mlp_dims = ["none", [8, "none"]]'))
    assert load_recipe(path).model_args["mlp_dims"] == [None, [8, None]]


@pytest.mark.parametrize(
    "name", [name for name in list_recipes() if isinstance(load_recipe(name), recipes.FusionRecipe)]
)
def test_every_fusion_recipe_of_the_package_can_be_read(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert hsmamba.is_model(recipe.architecture)
    assert FusionSettings(**recipe.finetune)
    assert "seed" not in recipe.finetune
    assert {"name", "source", "license", "sensor"} <= recipe.data.keys()
