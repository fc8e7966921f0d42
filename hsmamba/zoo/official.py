"""Models from official checkpoints: the papers' own state dictionaries and configuration vocabularies."""

from __future__ import annotations

import importlib.util
import pickle
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import hsmamba.models as models
from hsmamba.errors import WeightsError
from hsmamba.models import Network
from hsmamba.zoo.build import build, load_strictly
from hsmamba.zoo.files import load_tensors

# Where training programs put the network's state, the averaged one first: that is what the papers evaluate.
_NESTS = (
    *("ema_model", "params_ema", "model_ema", "ema", "state_dict", "model_state_dict"),
    *("model", "net", "network", "params", "generator", "online_model"),
)
_DEPTH = 4  # how many of them lie in one another at most


def load_official(arch: str, state_dict: dict[str, Tensor], **config: Any) -> Network:
    """Build our model from an official checkpoint.

    Args:
        arch: Name of the architecture, for example "md2f_mamba_ref".
        state_dict: The official network's state, tensors by official name; the "module." that DataParallel puts before
            every name may be there.
        **config: The official configuration, by the paper's names or by those of its code (an entry of its YAML file,
            as it is); what the shapes of the tensors tell may be left out.

    Returns:
        The network with the checkpoint's values, in training mode as torch leaves it.

    Raises:
        UnknownModelError: No architecture has this name.
        WeightsError: The architecture has no official checkpoints, or tensors are missing, unexpected or of
            another shape; the text lists them.
        TypeError: A configuration name that the official network does not have.
    """
    entry = models.entry(arch)
    family = f"hsmamba.models.official.{entry.module.rpartition('.')[2]}"
    # Ours have a module of their own; a user's architecture may say it where it is defined.
    known = importlib.util.find_spec(family) is not None and entry.module.startswith("hsmamba.models.")
    module: Any = importlib.import_module(family) if known else sys.modules[entry.module]
    if not hasattr(module, "official_args"):
        raise WeightsError(f"{arch} has no official checkpoints; weights of its own load by create_model")
    state_dict = {key.removeprefix("module."): value for key, value in state_dict.items()}
    try:
        model_args = module.official_args(state_dict, config)
    except KeyError as error:
        raise WeightsError(
            f"the checkpoint has no tensor {error}, which every official {arch} has; it holds "
            f"{len(state_dict)} tensors, among them {', '.join(list(state_dict)[:5]) or 'none'}. Is it another model's?"
        ) from None
    model = build(arch, model_args)
    load_strictly(model, module.checkpoint_filter_fn(state_dict, model), what=f"the official {arch} checkpoint")
    return model


def read_official(path: str | Path) -> dict[str, Tensor]:
    """Read an official checkpoint without running code from it.

    Args:
        path: A safetensors file, or what `torch.save` wrote (read with `weights_only=True`): a state dictionary, or a
            dictionary that holds one, itself or in such a dictionary, under a usual name such as "ema_model" (first,
            for it is the averaged network that papers evaluate), "state_dict", "model" or "net".

    Returns:
        Tensors by official name, on the CPU.

    Raises:
        WeightsError: The file is missing, damaged, holds code, or no state dictionary.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        return load_tensors(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise WeightsError(f"there is no checkpoint {path}; check the path") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise WeightsError(
            f"{path} cannot be read as a checkpoint of tensors alone ({str(error).splitlines()[0]}); if it holds a "
            f"whole pickled network, save its state where you trust it: torch.save(model.state_dict(), 'state.pth')"
        ) from error
    outermost = state
    for _ in range(_DEPTH):
        key = next((k for k in _NESTS if isinstance(state, dict) and isinstance(state.get(k), dict)), None)
        state = state if key is None else state[key]
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        found = ", ".join(map(repr, list(outermost)[:20])) if isinstance(outermost, dict) else type(outermost).__name__
        raise WeightsError(
            f"{path} holds no state dictionary (tensors by name), but {found or 'nothing'}; looked under "
            f"{', '.join(_NESTS)}. Take the state out yourself and give it to load_official"
        )
    return state
