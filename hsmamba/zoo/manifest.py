"""The weights manifest: which trained weights there are, where their files lie, and what each file's SHA-256 must be.

`weights_manifest.json` holds `{"schema": 1, "weights": {"<architecture>.<tag>": record}}`; `manifest.schema.json`,
beside this module, describes a record. The files of a weight lie in the folder `hsmamba/weights/<architecture>.<tag>/`
of the wheel, or on the Hugging Face Hub at a pinned commit; wherever they come from, they are verified.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PurePosixPath
from types import NoneType
from typing import Any

import hsmamba
from hsmamba._files import write_text
from hsmamba.errors import HashMismatchError, ManifestError, UnknownModelError, WeightsError

SCHEMA = 1  # of the manifest and of config.json alike
_PACKAGE = Path(hsmamba.__file__).resolve().parent

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


def check_fields(value: Any, types: Mapping[str, tuple[type, ...]], where: str) -> dict[str, Any]:
    """Check that a JSON value is an object with the required fields.

    Args:
        value: What the file holds.
        types: Allowed types by required field; exact types, so that `true` is no number.
        where: What it is, for the error.

    Returns:
        The object, unchanged: fields that this version does not know are left alone.

    Raises:
        ManifestError: It is no object, or a field is missing or of another type.
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
    """Check that a JSON value is an object of the schema that this version reads.

    Raises:
        ManifestError: It is no object, or of another schema.
    """
    schema = check_fields(value, {}, where).get("schema")
    if type(schema) is not int or schema != SCHEMA:
        raise ManifestError(
            f"{where} has schema {schema!r}; hsmamba {hsmamba.__version__} reads schema {SCHEMA}. "
            "A newer version may read it: pip install -U hsmamba"
        )
    return dict(value)


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ManifestError: The file is missing, unreadable or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ManifestError(
            f"there is no file {path}; check the path, or reinstall or fetch what it belongs to"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ManifestError(f"{path} cannot be read as JSON ({error}); restore it, or fetch it again") from error


def check_file_name(name: str, where: str) -> str:
    """Check that a name stands for a file of its own folder and for nothing else.

    Raises:
        ManifestError: The name is a path, is hidden, or has characters other than letters, digits, `_`, `.` and `-`.
    """
    if not _FILE_NAME.fullmatch(name):
        raise ManifestError(
            f"{where}: {name!r} is not a plain file name (letters, digits, '_', '.', '-'), and no file outside the "
            "model's own folder is read; get the model again from where you trust it"
        )
    return name


def parse_file(value: Any, where: str) -> FileEntry:
    """Read a file entry `{file, sha256, bytes}`.

    Raises:
        ManifestError: A field is missing or malformed, or the name would leave its folder.
    """
    entry = check_fields(value, _FILE_FIELDS, where)
    check_file_name(entry["file"], where)
    if not _SHA256.fullmatch(entry["sha256"]):
        raise ManifestError(f"{where}: sha256 is {entry['sha256']!r}, expected 64 hexadecimal digits in lower case")
    return FileEntry(entry["file"], entry["sha256"], entry["bytes"])


def parse_facts(value: Any, where: str) -> dict[str, Any]:
    """Read the fields of `ModelFacts` from a JSON object, as keyword arguments.

    Raises:
        ManifestError: A field is missing or of another type.
    """
    facts = check_fields(value, _FACT_FIELDS, where)
    wavelengths = facts.get("wavelengths")
    if wavelengths is not None and not (
        isinstance(wavelengths, list) and all(type(nm) in (int, float) for nm in wavelengths)
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
    """Read one record of the manifest.

    Args:
        name: Its key, `architecture.tag`.
        value: The JSON object behind it.

    Raises:
        ManifestError: The name or a field is missing or malformed, or a file name would leave its folder.
    """
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
    """Return the folder of the installed package that holds the embedded weights, one model folder each."""
    return _PACKAGE / "weights"


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
        records: The records; of two of one architecture the first is its default.
        path: The file to write.

    Returns:
        The path.
    """
    weights = {}
    for record in records:
        weights[record.name] = {key: value for key, value in asdict(record).items() if key != "name"}
    text = json.dumps({"schema": SCHEMA, "weights": weights}, indent=2, allow_nan=False, ensure_ascii=False)
    write_text(path, text + "\n")
    return Path(path)


def find_record(architecture: str, tag: str | None = None) -> WeightRecord:
    """Find a weight in the library's manifest.

    Args:
        architecture: Name of the architecture.
        tag: Name of the weight; None takes the architecture's first.

    Returns:
        Its record.

    Raises:
        UnknownModelError: There is none; the text names the nearest and lists what there is.
    """
    records = load_manifest()
    own = [record for record in records.values() if record.architecture == architecture]
    if tag is None and own:
        return own[0]
    name = architecture if tag is None else f"{architecture}.{tag}"
    if tag is not None and name in records:
        return records[name]
    known = {record.architecture: None for record in records.values()} | dict.fromkeys(records)
    near = difflib.get_close_matches(name, known, n=3)
    raise UnknownModelError(
        f"no pretrained weights named {name!r}"
        + (f"; did you mean {' or '.join(near)}?" if near else ".")
        + f" There are: {', '.join(record.name for record in own) or ', '.join(records) or 'none in this version'}"
    )


def sha256_file(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits; the file is read in pieces of 1 MiB."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def verify_file(path: str | os.PathLike[str], sha256: str, *, name: str, mend: str) -> None:
    """Check that a file is the one on record. Nothing is deleted.

    Args:
        path: The file.
        sha256: The recorded SHA-256, hexadecimal.
        name: What the file belongs to, for the error.
        mend: What to type when it is another, for the error.

    Raises:
        WeightsError: There is no such file.
        HashMismatchError: Its hash is another; the text names both.
    """
    try:
        found = sha256_file(path)
    except OSError as error:
        raise WeightsError(f"{name}: {path} cannot be read ({error.strerror}); {mend}") from error
    if found != sha256:
        raise HashMismatchError(
            f"{name}: {path} ({os.path.getsize(path)} bytes) is not the file on record: its SHA-256 is {found}, "
            f"expected {sha256}; it was cut short, damaged or replaced. Nothing was deleted: {mend}"
        )


def resolve(record: WeightRecord, *, which: str = "model", cache_dir: str | Path | None = None) -> Path:
    """Return a verified file of a weight: the copy embedded in the wheel, else the Hub cache's, else the Hub's.

    Args:
        record: The weight.
        which: "model", "transform" or "split".
        cache_dir: Folder of the Hub cache; None takes the client's own (`HF_HUB_CACHE`).

    Returns:
        Path of the file.

    Raises:
        WeightsError: The weight has no such file, or it cannot be fetched.
        HashMismatchError: The file is not the one on record.
    """
    if which not in record.files:
        raise WeightsError(f"{record.name} has no {which} file; it has: {', '.join(record.files)}")
    entry = record.files[which]
    embedded = weights_folder() / record.name / entry.file
    if embedded.is_file():
        mend = "reinstall: pip install --force-reinstall --no-deps hsmamba"
        verify_file(embedded, entry.sha256, name=record.name, mend=mend)
        return embedded
    if record.hub is None:
        raise WeightsError(
            f"{record.name}: {embedded} is not there and the weight has no copy on the Hub; "
            "reinstall: pip install --force-reinstall --no-deps hsmamba"
        )
    from hsmamba.zoo.hub import download_verified  # the Hub's client takes a while to import

    filename = PurePosixPath(record.hub.filename)
    return download_verified(
        record.hub.repo_id,
        str(filename if which == "model" else filename.with_name(entry.file)),
        revision=record.hub.revision,
        sha256=entry.sha256,
        cache_dir=cache_dir,
    )
