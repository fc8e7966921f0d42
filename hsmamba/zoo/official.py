"""Models from checkpoints: the papers' own, with their names and configurations, and states with our names."""

from __future__ import annotations

import importlib.util
import pkgutil
import reprlib
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter

import hsmamba.models as models
import hsmamba.models.official as official
from hsmamba.errors import HsmambaError, WeightsError
from hsmamba.models import Network
from hsmamba.zoo.build import build, check_origin, load_strictly
from hsmamba.zoo.files import format_of, load_tensors
from hsmamba.zoo.pickles import load_pickle
from hsmamba.zoo.sizes import looks_like_ours, shared_names, tell_args

# Where training programs put the network's state, the averaged one first: that is what the papers evaluate.
_NESTS = (
    *("ema_model", "params_ema", "model_ema", "ema", "state_dict", "model_state_dict"),
    *("model", "net", "network", "params", "generator", "online_model"),
)
_OURS = 0.5, 0.1  # shares of names (`shared_names`) above which a state is taken for one of ours, deep or shallow
_DEPTH = 4  # how many of them lie in one another at most
_WRAPPERS = ("_orig_mod.", "module.", "model.")  # what torch.compile, DataParallel and trainers put before every name


def load_official(arch: str, state_dict: dict[str, Tensor], **config: Any) -> Network:
    """Build our model from an official checkpoint, or from a state with our own names.

    Args:
        arch: Name of the architecture, for example "md2f_mamba_ref".
        state_dict: The official network's state, tensors by official name, or that of a network of ours; what
            `torch.compile`, DataParallel and trainers put before every name may be there.
        **config: The official configuration, by the paper's names or by those of its code (an entry of its YAML file,
            as it is), or for a state of ours the arguments of `create_model`; what the shapes of the tensors tell may
            be left out.

    Returns:
        The network with the checkpoint's values, in training mode as torch leaves it.

    Raises:
        UnknownModelError: No architecture has this name.
        WeightsError: The architecture has no official checkpoints, or tensors are missing, unexpected, of
            another shape or not finite; the text lists them.
        ManifestError: The checkpoint tells sizes of which no network can be built.
        TypeError: A configuration name that the official network does not have.
    """
    entry = models.entry(arch)
    state = unwrapped(state_dict)
    if looks_like_ours(arch, state):
        args = tell_args(arch, state, config, what="the state")
        return _loaded(arch, args, state, None, "the state")
    family = f"hsmamba.models.official.{entry.module.rpartition('.')[2]}"
    # Ours have a module of their own; a user's architecture may say it where it is defined.
    known = importlib.util.find_spec(family) is not None and entry.module.startswith("hsmamba.models.")
    module: Any = importlib.import_module(family) if known else sys.modules[entry.module]
    if not hasattr(module, "official_args"):
        raise WeightsError(
            f"{arch} has no official checkpoints, and this is no state with our names of it; its own weights load by "
            f"create_model"
        )
    try:
        args = module.official_args(state, config)
    except (KeyError, IndexError, ArithmeticError) as error:
        raise WeightsError(
            f"the checkpoint has no tensor {error}, which every official {arch} has; it holds "
            f"{len(state)} tensors, among them {', '.join(list(state)[:5]) or 'none'}. Is it another model's?"
        ) from error
    return _loaded(arch, args, state, module.checkpoint_filter_fn, f"the official {arch} checkpoint")


def _loaded(arch: str, args: dict[str, Any], state: dict[str, Tensor], translate: Any, what: str) -> Network:
    state = check_origin(arch, args, state, what=what, translate=translate)
    model = build(arch, args)
    load_strictly(model, state, what=what)
    return model


def architecture_of(state_dict: Mapping[str, Tensor], *, what: str = "the state") -> tuple[str, bool]:
    """Find whose checkpoint a state is, by the names of its tensors.

    Args:
        state_dict: As `load_official` takes it.
        what: The state, in errors.

    Returns:
        The architecture, and whether the names are those of its official program rather than ours. Of several of
        ours with the same names it is the first whose sizes the tensors tell.

    Raises:
        WeightsError: The names are those of no network here; the text says what the state holds.
    """
    state = unwrapped(dict(state_dict))
    marks = official_marks()
    for arch, names in marks.items():
        if all(name in state for name in names):
            return arch, True
    compared = {arch: shared_names(arch, state) for arch in models.registry()}
    close = {arch: both for arch, (own, both) in compared.items() if own > _OURS[0] and both > _OURS[1]}
    best = [arch for arch, both in close.items() if both == max(close.values())]
    if best:
        return next((arch for arch in best if _tells(arch, state)), best[0]), False
    count = sum(tensor.numel() for tensor in state.values())
    raise WeightsError(
        f"{what} holds {len(state)} tensors with {count} numbers, among them {', '.join(list(state)[:5]) or 'none'}: "
        f"these are the names of no network here, neither of an official {', '.join(marks)} nor of one of ours"
    )


def _tells(arch: str, state: Mapping[str, Tensor]) -> bool:
    """Whether an architecture of ours can have the shapes of a state."""
    try:
        tell_args(arch, state, {}, what="the state")
    except HsmambaError:
        return False
    return True


def official_marks() -> dict[str, tuple[str, ...]]:
    """Return, by architecture, names of tensors that its official checkpoints alone have."""
    found: dict[str, tuple[str, ...]] = {}
    for module in pkgutil.iter_modules(official.__path__):
        found |= getattr(importlib.import_module(f"{official.__name__}.{module.name}"), "MARKS", {})
    return found


def unwrapped(state: dict[str, Tensor], known: Collection[str] = ()) -> dict[str, Tensor]:
    """Return a state without what wrappers of networks put before every name; names that are `known` stay."""
    state = {key.replace("_orig_mod.", ""): value for key, value in state.items()}
    if all(key == "n_averaged" or key.startswith("module.") for key in state):  # torch's AveragedModel
        state.pop("n_averaged", None)
    while state.keys() != set(known):
        prefix = next((p for p in _WRAPPERS if all(key.startswith(p) for key in state)), None)
        if prefix is None or not state:
            break
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def read_official(path: str | Path) -> dict[str, Tensor]:
    """Read a checkpoint, official or one's own, without running code from it.

    Args:
        path: A safetensors file, or what `torch.save` wrote (read with `weights_only=True`): a state dictionary, or a
            dictionary that holds one, itself or in such a dictionary, under a usual name such as "ema_model" (first,
            for it is the averaged network that papers evaluate), "state_dict", "model" or "net". Of a checkpoint of
            `finetune` the best weights are taken. Numbers and texts beside the tensors are left out.

    Returns:
        Tensors by name, on the CPU.

    Raises:
        WeightsError: The file is missing, damaged, holds code, or no state dictionary.
    """
    return read_nested(path)[0]


def read_nested(path: str | Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Read a checkpoint as `read_official` does, and tell under which names its state lies, the outermost first."""
    path = Path(path)
    if (format_of(path) or path.suffix.lstrip(".")) == "safetensors":
        return load_tensors(path), ()
    outermost = load_pickle(path)
    state, nests = _find_state(outermost)
    if not isinstance(state, dict) or not any(isinstance(value, Tensor) for value in state.values()):
        names = ", ".join(map(reprlib.repr, list(outermost)[:20])) or "nothing" if isinstance(outermost, dict) else ""
        raise WeightsError(
            f"{path} holds no state dictionary (tensors by name), but {names or type(outermost).__name__}; looked "
            f"under {', '.join(_NESTS)}. Take the state out yourself and give it to load_official"
        )
    return _own_memory(state, path), nests


def _find_state(held: Any) -> tuple[Any, tuple[str, ...]]:
    """Look for the state dictionary in what was saved, and say where it lies."""
    if isinstance(held, dict) and isinstance(best := held.get("best"), dict) and "settings" in held:
        return best.get("state"), ("best", "state")  # of finetune
    nests: list[str] = []
    for _ in range(_DEPTH):
        key = next((k for k in _NESTS if isinstance(held, dict) and isinstance(held.get(k), dict)), None)
        if key is None:
            break
        nests.append(key)
        held = held[key]
    return held, tuple(nests)


def _own_memory(state: dict[Any, Any], path: Path) -> dict[str, Tensor]:
    """Copy the tensors of a state out of its file."""
    tensors = {}
    for key, value in state.items():
        plain = type(value) in (Tensor, Parameter) and value.layout == torch.strided and value.device.type == "cpu"
        if plain and isinstance(key, str) and value.nbytes <= value.untyped_storage().nbytes():
            tensors[key] = value.detach().clone(memory_format=torch.contiguous_format)
        elif not isinstance(value, bool | int | float | str | np.generic | None):
            raise WeightsError(
                f"{path} holds {reprlib.repr(key)} of type {type(value).__name__}, which is no plain tensor with "
                f"numbers of its own; save the state as tensors: torch.save(model.state_dict(), 'state.pth')"
            )
    return tensors
