"""The weights manifest: written and read, found by name, and what is refused."""

import json

import pytest

from hsmamba.errors import ManifestError, UnknownModelError
from hsmamba.zoo import manifest, records
from tests.zoo.samples import RECORD, entry


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
