"""What the errors of the zoo say to do, done: each time it works."""

import hashlib
import json
import re
import shlex
import shutil
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

import hsmamba
from hsmamba.data import PCA, Compose, Scene, Standardise, random_split
from hsmamba.errors import UnknownModelError, WeightsError
from hsmamba.zoo import files, save, source
from hsmamba.zoo.official import read_official
from tests.advice import alternatives, says, told, warned
from tests.models.samples import tiny
from tests.zoo.samples import SMALL, Tiny, same
from tests.zoo.test_ensembles import CUBE, NAMES, TRANSFORM, member


def follow(run, text, folder, arch=None):
    """Run the command that a text names, with what it leaves to the reader filled in."""
    command = re.search(r"hsmamba (convert .* --arch \w+)", text)[1]
    words = [{"FOLDER": str(folder), "NAME": arch}.get(word, word) for word in shlex.split(command)]
    code, _, err = run(*words)
    assert code == 0, err
    return hsmamba.create_model(f"local-dir:{folder}")


@pytest.fixture
def model():
    torch.manual_seed(0)
    return hsmamba.create_model("md2f_mamba", **SMALL)


@pytest.mark.parametrize("kind", ["own", "wrapped", "safetensors", "finetune"])
def test_a_checkpoint_of_other_sizes_is_converted(kind, model, run, tmp_path):
    state = model.state_dict()
    path = tmp_path / "my own.pth"
    held = {
        "own": state,
        "wrapped": {f"module.{key}": value for key, value in state.items()},
        "finetune": {"settings": {}, "best": {"state": state}, "model": {}, "ema": {"module.head.weight": state}},
    }
    if kind == "safetensors":
        path = shutil.copy(hsmamba.save_pretrained(model, tmp_path / "saved") / "model.safetensors", tmp_path)
    else:
        torch.save(held[kind], path)
    text = told(
        lambda: hsmamba.create_model("md2f_mamba", checkpoint_path=path),
        "Create the model with the sizes of the checkpoint; one with other names, or of unknown sizes, becomes a model",
    )
    assert same(follow(run, text, tmp_path / "made").state_dict(), state)
    asked = {name: int(n) for name, n in re.findall(r"(num_classes|in_chans|patch_size)=(\d+)", text)} or SMALL
    again = hsmamba.create_model("md2f_mamba", checkpoint_path=path, **asked)  # "with the sizes of the checkpoint"
    assert same(again.state_dict(), state)


@pytest.mark.parametrize("arch", ["rsanet", "ramsf", "mim_v3"])
def test_a_state_that_does_not_tell_all_is_converted_with_what_the_command_line_asks_for(arch, run, tmp_path):
    network = tiny(arch)
    torch.save(network.state_dict(), tmp_path / "own.pth")
    command, config = ["convert", tmp_path / "own.pth", tmp_path / "made", "--arch", arch], {}
    for _ in range(2):
        code, _, err = run(*command, "--config", json.dumps(config))
        if code == 0:
            break
        says(err, "give {} create_model had{}, on the command line as --config")
        asked = json.loads(re.search(r"--config '(.*?)'", err)[1])
        config |= {name: network.model_args.get(name, value) for name, value in asked.items()}
    assert code == 0, err
    made = hsmamba.create_model(f"local-dir:{tmp_path / 'made'}")
    assert same(made.state_dict(), network.state_dict())
    assert made.sizes == network.sizes


def test_an_official_checkpoint_given_as_our_own_is_converted(run, tmp_path):
    from tests.oracles.md2f_mamba import article_state

    torch.save(article_state(4, 5, 3, 6, 2, 3, 3, 3), tmp_path / "official.pth")
    text = told(lambda: hsmamba.create_model("md2f_mamba_ref", checkpoint_path=tmp_path / "official.pth"))
    assert follow(run, text, tmp_path / "made").sizes["in_chans"] == 4


@pytest.mark.parametrize("name", ["model.safetensors", "model"])
def test_a_pickle_in_the_place_of_safetensors_is_converted(name, model, run, tmp_path):
    torch.save(model.state_dict(), tmp_path / name)
    text = told(lambda: files.load_tensors(tmp_path / name), "convert it with: hsmamba convert {} FOLDER --arch NAME")
    if name == "model.safetensors":
        new = re.search(r"rename it to (\S+) and", says(text, "rename it to {} and "))
        (tmp_path / name).rename(tmp_path / new[1])
    made = follow(run, text, tmp_path / "made", arch="md2f_mamba")
    assert same(made.state_dict(), model.state_dict())


def test_a_whole_pickled_network_is_saved_as_its_state(model, tmp_path):
    torch.save(model, tmp_path / "whole.pth")
    text = told(
        lambda: hsmamba.create_model("md2f_mamba", checkpoint_path=tmp_path / "whole.pth", **SMALL),
        "If it holds a whole pickled network, save its state where you trust it: torch.save(",
    )
    save = re.search(r"torch\.save\((.*), '(.*)'\)", text)
    assert save[1] == "model.state_dict()"
    torch.save(model.state_dict(), tmp_path / save[2])
    loaded = hsmamba.create_model("md2f_mamba", checkpoint_path=tmp_path / save[2], **SMALL)
    assert same(loaded.state_dict(), model.state_dict())


def test_a_state_in_an_unusual_nest_is_taken_out(model, tmp_path):
    torch.save({"mine": model.state_dict()}, tmp_path / "own.pth")
    told(lambda: read_official(tmp_path / "own.pth"), "Take the state out yourself and give it to load_official")
    held = torch.load(tmp_path / "own.pth", weights_only=True)
    assert same(hsmamba.load_official("md2f_mamba", held["mine"]).state_dict(), model.state_dict())


def test_names_that_were_meant(model_folder, record):
    folder = model_folder.parent / record.name
    for asked in (str(folder), f"{folder}/"):
        text = told(lambda asked=asked: hsmamba.create_model(asked))
        assert hsmamba.create_model(re.search(r"'(local-dir:[^']*)'", text)[1]).num_classes == 4
    text = told(lambda: hsmamba.create_model("md2f_mamba", checkpoint_path=folder))
    assert hsmamba.create_model(re.search(r"create_model\('(.*?)'\)", text)[1]).num_classes == 4
    text = told(lambda: hsmamba.create_model("md2f_mambo"))
    assert hsmamba.create_model(re.search(r"did you mean (\w+)", text)[1])
    text = told(lambda: hsmamba.create_model("md2f_mamba.tset", pretrained=True))
    assert hsmamba.create_model(re.search(r"did you mean ([\w.]+\w)", text)[1], pretrained=True)
    text = told(lambda: hsmamba.create_model("mim_v1", pretrained=True))
    assert "hsmamba.list_pretrained()" in text and hsmamba.list_pretrained() == [record.name]
    text = told(lambda: hsmamba.create_model("completely different"))
    assert "hsmamba.list_models()" in text and hsmamba.list_models()
    text = told(lambda: hsmamba.list_models(task="segmentation"), "choose {}, or leave it out for both")
    for task in re.search(r"choose (\w+) or (\w+)", text).groups():
        assert hsmamba.list_models(task=task)
    text = told(lambda: hsmamba.create_model("md2f_mamba", widht=3))
    assert hsmamba.create_model("md2f_mamba", **{re.search(r"It takes: (\w+)", text)[1]: 16})


def test_a_file_of_ones_own_beside_a_weight_on_record(record, model_folder, tmp_path):
    torch.manual_seed(9)
    other = hsmamba.save_pretrained(hsmamba.create_model("md2f_mamba", **SMALL), tmp_path / "other")
    path = other / "model.safetensors"
    text = told(
        lambda: hsmamba.create_model(record.name, pretrained=True, checkpoint_path=path),
        "leave the path out to take the library's own copy, or load the file without asking for {}",
    )
    assert f"load the file without asking for {record.name}" in text
    assert hsmamba.create_model(record.name, pretrained=True).record["source"] == record.name
    assert hsmamba.create_model("md2f_mamba", checkpoint_path=path, **SMALL).record is None


def test_files_of_a_folder_are_put_back(model_folder, tmp_path):
    copy = shutil.copytree(model_folder, tmp_path / "copy")
    name = f"local-dir:{copy}"
    (copy / "model.safetensors").rename(copy / "weights.bin")
    text = told(lambda: hsmamba.create_model(name))
    (copy / "weights.bin").rename(copy / re.search(r"under the name (\S+)$", text)[1])
    assert hsmamba.create_model(name)
    (copy / "model.safetensors").unlink()
    (copy / "model.safetensors").symlink_to(model_folder / "model.safetensors")
    told(lambda: hsmamba.create_model(name), "put a copy of the file in its place")
    (copy / "model.safetensors").unlink()
    shutil.copy(model_folder / "model.safetensors", copy)
    assert hsmamba.create_model(name)
    text = told(lambda: source.resolve(source.record_of(source.read_folder(copy), "x"), which="split"))
    assert re.search(r"it has: (.*)$", text)[1] == "model, transform"


def test_links_inside_of_a_folder_and_of_the_hubs_cache_are_followed(model_folder, tmp_path):
    (model_folder / "model.safetensors").rename(model_folder / "blob")
    (model_folder / "model.safetensors").symlink_to("blob")
    assert hsmamba.create_model(f"local-dir:{model_folder}")
    snapshot = tmp_path / "models--a--b" / "snapshots" / ("a" * 40)
    blobs = snapshot.parents[1] / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for file in ("config.json", "model.safetensors", "transform.safetensors"):
        shutil.copy(model_folder / file, blobs / file)
        (snapshot / file).symlink_to(f"../../blobs/{file}")
    assert hsmamba.create_model(f"local-dir:{snapshot}")
    (tmp_path / "linked").symlink_to(model_folder)
    assert hsmamba.create_model(f"local-dir:{tmp_path / 'linked'}")


def test_a_network_that_does_not_say_how_it_was_built_is_saved_with_what_is_asked_for(tmp_path):
    network = hsmamba.models.entry("md2f_mamba").entry_point(**SMALL)
    told(lambda: hsmamba.save_pretrained(network, tmp_path / "a"), "or pass architecture= {} and model_args=")
    hsmamba.save_pretrained(network, tmp_path / "a", architecture="md2f_mamba", model_args=SMALL)
    assert same(hsmamba.create_model(f"local-dir:{tmp_path / 'a'}").state_dict(), network.state_dict())
    told(
        lambda: hsmamba.save_pretrained(Tiny(), tmp_path / "b", class_names=["x"]),
        "pass class_names= in the order of its logits, or class_names=()",
    )
    hsmamba.save_pretrained(Tiny(), tmp_path / "named", class_names=["x", "y", "z", "w"])
    hsmamba.save_pretrained(Tiny(), tmp_path / "b", class_names=())
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "mine.txt").touch()
    told(lambda: hsmamba.save_pretrained(Tiny(), tmp_path / "c"), "choose a new or empty folder")
    hsmamba.save_pretrained(Tiny(), tmp_path / "d")


def test_a_name_of_the_zoo_is_the_zoos_weight_whatever_lies_in_the_current_folder(record, tmp_path, monkeypatch):
    torch.manual_seed(9)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for name in (record.name, "md2f_mamba"):
        hsmamba.save_pretrained(hsmamba.create_model("md2f_mamba", **SMALL), name)
    assert hsmamba.create_model(record.name, pretrained=True).record["source"] == record.name
    assert hsmamba.create_model(f"local-dir:{record.name}").record["source"] == f"local-dir:{record.name}"
    assert hsmamba.create_model("md2f_mamba").record is None
    with pytest.raises((UnknownModelError, WeightsError)):
        hsmamba.create_model("md2f_mamba.nothing", pretrained=True)


def config_of(folder, **changes):
    """Change the record of a model folder behind its back; None leaves a field out."""
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps({key: value for key, value in config.items() if value is not ...}))
    return hsmamba.create_model(f"local-dir:{folder}")


def saved_again(folder, text):
    torch.manual_seed(0)
    network = hsmamba.create_model("md2f_mamba", **SMALL)
    transform = Compose([Standardise(), PCA(6)]).fit(np.random.default_rng(0).normal(size=(50, 9)))
    hsmamba.save_pretrained(network, folder, transform=transform, class_names=tuple("abcd"), bands=9)
    return same(hsmamba.create_model(f"local-dir:{folder}").state_dict(), network.state_dict())


def other_transform(folder):
    Compose([Standardise(), PCA(5)]).fit(np.random.default_rng(0).normal(size=(50, 9))).save(folder / "other")
    config = json.loads((folder / "config.json").read_text())
    entry = config["files"]["transform"]
    (folder / entry["file"]).write_bytes((folder / "other").read_bytes())
    data = (folder / "other").read_bytes()
    (folder / "other").unlink()
    changed = entry | {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    return config_of(folder, files=config["files"] | {"transform": changed})


def restored(folder, text):
    """Put the record back as it was."""
    network = hsmamba.models.entry("md2f_mamba").entry_point(**SMALL)
    return config_of(folder, params=sum(parameter.numel() for parameter in network.parameters())).num_classes == 4


RECORDS = {
    "restore its record, or get the model again": (
        lambda folder: config_of(folder, params=7), (restored, saved_again)
    ),
    "expected one for each band: save the model again": (
        lambda folder: config_of(folder, wavelengths=[400.0]), saved_again
    ),
    "files names no model file; save the model again": (lambda folder: config_of(folder, files={}), saved_again),
    "save the model again with the transform that it was trained with": (other_transform, saved_again),
    "{} is {}, expected {}; restore or rewrite the file": (lambda folder: config_of(folder, files=7), saved_again),
    "lacks the field {}; restore or rewrite the file": (lambda folder: config_of(folder, files=...), saved_again),
}  # fmt: skip


@pytest.mark.parametrize(("words", "broken", "mend"), alternatives(RECORDS))
def test_a_model_folder_loads_once_its_record_is_mended(words, broken, mend, model_folder):
    assert mend(model_folder, told(lambda: broken(model_folder), words))


def saved(folder, model=None, **options):
    return hsmamba.save_pretrained(model or hsmamba.create_model("md2f_mamba", **SMALL), folder / "a", **options)


def cut(folder):
    path = saved(folder) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    return files.load_tensors(path)


def pickled(folder, name, held):
    torch.save(held, folder / name)
    return read_official(folder / name)


def busy(folder, name):
    saved(folder)
    with save._turn(folder / "a"):
        return hsmamba.save_pretrained(Tiny(), folder / name)


def unregistered(folder, registered=False):
    """Load a model of an architecture that code of one's own registers."""

    def of_mine(**kwargs):
        return hsmamba.models.entry("md2f_mamba").entry_point(**kwargs)

    entries = hsmamba.models._registry._ENTRIES
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hsmamba.models._registry, "_ENTRIES", dict(entries))
        of_mine.__name__ = f"of_mine_{registered}".lower()  # timm keeps every name
        hsmamba.register_model(of_mine)
        path = hsmamba.save_pretrained(hsmamba.create_model(of_mine.__name__, **SMALL), folder / "mine")
        if registered:  # as the import of that code does
            return hsmamba.create_model(f"local-dir:{path}")
    return hsmamba.create_model(f"local-dir:{path}")


CASES = {
    "it was cut short or is of another format; fetch or save it again": (
        cut, lambda at, text: files.load_tensors(saved(at) / "model.safetensors")
    ),
    "which is no plain tensor with numbers of its own; save the state as tensors: torch.save(model.state_dict()": (
        lambda at: pickled(at, "a.pth", {"a": torch.zeros(2).to_sparse(), "b": torch.zeros(2)}),
        lambda at, text: pickled(at, "b.pth", {"a": torch.zeros(2), "b": torch.zeros(2)}),
    ),
    "is what torch.save writes, whatever its name says: rename it to {}.pth": (
        lambda at: pickled(at, "own.safetensors", {"a": torch.zeros(2)}),
        lambda at, text: read_official(
            (at / "own.safetensors").rename(at / re.search(r"rename it to (.*)$", text)[1])
        ),
    ),
    "pass one for each band": (
        lambda at: saved(at, bands=9, wavelengths=[400.0]),
        lambda at, text: saved(at, bands=9, wavelengths=range(400, 409)),
    ),
    "wait for its end, or choose another folder": (
        lambda at: busy(at, "a"), (lambda at, text: saved(at), lambda at, text: busy(at, "other"))
    ),
    "cannot be written as JSON; give plain JSON values": (
        lambda at: saved(at, metrics={"oa": object()}), lambda at, text: saved(at, metrics={"oa": 98.7})
    ),
    "import the code that registers it": (
        unregistered, lambda at, text: unregistered(at, registered=True)
    ),
    "got no models; give the trained classifiers that the ensemble is to be made of": (
        lambda at: hsmamba.ensemble([]), lambda at, text: hsmamba.ensemble([member(), member(1)])
    ),
    "an ensemble: give its members": (
        lambda at: hsmamba.ensemble([hsmamba.ensemble([member()]), member(1)]),
        lambda at, text: hsmamba.ensemble([member(), member(1)]),
    ),
    "not made by create_model: make it so": (
        lambda at: hsmamba.ensemble([hsmamba.models.entry("md2f_mamba").entry_point(**SMALL)]),
        lambda at, text: hsmamba.ensemble([hsmamba.create_model("md2f_mamba", **SMALL)]),
    ),
    "train the members on the same classes in the same order": (
        lambda at: hsmamba.ensemble([member(), member(num_classes=4)]),
        lambda at, text: hsmamba.ensemble([member(), member(num_classes=3)]),
    ),
    "fit one and train every member with it: hsmamba.finetune(model, scene, split, transform=...)": (
        lambda at: hsmamba.ensemble([member(), tuned(Compose([Standardise(), PCA(6)]).fit_scene(SCENE, range(9)))]),
        lambda at, text: hsmamba.ensemble([member(), tuned(TRANSFORM)]),
    ),
}  # fmt: skip
SCENE = Scene(CUBE, np.arange(120).reshape(12, 10) % 3 + 1, class_names=NAMES)


def tuned(transform):
    model = member(1)
    split = random_split(SCENE.labels, fraction=0.2)
    hsmamba.finetune(model, SCENE, split, transform=transform, epochs=1, warmup_epochs=0, progress=False)
    return model


@pytest.mark.parametrize(("words", "call", "mended"), alternatives(CASES))
def test_what_an_error_says_works(words, call, mended, tmp_path, monkeypatch):
    monkeypatch.setattr(save, "_WAIT", 0.05)
    assert mended(tmp_path, told(lambda: call(tmp_path), words))


def test_a_weight_of_several_is_named(record, monkeypatch):
    entries = hsmamba.models._registry._ENTRIES
    entry = entries["md2f_mamba"]
    without = replace(entry, cfg=replace(entry.cfg, default_tag=None))
    monkeypatch.setattr(hsmamba.models._registry, "_ENTRIES", entries | {"md2f_mamba": without})
    text = told(lambda: hsmamba.create_model("md2f_mamba", pretrained=True), "name one of {}")
    assert hsmamba.create_model(re.search(r"name one of (\S+)$", text)[1], pretrained=True).num_classes == 4


def test_a_model_that_was_half_renamed_is_saved_again(tmp_path, monkeypatch):
    saved(tmp_path)

    def fail(*_):
        raise OSError("no space")

    with monkeypatch.context() as patch:
        patch.setattr(save, "_copy", fail)
        warned(
            lambda: saved(tmp_path), "not all of its files have their plain names {}: copy it as a whole, or save again"
        )
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for folder in (tmp_path / "copy", saved(tmp_path)):
            assert hsmamba.create_model(f"local-dir:{folder}").num_classes == 4
