"""The custom operator behind the fused backends: registration, gradient, shapes for tracing, batching.

`torch.ops.hsmamba.selective_scan` returns y, the last state and the checkpoints that its backward starts from; it is
functional and opaque to torch.compile and torch.export. The backends of plain torch operations do not pass through it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from hsmamba.ops.backends import BACKENDS, Fused
from hsmamba.ops.inputs import ScanInputs, checkpoint_count


def run_forward(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    initial_state: Tensor | None,
    delta_softplus: bool,
    save: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run a fused backend: y (b, d, l), last state (b, d, n), checkpoints (b, checkpoints, n, d) or nothing."""
    inputs = ScanInputs(u, delta, A, B, C, D, z, delta_bias, initial_state, delta_softplus)
    y, last, checkpoints = _fused(backend).forward(inputs, save)
    return _laid_out_like(u, y), last, checkpoints


scan_op = torch.library.custom_op("hsmamba::selective_scan", run_forward, mutates_args=())


@scan_op.register_fake
def _(u: Tensor, delta: Tensor, A: Tensor, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
    *_, save, _backend = others
    b, d, length = u.shape
    n = A.shape[1]
    dtype = torch.float64 if u.dtype == torch.float64 else torch.float32
    checkpoints = (b, checkpoint_count(length), n, d) if save else (0,)
    return torch.empty_like(u), u.new_empty(b, d, n, dtype=dtype), u.new_empty(checkpoints, dtype=dtype)


def run_backward(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    initial_state: Tensor | None,
    delta_softplus: bool,
    backend: str,
    checkpoints: Tensor,
    dy: Tensor | None,
    dlast: Tensor | None,
) -> list[Tensor]:
    """Run a fused backend's backward: one gradient for each tensor that is given, in order and in its dtype."""
    inputs = ScanInputs(u, delta, A, B, C, D, z, delta_bias, initial_state, delta_softplus)
    fused = _fused(backend)
    if checkpoints.numel() == 0:  # the forward could not know that a gradient would be asked for
        checkpoints = fused.forward(inputs, True)[2]
    dy = torch.zeros_like(u) if dy is None else dy
    grads = fused.backward(inputs, checkpoints, dy, dlast)
    pairs = zip(inputs[:9], grads, strict=True)
    return [_laid_out_like(x, grad) for x, grad in pairs if x is not None and grad is not None]


scan_backward_op = torch.library.custom_op("hsmamba::selective_scan_backward", run_backward, mutates_args=())


def _fused(backend: str) -> Fused:
    scan = BACKENDS[backend].scan
    if not isinstance(scan, Fused):
        raise TypeError(f"the scan backend {backend!r} does not run behind the operator")
    return scan


def _laid_out_like(x: Tensor, value: Tensor) -> Tensor:
    """A value of x's shape in the dtype and memory layout that the fake kernel promises."""
    promised = torch.empty_like(x)
    return value if value.dtype == x.dtype and value.stride() == promised.stride() else promised.copy_(value)


@scan_backward_op.register_fake
def _(*args: Any) -> list[Tensor]:
    return [torch.empty_like(x) for x in args[:9] if x is not None]


def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    """Keep what the backward needs: the tensors that are given, the options and the checkpoints."""
    *tensors, delta_softplus, _, backend = inputs
    ctx.given = [x is not None for x in tensors]
    ctx.options = (delta_softplus, backend)
    ctx.save_for_backward(*(x for x in tensors if x is not None), output[2])
    ctx.set_materialize_grads(False)


def gradients(
    run: Callable[..., Iterable[Tensor]], ctx: Any, dy: Tensor | None, dlast: Tensor | None, _: Tensor | None
) -> tuple[Tensor | None, ...]:
    """The gradient of each argument of `scan_op`, by `run`, which is `scan_backward_op` or wraps it."""
    *saved, checkpoints = ctx.saved_tensors
    values = iter(saved)
    tensors = [next(values) if given else None for given in ctx.given]
    if dy is None and dlast is None:
        return (None,) * (len(tensors) + 3)
    grads = iter(run(*tensors, *ctx.options, checkpoints, dy, dlast))
    return (*(next(grads) if given else None for given in ctx.given), None, None, None)


def no_second_derivative(ctx: Any, *grads: Any) -> None:
    """Refuse to differentiate a gradient.

    Raises:
        NotImplementedError: Always; names the backend that can.
    """
    raise NotImplementedError(
        "the fused selective scan backends have no second derivative; "
        'compute under hsmamba.ops.scan_backend("torch"), or with backend="torch"'
    )


scan_op.register_autograd(partial(gradients, scan_backward_op), setup_context=setup_context)
scan_backward_op.register_autograd(no_second_derivative)
