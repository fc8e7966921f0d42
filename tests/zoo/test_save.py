"""Model folders and their cards: written whole, read back bit for bit, refused when they are not what was saved."""

from __future__ import annotations

import datetime
import json
import os
import re
import shutil

import numpy as np
import pytest
import torch
import yaml

from hsmamba.data import PCA, Compose, Standardise, random_split
from hsmamba.errors import HashMismatchError, ManifestError, WeightsError
from hsmamba.models import registry
from hsmamba.zoo import card, files, manifest, records, save, source
from tests.conftest import run_python

METRICS = {"random": {"oa": {"mean": 98.7123, "std": 0.1}, "aa": None}, "disjoint": {"oa": 80.25}, "kappa": 0.5}
FILES = ["README.md", "config.json", "model.safetensors"]


@pytest.fixture
def saved(tmp_path, tiny):
    return save.save_pretrained(tiny(), tmp_path / "saved", metrics=METRICS)


def contents(path):
    return {entry.name: entry.read_bytes() for entry in path.iterdir()}


def same(state, other):
    return state.keys() == other.keys() and all(
        state[key].dtype == other[key].dtype and torch.equal(state[key], other[key]) for key in state
    )


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
        ({"license": None}, ManifestError, "license is None, expected str"),
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


@pytest.mark.parametrize("fails_at", [0, 1, 2])
@pytest.mark.parametrize("fresh", [False, True])
def test_a_failure_while_moving_leaves_the_old_folder_whole(saved, tiny, tmp_path, monkeypatch, fails_at, fresh):
    place = tmp_path / "fresh" if fresh else saved
    before, calls, replace = {} if fresh else contents(saved), [], os.replace

    def failing(source, target):
        calls.append(target)
        if len(calls) == fails_at + 1:
            raise PermissionError("in use")
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(WeightsError, match="in use"):
        save.save_pretrained(tiny(seed=9), place)
    assert contents(place) == before
    save.save_pretrained(tiny(seed=9), place)  # and nothing stands in the way of the next try
    assert same(files.load_tensors(source.read_folder(place).model_path), tiny(seed=9).state_dict())
    assert calls[-1] == place / "config.json"  # last, so that no other file is missing once it is there


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


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-4]), "cut short"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\0"), "not the file on record"),
        (lambda path: path.write_bytes(b""), r"\(0 bytes\)"),
        (lambda path: path.rename(path.with_name("weights.safetensors")), "under the name model.safetensors"),
    ],
)
def test_damaged_missing_and_renamed_weights_are_told(saved, damage, told):
    damage(saved / "model.safetensors")
    with pytest.raises(WeightsError, match=told) as raised:
        source.read_folder(saved)
    assert str(saved / "model.safetensors") in str(raised.value)


def test_a_hash_mismatch_names_both_hashes(saved):
    good = files.sha256_file(saved / "model.safetensors")
    (saved / "model.safetensors").write_bytes(b"other")
    with pytest.raises(HashMismatchError) as raised:
        source.read_folder(saved)
    for digest in (good, files.sha256_file(saved / "model.safetensors")):
        assert digest in str(raised.value)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"schema": 2}, "reads schema 1.*pip install -U hsmamba"),
        ({"library": "timm"}, "not written by hsmamba"),
        ({"files": {}}, "names no model file"),
        ({"files": {"model": "model.safetensors"}}, "files.model is str, expected an object"),
        ({"model_args": None}, "model_args is None, expected dict"),
        ({"architecture": 3}, "architecture is 3, expected str"),
        ({"params": "many"}, "params is 'many', expected int"),
    ],
)
def test_configurations_that_do_not_fit_are_told(saved, change, told):
    config = json.loads((saved / "config.json").read_text(encoding="utf-8"))
    (saved / "config.json").write_text(json.dumps(config | change), encoding="utf-8")
    with pytest.raises(ManifestError, match=told) as raised:
        source.read_folder(saved)
    assert str(saved) in str(raised.value)


@pytest.mark.parametrize("name", ["../outside.safetensors", "sub/model.safetensors", "..", "", "C:model", "a\\b"])
def test_files_outside_the_folder_are_never_read(saved, name):
    shutil.copy(saved / "model.safetensors", saved.parent / "outside.safetensors")
    config = json.loads((saved / "config.json").read_text(encoding="utf-8"))
    config["files"]["model"]["file"] = name
    (saved / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ManifestError, match="not a plain file name"):
        source.read_folder(saved)


def test_what_is_no_model_folder_is_told(tmp_path, saved):
    with pytest.raises(ManifestError, match=r"no config\.json \(no such folder\)"):
        source.read_folder(tmp_path / "nothing")
    (saved / "config.json").unlink()
    with pytest.raises(ManifestError, match=r"\(README\.md, model\.safetensors\)"):
        source.read_folder(saved)
    (saved / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(ManifestError, match="cannot be read as JSON"):
        source.read_folder(saved)


def test_only_safetensors_are_read(tmp_path, saved, tiny):
    whole = (saved / "model.safetensors").read_bytes()
    for name, content in (("cut", whole[:-1]), ("header", whole[:20]), ("empty", b""), ("text", b"some other text")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError, match=rf"{name} \({len(content)} bytes\) is no whole safetensors file"):
            files.load_tensors(tmp_path / name)
    for name, options in (("zip", {}), ("old", {"_use_new_zipfile_serialization": False})):
        torch.save(tiny().state_dict(), tmp_path / name, **options)
        with pytest.raises(WeightsError, match=rf"PyTorch pickle.*hsmamba convert .*{name}"):
            files.load_tensors(tmp_path / name)
    with pytest.raises(WeightsError, match="there is no weight file"):
        files.load_tensors(tmp_path / "nothing")


def test_a_folder_makes_a_record_and_the_record_the_same_folder(saved, tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "weights_folder", lambda: tmp_path / "weights")
    found = source.read_folder(saved)
    record = source.record_of(found, "first", address=records.HubAddress("maker/tiny", "a" * 40, "model.safetensors"))
    assert (record.name, record.bytes) == ("tiny.first", (saved / "model.safetensors").stat().st_size)
    path = manifest.write_manifest([record], tmp_path / "manifest.json")
    assert manifest.load_manifest(path) == {"tiny.first": record}
    shutil.copytree(saved, tmp_path / "weights" / "tiny.first")
    again = source.folder_of(record)
    assert records.facts_of(again) == records.facts_of(found)
    assert again.model_path.read_bytes() == found.model_path.read_bytes()
    with pytest.raises(ManifestError, match=r"architecture\.tag"):
        source.record_of(found, "../first")


def front_matter(text):
    return yaml.safe_load(re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)[1])


def test_the_card_tells_what_is_known(tmp_path, tiny):
    data = {"name": "Indian Pines", "source": "AVIRIS", "split": {"name": "random", "id": "r5"}, "seeds": [0, 1, 2]}
    place = save.save_pretrained(tiny(), tmp_path / "saved", metrics=METRICS, data=data, recipe="tiny.toml")
    text = (place / "README.md").read_text(encoding="utf-8")
    front = front_matter(text)
    assert {key: front[key] for key in ("license", "library_name", "pipeline_tag", "datasets", "metrics")} == {
        "license": "apache-2.0",
        "library_name": "hsmamba",
        "pipeline_tag": "image-segmentation",
        "datasets": ["indian-pines"],
        "metrics": ["oa", "kappa"],
    }
    assert {"hsmamba", "remote-sensing", "classification", "tiny"} == set(front["tags"])
    results = front["model-index"][0]["results"]
    values = {(r["dataset"].get("config"), m["name"]): m["value"] for r in results for m in r["metrics"]}
    assert values == {("random", "oa"): 98.7123, ("disjoint", "oa"): 80.25, (None, "kappa"): 0.5}
    for told in (
        "# tiny, trained on Indian Pines",
        "- Parameters: 31",
        "- Classes: corn, oats, wheat, woods",
        "- source: AVIRIS",
        "- split: name random, id r5",
        "- seeds: 0, 1, 2",
        "| random | 98.71 ± 0.1 | n/a |",
        "tiny.toml",
        'create_model("hf-hub:owner/repo")',
        'create_model("local-dir:path/to/this/folder")',
        "The weights: Apache-2.0.",
        "## Citation",
    ):
        assert told in text


def test_the_card_of_a_record_and_of_a_registered_architecture(saved):
    found = source.read_folder(saved)
    record = source.record_of(found, "first")
    assert 'create_model("tiny.first", pretrained=True)' in card.model_card("tiny", record, name=record.name)
    entry = registry()["md2f_mamba"]
    text = card.model_card("md2f_mamba", found)
    assert entry.cfg.summary in text and entry.cfg.citation in text


def test_a_card_survives_odd_names_and_licences(tmp_path, tiny):
    data = {"name": "---\nlicense: mit # |'\"", "source": "{braces}"}
    place = save.save_pretrained(tiny(), tmp_path / "saved", data=data, license="research only, see the site")
    front = front_matter((place / "README.md").read_text(encoding="utf-8"))
    assert (front["license"], front["license_name"]) == ("other", "research-only-see-the-site")
    assert front["datasets"] == ["license-mit"]


@pytest.mark.parametrize(
    ("metrics", "table"),
    [
        ({}, ""),
        ({"oa": 0.5, "n": 3}, "| oa | n |\n| --- | --- |\n| 0.5 | 3 |"),
        (
            {"a|b": {"oa": {"mean": 1.0, "std": None}}, "c": {"aa": [1, 2.5]}},
            "| protocol | oa | aa |\n| --- | --- | --- |\n| a\\|b | 1 |  |\n| c |  | 1, 2.5 |",
        ),
    ],
)
def test_metrics_make_a_table(metrics, table):
    assert card.metrics_table(metrics) == table


def test_looking_into_folders_needs_no_torch(saved):
    code = (
        f"import sys; from hsmamba.zoo import source; print(source.read_folder({str(saved)!r}).architecture); "
        "assert 'torch' not in sys.modules"
    )
    assert run_python(code).strip() == "tiny"


def test_staging_folders_of_a_killed_process_stand_in_nobodys_way(tmp_path, tiny):
    (tmp_path / "saved" / f"{save._STAGING}x").mkdir(parents=True)
    save.save_pretrained(tiny(), tmp_path / "saved")
    assert source.read_folder(tmp_path / "saved").architecture == "tiny"


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
