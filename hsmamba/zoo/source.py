"""From a name to verified files: a folder on disk, a Hub repository or a record of the manifest.

All end in a `ModelFolder`: facts, and the paths of files whose hashes were checked. A model folder is `config.json` +
`model.safetensors`, with `transform.safetensors`, `split.safetensors` and `check.safetensors` where there are such, and
a card `README.md`; `config.json` names the other files with their SHA-256.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

from hsmamba._files import not_a_file
from hsmamba.errors import ManifestError, UnknownModelError, WeightsError
from hsmamba.zoo import hub, manifest
from hsmamba.zoo.files import CONFIG, FILES, entry_of, load_tensors, verify_file
from hsmamba.zoo.records import (
    FileEntry,
    HubAddress,
    ModelFacts,
    WeightRecord,
    check_fields,
    check_schema,
    facts_of,
    json_facts,
    parse_facts,
    parse_file,
    parse_record,
    read_json,
)

if TYPE_CHECKING:  # torch is imported where it is used: to look into folders and to fetch files takes none
    from torch import Tensor

    from hsmamba.data import Compose, Split

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class ModelFolder(ModelFacts):
    """A trained model whose files were verified.

    Attributes:
        architecture: Name of the architecture.
        source: Where it came from, as the factory takes it: `architecture.tag`, `hf-hub:owner/repo@commit` or
            `local-dir:path`.
        files: Paths of the verified files, by what they hold: "model", "transform", "split", "check".
    """

    architecture: str
    source: str
    files: Mapping[str, Path]

    @property
    def name(self) -> str | None:
        """Name of the weight, "architecture.tag"; None for a folder that is none of the library's weights."""
        return self.source if self.source.startswith(f"{self.architecture}.") else None

    @property
    def model_path(self) -> Path:
        """Path of the verified `model.safetensors`; `load_tensors` reads it."""
        return self.files["model"]

    @property
    def config(self) -> dict[str, Any]:
        """Architecture, source and facts as one dictionary."""
        return {"architecture": self.architecture, "source": self.source, **facts_of(self)}

    def load_transform(self) -> Compose | None:
        """Read the fitted transform; None where there is none."""
        from hsmamba.data import Compose

        return Compose.load(self.files["transform"]) if "transform" in self.files else None

    def load_split(self) -> Split | None:
        """Read the split that the model was trained on; None where there is none."""
        from hsmamba.data import Split

        return Split.load(self.files["split"]) if "split" in self.files else None

    def load_check(self) -> dict[str, Tensor] | None:
        """Read what the network gave for small inputs, as `hsmamba.zoo.check.make_check` made it; None without."""
        return load_tensors(self.files["check"]) if "check" in self.files else None


def read_folder(path: str | os.PathLike[str]) -> ModelFolder:
    """Read a model folder on disk; every file that its `config.json` names is verified.

    Args:
        path: The folder, as `save_pretrained` writes it.

    Returns:
        The model folder.

    Raises:
        ManifestError: `config.json` is missing, not one of hsmamba's, malformed, or of another schema.
        WeightsError: A file that it names is missing.
        HashMismatchError: A file is not the one that was saved.
    """
    path = Path(path)
    return steadily(path, lambda: _read_folder(path))


def steadily(folder: Path | None, read: Callable[[], Result]) -> Result:
    """Read a model from a folder, and once more where another one is saved into it meanwhile; None is no folder."""
    while True:
        before = _stamp(folder)
        try:
            result = read()
        except WeightsError:
            if _stamp(folder) == before:
                raise
        else:
            if _stamp(folder) == before:
                return result


def _stamp(folder: Path | None) -> tuple[int, int] | None:
    """Return what changes when a model is saved into a folder; None where there is none."""
    with contextlib.suppress(OSError, ValueError):
        status = os.stat(folder / CONFIG) if folder is not None else None
        return status and (status.st_ino, status.st_mtime_ns)
    return None


def _read_folder(path: Path) -> ModelFolder:
    source = f"local-dir:{path}"
    if not_a_file(path / CONFIG) is not None:
        found = ", ".join(sorted(os.listdir(path))) if os.path.isdir(path) else "no such folder"
        raise ManifestError(
            f"{path} is no model folder, it has no {CONFIG} ({found or 'empty'}); save_pretrained makes one"
        )

    def locate(entry: FileEntry) -> Path:
        mend = f"copy the whole folder again from where it was saved, the file under the name {entry.file}"
        _check_inside(path, entry.file)
        verify_file(path / entry.file, entry, name=source, mend=mend)
        return path / entry.file

    _check_inside(path, CONFIG)
    return read_config(path / CONFIG, source, locate)


def _check_inside(folder: Path, name: str) -> None:
    """Refuse a file of a folder that is a link to somewhere else."""
    home = Path(os.path.realpath(folder))
    if home.parent.name == "snapshots" and (home.parent.parent / "blobs").is_dir():
        home = home.parent.parent  # a folder of the Hub's cache, whose files are links to the blobs beside
    target = Path(os.path.realpath(folder / name))
    if not target.is_relative_to(home):
        raise WeightsError(
            f"local-dir:{folder}: {name} is a link to {target}, and no file outside of the folder is read; put a copy "
            "of the file in its place"
        )


def read_config(path: Path, source: str, locate: Callable[[FileEntry], Path]) -> ModelFolder:
    """Read `config.json` and find the files that it names; `locate` returns the verified path of one."""
    where = f"{source}, {CONFIG}"
    config = read_json(path)
    if not isinstance(config, dict) or config.get("library") != "hsmamba":
        raise ManifestError(f"{where} was not written by hsmamba; a model folder is made by save_pretrained")
    fields = {"architecture": (str,), "files": (dict,)}
    check_fields(check_schema(config, where), fields, where)
    if not re.fullmatch(r"\w{1,200}", config["architecture"]):
        raise ManifestError(f"{where}: architecture is {config['architecture'][:200]!r}, expected a name of letters")
    facts = parse_facts(config, where)
    if None not in (facts["bands"], facts["wavelengths"]) and len(facts["wavelengths"]) != facts["bands"]:
        raise ManifestError(
            f"{where} has {len(facts['wavelengths'])} wavelengths for {facts['bands']} bands; expected one for each "
            "band: save the model again"
        )
    named = {which: value for which, value in config["files"].items() if which in FILES and value is not None}
    if "model" not in named:
        raise ManifestError(f"{where}: files names no model file; save the model again")
    entries = {which: parse_file(value, f"{where}, files.{which}") for which, value in named.items()}
    files = {which: locate(entry) for which, entry in entries.items()}
    return ModelFolder(architecture=config["architecture"], source=source, files=files, **facts)


_LOCAL, _HUB = "local-dir:", "hf-hub:"


def names_a_folder(name: str) -> bool:
    """Whether a name is a `local-dir:` or `hf-hub:` one, which always stands for a trained model."""
    return name.startswith((_LOCAL, _HUB))


def place_of(name: str) -> Path | None:
    """Return the folder that a `local-dir:` name names; None for another name."""
    return Path(name[len(_LOCAL) :]).expanduser() if name.startswith(_LOCAL) else None


def check_known(architecture: str, asked: str | None = None) -> None:
    """Raise unless an architecture is registered.

    Raises:
        UnknownModelError: The text names the nearest to what was `asked` for, or the prefix of a path or a Hub name.
    """
    from hsmamba.models import registry  # which needs torch: a download does not

    known = registry()
    if architecture in known:
        return
    asked = asked or architecture
    if re.search(r"[/\\~]", asked) or os.path.exists(asked):
        raise UnknownModelError(
            f"{asked!r} looks like a path or a Hub id, not like a model name; a folder is 'local-dir:{asked}', "
            f"a Hub repository is 'hf-hub:{asked}'"
        )
    near = difflib.get_close_matches(asked, [*known, *manifest.load_manifest()], n=3, cutoff=0.4)
    hint = f"did you mean {', '.join(near)}?" if near else "hsmamba.list_models() lists all"
    raise UnknownModelError(f"unknown model {asked!r}; {hint}")


def weight_name(name: str) -> str:
    """Complete "architecture" to "architecture.tag" by its default weight.

    Raises:
        UnknownModelError: No such architecture, or it has no default weight.
    """
    architecture, _, tag = name.partition(".")
    check_known(architecture, asked=name)
    if tag:
        return name
    from hsmamba.models import entry

    default = entry(architecture).cfg.default_tag
    if default is None:
        there = [record for record in manifest.load_manifest() if record.startswith(f"{architecture}.")]
        raise UnknownModelError(
            f"{architecture} has no default weight; "
            + (f"name one of {', '.join(there)}" if there else "hsmamba.list_pretrained() lists the weights there are")
        )
    return f"{architecture}.{default}"


def find_folder(
    name: str, *, cache_dir: str | Path | None = None, model_path: str | os.PathLike[str] | None = None
) -> ModelFolder:
    """Find the model folder behind a name; all of its files are verified.

    Args:
        name: "architecture[.tag]", "hf-hub:owner/repo[@revision]" or "local-dir:path".
        cache_dir: Folder for downloads; default the Hugging Face cache.
        model_path: A local copy of the model file to take for "architecture[.tag]".

    Returns:
        The folder.

    Raises:
        UnknownModelError: No such weight.
        WeightsError: A file that cannot be had, or is not the one on record.
    """
    if (place := place_of(name)) is not None:
        return read_folder(place)
    if name.startswith(_HUB):
        return fetch_folder(name[len(_HUB) :], cache_dir=cache_dir)
    return folder_of(manifest.find_record(weight_name(name)), cache_dir=cache_dir, model_path=model_path)


def fetch_folder(name: str, *, cache_dir: str | Path | None = None) -> ModelFolder:
    """Fetch a model folder from the Hub: `config.json`, then the files it names, all of one commit.

    Args:
        name: `owner/repo`, or `owner/repo@revision` with a branch, a tag or a commit hash.
        cache_dir: Folder of the Hub cache; None takes the client's own (`HF_HUB_CACHE`).

    Returns:
        The model folder, in the cache.

    Raises:
        ValueError: The name is of another form.
        ManifestError: Its `config.json` is not one of hsmamba's, malformed, or of another schema.
        WeightsError: A file cannot be fetched.
        HashMismatchError: A file is not the one that was saved.
    """
    match = re.fullmatch(r"([\w.-]+/[\w.-]+)(?:@(\w[\w./-]*))?", name, re.ASCII)
    if match is None or ".." in name:
        raise ValueError(f"{name!r} names no Hub repository; expected owner/repo or owner/repo@revision")
    repo_id, revision = match[1], match[2] or "main"
    config = hub.download(repo_id, CONFIG, revision=revision, cache_dir=cache_dir)
    commit = config.parent.name  # the cache keeps a folder for every commit: a push from here on changes nothing

    def locate(entry: FileEntry) -> Path:
        return hub.download_verified(repo_id, entry.file, revision=commit, entry=entry, cache_dir=cache_dir)

    return read_config(config, f"hf-hub:{repo_id}@{commit}", locate)


def folder_of(
    record: WeightRecord,
    *,
    cache_dir: str | Path | None = None,
    model_path: str | os.PathLike[str] | None = None,
) -> ModelFolder:
    """Return the model folder of a record of the manifest, embedded or fetched; the record's hashes are enforced.

    Args:
        record: The weight.
        cache_dir: Folder of the Hub cache; None takes the client's own (`HF_HUB_CACHE`).
        model_path: A local copy of the model file, to be taken instead of any other.

    Returns:
        The model folder.

    Raises:
        WeightsError: A file is missing or cannot be fetched.
        HashMismatchError: A file is not the one on record.
    """
    wanted = list(record.files)
    files = {}
    if model_path is not None:
        wanted.remove("model")
        files["model"] = Path(model_path)
        mend = f"leave the path out to take the library's own copy, or load the file without asking for {record.name}"
        verify_file(model_path, record.files["model"], name=record.name, mend=mend)
    files |= {which: resolve(record, which=which, cache_dir=cache_dir) for which in wanted}
    facts = facts_of(record)
    return ModelFolder(architecture=record.architecture, source=record.name, files=files, **facts)


def record_of(folder: ModelFolder, tag: str, *, address: HubAddress | None = None) -> WeightRecord:
    """Make the manifest's record `architecture.tag` of a model folder, for `write_manifest`.

    Args:
        folder: The folder.
        tag: Name of the weight among those of its architecture.
        address: Where its model file lies on the Hub; None for a weight that only the wheel carries.

    Raises:
        ManifestError: The tag makes no valid name.
    """
    entries = {which: asdict(entry_of(path)) for which, path in folder.files.items()}
    value = {**entries["model"], "transform": None, "split": None, **entries}
    value |= {"hub": None if address is None else asdict(address)} | json_facts(folder)
    return parse_record(f"{folder.architecture}.{tag}", value)


def resolve(record: WeightRecord, *, which: str = "model", cache_dir: str | Path | None = None) -> Path:
    """Return a verified file of a weight: the copy embedded in the wheel, else the Hub cache's, else the Hub's.

    Raises:
        WeightsError: The weight has no such file, or it cannot be fetched.
        HashMismatchError: The file is not the one on record.
    """
    if which not in record.files:
        raise WeightsError(f"{record.name} has no {which} file; it has: {', '.join(record.files)}")
    entry = record.files[which]
    embedded = manifest.weights_folder() / record.name / entry.file
    if embedded.is_file():
        mend = "reinstall: pip install --force-reinstall --no-deps hsmamba"
        verify_file(embedded, entry, name=record.name, mend=mend)
        return embedded
    if record.hub is None:
        raise WeightsError(
            f"{record.name}: {embedded} is not there and the weight has no copy on the Hub; "
            "reinstall: pip install --force-reinstall --no-deps hsmamba"
        )
    filename = PurePosixPath(record.hub.filename)
    return hub.download_verified(
        record.hub.repo_id,
        str(filename if which == "model" else filename.with_name(entry.file)),
        revision=record.hub.revision,
        entry=entry,
        cache_dir=cache_dir,
    )
