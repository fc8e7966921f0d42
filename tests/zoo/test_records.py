"""Records of weights: schema and reader have the same fields and refuse the same."""

import copy
import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsmamba.errors import ManifestError
from hsmamba.zoo import manifest, records
from tests.zoo.samples import RECORD, SCHEMA


def test_every_record_of_the_library_fits_the_schema(validator):
    validator.check_schema(SCHEMA)
    validator.validate(json.loads(manifest.manifest_path().read_text(encoding="utf-8")))
    for name, record in manifest.load_manifest().items():
        assert (record.name, f"{record.architecture}.{record.tag}") == (name, name)


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
