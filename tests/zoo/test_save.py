"""Model folders: written whole or not at all, read back bit for bit."""

import datetime
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import hsmamba
from hsmamba.data import PCA, Compose, Standardise, random_split
from hsmamba.errors import HsmambaWarning, ManifestError, WeightsError
from hsmamba.zoo import files, records, save, source
from tests.conftest import full_disk
from tests.zoo.samples import METRICS, SMALL, contents, same

FILES = ["README.md", "config.json", "model.safetensors"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_weights_come_back_bit_for_bit(tmp_path, tiny, dtype):
    model = tiny(seed=3).to(dtype)
    found = source.read_folder(save.save_pretrained(model, tmp_path / "a" / "b"))
    state = files.load_tensors(found.model_path)
    assert same(state, model.state_dict())
    again = tiny(seed=4).to(dtype)
    again.load_state_dict(state)
    x = torch.randn(5, 3, dtype=dtype)
    assert torch.equal(model(x), again(x))
    assert sorted(contents(tmp_path / "a" / "b")) == FILES


def test_facts_come_back(tmp_path, tiny):
    options = {
        "metrics": METRICS,
        "data": {"name": "Made Up", "source": "made up", "licence": "CC0", "seeds": [0, 1]},
        "license": "CC-BY-4.0",
        "recipe": {"epochs": np.int64(3), "lr": np.float32(0.5), "betas": np.array([0.5, 0.25])},
        "wavelengths": np.array([400, 500.5, 600]),
    }
    found = source.read_folder(save.save_pretrained(tiny(), tmp_path / "saved", **options))
    assert found.architecture == "tiny"
    assert found.model_args == {"num_classes": 4, "kernel_sizes": [3, 5]}
    assert found.classes == ("corn", "oats", "wheat", "woods")
    assert (found.bands, found.wavelengths) == (3, (400.0, 500.5, 600.0))
    assert (found.metrics, found.data, found.license) == (METRICS, options["data"], "CC-BY-4.0")
    assert found.recipe == {"epochs": 3, "lr": 0.5, "betas": [0.5, 0.25]}
    assert found.params == sum(p.numel() for p in tiny().parameters())
    assert found.date == datetime.date.today().isoformat()
    assert found.source == f"local-dir:{tmp_path / 'saved'}"
    assert found.config["architecture"] == "tiny" and found.config["bands"] == 3


BASE = {
    "architecture": "tiny",
    "source": "tiny.base",
    "license": "LicenseRef-NonProfit",
    "data": {"name": "Made Up", "source": "made up"},
    "bands": 3,
    "wavelengths": (400.0, 500.0, 600.0),
}


def test_what_is_known_of_the_base_weight_is_inherited(tmp_path, tiny):
    model = tiny()
    model.record = BASE
    folder = save.save_pretrained(model, tmp_path / "saved")
    found = source.read_folder(folder)
    assert (found.license, found.bands, found.wavelengths) == ("LicenseRef-NonProfit", 3, (400.0, 500.0, 600.0))
    assert found.data == {**BASE["data"], "base_model": "tiny.base"}
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "- base_model: tiny.base" in card and "The weights: LicenseRef-NonProfit." in card
    told = {"license": "MIT", "data": {"name": "Mine", "source": "me"}, "wavelengths": (1, 2, 3)}
    found = source.read_folder(save.save_pretrained(model, tmp_path / "told", **told))
    assert (found.license, found.wavelengths) == ("MIT", (1.0, 2.0, 3.0))
    assert found.data == {"base_model": "tiny.base", "name": "Mine", "source": "me"}


def test_a_folder_on_disk_passes_its_own_base_weight_on(tmp_path, tiny):
    model = tiny()
    model.record = BASE
    model.record = source.read_folder(save.save_pretrained(model, tmp_path / "first")).config
    again = source.read_folder(save.save_pretrained(model, tmp_path / "second", data={"name": "Mine", "source": "me"}))
    assert (again.license, again.data["base_model"]) == ("LicenseRef-NonProfit", "tiny.base")  # and no local path
    model.record = {**model.record, "source": "hf-hub:me/first@" + "a" * 40}
    assert (
        source.read_folder(save.save_pretrained(model, tmp_path / "third")).data["base_model"].startswith("hf-hub:me")
    )


def test_wavelengths_of_other_bands_and_facts_of_no_weight_are_not_inherited(tmp_path, tiny):
    model = tiny()
    assert source.read_folder(save.save_pretrained(model, tmp_path / "new")).license == "Apache-2.0"
    model.record = BASE
    model.transform = Compose([Standardise(), PCA(3)]).fit(np.random.default_rng(0).normal(size=(50, 7)))
    found = source.read_folder(save.save_pretrained(model, tmp_path / "other"))
    assert (found.bands, found.wavelengths) == (7, None)


def test_transform_and_split_travel_with_the_weights(tmp_path, tiny):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, (12, 9))
    transform = Compose([Standardise(), PCA(3)]).fit(rng.normal(size=(50, 7)))
    split = random_split(labels, count=3, seed=0)
    model = tiny()
    model.transform = transform
    found = source.read_folder(save.save_pretrained(model, tmp_path / "saved", split=split))
    assert set(found.files) == {"model", "transform", "split"}
    assert found.bands == 7  # what the transform takes, not what the network takes
    pixels = rng.normal(size=(4, 7))
    assert np.array_equal(found.load_transform()(pixels), transform(pixels))
    assert found.load_split().sha256 == split.sha256
    plain = source.read_folder(save.save_pretrained(tiny(), tmp_path / "plain"))
    assert plain.load_transform() is None and plain.load_split() is None


def test_a_new_head_and_a_compiled_network_are_saved_as_they_are(tmp_path, tiny):
    model = tiny()
    model.head, model.num_classes, model.class_names = torch.nn.Linear(3, 2), 2, ("corn", "oats")
    found = source.read_folder(save.save_pretrained(torch.compile(model), tmp_path / "saved"))
    assert found.model_args["num_classes"] == 2
    assert same(files.load_tensors(found.model_path), model.state_dict())


def test_a_network_made_by_hand_must_say_how_it_was_built(tmp_path):
    with pytest.raises(ValueError, match=r"create_model, or pass architecture="):
        save.save_pretrained(torch.nn.Linear(2, 2), tmp_path / "saved")
    save.save_pretrained(torch.nn.Linear(2, 2), tmp_path / "saved", architecture="linear", model_args={})
    assert source.read_folder(tmp_path / "saved").architecture == "linear"


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"class_names": ["corn"]}, ValueError, "1 class names for a model of 4 classes"),
        ({"wavelengths": [400]}, ValueError, "1 wavelengths for 3 bands"),
        ({"metrics": {"oa": float("nan")}}, ValueError, "give None"),
        ({"metrics": {"oa": object()}}, TypeError, "of type object cannot be written"),
        ({"data": {"split": {1, 2}}}, TypeError, "of type set cannot be written"),
        ({"license": 3}, ManifestError, "license is 3, expected str"),
    ],
)
def test_what_cannot_be_recorded_is_refused_and_nothing_is_left(tmp_path, tiny, options, error, told):
    with pytest.raises(error, match=told):
        save.save_pretrained(tiny(), tmp_path / "saved", **options)
    assert not (tmp_path / "saved").exists() or contents(tmp_path / "saved") == {}


class Failing:
    """A transform that cannot be written."""

    def in_channels(self):
        return 3

    def save(self, path):
        path.write_bytes(b"half of")
        raise self.error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("disk full")])
def test_a_failure_while_writing_leaves_the_old_folder_whole(saved, tiny, error):
    before, failing = contents(saved), Failing()
    failing.error = error
    with pytest.raises((KeyboardInterrupt, WeightsError)):
        save.save_pretrained(tiny(seed=9), saved, transform=failing)
    assert contents(saved) == before


def test_a_full_disk_leaves_the_old_folder_whole(saved, tiny):
    before = contents(saved)
    with full_disk() as limit, pytest.raises(WeightsError, match="free some space"):
        limit(100)
        save.save_pretrained(tiny(seed=9), saved)
    assert contents(saved) == before


@pytest.mark.parametrize("fails_at", range(5))
@pytest.mark.parametrize("fresh", [False, True])
def test_a_failure_while_moving_leaves_the_old_model_or_the_new_one(
    saved, tiny, tmp_path, monkeypatch, fails_at, fresh
):
    place = tmp_path / "fresh" if fresh else saved
    before, calls, replace = {} if fresh else contents(saved), [], os.replace

    def failing(source, target):
        calls.append(target)
        if len(calls) == fails_at + 1:
            raise PermissionError("in use")
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    if fails_at < 2:  # before the new config.json is there
        with pytest.raises(WeightsError, match="in use"):
            save.save_pretrained(tiny(seed=9), place)
        assert contents(place) == before
    else:
        with pytest.warns(HsmambaWarning, match=r"holds the new model.*\(in use\).*save again"):
            save.save_pretrained(tiny(seed=9), place)
        assert same(files.load_tensors(source.read_folder(place).model_path), tiny(seed=9).state_dict())
    save.save_pretrained(tiny(seed=8), place)  # and nothing stands in the way of the next try
    assert same(files.load_tensors(source.read_folder(place).model_path), tiny(seed=8).state_dict())
    assert sorted(contents(place)) == FILES


def test_a_file_system_without_links_gets_copies(saved, tiny, monkeypatch):
    def unable(*args):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", unable)
    save.save_pretrained(tiny(seed=9), saved)
    assert same(files.load_tensors(source.read_folder(saved).model_path), tiny(seed=9).state_dict())
    assert sorted(contents(saved)) == FILES


@pytest.mark.slow
def test_who_reads_while_others_save_gets_one_of_their_models_whole(tmp_path):
    """The model's weights and the transform's are all the same number."""

    def saver(number):
        model = hsmamba.create_model("md2f_mamba", **SMALL)
        for parameter in model.parameters():
            torch.nn.init.constant_(parameter, number)
        transform = Compose([Standardise()]).fit(np.array([[number - 1.0] * 6, [number + 1.0] * 6]))
        return lambda: save.save_pretrained(model, tmp_path / "model", transform=transform, class_names=())

    def read():
        model = hsmamba.create_model(f"local-dir:{tmp_path / 'model'}")
        state = {float(parameter.detach().flatten()[0]) for parameter in model.parameters()}
        return state, model.transform(np.zeros((1, 6)))[0, 0]

    savers = [saver(number) for number in (1, 2, 3)]
    savers[0]()
    with ThreadPoolExecutor(5) as pool:
        saving = [pool.submit(lambda s=s: [s() for _ in range(15)]) for s in savers]
        reading = [pool.submit(lambda: [read() for _ in range(15)]) for _ in range(2)]
        results = [result for future in reading for result in future.result()]
        assert all(future.result() for future in saving)
    assert len(results) == 30
    assert all(state == {-round(float(zero))} for state, zero in results), results
    assert sorted(contents(tmp_path / "model")) == [*FILES, "transform.safetensors"]


def test_a_folder_into_which_another_saves_is_waited_for_and_then_refused(saved, tiny, monkeypatch):
    monkeypatch.setattr(save, "_WAIT", 0.05)
    with (
        save._turn(saved),
        pytest.raises(WeightsError, match=rf"process {os.getpid()} is saving into .*wait for its end"),
    ):
        save.save_pretrained(tiny(seed=9), saved)
    save.save_pretrained(tiny(seed=9), saved)
    assert sorted(contents(saved)) == FILES


@pytest.mark.parametrize("killed_at", [None, *range(1, 7)])
def test_a_transform_of_the_model_before_does_not_stay(tmp_path, tiny, monkeypatch, killed_at):
    model, place, flush = tiny(), tmp_path / "saved", save.flush
    model.transform = Compose([Standardise()]).fit(np.random.default_rng(0).normal(size=(50, 3)))
    save.save_pretrained(model, place)
    random_split(np.ones((9, 9), int), count=5, seed=0).save(place / "split.safetensors")  # the user's
    if killed_at is not None:
        flushed = []

        def killed(path):
            flushed.append(path)
            if len(flushed) > killed_at:
                raise KeyboardInterrupt
            flush(path)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(save, "flush", killed)
            patch.setattr(save, "_tidy", lambda folder: None)
            save.save_pretrained(tiny(seed=3), place)
        assert source.read_folder(place).architecture == "tiny"
    save.save_pretrained(tiny(), place)
    assert sorted(contents(place)) == [*FILES, "split.safetensors"]


def test_saving_again_replaces_the_model_and_keeps_what_is_not_its_own(saved, tiny):
    (saved / "notes.txt").write_text("mine", encoding="utf-8")
    save.save_pretrained(tiny(seed=5), saved)
    assert same(files.load_tensors(source.read_folder(saved).model_path), tiny(seed=5).state_dict())
    assert (saved / "notes.txt").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    "theirs", [{"notes.txt": "mine"}, {"config.json": '{"model_type": "bert"}'}, {"config.json": "[]"}]
)
def test_a_folder_that_holds_something_else_is_refused_and_kept(tmp_path, tiny, theirs):
    for name, text in theirs.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    before = contents(tmp_path)
    with pytest.raises(WeightsError, match=r"something other than a model.*choose a new or empty folder"):
        save.save_pretrained(tiny(), tmp_path)
    assert contents(tmp_path) == before


def test_unwritable_places_are_told(tmp_path, tiny):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(WeightsError, match="something other than a model"):
        save.save_pretrained(tiny(), tmp_path / "file")
    with pytest.raises(WeightsError, match=r"cannot write .*choose another folder"):
        save.save_pretrained(tiny(), tmp_path / "file" / "below")


def test_what_a_killed_process_left_is_removed(tmp_path, tiny):
    place = tmp_path / "saved"
    (place / f"{save._STAGING}x").mkdir(parents=True)
    (place / f"{save._STAGING}x" / "model.safetensors").write_bytes(b"half")
    for name in ("_saving-abcdefgh-model.safetensors", ".saving.lock"):
        (place / name).write_bytes(b"1")
    save.save_pretrained(tiny(), place)
    assert source.read_folder(place).architecture == "tiny"
    assert sorted(contents(place)) == FILES


def test_an_exported_weight_is_a_model_folder_of_the_same_files_and_facts(tmp_path):
    weight = source.find_folder("le_mamba.cave_x8")
    place = save.export(weight, tmp_path / "out")
    again = source.read_folder(place)
    assert records.facts_of(again) == records.facts_of(weight)
    assert again.files.keys() == weight.files.keys()
    assert all(path.read_bytes() == weight.files[which].read_bytes() for which, path in again.files.items())
    text = (place / "README.md").read_text(encoding="utf-8")
    assert 'create_model("le_mamba.cave_x8", pretrained=True)' in text
    assert "- Sizes: 31 bands, a guide of 3 channels, ratio 8" in text
    assert "PAN" not in text
