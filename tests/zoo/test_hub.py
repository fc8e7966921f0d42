"""The Hub: the real client in processes of its own against a server on loopback."""

import hashlib
import json
import os
import re
import sys
import threading
from pathlib import Path

import pytest
import torch

from hsmamba.zoo import files, save, source
from hsmamba.zoo.manifest import load_manifest, weights_folder

REPO = "maker/tiny"
DOWNLOAD = f"result = hub.download({REPO!r}, {{file!r}}, revision={{revision!r}})"


@pytest.fixture
def folder(tmp_path, tiny):
    """A model folder as files by name."""
    save.save_pretrained(tiny(), tmp_path / "made", data={"name": "Made Up"}, bands=3)
    return {path.name: path.read_bytes() for path in (tmp_path / "made").iterdir()}


def fetch(revision=""):
    name = f"{REPO}@{revision}" if revision else REPO
    return f"folder = source.fetch_folder({name!r}); result = {{'model': folder.model_path, 'source': folder.source}}"


def record_json(folder, commit):
    model = folder["model.safetensors"]
    return {
        "file": "model.safetensors",
        "sha256": hashlib.sha256(model).hexdigest(),
        "bytes": len(model),
        "hub": {"repo_id": REPO, "revision": commit, "filename": "model.safetensors"},
        "transform": None,
        "split": None,
        **{
            key: json.loads(folder["config.json"])[key] for key in ("license", "model_args", "classes", "bands", "data")
        },
        **{"metrics": {}, "recipe": None, "params": 1, "date": "2025-01-01"},
    }


def test_download_gives_the_file_and_needs_no_torch(hub, client):
    hub.push(REPO, {"model.safetensors": b"weights", "config.json": b"{}"})
    for file, content in (("model.safetensors", b"weights"), ("config.json", b"{}")):
        answer = client(DOWNLOAD.format(file=file, revision="main"))
        assert Path(answer["result"]).read_bytes() == content
        assert not answer["torch"]
    assert "hsmamba/" in hub.asked("/resolve/")[0].headers["user-agent"]


@pytest.mark.skipif(sys.platform == "win32", reason="the cache has no links there")
def test_what_killed_downloads_left_of_a_file_is_removed_once_it_is_there(hub, client):
    commit = hub.push(REPO, {"model.safetensors": b"weights"})
    code = DOWNLOAD.format(file="model.safetensors", revision=commit)
    blob = Path(client(code)["result"]).resolve()
    old, fresh, other = (blob.with_name(f"{name}.1234abcd.incomplete") for name in (blob.name, blob.name, "other"))
    fresh = fresh.with_name(f"{blob.name}.5678abcd.incomplete")
    for path in (old, fresh, other):
        path.write_bytes(b"wei")
    for path in (old, other):
        os.utime(path, (1, 1))
    assert Path(client(code)["result"]).read_bytes() == b"weights"
    assert {path.name for path in blob.parent.iterdir()} == {blob.name, fresh.name, other.name}


def test_pinned_file_in_the_cache_needs_no_request(hub, client):
    commit = hub.push(REPO, {"model.safetensors": b"weights"})
    code = DOWNLOAD.format(file="model.safetensors", revision=commit)
    first = client(code)
    assert hub.requests
    hub.requests.clear()
    assert client(code)["result"] == first["result"]
    assert hub.requests == []


def test_offline_with_a_cached_copy_and_without(hub, client):
    commit = hub.push(REPO, {"model.safetensors": b"weights"})
    codes = [DOWNLOAD.format(file="model.safetensors", revision=revision) for revision in (commit, "main")]
    for code in codes:
        answer = client(code, HF_HUB_OFFLINE="1")
        assert answer["error"] == "WeightsError"
        assert "HF_HUB_OFFLINE" in answer["text"] and REPO in answer["text"]
    assert hub.requests == []
    client(codes[1])
    hub.requests.clear()
    for code in codes:
        assert Path(client(code, HF_HUB_OFFLINE="1")["result"]).read_bytes() == b"weights"
    assert hub.requests == []


def test_token_is_sent_to_the_hub_and_not_to_its_storage(hub, client):
    hub.push(REPO, {"model.safetensors": b"weights"}, private=True)
    code = DOWNLOAD.format(file="model.safetensors", revision="main")
    refused = client(code)
    assert refused["error"] == "WeightsError" and "HF_TOKEN" in refused["text"]
    wrong = client(code, HF_TOKEN="hf_wrong")
    assert wrong["error"] == "WeightsError" and "HF_TOKEN" in wrong["text"]
    assert "hf_wrong" not in wrong["text"]
    hub.requests.clear()
    assert Path(client(code, HF_TOKEN="hf_reader")["result"]).read_bytes() == b"weights"
    assert {r.headers.get("authorization") for r in hub.asked("/resolve/")} == {"Bearer hf_reader"}
    assert {r.headers.get("authorization") for r in hub.asked("/storage/")} == {None}


@pytest.mark.parametrize(
    ("repo", "file", "revision", "told"),
    [
        (REPO, "nothing.safetensors", "main", "no such file"),
        (REPO, "config.json", "v9", "no such branch, tag or commit"),
        ("maker/nothing", "config.json", "main", "no such repository"),
        ("a/b/c", "config.json", "main", "expected owner/repo"),
    ],
)
def test_what_the_hub_does_not_have_is_told(hub, client, repo, file, revision, told):
    hub.push(REPO, {"config.json": b"{}"})
    answer = client(f"hub.download({repo!r}, {file!r}, revision={revision!r})")
    assert answer["error"] == "WeightsError"
    for text in (told, repo, file, revision, hub.url):
        assert text in answer["text"]


def test_server_errors_and_no_server_are_told(hub, client):
    hub.push(REPO, {"config.json": b"{}"})
    code = "import time; time.sleep = lambda seconds: None\n" + DOWNLOAD.format(file="config.json", revision="main")
    hub.status["config.json"] = 403
    answer = client(code)
    assert answer["error"] == "WeightsError" and "HF_TOKEN" in answer["text"]
    answer = client(code, HF_ENDPOINT="http://127.0.0.1:1")
    assert answer["error"] == "WeightsError" and "check the network" in answer["text"]
    assert "http://127.0.0.1:1" in answer["text"]


def at_second_try(client, code):
    """Newer clients resume a cut connection in the same call, older ones in the next."""
    answer = client(code)
    if "error" in answer:
        assert answer["error"] == "WeightsError" and "try again" in answer["text"]
        answer = client(code)
    return answer["result"]


def test_cut_connection_is_resumed_where_it_broke(hub, client):
    weights = os.urandom(24 << 20)  # the client keeps what it got in pieces of 10 MiB
    hub.push(REPO, {"model.safetensors": weights})
    hub.cut["model.safetensors"] = 1
    path = at_second_try(client, DOWNLOAD.format(file="model.safetensors", revision="main"))
    assert Path(path).read_bytes() == weights
    assert [r.headers.get("range") for r in hub.asked("/storage/", "GET")] == [None, f"bytes={10 << 20}-"]


def test_broken_download_leaves_no_file_and_the_next_call_completes(hub, client):
    weights = os.urandom(1 << 20)
    commit = hub.push(REPO, {"model.safetensors": weights})
    code = DOWNLOAD.format(file="model.safetensors", revision=commit)
    hub.cut["model.safetensors"], hub.silent["model.safetensors"] = 1, 100
    answer = client("import time; time.sleep = lambda seconds: None\n" + code)
    assert answer["error"] == "WeightsError" and "try again" in answer["text"]
    assert hub.cut["model.safetensors"] == 0
    hub.silent.clear()
    hub.cut["model.safetensors"] = 1
    assert Path(at_second_try(client, code)).read_bytes() == weights


def test_two_processes_at_once_both_get_the_file(hub, client, tmp_path):
    weights = os.urandom(3 << 20)
    hub.push(REPO, {"model.safetensors": weights})
    hub.gate = threading.Barrier(2)  # each waits for the other's request: they do run at once
    code = DOWNLOAD.format(file="model.safetensors", revision="main")
    answers = [client.finish(process) for process in [client.start(code), client.start(code)]]
    assert not hub.gate.broken
    assert [Path(answer["result"]).read_bytes() == weights for answer in answers] == [True, True]
    assert list((tmp_path / "home").rglob("*.incomplete")) == []


def test_cache_dir_is_respected(hub, client, folder, tmp_path):
    hub.push(REPO, folder)
    answer = client(f"result = source.fetch_folder({REPO!r}, cache_dir={str(tmp_path / 'mine')!r}).model_path")
    assert Path(answer["result"]).is_relative_to(tmp_path / "mine")
    assert not (tmp_path / "home" / "hub").exists()
    answer = client(f"result = source.fetch_folder({REPO!r}).model_path", HF_HUB_CACHE=str(tmp_path / "variable"))
    assert Path(answer["result"]).is_relative_to(tmp_path / "variable")


def test_wrong_bytes_are_told_and_the_told_command_mends(hub, client, folder):
    hub.push(REPO, folder)
    hub.garbled.add("model.safetensors")
    answer = client(fetch())
    good = folder["model.safetensors"]
    bad = bytes(byte ^ 1 for byte in good)
    assert answer["error"] == "HashMismatchError"
    for content in (good, bad):
        assert hashlib.sha256(content).hexdigest() in answer["text"]
    assert "model.safetensors" in answer["text"]
    hub.garbled.clear()
    assert client(fetch())["error"] == "HashMismatchError"  # still the cached copy: nothing was deleted
    command = re.search(r"type: rm (.+) and repeat", answer["text"])[1]
    for path in command.split():
        Path(path).unlink()
    assert Path(client(fetch())["result"]["model"]).read_bytes() == good


def test_folder_is_fetched_at_one_commit_whatever_is_pushed_meanwhile(hub, client, folder):
    commit = hub.push(REPO, folder)
    other = {name: content + b" " for name, content in folder.items()}
    hub.after["config.json"] = lambda: hub.push(REPO, other)
    answer = client(fetch())["result"]
    assert answer["source"] == f"hf-hub:{REPO}@{commit}"
    assert Path(answer["model"]).read_bytes() == folder["model.safetensors"]
    assert hub.repos[REPO].refs["main"] != commit
    assert hub.asked("README.md") == []  # only what config.json names


def test_folder_of_a_revision_and_from_the_cache(hub, client, folder):
    commit = hub.push(REPO, folder)
    hub.push(REPO, {"config.json": b"{}"})
    answer = client(fetch("main"))
    assert answer["error"] == "ManifestError" and "not written by hsmamba" in answer["text"]
    first = client(fetch(commit))["result"]
    hub.requests.clear()
    assert client(fetch(commit))["result"] == first
    assert hub.requests == []


def test_names_that_leave_the_folder_are_refused(hub, client, folder):
    for name in ("../model.safetensors", "/etc/passwd", "..\\model.safetensors", "C:model", "sub/model.safetensors"):
        config = json.loads(folder["config.json"])
        config["files"]["model"]["file"] = name
        hub.push(REPO, {**folder, "config.json": json.dumps(config).encode()})
        hub.requests.clear()
        answer = client(fetch())
        assert answer["error"] == "ManifestError" and "plain file name" in answer["text"]
        assert all("config.json" in request.path for request in hub.asked("/resolve/"))


@pytest.mark.parametrize(
    "name", ["maker", "maker/tiny/more", "maker/tiny@../../x", "maker/tiny@", "maker/ti ny", "@main"]
)
def test_malformed_hub_names_are_refused(name):
    with pytest.raises(ValueError, match=r"owner/repo@revision"):
        source.fetch_folder(name)


def test_record_of_the_manifest_from_the_hub(hub, client, folder, tmp_path):
    commit = hub.push(REPO, folder)
    hub.push(REPO, {"model.safetensors": b"moved on"})
    record = record_json(folder, commit)
    manifest = tmp_path / "manifest.json"
    code = (
        f"record = manifest.load_manifest({str(manifest)!r})['tiny.first']; "
        "found = source.folder_of(record); result = [found.model_path, found.source, found.architecture]"
    )
    manifest.write_text(json.dumps({"schema": 1, "weights": {"tiny.first": record}}))
    path, source, architecture = client(code)["result"]
    assert Path(path).read_bytes() == folder["model.safetensors"]
    assert (source, architecture) == ("tiny.first", "tiny")
    hub.requests.clear()
    assert client(code)["result"][0] == path
    assert hub.requests == []
    record["sha256"] = "0" * 64  # the record's hash is what counts
    manifest.write_text(json.dumps({"schema": 1, "weights": {"tiny.first": record}}))
    answer = client(code)
    assert answer["error"] == "HashMismatchError" and "0" * 64 in answer["text"]


PUSH = """
import sys
sys.path.insert(0, {here!r})
from tests.zoo.samples import Tiny
def push(seed, **options):
    return save.push_to_hub(Tiny(seed), "maker/pushed", data={{"name": "Made Up"}}, **options)
"""


def push(client, code):
    return client(PUSH.format(here=str(Path(__file__).parent)) + code)


def test_pushed_model_comes_back_bit_for_bit(hub, client, tiny):
    code = "push(1, private=True, token='hf_reader'); save.push_to_hub(Tiny(), 'maker/refused')"
    refused = push(client, code)
    assert refused["error"] == "WeightsError"
    assert "maker/refused" in refused["text"] and "HF_TOKEN" in refused["text"]
    repo = hub.repos["maker/pushed"]
    assert repo.private
    code = "folder = source.fetch_folder('maker/pushed'); result = [folder.model_path, folder.classes]"
    path, classes = client(code, HF_TOKEN="hf_reader")["result"]
    back, sent = files.load_tensors(path), tiny(seed=1).state_dict()
    assert back.keys() == sent.keys()
    assert all(torch.equal(back[key], sent[key]) for key in sent)
    assert classes == list(tiny().class_names)
    assert 'create_model("hf-hub:maker/pushed")' in repo.commits[repo.refs["main"]]["README.md"].decode()


def test_push_again_to_a_branch_and_as_a_pull_request(hub, client):
    code = "result = [push(1), push(2, revision='next'), push(3, create_pr=True)]"
    names = push(client, "import os; os.environ['HF_TOKEN'] = 'hf_reader'\n" + code)["result"]
    repo = hub.repos["maker/pushed"]
    assert names == [f"hf-hub:maker/pushed@{repo.refs[ref]}" for ref in ("main", "next", "refs/pr/1")]
    assert len({repo.commits[oid]["model.safetensors"] for oid in repo.refs.values()}) == 3
    answer = client("result = source.fetch_folder('maker/pushed@refs/pr/1').source")
    assert answer["result"] == names[2]


def test_records_on_the_hub_name_files_that_the_wheel_may_leave_out():
    """Every weight of this version is either embedded or has a place on the Hub."""
    for record in load_manifest().values():
        assert record.hub is not None or (weights_folder() / record.name / record.file).is_file(), record.name


def test_errors_tell_no_password_of_an_endpoint(client):
    code = "import time; time.sleep = lambda seconds: None; hub.download('maker/tiny', 'config.json', revision='main')"
    whole = f"import traceback\ntry:\n    {code}\nexcept Exception:\n    result = traceback.format_exc()"
    told = client(whole, HF_ENDPOINT="http://someone:se:c@ret@127.0.0.1:1")["result"]
    assert "WeightsError" in told.splitlines()[-1]
    assert "http://***@127.0.0.1:1" in told.splitlines()[-1]
    for secret in ("someone", "se:c", "ret@"):
        assert secret not in told
