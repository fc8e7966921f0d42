"""Model folders on disk: the one format in which the wheel, the Hub and a user keep a trained model.

A model folder is `config.json` + `model.safetensors`, with `transform.safetensors` and `split.safetensors` where there
are such, and a model card `README.md`. `config.json` names the other files with their SHA-256, and no file is used
before its hash was checked.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import shlex
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hsmamba
from hsmamba._files import default_mode
from hsmamba.errors import ManifestError, WeightsError
from hsmamba.zoo import manifest
from hsmamba.zoo.card import model_card
from hsmamba.zoo.manifest import FileEntry, ModelFacts

if TYPE_CHECKING:  # torch is imported where it is used: to look into folders and to fetch files takes none
    from torch import Tensor, nn

    from hsmamba.data import Compose, Split

CONFIG = "config.json"
_FILES = {"model": "model.safetensors", "transform": "transform.safetensors", "split": "split.safetensors"}
_STAGING = ".saving-"


@dataclass(frozen=True, kw_only=True)
class ModelFolder(ModelFacts):
    """A trained model whose files were verified.

    Attributes:
        architecture: Name of the architecture.
        source: Where it came from, as the factory takes it: `architecture.tag`, `hf-hub:owner/repo@commit` or
            `local-dir:path`.
        files: Paths of the verified files, by what they hold: "model", "transform", "split".
    """

    architecture: str
    source: str
    files: Mapping[str, Path]

    @property
    def model_path(self) -> Path:
        """Path of the verified `model.safetensors`; `load_tensors` reads it."""
        return self.files["model"]

    @property
    def config(self) -> dict[str, Any]:
        """Architecture, source and facts as one dictionary."""
        return {"architecture": self.architecture, "source": self.source, **manifest.facts_of(self)}

    def load_transform(self) -> Compose | None:
        """Read the fitted transform; None where there is none."""
        from hsmamba.data import Compose

        return Compose.load(self.files["transform"]) if "transform" in self.files else None

    def load_split(self) -> Split | None:
        """Read the split that the model was trained on; None where there is none."""
        from hsmamba.data import Split

        return Split.load(self.files["split"]) if "split" in self.files else None


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
    source = f"local-dir:{path}"
    if not (path / CONFIG).is_file():
        found = ", ".join(sorted(entry.name for entry in path.iterdir())) if path.is_dir() else "no such folder"
        raise ManifestError(
            f"{path} is no model folder, it has no {CONFIG} ({found or 'empty'}); save_pretrained makes one"
        )

    def locate(entry: FileEntry) -> Path:
        mend = f"copy the whole folder again from where it was saved, the file under the name {entry.file}"
        manifest.verify_file(path / entry.file, entry.sha256, name=source, mend=mend)
        return path / entry.file

    return read_config(path / CONFIG, source, locate)


def load_tensors(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read a safetensors file; no other format is read.

    Args:
        path: The file.

    Returns:
        Its tensors by name, on the CPU.

    Raises:
        WeightsError: The file is missing, cut short or of another format; the text says which and what to do.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"there is no weight file {path}; check the path")
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError) as error:
        with path.open("rb") as file:
            head = file.read(9)
        # A safetensors header opens with "{" at byte 8; a zip archive or a pickle are what torch.save writes.
        if head[8:] != b"{" and head.startswith((b"PK", b"\x80")):
            raise WeightsError(
                f"{path} is a PyTorch pickle, whatever its name says. Reading a pickle can run code, so hsmamba reads "
                f"safetensors only; convert it with: hsmamba convert {shlex.quote(str(path))} FOLDER --arch NAME"
            ) from error
        raise WeightsError(
            f"{path} ({path.stat().st_size} bytes) is no whole safetensors file ({error}): it was cut short or is of "
            "another format; fetch or save it again"
        ) from error


def read_config(path: Path, source: str, locate: Callable[[FileEntry], Path]) -> ModelFolder:
    """Read `config.json` and find the files that it names; `locate` returns the verified path of one."""
    where = f"{source}, {CONFIG}"
    config = manifest.read_json(path)
    if not isinstance(config, dict) or config.get("library") != "hsmamba":
        raise ManifestError(f"{where} was not written by hsmamba; a model folder is made by save_pretrained")
    fields = {"architecture": (str,), "files": (dict,)}
    manifest.check_fields(manifest.check_schema(config, where), fields, where)
    facts = manifest.parse_facts(config, where)
    named = {which: value for which, value in config["files"].items() if which in _FILES and value is not None}
    if "model" not in named:
        raise ManifestError(f"{where}: files names no model file; save the model again")
    entries = {which: manifest.parse_file(value, f"{where}, files.{which}") for which, value in named.items()}
    files = {which: locate(entry) for which, entry in entries.items()}
    return ModelFolder(architecture=config["architecture"], source=source, files=files, **facts)


def save_pretrained(
    model: nn.Module,
    folder: str | os.PathLike[str],
    *,
    transform: Compose | None = None,
    split: Split | None = None,
    metrics: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    license: str = "Apache-2.0",
    recipe: str | Mapping[str, Any] | None = None,
    class_names: Sequence[str] | None = None,
    bands: int | None = None,
    wavelengths: Sequence[float] | None = None,
    architecture: str | None = None,
    model_args: Mapping[str, Any] | None = None,
    repo_id: str | None = None,
) -> Path:
    """Write a model folder, which `create_model("local-dir:...")` and, once on the Hub, `hf-hub:` read.

    Everything is written beside first and then moved into place, `config.json` last: after a failure the folder is as
    it was. Files of the folder that are none of the model's are left alone.

    Args:
        model: A network made by the factory.
        folder: Where to; a new or empty folder, or a model folder, whose files are replaced.
        transform: The fitted transform; None takes `model.transform`.
        split: The split that the model was trained on.
        metrics: `{metric: value}` or `{protocol: {metric: value}}`; a value is a number or `{"mean": m, "std": s}`.
        data: What it was trained on: name, source, licence, split, seeds.
        license: SPDX identifier of the weights' licence.
        recipe: How it was trained: the recipe's name or its settings.
        class_names: Class names in the order of the logits; None takes `model.class_names`.
        bands: Number of bands of a scene before the transform; None takes what the transform was fitted on, or the
            model's `in_chans` where there is no transform.
        wavelengths: Centre of every band in nm.
        architecture: Name of the architecture; None takes `model.architecture`.
        model_args: Keyword arguments of its entry point; None takes `model.model_args`.
        repo_id: The Hub repository that the card names.

    Returns:
        The folder.

    Raises:
        ValueError: The model was not made by the factory, class names or wavelengths do not fit.
        TypeError: A value cannot be written as JSON.
        WeightsError: The folder holds something else, or cannot be written.
    """
    folder = Path(folder)
    transform = transform if transform is not None else getattr(model, "transform", None)
    model = getattr(model, "_orig_mod", model)  # a compiled network's parameters have other names
    architecture, model_args = _how_built(model, architecture, model_args)
    if bands is None:
        bands = getattr(model, "in_chans", None) if transform is None else transform.in_channels()
    facts = ModelFacts(
        license=license,
        model_args=model_args,
        classes=tuple(getattr(model, "class_names", None) or () if class_names is None else class_names),
        bands=bands,
        wavelengths=None if wavelengths is None else tuple(float(nm) for nm in wavelengths),
        data=data or {},
        metrics=metrics or {},
        recipe=recipe,
        params=sum(parameter.numel() for parameter in model.parameters()),
        date=datetime.date.today().isoformat(),
    )
    _check_facts(facts)
    _check_place(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=_STAGING, dir=folder) as staging:
            companions = {"transform": transform, "split": split}
            _stage(Path(staging), _tensors(model), companions, architecture, facts, repo_id)
            _publish(Path(staging), folder)
    except OSError as error:
        raise WeightsError(f"cannot write {folder} ({error}); free some space or choose another folder") from error
    return folder


def _how_built(
    model: nn.Module, architecture: str | None, model_args: Mapping[str, Any] | None
) -> tuple[str, dict[str, Any]]:
    """Return architecture and arguments of a model, from the caller or from what the factory noted on it."""
    architecture = architecture or getattr(model, "architecture", None)
    model_args = model_args if model_args is not None else getattr(model, "model_args", None)
    if architecture is None or model_args is None:
        raise ValueError(
            f"this {type(model).__name__} does not say how it was built: make it with create_model, or pass "
            "architecture= (a registered name) and model_args= (the keyword arguments of its entry point)"
        )
    args = dict(model_args)
    if "num_classes" in args:  # reset_classifier changes the head after the factory has noted the arguments
        args["num_classes"] = getattr(model, "num_classes", args["num_classes"])
    return architecture, args


def _check_facts(facts: ModelFacts) -> None:
    """Refuse class names and wavelengths of another number than the model's classes and bands."""
    num_classes = facts.model_args.get("num_classes")
    if facts.classes and num_classes and len(facts.classes) != num_classes:
        raise ValueError(
            f"{len(facts.classes)} class names for a model of {num_classes} classes; pass class_names= in the order of "
            "its logits, or class_names=()"
        )
    if facts.wavelengths is not None and len(facts.wavelengths) != facts.bands:
        raise ValueError(f"{len(facts.wavelengths)} wavelengths for {facts.bands} bands; pass one for each band")


def _check_place(folder: Path) -> None:
    """Refuse a place that holds anything but a model folder, so that nothing of the user's is overwritten."""
    if not folder.exists():
        return
    if folder.is_dir():
        if all(entry.name.startswith(_STAGING) for entry in folder.iterdir()):
            return
        with contextlib.suppress(ManifestError):
            config = manifest.read_json(folder / CONFIG)
            if isinstance(config, dict) and config.get("library") == "hsmamba":
                return
    raise WeightsError(f"{folder} holds something other than a model of hsmamba; choose a new or empty folder")


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the state on the CPU, every tensor with memory of its own: safetensors refuses what is shared."""
    return {key: value.detach().cpu().contiguous().clone() for key, value in model.state_dict().items()}


def entry_of(path: Path) -> dict[str, Any]:
    """Describe a file of a model folder: its name, its SHA-256 and its length in bytes."""
    return {"file": path.name, "sha256": manifest.sha256_file(path), "bytes": path.stat().st_size}


def json_facts(facts: ModelFacts) -> dict[str, Any]:
    """Return the facts as JSON has them: lists for tuples, plain numbers for numpy's."""
    try:
        text = json.dumps(manifest.facts_of(facts), default=_plain, allow_nan=False)
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
    raise TypeError(f"{value!r} of type {type(value).__name__} cannot be written to {CONFIG}; give plain JSON values")


def _stage(
    staging: Path,
    tensors: dict[str, Tensor],
    companions: Mapping[str, Compose | Split | None],
    architecture: str,
    facts: ModelFacts,
    repo_id: str | None,
) -> None:
    """Write all files of a model folder into an empty folder."""
    from safetensors.torch import save_file

    files = {"model": staging / _FILES["model"]}
    save_file(tensors, files["model"], metadata={"format": "pt"})
    files["model"].chmod(default_mode())
    for which, companion in companions.items():
        if companion is not None:
            files[which] = staging / _FILES[which]
            companion.save(files[which])
    config = {
        "schema": manifest.SCHEMA,
        "library": "hsmamba",
        "version": hsmamba.__version__,
        "architecture": architecture,
        "files": {which: entry_of(path) for which, path in files.items()},
        **json_facts(facts),
    }
    (staging / CONFIG).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    card = model_card(read_folder(staging), repo_id=repo_id)
    (staging / "README.md").write_text(card, encoding="utf-8")


def _publish(staging: Path, folder: Path) -> None:
    """Move staged files into the folder, `config.json` last; on a failure put back what was there."""
    names = sorted((entry.name for entry in staging.iterdir()), key=lambda name: name == CONFIG)
    old = staging / "old"
    old.mkdir()
    for name in names:
        if (folder / name).exists():
            shutil.copy2(folder / name, old / name)
    try:
        for name in names:
            os.replace(staging / name, folder / name)
    except BaseException:
        for name in names:
            if (old / name).exists():
                os.replace(old / name, folder / name)
            elif not (staging / name).exists():
                os.unlink(folder / name)
        raise
