"""Whether a compiled kernel may take the place of plain operations, and what is made of weights once for many calls.

The kernels here have no gradient and are nothing to a tracer: they serve inference on a CPU in float32 alone.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor

from hsmamba.ops import cpu
from hsmamba.ops.backends import forced_backend

T = TypeVar("T")

_guard = threading.Lock()
_holders = 0
_held: dict[tuple[Any, ...], tuple[tuple[Tensor | None, ...], Any]] = {}
_plain = threading.local()


def takes(*tensors: Tensor, of: torch.nn.Module | None = None) -> bool:
    """Whether the compiled kernels may compute with these tensors, and the parameters of a module."""
    if torch.compiler.is_compiling():  # first: a graph that is being compiled keeps no more than this
        return False
    if torch.is_grad_enabled():
        if any(x.requires_grad for x in tensors):  # first: the parameters have to be looked for
            return False
        tensors = (*tensors, *(of.parameters() if of is not None else ()))
        if any(x.requires_grad for x in tensors):
            return False
    return _may_run(tensors)


def _may_run(tensors: tuple[Tensor, ...]) -> bool:
    """Whether a compiled kernel may compute with these tensors, gradients apart; asked for every call of one."""
    for x in tensors:
        if type(x) not in KINDS or x.dtype is not torch.float32 or not x.is_cpu:
            return False
    if forced_backend() not in (None, "cpu") or isinstance(cpu.load(), str) or is_plain():
        return False
    if torch._C._is_tracing() or torch.is_autocast_enabled("cpu") or torch._C._are_functorch_transforms_active():
        return False
    current: int = torch.autograd.forward_ad._current_level
    return current < 0


KINDS = (Tensor, torch.nn.Parameter)  # and no subclass that intercepts what is done with it


def trains(*tensors: Tensor) -> bool:
    """Whether a compiled kernel that has gradients may compute with these tensors, some of which ask for them."""
    if torch.compiler.is_compiling() or not torch.is_grad_enabled() or not any(x.requires_grad for x in tensors):
        return False
    return _may_run(tensors)


@contextlib.contextmanager
def plain() -> Iterator[None]:
    """Compute in plain operations in this thread, as where there is no compiled kernel: to count them."""
    before = getattr(_plain, "on", False)
    _plain.on = True
    try:
        yield
    finally:
        _plain.on = before


def is_plain() -> bool:
    """Whether this thread computes in plain operations."""
    on: bool = getattr(_plain, "on", False)
    return on


@contextlib.contextmanager
def holding() -> Iterator[None]:
    """Keep what `prepared` makes until the last of all threads leaves: weights must stay as they are so long."""
    global _holders
    with _guard:
        _holders += 1
    try:
        yield
    finally:
        with _guard:
            _holders -= 1
            if not _holders:
                _held.clear()


def prepared(make: Callable[..., T], *weights: Tensor | None, **options: Any) -> T:
    """Return `make(*weights, **options)`, from before where it is held.

    Args:
        make: A function of a module, of weights and hashable options alone.
        *weights: Parameters and buffers of a network.
        **options: Of the function.
    """
    if not _holders:
        return make(*weights, **options)
    key = (make, *map(id, weights), *options.items())
    found = _held.get(key)
    if found is None:
        found = weights, make(*weights, **options)  # with the weights, whose numbers stay theirs as long as they live
        with _guard:
            if _holders:
                _held[key] = found
    made: T = found[1]
    return made
