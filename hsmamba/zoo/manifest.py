"""The weights manifest: which trained weights there are, where their files lie, and what each file's SHA-256 must be.

`weights_manifest.json` holds `{"schema": 1, "weights": {"<architecture>.<tag>": record}}`; `manifest.schema.json`,
beside this module, describes a record. It is the only place where the facts of the library's own weights stand: the
folders `hsmamba/weights/<architecture>.<tag>/` of the wheel hold tensors alone, and a model folder's `config.json` and
card are written from the record.
"""

from __future__ import annotations

import difflib
import functools
import json
import os
import re
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from hsmamba._files import write_text
from hsmamba.errors import ManifestError, UnknownModelError
from hsmamba.zoo.records import SCHEMA, WeightRecord, check_fields, check_schema, parse_record, read_json

_NUMBERS = re.compile(r"\[[-+\d.eE,\s]+\]")  # a list of numbers alone, which takes one line and not a line each
_PACKAGE = Path(__file__).resolve().parents[1]


def manifest_path() -> Path:
    """Return the path of the manifest: in the installed package, else beside the package in a source checkout.

    Raises:
        ManifestError: Neither is there.
    """
    places = (_PACKAGE / "weights_manifest.json", _PACKAGE.parent / "weights_manifest.json")
    for place in places:
        if place.is_file():
            return place
    raise ManifestError(
        f"no weights_manifest.json at {places[0]} or {places[1]}; reinstall: pip install --force-reinstall hsmamba"
    )


def weights_folder() -> Path:
    """Return the folder of the installed package that holds the tensors of the embedded weights, a folder each."""
    return _PACKAGE / "weights"


def is_embedded(record: WeightRecord) -> bool:
    """Whether the installed package holds a weight's tensors; all others are fetched from the Hub when asked for."""
    return (weights_folder() / record.name / record.file).is_file()


def load_manifest(path: str | os.PathLike[str] | None = None) -> dict[str, WeightRecord]:
    """Read a manifest.

    Args:
        path: The file; None reads the library's own, once in a process.

    Returns:
        The records by name, in the order of the file.

    Raises:
        ManifestError: The file is missing, not JSON, of a schema that this version does not read, or a record is
            malformed; the text says which field and what to do.
    """
    return dict(_own_manifest(manifest_path()) if path is None else _read_manifest(Path(path)))


@functools.cache
def _own_manifest(path: Path) -> dict[str, WeightRecord]:
    return _read_manifest(path)


def _read_manifest(path: Path) -> dict[str, WeightRecord]:
    weights = check_fields(check_schema(read_json(path), str(path)), {"weights": (dict,)}, str(path))["weights"]
    return {name: parse_record(name, value) for name, value in weights.items()}


def write_manifest(records: Iterable[WeightRecord], path: str | os.PathLike[str]) -> Path:
    """Write a manifest, whole or not at all.

    Args:
        records: The records.
        path: The file to write.

    Returns:
        The path.
    """
    weights = {}
    for record in records:
        weights[record.name] = {key: value for key, value in asdict(record).items() if key != "name"}
    text = json.dumps({"schema": SCHEMA, "weights": weights}, indent=2, allow_nan=False, ensure_ascii=False)
    write_text(
        path,
        _NUMBERS.sub(lambda found: re.sub(r"\s+", " ", found[0]).replace("[ ", "[").replace(" ]", "]"), text) + "\n",
    )
    return Path(path)


def find_record(name: str) -> WeightRecord:
    """Find a weight in the library's manifest.

    Args:
        name: "architecture.tag".

    Returns:
        Its record.

    Raises:
        UnknownModelError: There is none; the text names the nearest and lists what there is.
    """
    records = load_manifest()
    if name in records:
        return records[name]
    own = [record.name for record in records.values() if record.architecture == name.partition(".")[0]]
    near = difflib.get_close_matches(name, records, n=3)
    raise UnknownModelError(
        f"no pretrained weights named {name!r}"
        + (f"; did you mean {' or '.join(near)}?" if near else ".")
        + f" There are: {', '.join(own) or ', '.join(records) or 'none in this version'}"
    )
