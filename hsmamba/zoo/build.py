"""Building a registered architecture, and loading a state that must fit it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

import hsmamba.models as models
from hsmamba.errors import WeightsError
from hsmamba.models import Network


def build(architecture: str, args: Mapping[str, Any]) -> Network:
    """Build a registered architecture; the network notes how it was built.

    Args:
        architecture: A registered name.
        args: Arguments of its entry point.

    Returns:
        The network, with `architecture` and `model_args`, its sizes among them.

    Raises:
        TypeError: An argument that the architecture does not take; the text lists those that it takes.
    """
    entry = models.entry(architecture)
    try:
        module = entry.entry_point(**args)
    except TypeError as error:
        if "unexpected keyword" not in str(error):
            raise
        known = ", ".join(sorted(_parameters(entry)))
        raise TypeError(f"{architecture}: {error}" + (f". It takes: {known}" if known else "")) from error
    model: Network = models.as_fusion_network(module) if entry.cfg.task == "fusion" else models.as_classifier(module)
    accepted = _parameters(entry) | inspect.signature(type(module)).parameters.keys()
    sizes = {name: getattr(model, name) for name in model.SIZES if name in accepted}
    model.architecture, model.model_args = architecture, sizes | dict(args)
    return model


def _parameters(entry: models.RegistryEntry) -> set[str]:
    """Names of the arguments an architecture takes: its entry point's, and its class's behind `**kwargs`."""
    try:
        signature = inspect.signature(entry.entry_point, eval_str=True)
    except NameError:  # annotations that mean something only where they were written
        signature = inspect.signature(entry.entry_point)
    names = {p.name for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD}
    if isinstance(signature.return_annotation, type) and issubclass(signature.return_annotation, nn.Module):
        names |= set(inspect.signature(signature.return_annotation).parameters)
    return names


def load_strictly(model: nn.Module, state: dict[str, Tensor], *, what: str) -> None:
    """Load a state whose names and shapes must all fit.

    Raises:
        WeightsError: Tensors are missing, unexpected or of another shape; the text lists them, and says `what` it is.
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
