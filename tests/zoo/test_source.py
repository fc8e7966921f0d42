"""Where weights come from: the package, the Hub or a folder, read only if they are what is on record."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from hsmamba.errors import HashMismatchError, ManifestError, WeightsError
from hsmamba.zoo import files, hub, manifest, records, source
from tests.conftest import run_python
from tests.zoo.samples import CONTENT, RECORD


def test_embedded_weights_are_those_on_record_and_nothing_lies_beside_them():
    for record in manifest.load_manifest().values():
        folder = manifest.weights_folder() / record.name
        if folder.is_dir():
            assert set(source.folder_of(record).files) == set(record.files)
            assert {path.name for path in folder.iterdir()} == {entry.file for entry in record.files.values()}
    known = manifest.load_manifest().keys()
    assert {path.name for path in manifest.weights_folder().iterdir() if path.is_dir()} <= known


def test_embedded_files_are_taken_first_and_verified(own):
    folder = own(**{"tiny.first": RECORD}) / "tiny.first"
    folder.mkdir(parents=True)
    for which in ("model", "transform"):
        (folder / f"{which}.safetensors").write_bytes(CONTENT[which])
    record = manifest.find_record("tiny.first")
    assert source.resolve(record) == folder / "model.safetensors"
    assert source.folder_of(record).files == {which: source.resolve(record, which=which) for which in record.files}
    with pytest.raises(WeightsError, match="no split file; it has: model, transform"):
        source.resolve(record, which="split")
    (folder / "model.safetensors").write_bytes(b"weight")
    with pytest.raises(HashMismatchError, match="pip install --force-reinstall") as raised:
        source.resolve(record)
    for content in (b"weights", b"weight"):
        assert hashlib.sha256(content).hexdigest() in str(raised.value)
    assert str(folder / "model.safetensors") in str(raised.value)
    assert (folder / "model.safetensors").read_bytes() == b"weight"


def test_missing_embedded_file_without_a_hub_address_is_told(own):
    own(**{"tiny.first": {**RECORD, "hub": None}})
    with pytest.raises(WeightsError, match="no copy on the Hub; reinstall: pip install"):
        source.resolve(manifest.find_record("tiny.first"))


def test_what_is_asked_of_the_hub_when_nothing_is_embedded(own, monkeypatch, tmp_path):
    own(**{"tiny.first": RECORD})
    asked = []

    def download(repo_id, filename, *, revision, cache_dir):
        asked.append((repo_id, filename, revision, cache_dir))
        path = tmp_path / Path(filename).name
        path.write_bytes(CONTENT[path.stem])
        return path

    monkeypatch.setattr(hub, "download", download)
    source.folder_of(manifest.find_record("tiny.first"), cache_dir=tmp_path)
    files = ("weights/model.safetensors", "weights/transform.safetensors")
    assert asked == [("maker/tiny", file, "a" * 40, tmp_path) for file in files]


def test_a_local_copy_stands_in_for_the_model_file_if_it_is_the_one_on_record(own, tmp_path):
    folder = own(**{"tiny.first": RECORD}) / "tiny.first"
    folder.mkdir(parents=True)
    (folder / "transform.safetensors").write_bytes(CONTENT["transform"])
    record = manifest.find_record("tiny.first")
    copy_of_mine = tmp_path / "mine.safetensors"
    copy_of_mine.write_bytes(CONTENT["model"])
    assert source.folder_of(record, model_path=copy_of_mine).model_path == copy_of_mine
    copy_of_mine.write_bytes(b"other")
    with pytest.raises(HashMismatchError, match=r"mine\.safetensors"):
        source.folder_of(record, model_path=copy_of_mine)
    with pytest.raises(WeightsError, match=r"nothing\.safetensors cannot be read"):
        source.folder_of(record, model_path=tmp_path / "nothing.safetensors")


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


def test_looking_into_folders_needs_no_torch(saved):
    code = (
        f"import sys; from hsmamba.zoo import source; print(source.read_folder({str(saved)!r}).architecture); "
        "assert 'torch' not in sys.modules"
    )
    assert run_python(code).strip() == "tiny"
