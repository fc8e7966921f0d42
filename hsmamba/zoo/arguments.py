"""Arguments out of a file: held against an architecture's signature, and tried without memory, before it is built."""

from __future__ import annotations

import inspect
import math
import threading
import types
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Literal, Union, get_args, get_origin

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

import hsmamba.models as models
from hsmamba.errors import ManifestError, UnknownModelError

_LARGEST = 1 << 16  # of whole numbers: widths, counts, sides
_LONGEST = 64  # of tuples
_INPUTS = ("in_chans", "guide_chans", "patch_size", "scale")  # which no network is without
_BYTES = 1 << 27  # that a network may hold beside its parameters and what its file has of it
_SPARE = 1000  # tensors that a constructor may make and not keep


def parameters_of(entry: models.RegistryEntry) -> dict[str, inspect.Parameter]:
    """Return the arguments an architecture takes, by name: its entry point's, and its class's behind `**kwargs`."""
    signature = _signature(entry.entry_point)
    found = {name: p for name, p in signature.parameters.items() if p.kind is not p.VAR_KEYWORD}
    if _is_network(signature.return_annotation):
        found |= {name: p for name, p in _signature(signature.return_annotation).parameters.items() if name != "self"}
    return found


def _signature(function: Any) -> inspect.Signature:
    try:
        return inspect.signature(function, eval_str=True)
    except NameError:  # annotations that mean something only where they were written
        return inspect.signature(function)


def _is_network(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, nn.Module)


def check_arguments(entry: models.RegistryEntry, args: Mapping[str, Any], what: str) -> None:
    """Refuse arguments that the architecture does not take, of another type than its signature's, or beyond all use.

    Raises:
        ManifestError: The text names the argument, and `what` it belongs to.
    """
    known = parameters_of(entry)
    takes_any = any(p.kind is p.VAR_KEYWORD for p in _signature(entry.entry_point).parameters.values())
    closed = not takes_any or _is_network(_signature(entry.entry_point).return_annotation)
    for name, value in args.items():
        if closed and name not in known:
            raise ManifestError(
                f"{what}: model_args has {name!r}, which {entry.name} does not take; it takes "
                + ", ".join(sorted(known))
            )
        kind = known[name].annotation if name in known else Any
        least = int(name in _INPUTS)
        if not fits(value, kind) or (type(value) is int and value < least):
            raise ManifestError(
                f"{what}: model_args has {name} = {_short(value)}, expected {_words(kind)}, whole numbers from {least} "
                f"to {_LARGEST}; get the model again from where you trust it"
            )
    for member, given in members_of(entry, args, what):
        check_arguments(member, given, f"{what}, a member")


def members_of(
    entry: models.RegistryEntry, args: Mapping[str, Any], what: str
) -> list[tuple[models.RegistryEntry, Mapping[str, Any]]]:
    """Return architectures and arguments of the members of an ensemble; of another architecture none.

    Raises:
        ManifestError: A member does not say what it is, or is itself an ensemble.
        UnknownModelError: Its architecture is not registered.
    """
    found: list[tuple[models.RegistryEntry, Mapping[str, Any]]] = []
    for member in args.get("members", ()) if entry.name == "ensemble" else ():
        name, given = (member.get("architecture"), member.get("model_args", {})) if isinstance(member, dict) else (0, 0)
        if not (isinstance(name, str) and isinstance(given, dict)) or name == "ensemble":
            raise ManifestError(
                f"{what}: model_args has a member {_short(member)}, expected the architecture and the model_args of a "
                "single classifier; get the model again from where you trust it"
            )
        try:
            found.append((models.entry(name), given))
        except UnknownModelError as error:
            raise UnknownModelError(
                f"{error}. A member of {what} is of it: import the code that registers it"
            ) from None
    return found


def fits(value: Any, kind: Any) -> bool:
    """Whether a value, as JSON has it, is of an annotated type, and its numbers are in a sane range."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return any(fits(value, part) for part in parts)
    if origin is Literal:
        return isinstance(value, str | int) and value in parts
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return _fits_sequence(value, origin, parts)
    if kind in (None, types.NoneType):
        return value is None
    if kind is float:
        return type(value) in (int, float) and math.isfinite(value) and abs(value) <= _LARGEST
    if kind is int:
        return type(value) is int and 0 <= value <= _LARGEST
    if kind in (bool, str):
        return type(value) is kind
    return _is_sane(value)  # an annotation that says no more


def _fits_sequence(value: Any, origin: type, parts: tuple[Any, ...]) -> bool:
    if not isinstance(value, list | tuple) or len(value) > _LONGEST:
        return False
    if origin is tuple and parts[-1:] != (...,):
        return len(value) == len(parts) and all(map(fits, value, parts))
    return all(fits(item, parts[0] if parts else Any) for item in value)


def _is_sane(value: Any) -> bool:
    if isinstance(value, list | tuple | dict):
        items = value.values() if isinstance(value, dict) else value
        return len(value) <= _LONGEST and all(map(_is_sane, items))
    return value is None or isinstance(value, str) or fits(value, float)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _words(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind).replace("typing.", "")


def rehearse(entry: models.RegistryEntry, args: Mapping[str, Any], tensors: int, what: str) -> nn.Module:
    """Build a network without memory for its numbers, as torch's meta device does.

    An architecture of the user's own, whose code may not bear that, is built as it is.

    Args:
        entry: The architecture.
        args: Its arguments, already checked.
        tensors: Number of tensors that are to be loaded: no network of many more is built.
        what: The arguments belong to, for the error.

    Raises:
        ManifestError: It cannot be built, or would hold far more than those tensors.
    """
    try:
        parts = [entry, *(member for member, _ in members_of(entry, args, what))]
        meta = all(part.module.startswith("hsmamba.models.") for part in parts)
        with torch.device("meta") if meta else nullcontext(), _at_most(_SPARE + 4 * tensors), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes that are 0
            network = entry.entry_point(**args)
            held = sum(buffer.nbytes for buffer in network.buffers())
            if held > _BYTES:
                raise ValueError(f"it would hold {held} bytes beside its parameters")
    except Exception as error:  # whatever comes of sizes that were never tried
        raise ManifestError(
            f"{what}: no {entry.name} can be built with model_args {_short(dict(args))} "
            f"({(str(error).splitlines() or [type(error).__name__])[0]}); get the model again from where you trust it"
        ) from error
    return network


@contextmanager
def _at_most(count: int) -> Iterator[None]:
    """Let this thread make so many parameters of networks in the block."""
    thread, made = threading.get_ident(), 0

    def registered(*_: Any) -> None:
        nonlocal made
        made += threading.get_ident() == thread
        if made > count:
            raise ValueError(f"it would have more than {count} parameters, and the file has far fewer tensors")

    hook = register_module_parameter_registration_hook(registered)
    try:
        yield
    finally:
        hook.remove()
