"""Building a registered architecture, and loading a state that must fit it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

import hsmamba.models as models
from hsmamba.errors import ManifestError, WeightsError
from hsmamba.models import Network
from hsmamba.zoo.arguments import check_arguments, parameters_of, rehearse

_MOST = 20  # tensors that an error lists
Translate: TypeAlias = "Callable[[dict[str, Tensor], nn.Module], dict[str, Tensor]]"


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
        known = ", ".join(sorted(parameters_of(entry)))
        raise TypeError(f"{architecture}: {error}" + (f". It takes: {known}" if known else "")) from error
    model: Network = models.as_fusion_network(module) if entry.cfg.task == "fusion" else models.as_classifier(module)
    accepted = parameters_of(entry).keys() | inspect.signature(type(module)).parameters.keys()
    sizes = {name: getattr(model, name) for name in model.SIZES if name in accepted}
    model.architecture, model.model_args = architecture, sizes | dict(args)
    return model


def check_origin(
    architecture: str,
    args: Mapping[str, Any],
    state: dict[str, Tensor],
    *,
    what: str,
    params: int | None = None,
    translate: Translate | None = None,
) -> dict[str, Tensor]:
    """Hold arguments that came with a state, and are not trusted, against that state before anything is built of them.

    The network is rehearsed without memory. One of the user's own architectures may not bear that, and is built.

    Args:
        architecture: A registered name.
        args: Arguments of its entry point.
        state: The state that shall be loaded.
        what: They belong to, for errors.
        params: Number of parameters on record; None where there is no record.
        translate: What gives the state the network's names.

    Returns:
        The state, by the network's names.

    Raises:
        ManifestError: Arguments that the architecture does not take, or of which nothing can be built, or that give
            another number of parameters.
        WeightsError: The state does not fit.
    """
    entry = models.entry(architecture)
    check_arguments(entry, args, what)
    network = rehearse(entry, args, len(state), what)
    state = state if translate is None else translate(state, network)
    check_state(network, state, what=what)
    number = sum(parameter.numel() for parameter in network.parameters())
    if params is not None and params != number:
        raise ManifestError(
            f"{what} has {number} parameters, on record are {params}; restore its record, or get the model again"
        )
    return state


def check_state(model: nn.Module, state: Mapping[str, Tensor], *, what: str) -> None:
    """Refuse a state that is not the network's: names, shapes, kinds of numbers, and numbers that are not finite.

    Raises:
        WeightsError: The text lists the tensors, and says `what` they are.
    """
    own = model.state_dict()
    pairs = {key: (state[key], own[key]) for key in own if key in state}
    shaped = {key: pair for key, pair in pairs.items() if pair[0].shape == pair[1].shape}
    kin = {key: pair for key, pair in shaped.items() if _of_a_kind(*pair)}
    problems = {
        "missing": sorted(own.keys() - state.keys()),
        "unexpected": sorted(state.keys() - own.keys()),
        "of another shape": [
            f"{key} {tuple(pair[0].shape)} instead of {tuple(pair[1].shape)}"
            for key, pair in pairs.items()
            if key not in shaped
        ],
        "of another type": [
            f"{key} {pair[0].dtype} instead of {pair[1].dtype}" for key, pair in shaped.items() if key not in kin
        ],
        "not finite": [
            f"{key} ({bad} of {pair[0].numel()} numbers)" for key, pair in kin.items() if (bad := _not_finite(*pair))
        ],
    }
    if any(problems.values()):
        listed = "; ".join(f"{kind}: {_listed(names)}" for kind, names in problems.items() if names)
        raise WeightsError(f"{what} does not fit {type(model).__name__}: {listed}")


def _listed(names: list[str]) -> str:
    more = len(names) - _MOST
    return ", ".join(names[:_MOST]) + (f" and {more} more" if more > 0 else "")


def _of_a_kind(tensor: Tensor, like: Tensor) -> bool:
    """Whether numbers may take another's place: floating for floating, for whole ones (a counter) what is as whole."""
    if like.is_floating_point() or like.is_complex():
        return tensor.is_floating_point() == like.is_floating_point() and tensor.is_complex() == like.is_complex()
    return not tensor.is_complex() and bool((tensor.to(like.dtype).to(tensor.dtype) == tensor).all())


def _not_finite(tensor: Tensor, like: Tensor) -> int:
    """Count the numbers that are not finite in the type that they will have; whole ones always are."""
    if not (like.is_floating_point() or like.is_complex()):
        return 0
    return tensor.numel() - int(torch.isfinite(tensor.to(like.dtype)).sum())


def load_strictly(model: nn.Module, state: Mapping[str, Tensor], *, what: str) -> None:
    """Load a state that must fit, as `check_state` says.

    Raises:
        WeightsError: It does not; the text lists the tensors, and says `what` they are.
    """
    check_state(model, state, what=what)
    model.load_state_dict(state)
