"""What is known of a trained model: its facts, its files and its place, as the manifest and `config.json` hold them."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import NoneType
from typing import Any

from hsmamba._files import not_a_file
from hsmamba._version import __version__
from hsmamba.errors import ManifestError

SCHEMA = 1  # of the manifest and of config.json alike
_JSON_BYTES = 1 << 26
_JSON_DEPTH = 32
_MOST = 1 << 31  # of bands and nanometres, as a guard against numbers that nothing can hold

# Allow lists, because a name out of a file must not leave its folder on any system: no separator, no drive, no "..".
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_WEIGHT_NAME = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_-]+)+")
_REPO_ID = re.compile(r"[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")

_FILE_FIELDS: dict[str, tuple[type, ...]] = {"file": (str,), "sha256": (str,), "bytes": (int,)}
_HUB_FIELDS: dict[str, tuple[type, ...]] = {"repo_id": (str,), "revision": (str,), "filename": (str,)}
_FACT_FIELDS: dict[str, tuple[type, ...]] = {
    "license": (str,),
    "model_args": (dict,),
    "classes": (list,),
    "bands": (int, NoneType),
    "data": (dict,),
    "metrics": (dict,),
    "recipe": (str, dict, NoneType),
    "params": (int,),
    "date": (str,),
}


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What is known of a trained model, the same in the manifest and in the `config.json` of a model folder.

    Attributes:
        license: SPDX identifier of the weights' licence.
        model_args: Keyword arguments of the architecture's entry point.
        classes: Class names in the order of the logits; empty for fusion and where they are not known.
        bands: Number of bands of a scene before the transform; None where it is not known.
        wavelengths: Centre of every band in nm; None where they are not known.
        data: What it was trained on: name, source, licence, split, seeds.
        metrics: `{metric: value}` or `{protocol: {metric: value}}`; a value is a number or `{"mean": m, "std": s}`.
        recipe: How it was trained: the recipe's name or its settings.
        params: Number of parameters.
        date: Day of its making, ISO 8601.
    """

    license: str
    model_args: Mapping[str, Any]
    classes: tuple[str, ...]
    bands: int | None
    wavelengths: tuple[float, ...] | None = None
    data: Mapping[str, Any]
    metrics: Mapping[str, Any]
    recipe: str | Mapping[str, Any] | None
    params: int
    date: str


@dataclass(frozen=True)
class FileEntry:
    """A file of a model folder: its plain name, its SHA-256 in hexadecimal digits and its length in bytes."""

    file: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class HubAddress:
    """Where the model file lies on the Hub: `owner/repo`, a full commit hash, a path in the repository."""

    repo_id: str
    revision: str
    filename: str


@dataclass(frozen=True, kw_only=True)
class WeightRecord(ModelFacts):
    """One weight: its name `architecture.tag`, its files, its place on the Hub and what is known of it."""

    name: str
    file: str
    sha256: str
    bytes: int
    hub: HubAddress | None
    transform: FileEntry | None
    split: FileEntry | None

    @property
    def architecture(self) -> str:
        """Name of the architecture, the part before the first dot."""
        return self.name.split(".", 1)[0]

    @property
    def tag(self) -> str:
        """Name of the weight among those of its architecture, the part behind the first dot."""
        return self.name.split(".", 1)[1]

    @property
    def files(self) -> dict[str, FileEntry]:
        """The files there are, by what they hold: "model", "transform", "split"."""
        entries = {
            "model": FileEntry(self.file, self.sha256, self.bytes),
            "transform": self.transform,
            "split": self.split,
        }
        return {which: entry for which, entry in entries.items() if entry is not None}


def facts_of(facts: ModelFacts) -> dict[str, Any]:
    """Return the fields of `ModelFacts` alone, by name, as another dataclass of facts or a JSON file takes them."""
    return {field.name: getattr(facts, field.name) for field in fields(ModelFacts)}


def sizes_in_words(model_args: Mapping[str, Any]) -> str:
    """Say what a model takes and gives, as far as its arguments tell: "31 bands, a guide of 3 channels, ratio 8"."""
    wording = {
        "in_chans": "{} bands",
        "aux_chans": "{} channels of a second source",
        "guide_chans": "a guide of {} channels",
        "scale": "ratio {}",
        "patch_size": "patches of {0} x {0} pixels",
        "num_classes": "{} classes",
    }
    text = ", ".join(words.format(model_args[name]) for name, words in wording.items() if model_args.get(name))
    return re.sub(r"\b1 (band|channel|classe)s\b", r"1 \1", text)


def check_fields(value: Any, types: Mapping[str, tuple[type, ...]], where: str) -> dict[str, Any]:
    """Return a JSON value, which must be an object with these fields of these types exactly (`true` is no number).

    Fields that this version does not know are left alone.

    Raises:
        ManifestError: It is none; the text says which field of `where`.
    """
    if not isinstance(value, dict):
        raise ManifestError(f"{where} is {type(value).__name__}, expected an object; restore or rewrite the file")
    for name, allowed in types.items():
        expected = " or ".join("null" if kind is NoneType else kind.__name__ for kind in allowed)
        if name not in value:
            raise ManifestError(f"{where} lacks the field {name!r} ({expected}); restore or rewrite the file")
        if type(value[name]) not in allowed:
            raise ManifestError(f"{where}: {name} is {value[name]!r}, expected {expected}; restore or rewrite the file")
    return value


def check_schema(value: Any, where: str) -> dict[str, Any]:
    """Return a JSON value, which must be an object of the schema that this version reads, or raise ManifestError."""
    schema = check_fields(value, {}, where).get("schema")
    if type(schema) is not int or schema != SCHEMA:
        raise ManifestError(
            f"{where} has schema {schema!r}; hsmamba {__version__} reads schema {SCHEMA}. "
            "A newer version may read it: pip install -U hsmamba"
        )
    return dict(value)


def read_json(path: Path) -> Any:
    """Read a JSON file of finite numbers and whole characters.

    Raises:
        ManifestError: It is missing, unreadable, too long or not JSON.
    """
    if (instead := not_a_file(path)) is not None:
        raise ManifestError(
            f"there is no file {path} ({instead}); check the path, or reinstall or fetch what it belongs to"
        )
    try:
        if (size := path.stat().st_size) > _JSON_BYTES:
            raise ValueError(f"it has {size} bytes, and {_JSON_BYTES} are the most that is read")
        text = path.read_text(encoding="utf-8")
        value = json.loads(text, parse_float=_finite, parse_int=_whole, parse_constant=_finite)
        _check_json(value)
    except (OSError, ValueError, RecursionError) as error:
        raise ManifestError(f"{path} cannot be read as JSON ({error}); restore it, or fetch it again") from error
    return value


def _finite(text: str) -> float:
    """Read a number; Python's reader takes NaN and Infinity, which JSON has not, and makes infinity of 1e999."""
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text} is no finite number")
    return number


def _whole(text: str) -> int:
    """Read a whole number; Python's have no end, and one of 400 digits is no number to whatever computes."""
    _finite(text)
    return int(text)


def _check_json(value: Any) -> None:
    """Refuse deep nesting and half characters, on which whatever walks or prints the value would fail."""
    level = [value]
    for _ in range(_JSON_DEPTH):
        for text in (part for part in level if isinstance(part, str)):
            text.encode()  # UnicodeEncodeError, a ValueError, for half of a surrogate pair
        parts = [[*part.keys(), *part.values()] if isinstance(part, dict) else part for part in level]
        level = [inner for part in parts if isinstance(part, list) for inner in part]
        if not level:
            return
    raise ValueError(f"it is nested deeper than {_JSON_DEPTH} levels")


def check_file_name(name: str, where: str) -> str:
    """Return a name that stands for a file of its own folder and for nothing else, or raise ManifestError."""
    if not _FILE_NAME.fullmatch(name):
        raise ManifestError(
            f"{where}: {name!r} is not a plain file name (letters, digits, '_', '.', '-'), and no file outside the "
            "model's own folder is read; get the model again from where you trust it"
        )
    return name


def parse_file(value: Any, where: str) -> FileEntry:
    """Read a file entry `{file, sha256, bytes}`, or raise ManifestError."""
    entry = check_fields(value, _FILE_FIELDS, where)
    check_file_name(entry["file"], where)
    if not _SHA256.fullmatch(entry["sha256"]):
        raise ManifestError(f"{where}: sha256 is {entry['sha256']!r}, expected 64 hexadecimal digits in lower case")
    if entry["bytes"] < 1:
        raise ManifestError(f"{where}: bytes is {entry['bytes']}, expected the length of the file, 1 or more")
    return FileEntry(entry["file"], entry["sha256"], entry["bytes"])


def parse_facts(value: Any, where: str) -> dict[str, Any]:
    """Read the fields of `ModelFacts` from a JSON object, as keyword arguments, or raise ManifestError."""
    facts = check_fields(value, _FACT_FIELDS, where)
    bands, wavelengths = facts["bands"], facts.get("wavelengths")
    if facts["params"] < 0 or (bands is not None and not 1 <= bands <= _MOST):
        raise ManifestError(
            f"{where}: params is {facts['params']}, bands {bands}; expected the number of parameters, and of bands 1 "
            "or more, or null"
        )
    if wavelengths is not None and not (
        isinstance(wavelengths, list) and all(type(nm) in (int, float) and 0 < nm < _MOST for nm in wavelengths)
    ):
        raise ManifestError(f"{where}: wavelengths is {wavelengths!r}, expected a list of numbers in nm or null")
    if not all(isinstance(name, str) for name in facts["classes"]):
        raise ManifestError(f"{where}: classes is {facts['classes']!r}, expected a list of names")
    return {
        **{name: facts[name] for name in _FACT_FIELDS},
        "classes": tuple(facts["classes"]),
        "wavelengths": None if wavelengths is None else tuple(float(nm) for nm in wavelengths),
    }


def _parse_hub(value: Any, where: str) -> HubAddress:
    hub = HubAddress(**{name: check_fields(value, _HUB_FIELDS, where)[name] for name in _HUB_FIELDS})
    if not _REPO_ID.fullmatch(hub.repo_id):
        raise ManifestError(f"{where}: repo_id is {hub.repo_id!r}, expected owner/repo")
    if not _COMMIT.fullmatch(hub.revision):
        raise ManifestError(
            f"{where}: revision is {hub.revision!r}, expected a commit hash of 40 hexadecimal digits: a branch moves"
        )
    for part in hub.filename.split("/"):
        check_file_name(part, where)
    return hub


def parse_record(name: str, value: Any) -> WeightRecord:
    """Read the record behind a key "architecture.tag" of the manifest, or raise ManifestError."""
    where = f"weights record {name!r}"
    if not _WEIGHT_NAME.fullmatch(name):
        raise ManifestError(f"{where}: the name is not of the form architecture.tag (letters, digits, '_', '-')")
    model = parse_file(value, where)
    for key in ("hub", "transform", "split"):
        if key not in value:
            raise ManifestError(f"{where} lacks the field {key!r} (object or null); restore or rewrite the file")
    return WeightRecord(
        name=name,
        **asdict(model),
        hub=None if value["hub"] is None else _parse_hub(value["hub"], f"{where}, hub"),
        transform=None if value["transform"] is None else parse_file(value["transform"], f"{where}, transform"),
        split=None if value["split"] is None else parse_file(value["split"], f"{where}, split"),
        **parse_facts(value, where),
    )


def json_facts(facts: ModelFacts) -> dict[str, Any]:
    """Return the facts as JSON has them: lists for tuples, plain numbers for numpy's."""
    try:
        text = json.dumps(facts_of(facts), default=_plain, allow_nan=False)
    except ValueError as error:
        raise ValueError(
            f"what is told of the model cannot be written as JSON ({error}); for a number that is not finite give None"
        ) from error
    return dict(json.loads(text))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if hasattr(value, "tolist"):  # numpy and torch, scalars and arrays
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{value!r} of type {type(value).__name__} cannot be written as JSON; give plain JSON values")
