"""The weights manifest: its schema, what is refused, which file is taken, what is verified."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsmamba.errors import HashMismatchError, ManifestError, UnknownModelError, WeightsError
from hsmamba.zoo import files, hub, manifest, records, source

SCHEMA = json.loads((Path(manifest.__file__).parent / "manifest.schema.json").read_text(encoding="utf-8"))
CONTENT = {"model": b"weights", "transform": b"transform", "split": b"split"}


def entry(which):
    content = CONTENT[which]
    return {"file": f"{which}.safetensors", "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


RECORD = {
    **entry("model"),
    "hub": {"repo_id": "maker/tiny", "revision": "a" * 40, "filename": "weights/model.safetensors"},
    "license": "Apache-2.0",
    "model_args": {"num_classes": 2},
    "transform": entry("transform"),
    "split": None,
    "classes": ["corn", "oats"],
    "bands": 200,
    "wavelengths": None,
    "data": {"name": "Made Up", "source": "made up"},
    "metrics": {"random": {"oa": {"mean": 98.7, "std": 0.1}, "aa": None}},
    "recipe": "tiny.toml",
    "params": 12,
    "date": "2025-01-01",
}


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Let the library have a manifest of these records and its embedded weights in a folder of the test."""

    def use(**weights):
        path = tmp_path / "weights_manifest.json"
        path.write_text(json.dumps({"schema": 1, "weights": weights}), encoding="utf-8")
        monkeypatch.setattr(manifest, "manifest_path", lambda: path)
        monkeypatch.setattr(manifest, "weights_folder", lambda: tmp_path / "weights")
        manifest._own_manifest.cache_clear()
        return tmp_path / "weights"

    yield use
    manifest._own_manifest.cache_clear()


@pytest.fixture(scope="module")
def validator():
    jsonschema = pytest.importorskip("jsonschema", reason="checks the manifest against its schema")
    return jsonschema.Draft202012Validator(SCHEMA)


def test_every_record_of_the_library_fits_the_schema(validator):
    validator.check_schema(SCHEMA)
    validator.validate(json.loads(manifest.manifest_path().read_text(encoding="utf-8")))
    for name, record in manifest.load_manifest().items():
        assert (record.name, f"{record.architecture}.{record.tag}") == (name, name)


def test_embedded_weights_are_those_on_record_and_nothing_lies_beside_them():
    for record in manifest.load_manifest().values():
        folder = manifest.weights_folder() / record.name
        if folder.is_dir():
            assert set(source.folder_of(record).files) == set(record.files)
            assert {path.name for path in folder.iterdir()} == {entry.file for entry in record.files.values()}
    known = manifest.load_manifest().keys()
    assert {path.name for path in manifest.weights_folder().iterdir() if path.is_dir()} <= known


def test_dataclasses_and_schema_have_the_same_fields(validator):
    properties = SCHEMA["$defs"]["record"]["properties"]
    assert {field.name for field in dataclasses.fields(records.WeightRecord)} == {"name", *properties}
    for cls, schema in ((records.FileEntry, SCHEMA["$defs"]["file"]), (records.HubAddress, properties["hub"])):
        assert [field.name for field in dataclasses.fields(cls)] == list(schema["properties"])
    validator.validate({"schema": 1, "weights": {"tiny.first": RECORD}})


@pytest.mark.parametrize("name", SCHEMA["$defs"]["record"]["required"])
def test_schema_and_reader_require_the_same_fields(validator, name):
    record = {key: value for key, value in RECORD.items() if key != name}
    assert not validator.is_valid({"schema": 1, "weights": {"tiny.first": record}})
    with pytest.raises(ManifestError, match=rf"'tiny\.first'.* lacks the field '{name}'"):
        records.parse_record("tiny.first", record)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("sha256",), "ABC"),
        (("sha256",), "A" * 64),
        (("bytes",), True),
        (("bytes",), "12"),
        (("file",), "../model.safetensors"),
        (("transform", "file"), "/etc/passwd"),
        (("transform",), "transform.safetensors"),
        (("hub",), {}),
        (("hub", "repo_id"), "tiny"),
        (("hub", "repo_id"), "../../tiny"),
        (("hub", "revision"), "main"),
        (("hub", "filename"), "weights/../../model.safetensors"),
        (("hub", "filename"), "/model.safetensors"),
        (("model_args",), []),
        (("classes",), ["corn", 2]),
        (("bands",), 1.5),
        (("wavelengths",), "400"),
        (("wavelengths",), [400, "401"]),
        (("metrics",), None),
        (("params",), False),
    ],
)
def test_schema_and_reader_refuse_the_same_values(validator, place, value):
    record = copy.deepcopy(RECORD)
    target = record
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    assert not validator.is_valid({"schema": 1, "weights": {"tiny.first": record}})
    with pytest.raises(ManifestError, match=r"tiny\.first"):
        records.parse_record("tiny.first", record)


@pytest.mark.parametrize(
    "name", ["tiny", "../tiny.first", "tiny/x.first", ".first", "tiny.", "tiny..first", "tiny.a b"]
)
def test_schema_and_reader_refuse_the_same_names(validator, name):
    assert not validator.is_valid({"schema": 1, "weights": {name: RECORD}})
    with pytest.raises(ManifestError, match=r"architecture\.tag"):
        records.parse_record(name, RECORD)


@given(
    st.one_of(
        st.text(max_size=20),
        st.lists(st.sampled_from(["..", ".", "/", "\\", "a", "C:", "~", "\0", "\n", "%2e", "model"])).map("".join),
    )
)
def test_a_file_name_is_refused_or_stays_in_its_folder(name):
    record = {**RECORD, "file": name}
    try:
        parsed = records.parse_record("tiny.first", record).file
    except ManifestError:
        return
    assert parsed == name
    for flavour in ("\\", "/"):
        assert flavour not in name
    assert name not in (".", "..") and ":" not in name and name.isprintable()
    folder = Path("/some/folder")
    assert (folder / name).resolve().parent == folder


def test_manifest_survives_writing_and_reading(validator, tmp_path):
    split = {**RECORD, "split": entry("split"), "hub": None, "transform": None, "wavelengths": [400.0, 410.5]}
    made = [records.parse_record("tiny.second", RECORD), records.parse_record("tiny.first", split)]
    path = manifest.write_manifest(made, tmp_path / "manifest.json")
    validator.validate(json.loads(path.read_text(encoding="utf-8")))
    assert list(manifest.load_manifest(path).items()) == [(record.name, record) for record in made]
    assert [entry.name for entry in tmp_path.iterdir()] == ["manifest.json"]


def test_the_manifest_is_read_once_and_callers_cannot_change_it(own):
    own(**{"tiny.first": RECORD})
    first = manifest.load_manifest()
    manifest.manifest_path().write_text("{}", encoding="utf-8")
    first.clear()
    assert list(manifest.load_manifest()) == ["tiny.first"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"schema": 2, "weights": {}}', r"schema 2; hsmamba [\d.]+ reads schema 1.*pip install -U hsmamba"),
        ('{"schema": "1", "weights": {}}', "schema '1'"),
        ('{"schema": true, "weights": {}}', "schema True"),
        ('{"weights": {}}', "schema None"),
        ('{"schema": 1}', "lacks the field 'weights'"),
        ('{"schema": 1, "weights": []}', "weights is .*expected dict"),
        ('{"schema": 1, "weights": {"tiny.first": 3}}', r"'tiny\.first' is int, expected an object"),
        ("[]", "is list, expected an object"),
        ('{"schema": 1, "wei', "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
    ],
)
def test_malformed_manifests_are_told(tmp_path, text, told):
    path = tmp_path / "manifest.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ManifestError, match=told) as raised:
        manifest.load_manifest(path)
    assert str(path) in str(raised.value) or "tiny.first" in str(raised.value)


def test_missing_manifest_is_told(tmp_path, monkeypatch):
    with pytest.raises(ManifestError, match="no file"):
        manifest.load_manifest(tmp_path / "nothing.json")
    monkeypatch.setattr(manifest, "_PACKAGE", tmp_path / "site" / "hsmamba")
    with pytest.raises(ManifestError, match="pip install"):
        manifest.manifest_path()


def test_the_manifest_in_the_package_comes_before_the_one_beside_it(tmp_path, monkeypatch):
    package = tmp_path / "hsmamba"
    package.mkdir()
    monkeypatch.setattr(manifest, "_PACKAGE", package)
    (tmp_path / "weights_manifest.json").write_text("{}", encoding="utf-8")
    assert manifest.manifest_path() == tmp_path / "weights_manifest.json"
    (package / "weights_manifest.json").write_text("{}", encoding="utf-8")
    assert manifest.manifest_path() == package / "weights_manifest.json"


def test_records_are_found_by_architecture_and_tag(own):
    own(**{"tiny.first": RECORD, "tiny.second.v1": RECORD, "tiny2.first": RECORD})
    record = manifest.find_record("tiny.second.v1")
    assert (record.name, record.architecture, record.tag) == ("tiny.second.v1", "tiny", "second.v1")
    assert manifest.find_record("tiny2.first").name == "tiny2.first"


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("tiny.frist", r"'tiny\.frist'; did you mean tiny\.first.* There are: tiny\.first, tiny\.second"),
        ("zzz.zzz", r"'zzz.zzz'. There are: tiny\.first, tiny\.second, other\.one"),
    ],
)
def test_unknown_weights_are_told_with_the_nearest(own, asked, told):
    own(**{"tiny.first": RECORD, "tiny.second": RECORD, "other.one": RECORD})
    with pytest.raises(UnknownModelError, match=told):
        manifest.find_record(asked)


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


@given(st.binary(max_size=4096))
def test_sha256_of_a_file_is_that_of_its_bytes(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "content"
    path.write_bytes(content)
    assert files.sha256_file(path) == hashlib.sha256(content).hexdigest()
