"""Computations on a GPU that are launched as a whole: hundreds of small kernels wait for Python otherwise."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from hsmamba.models import registry

T = TypeVar("T")

_CALLS_BEFORE = 3  # with tensors of the same shapes: what is made once is made in these
_MOST = 4  # graphs, each of which holds its memory

_logger = logging.getLogger(__name__)


def can_be_captured(model: nn.Module, device: torch.device) -> bool:
    """Whether a network computes on a device without asking the CPU on the way: those of the zoo do."""
    return device.type == "cuda" and getattr(model, "architecture", "") in registry()


class Captured(Generic[T]):
    """A computation that becomes a CUDA graph once it has run a few times on tensors of the same shapes.

    It may depend on its arguments and on tensors that stay where they are, as weights do, and on nothing else that
    changes. Computations that no graph can hold go on one kernel after the other.

    Args:
        run: What is computed.
        device: Of a GPU, where it takes its tensors.
    """

    def __init__(self, run: Callable[..., T], device: torch.device) -> None:
        self._run, self._device = run, device
        self._calls: Counter[Any] = Counter()
        self._graphs: dict[Any, _Graph] = {}

    def __call__(self, *args: Any) -> T:
        """Compute; what is returned is overwritten by the next call.

        Args:
            *args: Tensors, in tuples and lists, and other values.
        """
        leaves, form = tree_flatten(args)
        key = (str(form), *map(_key, leaves))
        if key not in self._graphs:
            self._calls[key] += 1
            if self._calls[key] <= _CALLS_BEFORE or len(self._graphs) >= _MOST:
                return self._run(*args)
            try:
                self._graphs[key] = _Graph.of(self._run, leaves, form, self._device)
            except RuntimeError as error:
                _logger.warning("the GPU computes kernel by kernel, since it could not be told all at once: %s", error)
                self._calls[key] = -(2**62)
                return self._run(*args)
        found: T = self._graphs[key](leaves)
        return found


def _key(leaf: Any) -> Any:
    return (leaf.shape, leaf.stride(), leaf.dtype) if isinstance(leaf, Tensor) else leaf


class _Graph(NamedTuple):
    """A captured computation, where it reads its tensors and what it writes."""

    graph: torch.cuda.CUDAGraph
    inputs: list[Any]
    result: Any

    @classmethod
    def of(cls, run: Callable[..., Any], leaves: list[Any], form: TreeSpec, device: torch.device) -> _Graph:
        """Capture a computation without doing it."""
        inputs = [torch.empty_like(x, device=device) if isinstance(x, Tensor) else x for x in leaves]
        graph = torch.cuda.CUDAGraph()
        # Other threads may go on: one of ours copies what comes next.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            result = run(*tree_unflatten(inputs, form))
        return cls(graph, inputs, result)

    def __call__(self, leaves: list[Any]) -> Any:
        for own, given in zip(self.inputs, leaves, strict=True):
            if isinstance(given, Tensor):
                own.copy_(given, non_blocking=True)
        self.graph.replay()
        return self.result
