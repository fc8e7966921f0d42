"""Training of classifiers: what is learnt, chosen, logged, interrupted and resumed."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import hsmamba
from hsmamba.data import PatchDataset, Scene, random_split
from hsmamba.engine import ClassificationSettings, TrainingSettings, default_transform
from hsmamba.errors import HsmambaWarning, SceneError, SplitError, TrainingError, WeightsError
from tests.conftest import full_disk

QUICK = {"epochs": 4, "lr": 1e-2, "batch_size": 16, "warmup_epochs": 1, "progress": False}


def states_equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_a_scene_that_can_be_learnt_is_learnt(make_model, scene, split):
    model = make_model()
    before = hsmamba.evaluate(hsmamba.create_model("md2f_mamba", **model.model_args), scene, split,
                              transform=default_transform(scene, split, 4))  # fmt: skip
    result = hsmamba.finetune(model, scene, split, **QUICK | {"epochs": 12})
    after = hsmamba.evaluate(model, scene, split)
    assert after.oa > max(0.9, before.oa + 0.1)
    assert not model.training
    assert model.class_names == scene.class_names
    assert model.transform is not None
    assert result.split.val.size
    assert not set(result.split.val) & set(result.split.train)
    assert set(result.split.val) < set(split.train)
    np.testing.assert_array_equal(result.split.test, split.test)
    assert result.seconds > 0


def test_a_model_trained_on_a_dataset_classifies_its_scene(make_model, scene, split, transform, tmp_path):
    model = make_model()
    hsmamba.finetune(model, PatchDataset(scene, transform, 5), split, **QUICK)
    again = hsmamba.create_model(f"local-dir:{hsmamba.save_pretrained(model, tmp_path / 'model')}")
    assert again.class_names == scene.class_names
    labels = hsmamba.classify(again, scene, progress=False)[0]
    np.testing.assert_array_equal(labels, hsmamba.classify(model, scene, transform=transform, progress=False)[0])


def test_refused_data_leave_the_model_as_it_was(make_model, scene, split, transform):
    model = make_model(num_classes=5)
    with pytest.raises(SceneError, match="model has 5 classes"):
        hsmamba.finetune(model, scene, split, transform=transform, **QUICK)
    assert model.transform is None and model.class_names == ()


def test_the_best_epoch_by_validation_is_kept(make_model, scene, split, transform):
    model = make_model()
    states = {}

    def keep(record, m):
        states[record["epoch"]] = {key: value.clone() for key, value in m.state_dict().items()}

    result = hsmamba.finetune(model, scene, split, transform=transform, callback=keep, **QUICK)
    scores = [(r["val_oa"], -r["val_loss"]) for r in result.history]
    assert scores[result.best_epoch - 1] == max(scores)
    kept = states[result.best_epoch]
    assert all(torch.equal(value, kept[key]) for key, value in model.state_dict().items())
    assert result.validation.oa == pytest.approx(result.history[result.best_epoch - 1]["val_oa"])


def test_without_validation_pixels_the_last_epoch_is_kept(make_model, scene, split, transform):
    result = hsmamba.finetune(make_model(), scene, split, transform=transform, val_fraction=0, **QUICK)
    assert (result.best_epoch, result.validation) == (4, None)
    assert "val_oa" not in result.history[0]


def test_a_run_depends_on_its_seed_alone(make_model, scene, split, transform):
    models = [make_model() for _ in range(3)]
    settings = QUICK | {"epochs": 2, "mixup": 0.4, "erase": 0.5, "jitter": 0.2}
    for model, seed in zip(models, (1, 1, 2), strict=True):
        torch.manual_seed(int(torch.randint(99, (1,))))
        hsmamba.finetune(model, scene, split, transform=transform, seed=seed, **settings)
    assert states_equal(models[0], models[1])
    assert not states_equal(models[0], models[2])


def test_jitter_moves_whole_channels_of_a_patch(scene, split, transform):
    class Spy(torch.nn.Module):
        in_chans, aux_chans, num_classes, patch_size = 4, 0, 3, 5

        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(1))
            self.seen = []

        def forward(self, hsi):
            self.seen.append(hsi)
            return self.scale * hsi.mean((2, 3))[:, :3]

    spies = Spy(), Spy()
    for spy, jitter in zip(spies, (0.0, 0.5), strict=True):
        settings = QUICK | {"epochs": 1, "augment": False, "val_fraction": 0.0, "jitter": jitter}
        hsmamba.finetune(spy, scene, split, transform=transform, **settings)
    plain, moved = (torch.cat(spy.seen) for spy in spies)
    offset = moved - plain
    torch.testing.assert_close(offset, offset[:, :, :1, :1].expand_as(offset))
    assert 0.4 < float(offset[:, :, 0, 0].std()) < 0.6


def test_the_random_state_of_the_caller_is_left_alone(make_model, scene, split, transform):
    model = make_model()
    torch.manual_seed(5)
    want = torch.rand(3)
    torch.manual_seed(5)
    hsmamba.finetune(model, scene, split, transform=transform, mixup=0.2, **QUICK | {"epochs": 1})
    assert torch.equal(torch.rand(3), want)


@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_an_interrupted_run_resumes_bit_for_bit(make_model, scene, split, transform, tmp_path, ema_decay):
    settings = QUICK | {"epochs": 5, "mixup": 0.3, "erase": 0.3, "jitter": 0.1, "ema_decay": ema_decay}
    whole = make_model(drop_rate=0.3)
    want = hsmamba.finetune(whole, scene, split, transform=transform, **settings)
    path = tmp_path / "run" / "checkpoint.pt"

    def interrupt(record, _model):
        if record["epoch"] == 3:
            raise KeyboardInterrupt

    broken = make_model(drop_rate=0.3)
    with pytest.raises(KeyboardInterrupt):
        hsmamba.finetune(broken, scene, split, transform=transform, checkpoint=path, callback=interrupt, **settings)
    resumed = make_model(drop_rate=0.3)
    torch.nn.init.zeros_(resumed.head.weight)  # whatever the model holds, the checkpoint counts
    got = hsmamba.finetune(resumed, scene, split, transform=transform, resume=path, **settings)
    assert states_equal(resumed, whole)
    assert got.best_epoch == want.best_epoch
    strip = [{k: v for k, v in r.items() if k != "seconds"} for r in (*got.history, *want.history)]
    assert strip[:5] == strip[5:]


def test_an_interrupt_within_an_epoch_leaves_the_last_checkpoint_whole(
    make_model, scene, split, transform, tmp_path, monkeypatch, caplog
):
    path = tmp_path / "checkpoint.pt"
    batch, calls = PatchDataset.batch, []

    def failing(self, items):
        calls.append(1)
        if len(calls) > 25:
            raise KeyboardInterrupt
        return batch(self, items)

    monkeypatch.setattr(PatchDataset, "batch", failing)
    with pytest.raises(KeyboardInterrupt):
        hsmamba.finetune(make_model(), scene, split, transform=transform, checkpoint=path, **QUICK | {"epochs": 50})
    assert f"continue with resume='{path}'" in caplog.text
    state = torch.load(path, weights_only=True)
    assert state["epoch"] == len(state["history"]) >= 1
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_checkpoint_of_another_run_is_refused(make_model, scene, split, transform, tmp_path):
    path = tmp_path / "checkpoint.pt"
    hsmamba.finetune(make_model(), scene, split, transform=transform, checkpoint=path, **QUICK)
    with pytest.raises(WeightsError, match=r"lr: 0\.01 there, 0\.5 here"):
        hsmamba.finetune(make_model(), scene, split, transform=transform, resume=path, **QUICK | {"lr": 0.5})
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="truncated"):
        hsmamba.finetune(make_model(), scene, split, transform=transform, resume=path, **QUICK)
    for nowhere in (tmp_path / "none.pt", tmp_path):
        with pytest.raises(WeightsError, match=r"there is no checkpoint.*leave resume out"):
            hsmamba.finetune(make_model(), scene, split, transform=transform, resume=nowhere, **QUICK)


def test_a_checkpoint_of_another_network_is_refused(make_model, scene, split, transform, tmp_path):
    path = tmp_path / "checkpoint.pt"
    hsmamba.finetune(make_model(), scene, split, transform=transform, checkpoint=path, **QUICK)
    for other in ({"dim": 12}, {"filters": 4}):
        with pytest.raises(WeightsError, match=r"with this MD2FMamba .*resume with the network of that run"):
            hsmamba.finetune(make_model(**other), scene, split, transform=transform, resume=path, **QUICK)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_the_log_holds_the_history(make_model, scene, split, transform, tmp_path, suffix):
    path = tmp_path / f"log{suffix}"
    result = hsmamba.finetune(make_model(), scene, split, transform=transform, log=path, **QUICK)
    text = path.read_text()
    if suffix == ".csv":
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(text.splitlines())]
    else:
        rows = [json.loads(line) for line in text.splitlines()]
    assert rows == result.history


def test_patience_and_callback_end_a_run(make_model, scene, split, transform):
    slow = QUICK | {"epochs": 30, "lr": 1e-9}
    flat = hsmamba.finetune(make_model(), scene, split, transform=transform, patience=2, **slow)
    assert len(flat.history) < 30
    assert len(flat.history) == flat.best_epoch + 2
    stopped = hsmamba.finetune(
        make_model(), scene, split, transform=transform, callback=lambda record, _: record["epoch"] == 2, **QUICK
    )
    assert len(stopped.history) == 2


def test_class_weights_amp_and_no_clipping_run(make_model, scene, split, transform):
    for extra in ({"class_weights": "balanced"}, {"class_weights": [1.0, 2.0, 0.5]}, {"amp": True, "clip_grad": None}):
        result = hsmamba.finetune(make_model(), scene, split, transform=transform, **QUICK | {"epochs": 1} | extra)
        assert np.isfinite(result.history[0]["loss"])
    with pytest.raises(ValueError, match="'balanced', None or 3 numbers"):
        hsmamba.finetune(make_model(), scene, split, transform=transform, class_weights=[1.0], **QUICK)


def test_a_network_with_outputs_for_training_alone_is_trained_by_its_own_loss(scene, split, transform):
    torch.manual_seed(0)
    model = hsmamba.create_model("mim_paper", in_chans=4, num_classes=3, patch_size=5)
    result = hsmamba.finetune(model, scene, split, transform=transform, amp=True, **QUICK | {"epochs": 2})
    assert result.history[1]["loss"] < result.history[0]["loss"]
    assert hsmamba.evaluate(model, scene, split).oa > 0.4


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"epoch": 3}, TypeError, "no setting epoch; there are: epochs"),
        ({"epochs": 0}, ValueError, "epochs is 0; it must be at least 1"),
        ({"lr": 0.0}, ValueError, "lr is 0.0"),
        ({"label_smoothing": 1.0}, ValueError, r"label_smoothing is 1\.0; it must be in \[0, 1\)"),
        ({"ema_decay": 1.0}, ValueError, "ema_decay"),
        *(
            ({name: value}, ValueError, f"^{name} is .*; it (must be|is) ")
            for name, value in [
                ("epochs", 1.5),
                ("epochs", True),
                ("epochs", float("nan")),
                ("batch_size", np.float64(2.5)),
                ("lr", float("inf")),
                ("lr", float("nan")),
                ("lr", -1.0),
                ("lr", "0.1"),
                ("lr", np.ones(2)),
                ("lr", None),
                ("clip_grad", -1),
                ("clip_grad", 0.0),
                ("clip_grad", float("inf")),
                ("patience", 0),
                ("patience", 1.5),
                ("seed", -1),
                ("augment", 1),
                ("weight_decay", float("nan")),
                ("mixup", float("inf")),
                ("jitter", float("nan")),
                ("val_fraction", -0.1),
                ("label_smoothing", float("nan")),
                ("class_weights", (0, 0, 0)),
                ("class_weights", [1, float("nan"), 1]),
                ("class_weights", "even"),
                ("class_weights", [-1, 1, 1]),
                ("class_weights", np.array([1, 1])),
                ("class_weights", 3),
            ]
        ),
        ({"log": "x.txt"}, ValueError, r"\.csv or \.jsonl"),
    ],
)
def test_settings_out_of_range_are_named(make_model, scene, split, transform, settings, error, text):
    with pytest.raises(error, match=text):
        hsmamba.finetune(make_model(), scene, split, transform=transform, **settings)


def test_numbers_of_numpy_in_settings_can_be_resumed(make_model, scene, split, transform, tmp_path):
    path = tmp_path / "run.pt"
    settings = {
        **QUICK, "transform": transform, "checkpoint": path, "lr": np.float32(0.01), "epochs": np.int64(2),
        "patience": torch.tensor(9), "class_weights": np.array([1, 2, 1.5]), "augment": np.bool_(True),
    }  # fmt: skip
    first = hsmamba.finetune(make_model(), scene, split, **settings)
    assert type(first.settings.lr) is float and first.settings.class_weights == (1.0, 2.0, 1.5)
    again = hsmamba.finetune(make_model(), scene, split, **settings | {"class_weights": [1, 2, 1.5]}, resume=path)
    assert again.history == first.history


class Diverging(torch.nn.Module):
    """A classifier whose weights, or whose loss alone, become infinite at some step."""

    in_chans, aux_chans, num_classes, patch_size = 4, 0, 3, 5

    def __init__(self, step, weights):
        super().__init__()
        self.head = torch.nn.Linear(4, 3)
        self.left, self.weights = step, weights

    def forward(self, hsi, aux=None):
        logits = self.head(hsi.mean((2, 3)))
        if self.training:
            self.left -= 1
            if self.left == 0:
                if self.weights:
                    self.head.weight.data[0, 0] = float("inf")
                    return logits  # of the weights before
                return logits * float("nan")
        return logits


@pytest.mark.parametrize("weights", [True, False])
def test_a_run_that_diverges_stops_with_the_last_good_checkpoint(scene, split, transform, tmp_path, weights):
    path, log = tmp_path / "run.pt", tmp_path / "log.csv"
    steps = -(
        -hsmamba.finetune(Diverging(0, weights), scene, split, transform=transform, **QUICK).split.train.size // 16
    )
    model = Diverging(3 * steps if weights else 2 * steps + 2, weights)  # in the third epoch
    told = "the weight head.weight is not finite" if weights else "step 2, the loss is nan"
    with pytest.raises(TrainingError, match=rf"epoch 3: {told}; train anew with a smaller lr \(it is 0.01\)"):
        hsmamba.finetune(model, scene, split, transform=transform, checkpoint=path, log=log, **QUICK)
    state = torch.load(path, weights_only=True)
    assert state["epoch"] == 2 and len(log.read_text().splitlines()) == 3
    assert all(bool(torch.isfinite(tensor).all()) for tensor in state["model"].values())


def test_a_full_disk_leaves_the_last_checkpoint(make_model, scene, split, transform, tmp_path):
    path = tmp_path / "run.pt"
    settings = {**QUICK, "transform": transform, "checkpoint": path}
    with full_disk() as limit, pytest.raises(TrainingError, match=r"cannot write the checkpoint .*run\.pt.*resume"):
        hsmamba.finetune(make_model(), scene, split, callback=lambda record, model: limit(4096), **settings)
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.pt"]
    assert torch.load(path, weights_only=True)["epoch"] == 1


def test_data_that_does_not_fit_is_named(make_model, scene, split, transform):
    with pytest.raises(SceneError, match=r"model has 5 classes, the data 3.*reset_classifier\(3\)"):
        hsmamba.finetune(make_model(num_classes=5), scene, split, transform=transform, **QUICK)
    with pytest.raises(SceneError, match="no labels"):
        hsmamba.finetune(make_model(), Scene(scene.hsi), split, transform=transform, **QUICK)
    other = random_split(np.ones((9, 9), int), count=5, seed=0)
    with pytest.raises(SplitError, match=r"\(9, 9\)"):
        hsmamba.finetune(make_model(), scene, other, transform=transform, **QUICK)
    none = replace(split, train=np.empty(0, np.int64))
    with pytest.raises(SplitError, match="no training pixels"):
        hsmamba.finetune(make_model(), scene, none, transform=transform, **QUICK)


def test_the_default_transform_looks_at_training_pixels_alone(scene, split):
    fitted = default_transform(scene, split, 4)
    changed = Scene(scene.hsi.copy(), scene.labels)
    outside = np.setdiff1d(np.arange(changed.labels.size), split.train)
    changed.hsi.reshape(-1, 12)[outside] = 1e6
    again = default_transform(changed, split, 4)
    x = scene.hsi[:2]
    np.testing.assert_array_equal(fitted(x), again(x))
    assert fitted.num_features == 4
    assert default_transform(scene, split, 12).num_features == 12


def test_few_labels_are_enough(make_model):
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(1, 6), 80).reshape(20, 20)
    cube = generator.normal(size=(6, 40))[labels] + 0.2 * generator.normal(size=(20, 20, 40))
    few = np.where(random_split(labels, count=5).train[:, None] == np.arange(400), 1, 0).any(0).reshape(20, 20) * labels
    split = random_split(few, count=4)
    cube[0, 0] = np.nan  # what has no data is not fitted on
    for data, chosen in ((Scene(cube, few), split), ([Scene(cube, few)], replace(split, shape=(1, 400)))):
        fitted = default_transform(data, chosen, 30)
        assert fitted.num_features == 30 and np.isfinite(fitted(cube[1:])).all()
    np.testing.assert_array_equal(fitted(cube[1:]), default_transform(Scene(cube, labels), split, 30)(cube[1:]))
    model = make_model(in_chans=30, num_classes=5)
    cube[0, 0] = 0
    result = hsmamba.finetune(model, Scene(cube, few), split, **QUICK)
    assert np.bincount(few.ravel()[result.split.train])[1:].min() >= 1
    assert hsmamba.evaluate(model, Scene(cube, labels), split).support.tolist() == [1] * 5


def test_a_transform_that_cannot_be_says_so_in_words_of_the_model(make_model, scene, split):
    with pytest.raises(SceneError, match=r"takes 20 bands, the scene has 12 bands; create the model with in_chans=12"):
        hsmamba.finetune(make_model(in_chans=20), scene, split, **QUICK)
    small = Scene(scene.hsi[:2, :4], np.array([[1, 1, 2, 2], [3, 3, 0, 0]]))
    with pytest.raises(SceneError, match=r"8 pixels .* 12 bands to the 10 .* in_chans=7 or less, or with in_chans=12"):
        default_transform(small, random_split(small.labels, count=1), 10)
    for in_chans in (7, 12):
        assert default_transform(small, random_split(small.labels, count=1), in_chans).num_features == in_chans


def test_a_model_of_other_bands_gets_a_transform_of_the_scene(make_model, scene, split, tmp_path):
    model = make_model()
    wider = Scene(np.concatenate([scene.hsi, scene.hsi[..., ::2]], 2), scene.labels, class_names=scene.class_names)
    hsmamba.finetune(model, wider, split, **QUICK)
    with pytest.raises(SceneError, match="has 12 bands, the transform of the model takes 18"):
        hsmamba.evaluate(model, scene, split)
    told = r"\(18 there, 12 here\): another transform is fitted .* to the 4 that the model takes"
    with pytest.warns(HsmambaWarning, match=told):
        hsmamba.finetune(model, scene, split, **QUICK | {"epochs": 12})
    assert model.transform.in_channels() == 12 and hsmamba.evaluate(model, scene, split).oa > 0.9
    again = hsmamba.create_model(f"local-dir:{hsmamba.save_pretrained(model, tmp_path / 'model')}")
    np.testing.assert_array_equal(hsmamba.evaluate(again, scene, split).confusion,
                                  hsmamba.evaluate(model, scene, split).confusion)  # fmt: skip
    with pytest.raises(ValueError, match=r"scale is 2, .* leave scale out"):
        hsmamba.finetune(make_model(), scene, split, scale=2, **QUICK)
    given = default_transform(wider, split, 4)
    with pytest.raises(SceneError, match="has 12 bands, the transform of the model takes 18"):
        hsmamba.finetune(model, scene, split, transform=given, **QUICK)


def test_a_model_of_other_wavelengths_gets_a_transform_of_the_scene(make_model, scene, split):
    model, here = make_model(), replace(scene, wavelengths=np.linspace(400, 950, 12))
    hsmamba.finetune(model, here, split, **QUICK)
    first = model.transform
    turned = replace(here, hsi=here.hsi[..., ::-1], wavelengths=here.wavelengths[::-1])
    with pytest.warns(HsmambaWarning, match="12 of the scene's 12 bands by their wavelengths, in another order"):
        hsmamba.finetune(model, turned, split, **QUICK)
    assert model.transform is first
    with pytest.warns(HsmambaWarning, match=r"other wavelengths\): another transform is fitted"):
        hsmamba.finetune(model, replace(scene, wavelengths=np.linspace(1400, 1950, 12)), split, **QUICK)
    assert model.transform.wavelengths[0] == 1400


@pytest.mark.parametrize("sizes", [{"num_classes": 3}, {"num_classes": 3, "in_chans": 12}])
def test_a_published_weight_is_tuned_on_a_scene_of_other_bands(sizes):
    generator = np.random.default_rng(0)
    labels = np.repeat([1, 2, 3], 10)[:, None].repeat(30, 1)
    cube = (2000 * generator.random((4, 103))[labels] + 100 * generator.random((30, 30, 103))).astype(np.uint16)
    if "in_chans" in sizes:
        cube = cube[..., :12]
    scene, split = Scene(cube, labels), random_split(labels, count=12)
    model = hsmamba.create_model("md2f_mamba.indian_pines", pretrained=True, **sizes)
    hsmamba.finetune(model, scene, split, **QUICK | {"epochs": 2, "lr": 1e-3})
    assert model.transform.in_channels() == cube.shape[2]
    assert hsmamba.evaluate(model, scene, split).confusion.sum() == split.test.size


def test_settings_are_json_able_and_documented():
    settings = ClassificationSettings()
    assert json.loads(json.dumps(settings.__dict__))["epochs"] == 100
    for name in settings.__dict__:
        assert (TrainingSettings.__doc__ + ClassificationSettings.__doc__).count(f" {name}: ") == 1
