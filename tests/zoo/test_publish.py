"""`tools/publish.py`: weights on a loopback Hub, dry and in earnest, interrupted, and fetched back."""

import json
import re
import runpy
import shutil

import numpy as np
import pytest
import torch

import hsmamba
from hsmamba.data import PCA, Compose, Standardise
from hsmamba.errors import WeightsError
from hsmamba.models import example_inputs
from hsmamba.zoo import check, listing, save
from hsmamba.zoo.manifest import load_manifest, write_manifest
from hsmamba.zoo.source import read_folder, record_of
from tests.conftest import ROOT
from tests.zoo.samples import SMALL

NAMES = ("md2f_mamba.one", "rsanet.two")
# All runs of a test in one process, since each has to import torch: a run is a list of arguments, or code between them.
TOOL = """
import contextlib, io, runpy, sys
result = []
for arguments in {runs!r}:
    if isinstance(arguments, str):
        exec(arguments)
        continue
    sys.argv, said = ["publish.py", "maker", *arguments, *{places!r}], io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            runpy.run_path({tool!r}, run_name="__main__")
        ended = ""
    except SystemExit as error:
        ended = str(error.code)
    result.append([ended, said.getvalue()])
"""
LOAD = """
from pathlib import Path
import hsmamba, torch
from hsmamba.models import example_inputs
manifest.manifest_path = lambda: Path({manifest!r})
manifest._own_manifest.cache_clear()
for name in {names!r}:
    model = hsmamba.create_model(name, pretrained=True)
    with torch.no_grad():
        result.append([model.transform is not None, model(*example_inputs(model, 1)).flatten().tolist()])
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two weights as a source checkout has them: tensors in a folder each, and their records."""
    place, records = tmp_path_factory.mktemp("made"), []
    for seed, name in enumerate(NAMES):
        torch.manual_seed(seed)
        architecture, _, tag = name.partition(".")
        options = {}
        if architecture == "md2f_mamba":
            pixels = np.random.default_rng(0).normal(size=(50, 9))
            options = {"transform": Compose([Standardise(), PCA(6)]).fit(pixels), "bands": 9}
        sizes = SMALL if options else {"in_chans": 4, "dim": 8, "depth": 1}
        model = hsmamba.create_model(architecture, **sizes)
        folder = read_folder(save.save_pretrained(model, place / "saved" / name, data={"name": "Made Up"}, **options))
        records.append(record_of(folder, tag))
        (place / "weights" / name).mkdir(parents=True)
        for path in folder.files.values():
            shutil.copy(path, place / "weights" / name)
    write_manifest(records, place / "manifest.json")
    return place


@pytest.fixture
def manifest(made, tmp_path):
    return shutil.copy(made / "manifest.json", tmp_path / "manifest.json")


@pytest.fixture
def publish(client, made, manifest):
    def run(*runs, token="hf_reader"):
        places = ["--weights", str(made / "weights"), "--manifest", str(manifest)]
        code = TOOL.format(runs=runs, places=places, tool=str(ROOT / "tools" / "publish.py"))
        return client(code, **({"HF_TOKEN": token} if token else {}))["result"]

    return run


def writes(hub):
    return [request for request in hub.requests if request.method in ("POST", "PUT")]


def commits(hub):
    return [name for request in hub.asked("/commit/", "POST") for name in NAMES if name in request.path]


@pytest.mark.slow
def test_dry_by_default_and_no_token_from_elsewhere(hub, publish, manifest, tmp_path):
    before = manifest.read_bytes()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "token").write_text("hf_reader")  # of `hf auth login`
    (ended, said), pushed, unknown = publish([], ["--push"], ["rsanet.none"], token=None)
    assert ended == "" and "dry run" in said
    assert all(f"{name}: would push " in said and f"to maker/{name}" in said for name in NAMES)
    assert "set HF_TOKEN" in pushed[0]
    assert "no weights rsanet.none" in unknown[0] and NAMES[1] in unknown[0]
    assert (hub.repos, writes(hub), manifest.read_bytes()) == ({}, [], before)


def test_what_was_pushed_is_loaded_from_the_hub_with_the_same_numbers(hub, publish, made, manifest):
    load = LOAD.format(manifest=str(manifest), names=NAMES)
    (ended, said), *answers, again = publish(["--push", "--private"], load, ["--push"])
    assert ended == "" and said.count("pinned maker/") == 2, ended
    records = load_manifest(manifest)
    for name, (transformed, numbers) in zip(NAMES, answers, strict=True):
        repo = hub.repos[f"maker/{name}"]
        assert repo.private and records[name].hub.repo_id == f"maker/{name}"
        assert records[name].hub.revision == repo.refs["main"]
        files = repo.commits[repo.refs["main"]]
        assert {"README.md", "config.json", "model.safetensors", "check.safetensors"} <= files.keys()
        assert f"hsmamba verify hf-hub:maker/{name}" in files["README.md"].decode()
        assert len(files["check.safetensors"]) < 100_000
        model = hsmamba.create_model(f"local-dir:{made / 'saved' / name}")
        with torch.no_grad():
            assert numbers == model(*example_inputs(model, 1)).flatten().tolist()
        assert transformed == (model.transform is not None)
    assert again[0] == "" and again[1].count("there already") == 2 and commits(hub) == list(NAMES)


@pytest.mark.slow
def test_an_interrupted_push_goes_on(hub, publish, made, manifest):
    hub.refused[f"maker/{NAMES[1]}"] = 1
    forget = f"import shutil; shutil.copy({str(made / 'manifest.json')!r}, {str(manifest)!r})"
    first, second, dry, third = publish(["--push"], ["--push"], forget, [], ["--push"])
    assert NAMES[1] in first[0] and "run it again to go on" in first[0] and f"{NAMES[0]}: pinned" in first[1]
    assert second[0] == "" and f"{NAMES[0]}: there already" in second[1] and f"{NAMES[1]}: pinned" in second[1]
    # a commit that the manifest does not know of, since the run was killed before, is pinned and not made again
    assert all(f"would pin maker/{name}" in dry[1] for name in NAMES) and third[0] == ""
    assert commits(hub) == [NAMES[0], NAMES[1], NAMES[1]]
    sent = [request.path for request in hub.asked("/lfs/", "PUT")]
    assert len(sent) == len(set(sent)) == 5  # the tensors had arrived before the commit was refused
    for name, record in load_manifest(manifest).items():
        assert record.hub.revision == hub.repos[f"maker/{name}"].refs["main"]


@pytest.mark.slow
def test_a_commit_that_gives_other_bytes_is_not_pinned(hub, publish, manifest):
    hub.garbled.add("model.safetensors")
    ((ended, _),) = publish([NAMES[1], "--push"])
    assert "SHA-256" in ended and load_manifest(manifest)[NAMES[1]].hub is None


def test_weights_of_the_hub_alone_are_known_and_not_asked_for(manifest, run, own):
    weights = json.loads(manifest.read_text(encoding="utf-8"))["weights"]
    for name, record in weights.items():
        record["hub"] = {"repo_id": f"maker/{name}", "revision": "a" * 40, "filename": "model.safetensors"}
    own(**weights)
    assert hsmamba.list_pretrained() == list(NAMES) and hsmamba.is_model(NAMES[1])
    (_, _, text), *_ = listing.rows(NAMES[0], pretrained=True)
    assert re.search(rf"fetched from maker/{NAMES[0]} when it is asked for, \d+\.\d MB", text)
    code, out, err = run("verify")  # what the package holds: here nothing, and no Hub is asked
    assert (code, out, err) == (0, "", "")


def test_a_check_tells_whether_this_machine_computes_the_same(made, tmp_path, run):
    folder = read_folder(made / "saved" / NAMES[1])
    model = hsmamba.create_model(f"local-dir:{made / 'saved' / NAMES[1]}")
    place = save.export(folder, tmp_path / "with", check=check.make_check(model))
    code, out, _ = run("verify", place)
    assert code == 0 and "difference" in out and "ok  " in out
    assert json.loads(run("verify", place, "--json")[1])[str(place)]["difference"] < 1e-6
    wrong = check.make_check(model)
    wrong["output"] = wrong["output"] * 1.1
    place = save.export(folder, tmp_path / "wrong", check=wrong)
    code, _, err = run("verify", place)
    assert code == 2 and "differs from the recorded one" in err and "hsmamba info --backends" in err
    assert run("info", "--backends")[0] == 0
    del wrong["output"]
    with pytest.raises(WeightsError, match="its check cannot be run"):
        check.compare_check(model, wrong, name="mine")


def test_a_weight_beyond_the_budget_of_the_wheel_is_sent_to_the_hub_alone(tmp_path):
    tool = runpy.run_path(str(ROOT / "tools" / "record_weight.py"))
    (tmp_path / "rsanet.one").mkdir()
    (tmp_path / "rsanet.one" / "model.safetensors").write_bytes(bytes(1000))
    room = int(tool["EMBEDDED_MB"] * 1e6) - 1000
    assert tool["place_for"]("rsanet.two", room, tmp_path, None) == tmp_path / "rsanet.two"
    assert tool["place_for"]("rsanet.one", room + 1000, tmp_path, None) == tmp_path / "rsanet.one"
    with pytest.raises(SystemExit, match=r"would have 36\.0 MB, 36 at most: give --hub-only"):
        tool["place_for"]("rsanet.two", room + 1, tmp_path, None)
    assert tool["place_for"]("rsanet.two", room + 1, tmp_path, tmp_path / "hub") == tmp_path / "hub" / "rsanet.two"
