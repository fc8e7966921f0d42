"""Models from official checkpoints: the papers' own state dictionaries and configuration vocabularies."""

from __future__ import annotations

import sys
from typing import Any

from torch import Tensor, nn

import hsmamba.models as models
from hsmamba.errors import WeightsError


def load_official(arch: str, state_dict: dict[str, Tensor], **config: Any) -> nn.Module:
    """Build our model from an official checkpoint.

    Args:
        arch: Name of the architecture, for example "md2f_mamba_ref".
        state_dict: The official network's state, tensors by official name.
        **config: The official configuration in the vocabulary of the paper's code; what the shapes of the tensors
            tell may be left out.

    Returns:
        The network with the checkpoint's values, in training mode as torch leaves it.

    Raises:
        UnknownModelError: No architecture has this name.
        WeightsError: The architecture has no official checkpoints, or tensors are missing, unexpected or of
            another shape; the text lists them.
        TypeError: A configuration name that the official network does not have.
    """
    entry = models.entry(arch)
    module = sys.modules[entry.module]
    if not hasattr(module, "official_args"):
        raise WeightsError(f"{arch} has no official checkpoints; weights of its own load by create_model")
    try:
        model_args = module.official_args(state_dict, config)
    except KeyError as error:
        raise WeightsError(
            f"the checkpoint has no tensor {error}, which every official {arch} has; it holds "
            f"{len(state_dict)} tensors, among them {', '.join(list(state_dict)[:5]) or 'none'}. Is it another model's?"
        ) from None
    model = entry.entry_point(**model_args)
    load_strictly(model, module.checkpoint_filter_fn(state_dict, model), what=f"the official {arch} checkpoint")
    return model


def load_strictly(model: nn.Module, state: dict[str, Tensor], *, what: str) -> None:
    """Load a state whose names and shapes must all fit.

    Args:
        model: The network.
        state: Tensors by our names.
        what: What the state is, for the error.

    Raises:
        WeightsError: Tensors are missing, unexpected or of another shape; the text lists them.
    """
    own = model.state_dict()
    problems = {
        "missing": sorted(own.keys() - state.keys()),
        "unexpected": sorted(state.keys() - own.keys()),
        "of another shape": [
            f"{key} {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
            for key in own
            if key in state and state[key].shape != own[key].shape
        ],
    }
    if any(problems.values()):
        listed = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in problems.items() if names)
        raise WeightsError(f"{what} does not fit {type(model).__name__}: {listed}")
    model.load_state_dict(state)
