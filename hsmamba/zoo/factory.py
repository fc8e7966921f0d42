"""Models by name: `create_model`, the listings and `model_info`."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import hsmamba.models as models
from hsmamba.data import Compose
from hsmamba.errors import ManifestError, UnknownModelError, WeightsError
from hsmamba.models import Network
from hsmamba.zoo import manifest, source
from hsmamba.zoo.build import build, check_origin, load_strictly
from hsmamba.zoo.files import load_tensors
from hsmamba.zoo.listing import check_task, matches, natural
from hsmamba.zoo.official import read_official, unwrapped
from hsmamba.zoo.records import sizes_in_words

_logger = logging.getLogger(__name__)


def create_model(
    name: str,
    pretrained: bool = False,
    *,
    num_classes: int | None = None,
    in_chans: int | None = None,
    aux_chans: int | None = None,
    patch_size: int | None = None,
    checkpoint_path: str | Path | None = None,
    cache_dir: str | Path | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    **model_args: Any,
) -> Network:
    """Create a model, with weights if asked.

    The model carries `architecture`, `model_args`, `transform` (fitted preprocessing or None), `class_names` and
    `record` (of the weight, or None); `hsmamba.classify` and `hsmamba.save_pretrained` use them.

    Args:
        name: "architecture" ("md2f_mamba"), "architecture.tag" ("md2f_mamba.indian_pines"),
            "hf-hub:owner/repo[@revision]" or "local-dir:path". The last two name a trained model, so their weights are
            always loaded; a tag without `pretrained` gives the architecture in the weight's configuration.
        pretrained: Load the weight of the tag, or the architecture's default weight, whose name and sizes, which may
            be others than the architecture's defaults, are then logged as a warning.
        num_classes: Classes; 0 removes the head. Another number than the weight's re-initialises the head.
        in_chans: Bands of the input (of the transformed scene). Another number than the weight's re-initialises the
            layers that see the bands, and the weight's transform is left out.
        aux_chans: Channels of the auxiliary input, for models that have one.
        patch_size: Side of the patches, for models that work on patches.
        checkpoint_path: A file to load instead: safetensors, or a state that `torch.save` wrote, by itself or in a
            checkpoint of `finetune`; tensors alone are read of it. With `pretrained`, it stands in for the weight's
            file and must have its SHA-256.
        cache_dir: Folder for downloads; default the Hugging Face cache.
        device: Where to put the model.
        dtype: Floating-point type of the parameters.
        **model_args: Arguments of the architecture. Arguments whose value is None are dropped.

    Returns:
        The network, in evaluation mode if it has weights, else in training mode.

    Raises:
        UnknownModelError: No such name; the text names the nearest.
        TypeError: An argument that the architecture does not take.
        WeightsError: Weights that cannot be had or do not fit.
    """
    given = {"num_classes": num_classes, "in_chans": in_chans, "aux_chans": aux_chans, "patch_size": patch_size}
    given = {key: value for key, value in (given | model_args).items() if value is not None}
    place = source.place_of(name)
    model, trained = source.steadily(place, lambda: _create(name, pretrained, given, cache_dir, checkpoint_path))
    model.to(device=device, dtype=dtype)
    return model.eval() if trained else model


def _create(
    name: str, pretrained: bool, given: dict[str, Any], cache_dir: str | Path | None, checkpoint_path: str | Path | None
) -> tuple[Network, bool]:
    """Build a model and load its weights; say whether there are any."""
    architecture, args, folder = _look_up(name, pretrained, cache_dir, checkpoint_path)
    if folder is not None:
        state = check_origin(architecture, args, load_tensors(folder.model_path), what=name, params=folder.params)
    model = build(architecture, args | given)
    if folder is not None:
        _load_fitting(model, state, free={key for key in given if given[key] != args.get(key)}, what=name)
        model.transform = _transform_that_fits(model, folder, name)
        model.class_names = folder.classes if len(folder.classes) == model.model_args.get("num_classes") else ()
        model.record = folder.config
    elif checkpoint_path is not None:
        _load_checkpoint(model, architecture, Path(checkpoint_path))
    return model, folder is not None or checkpoint_path is not None


def _look_up(
    name: str, pretrained: bool, cache_dir: str | Path | None, checkpoint_path: str | Path | None
) -> tuple[str, dict[str, Any], source.ModelFolder | None]:
    """Find architecture, arguments and model folder behind a name."""
    architecture, _, tag = name.partition(".")
    if pretrained or source.names_a_folder(name):
        folder = source.find_folder(name, cache_dir=cache_dir, model_path=checkpoint_path)
        try:
            source.check_known(folder.architecture)
        except UnknownModelError as error:
            raise UnknownModelError(
                f"{error}. {name} is of that architecture: import the code that registers it"
            ) from None
        if not tag and not source.names_a_folder(name):
            _logger.warning(
                "%s with pretrained=True is its default weight %s: %s; trained on %s",
                name, folder.name, sizes_in_words(folder.model_args), folder.data.get("name", "data not on record"),
            )  # fmt: skip
        return folder.architecture, dict(folder.model_args), folder
    source.check_known(architecture, asked=name)
    return architecture, dict(manifest.find_record(name).model_args) if tag else {}, None


def _load_fitting(model: Network, state: dict[str, Tensor], *, free: set[str], what: str) -> None:
    """Load a state; where the caller asked for other sizes (`free`), layers of another shape keep their new values."""
    own = model.state_dict()
    state = dict(state)
    fresh = []
    if free:
        fresh = [key for key in own if key not in state or state[key].shape != own[key].shape]
        state = {key: own[key] if key not in state or key in fresh else state[key] for key in own}
    load_strictly(model, state, what=what)
    if fresh:
        layers = sorted({key.rpartition(".")[0] for key in fresh})
        asked = ", ".join(sorted(free))
        _logger.warning("%s: re-initialised %s, of other sizes than the weight's (%s)", what, ", ".join(layers), asked)


def _transform_that_fits(model: Network, folder: source.ModelFolder, what: str) -> Compose | None:
    transform = folder.load_transform()
    if transform is not None and folder.model_args.get("in_chans", model.in_chans) != model.in_chans:
        _logger.warning("%s: left its transform out, which gives another number of bands than in_chans", what)
        return None
    if transform is not None:
        _check_transform(transform, folder, what)
    return transform


def _check_transform(transform: Compose, folder: source.ModelFolder, what: str) -> None:
    """Refuse a transform that was fitted on other bands than the record's, or gives others than the network takes."""
    bands, outputs = transform.in_channels(), {}
    if bands:
        outputs["in_chans"] = transform.out_channels()
    if transform.in_channels("aux"):
        outputs["aux_chans"] = transform.out_channels(on="aux")
    differing = {name: n for name, n in outputs.items() if folder.model_args.get(name, n) != n}
    if differing or (None not in (bands, folder.bands) and bands != folder.bands):
        raise ManifestError(
            f"{what}: its transform makes {outputs} of {bands} bands, its record has {dict(folder.model_args)} and "
            f"{folder.bands} bands; save the model again with the transform that it was trained with"
        )


def _load_checkpoint(model: Network, architecture: str, path: Path) -> None:
    if path.is_dir():
        raise WeightsError(f"checkpoint_path={str(path)!r} is a folder; create_model('local-dir:{path}') loads one")
    state = unwrapped(read_official(path), known=model.state_dict().keys())
    try:
        load_strictly(model, state, what=str(path))
    except WeightsError as error:
        raise WeightsError(
            f"{error}. Create the model with the sizes of the checkpoint; one with other names, or of unknown sizes, "
            f"becomes a model folder by: hsmamba convert {shlex.quote(str(path))} FOLDER --arch {architecture}"
        ) from None


def list_models(
    pattern: str | Iterable[str] = "*",
    *,
    exclude: str | Iterable[str] = (),
    pretrained: bool = False,
    task: str | None = None,
    module: str | None = None,
) -> list[str]:
    """List models by name, in natural order.

    Args:
        pattern: Shell wildcard or several, of names with or without tag.
        exclude: Wildcards of names to leave out.
        pretrained: List weights ("architecture.tag") instead of architectures.
        task: "classification" or "fusion".
        module: Last part of the defining module, for example "md2f_mamba".

    Returns:
        Names that `create_model` takes.

    Raises:
        ValueError: There is no such task.
    """
    check_task(task)
    entries = models.registry()
    names = manifest.load_manifest() if pretrained else entries
    chosen = []
    for name in names:
        entry = entries[name.partition(".")[0]]
        right_kind = task in (None, entry.cfg.task) and module in (None, entry.module.rpartition(".")[2])
        if right_kind and matches(name, pattern) and not matches(name, exclude):
            chosen.append(name)
    return sorted(chosen, key=natural)


def list_pretrained(pattern: str | Iterable[str] = "*", **kwargs: Any) -> list[str]:
    """List weights, "architecture.tag"; arguments as for `list_models`."""
    return list_models(pattern, pretrained=True, **kwargs)


def is_model(name: str) -> bool:
    """Tell whether `name` is a registered architecture, or a weight ("architecture.tag") on record."""
    return name in models.registry() or name in manifest.load_manifest()
