"""Writing model folders: a network with its transform, split and facts, or a copy of a weight."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import re
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from hsmamba._files import HeldError, acquire, default_mode, flush, release
from hsmamba._version import __version__
from hsmamba.errors import HsmambaWarning, ManifestError, WeightsError
from hsmamba.zoo import hub
from hsmamba.zoo.card import model_card
from hsmamba.zoo.files import CONFIG, FILES, entry_of
from hsmamba.zoo.records import SCHEMA, ModelFacts, json_facts, parse_facts, read_json

if TYPE_CHECKING:  # torch is imported where it is used: to look into folders and to fetch files takes none
    from torch import Tensor, nn

    from hsmamba.data import Compose, Split
    from hsmamba.models import Network, Transform
    from hsmamba.zoo.source import ModelFolder

_Writer = Callable[[Path], object]
_LOCK = ".saving.lock"
# What there is while a model is saved, and after a kill: folders to write in, and files of a model that has no plain
# names yet.
_STAGING = ".saving-"
_PASSING = re.compile(rf"{re.escape(_STAGING)}.*|_saving-[a-z0-9_]{{8}}-({'|'.join(FILES.values())})")
_WAIT = 60.0  # seconds for another saver to end


def save_pretrained(
    model: nn.Module,
    folder: str | os.PathLike[str],
    *,
    transform: Compose | None = None,
    split: Split | None = None,
    metrics: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    license: str | None = None,
    recipe: str | Mapping[str, Any] | None = None,
    class_names: Sequence[str] | None = None,
    bands: int | None = None,
    wavelengths: Sequence[float] | None = None,
    architecture: str | None = None,
    model_args: Mapping[str, Any] | None = None,
    repo_id: str | None = None,
) -> Path:
    """Write a model folder, which `create_model("local-dir:...")` and, once on the Hub, `hf-hub:` read.

    All of it is written, or nothing: at every moment the folder holds the model that was there or the new one, whatever
    process is killed, and who reads it meanwhile gets one of them. Files of the folder that are none of the model's are
    left alone. Processes that save into one folder take turns, and the last one's model stays.

    A model that was made of a weight, whether trained further or not, inherits what is known of that weight
    (`model.record`) where nothing else is given; its `data` then name the weight as `base_model`.

    Args:
        model: A network made by the factory.
        folder: Where to; a new or empty folder, or a model folder, whose files are replaced.
        transform: The fitted transform; None takes `model.transform`.
        split: The split that the model was trained on.
        metrics: `{metric: value}` or `{protocol: {metric: value}}`; a value is a number or `{"mean": m, "std": s}`.
        data: What it was trained on: name, source, licence, split, seeds; None takes the base weight's.
        license: SPDX identifier of the weights' licence; None takes the base weight's, or Apache-2.0 where there is
            none.
        recipe: How it was trained: the recipe's name or its settings.
        class_names: Class names in the order of the logits; None takes `model.class_names`.
        bands: Number of bands of a scene before the transform; None takes what the transform was fitted on, the
            model's `in_chans` where there is no transform, or the base weight's.
        wavelengths: Centre of every band in nm; None takes those that the transform was fitted on, else the base
            weight's where it has as many bands.
        architecture: Name of the architecture; None takes `model.architecture`.
        model_args: Keyword arguments of its entry point; None takes `model.model_args`.
        repo_id: The Hub repository that the card names.

    Returns:
        The folder.

    Raises:
        ValueError: The model was not made by the factory or has no tensors, class names or wavelengths do not fit.
        TypeError: A value cannot be written as JSON.
        WeightsError: The folder holds something else, cannot be written, or another process has been saving into it
            for a minute.
    """
    from hsmamba.models import as_network

    network = as_network(getattr(model, "_orig_mod", model))  # a compiled network's parameters have other names
    fitted: Transform | None = network.transform if transform is None else transform
    if not (tensors := _tensors(network)):
        raise ValueError(
            f"this {type(network).__name__} has no tensors, and a model folder holds nothing else; a classical "
            "classifier is fitted again in seconds by hsmamba.finetune, and one that can be saved is "
            "hsmamba.create_model('lda')"
        )
    architecture, args = _how_built(network, architecture, model_args)
    base = network.record or {}
    bands, wavelengths = _spectrum(network, fitted, bands, wavelengths)
    facts = ModelFacts(
        license=base.get("license", "Apache-2.0") if license is None else license,
        model_args=args,
        classes=tuple(network.class_names if class_names is None else class_names),
        bands=bands,
        wavelengths=wavelengths,
        data={**_base_model(base), **data} if data is not None else {**base.get("data", {}), **_base_model(base)},
        metrics=metrics or {},
        recipe=recipe,
        params=sum(parameter.numel() for parameter in network.parameters()),
        date=datetime.date.today().isoformat(),
    )
    _check_facts(facts)
    files: dict[str, _Writer] = {"model": partial(_save_tensors, tensors)}
    files |= {which: part.save for which, part in (("transform", fitted), ("split", split)) if part is not None}
    return write_folder(Path(folder), files, architecture, facts, repo_id=repo_id)


def _spectrum(
    network: Network, fitted: Transform | None, bands: int | None, wavelengths: Sequence[float] | None
) -> tuple[int | None, tuple[float, ...] | None]:
    """Bands before the transform and their centres: those given, else the transform's, else the base weight's."""
    base = network.record or {}
    if bands is None:
        bands = getattr(network, "in_chans", None) if fitted is None else fitted.in_channels()
    if bands is None:
        bands = base.get("bands")
    if wavelengths is None:
        wavelengths = getattr(fitted, "wavelengths", None)
    if wavelengths is None and bands == base.get("bands"):
        wavelengths = base.get("wavelengths")
    return bands, None if wavelengths is None else tuple(float(nm) for nm in wavelengths)


def _how_built(
    network: Network, architecture: str | None, model_args: Mapping[str, Any] | None
) -> tuple[str, dict[str, Any]]:
    """Return architecture and arguments of a network, from the caller or from what the factory noted on it."""
    if not network.architecture and (architecture is None or model_args is None):
        raise ValueError(
            f"this {type(network).__name__} does not say how it was built: make it with create_model, or pass "
            "architecture= (a registered name) and model_args= (the keyword arguments of its entry point)"
        )
    architecture = architecture or network.architecture
    args = dict(network.model_args if model_args is None else model_args)
    if "num_classes" in args:  # reset_classifier changes the head after the factory has noted the arguments
        args["num_classes"] = getattr(network, "num_classes", args["num_classes"])
    return architecture, args


def _base_model(record: Mapping[str, Any]) -> dict[str, str]:
    """Name the weight behind a record; of a folder, which nobody else has, the weight that it was made of."""
    source = str(record.get("source", "local-dir:"))
    if source.startswith("local-dir:"):
        source = record.get("data", {}).get("base_model")
    return {"base_model": source} if source else {}


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
        if all(entry.name == _LOCK or _PASSING.fullmatch(entry.name) for entry in folder.iterdir()):
            return
        with contextlib.suppress(ManifestError):
            config = read_json(folder / CONFIG)
            if isinstance(config, dict) and config.get("library") == "hsmamba":
                return
    raise WeightsError(f"{folder} holds something other than a model of hsmamba; choose a new or empty folder")


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the state on the CPU, every tensor with memory of its own: safetensors refuses what is shared."""
    return {key: value.detach().cpu().contiguous().clone() for key, value in model.state_dict().items()}


def _save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    from safetensors.torch import save_file

    save_file(tensors, path, metadata={"format": "pt"})


def write_folder(
    folder: Path,
    files: Mapping[str, _Writer],
    architecture: str,
    facts: ModelFacts,
    *,
    name: str | None = None,
    repo_id: str | None = None,
) -> Path:
    """Write a model folder: all of it, or nothing of it.

    At every moment, `config.json` names files that are there and whole. New ones come beside the old ones, under names
    of their own; a new `config.json` that names them takes the place of the old one; then they get the plain names, and
    at last a `config.json` that names these. Each is on the disk before the next step. Files of the folder that are
    none of the model's are left alone.

    Args:
        folder: Where to.
        files: What writes the file of each kind, "model", "transform", "split", "check", to a path.
        architecture: Name of the architecture.
        facts: What is known of the model.
        name: Name of the weight, for the card.
        repo_id: The Hub repository that the card names.

    Raises:
        WeightsError: The folder holds something else, cannot be written, or another process has been saving into it
            for a minute.
    """
    _check_place(folder)
    try:
        with _turn(folder):
            _tidy(folder)
            try:
                staging = Path(tempfile.mkdtemp(prefix=_STAGING, dir=folder))
                for which, write in files.items():
                    write(staging / FILES[which])
                    (staging / FILES[which]).chmod(default_mode())
                    flush(staging / FILES[which])
                config = {
                    "schema": SCHEMA,
                    "library": "hsmamba",
                    "version": __version__,
                    "architecture": architecture,
                    "files": {which: asdict(entry_of(staging / FILES[which])) for which in files},
                    **json_facts(facts),
                }
                parse_facts(config, "what is told of the model")  # what could not be read again is not written
                card = model_card(architecture, facts, name=name, repo_id=repo_id, check="check" in files)
                _publish(staging, folder, config, card)
            finally:
                _tidy(folder)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"cannot write {folder} ({error}); free some space or choose another folder") from error
    return folder


@contextlib.contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """Keep other savers from a folder until the block ends; wait for one that is at it."""
    end = time.monotonic() + _WAIT
    while True:
        try:
            handle = acquire(folder / _LOCK)
            break
        except HeldError as held:
            if time.monotonic() > end:
                raise WeightsError(
                    f"process {held} is saving into {folder}; wait for its end, or choose another folder"
                ) from None
        time.sleep(0.02)
    try:
        yield
    finally:
        release(folder / _LOCK, handle)


def _publish(staging: Path, folder: Path, config: dict[str, Any], card: str) -> None:
    """Let the files of a staging folder take the place of the model that is in the folder."""
    plain = config["files"]
    wanted = {entry["file"] for entry in plain.values()}
    owned = wanted | (_files_of(folder) & set(FILES.values()))
    passing = {
        which: {**entry, "file": f"_saving-{staging.name[-8:]}-{entry['file']}"} for which, entry in plain.items()
    }
    for which, entry in plain.items():
        os.replace(staging / entry["file"], folder / passing[which]["file"])
    flush(folder)
    between = {**config, "files": passing, "replaced": sorted(owned)}
    _put(staging, folder, CONFIG, _json(between))  # from here on the model is the new one
    try:
        _put(staging, folder, "README.md", card)
        for which, entry in plain.items():
            _copy(folder / passing[which]["file"], staging / entry["file"])
            os.replace(staging / entry["file"], folder / entry["file"])
        for file in owned - wanted:
            (folder / file).unlink(missing_ok=True)
        flush(folder)
        _put(staging, folder, CONFIG, _json(config))
    except OSError as error:
        warnings.warn(
            f"{folder} holds the new model, but not all of its files have their plain names ({error}): copy it as a "
            "whole, or save again",
            HsmambaWarning,
            stacklevel=4,
        )


def _json(config: dict[str, Any]) -> str:
    return json.dumps(config, indent=2, ensure_ascii=False) + "\n"


def _put(staging: Path, folder: Path, name: str, text: str) -> None:
    """Write a text into a folder, whole or not at all, by way of the staging folder."""
    (staging / name).write_text(text, encoding="utf-8")
    flush(staging / name)
    os.replace(staging / name, folder / name)
    flush(folder)


def _copy(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the file system gives it but one."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy(source, target)
        flush(target)


def _files_of(folder: Path) -> set[str]:
    """Return the names of the files of a folder's model, and of those that were being replaced when it was killed."""
    with contextlib.suppress(ManifestError, AttributeError, TypeError, KeyError):
        config = read_json(folder / CONFIG)
        return {entry["file"] for entry in config["files"].values() if entry is not None} | set(
            config.get("replaced", ())
        )
    return set()


def _tidy(folder: Path) -> None:
    """Remove what savers, killed ones too, left of their work and no `config.json` names."""
    named = _files_of(folder)
    for entry in folder.iterdir():
        if _PASSING.fullmatch(entry.name) and entry.name not in named:
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    entry.unlink()


def export(
    model: ModelFolder,
    folder: str | os.PathLike[str],
    *,
    repo_id: str | None = None,
    check: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write a weight as a model folder of one's own, its files byte for byte, with its `config.json` and card.

    Args:
        model: The weight, as `hsmamba.zoo.source.find_folder` finds it.
        folder: Where to; a new or empty folder, or a model folder, whose files are replaced.
        repo_id: The Hub repository that the card names, where it shall go there.
        check: What `hsmamba.zoo.check.make_check` gave, to be written beside; None takes the weight's own, if any.

    Returns:
        The folder.

    Raises:
        WeightsError: The folder holds something else, or cannot be written.
    """

    def copied(source: Path) -> _Writer:
        return lambda path: shutil.copyfile(source, path)

    files = {which: copied(path) for which, path in model.files.items()}
    if check is not None:
        files["check"] = partial(_save_tensors, dict(check))
    return write_folder(Path(folder), files, model.architecture, model, name=model.name, repo_id=repo_id)


def push_to_hub(
    model: nn.Module,
    repo_id: str,
    *,
    private: bool = False,
    token: str | None = None,
    revision: str | None = None,
    commit_message: str = "Upload model with hsmamba",
    create_pr: bool = False,
    **save_kwargs: Any,
) -> str:
    """Save a model as a model folder and upload it to the Hub; the repository and branch are made if need be.

    Args:
        model: A network made by the factory.
        repo_id: `owner/repo`.
        private: Whether a repository that is made is private.
        token: Access token with write permission; None takes the client's own (`HF_TOKEN`, or after `hf auth login`).
        revision: Branch; None takes the main one.
        commit_message: First line of the commit.
        create_pr: Open a pull request instead of committing to the branch.
        **save_kwargs: Further arguments of `save_pretrained`.

    Returns:
        The pinned name under which the factory loads it, ``hf-hub:owner/repo@commit``.

    Raises:
        WeightsError: The Hub refuses or cannot be reached.
    """
    with tempfile.TemporaryDirectory(prefix="hsmamba-") as folder:
        save_pretrained(model, folder, repo_id=repo_id, **save_kwargs)
        commit = hub.upload(
            Path(folder), repo_id, private=private, token=token, revision=revision, commit_message=commit_message,
            create_pr=create_pr,
        )  # fmt: skip
    return f"hf-hub:{repo_id}@{commit}"
