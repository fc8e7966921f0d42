"""The selective scan, the one operator under every Mamba layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hsmamba.ops.backends import BACKENDS, Fused, choose_backend, forced_backend
from hsmamba.ops.functorch import run_scan
from hsmamba.ops.inputs import ScanInputs, check_inputs
from hsmamba.ops.torch_scan import scan_torch


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
    backend: str | None = None,
    *,
    initial_state: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    r"""Run an input-dependent linear recurrence over time (S6).

    With dt = delta + delta_bias, through softplus where asked for::

        h_t = exp(dt_t A) h_{t-1} + dt_t B_t u_t          (b, d, n)
        y_t = sum_n C_t h_t + D u_t,   times SiLU(z_t) where z is given

    The state and all sums are float32 whatever the inputs are (float64 where `u` is float64). Source: Gu and Dao,
    Mamba, arXiv 2312.00752, equations 2-4 and algorithm 2; the arguments are those of mamba-ssm's `selective_scan_fn`.

    Args:
        u: Input sequences (b, d, l), floating point.
        delta: Time steps before bias and softplus (b, d, l).
        A: Decay rates (d, n), real, negative in practice.
        B: Input weights (d, n), (b, n, l), or (b, g, n, l) with g a divisor of d; channel c reads group floor(c g / d).
        C: Output weights, in one of the same shapes.
        D: Weight of the direct path (d,); default none.
        z: Gate (b, d, l); default none.
        delta_bias: Added to `delta` (d,); default none.
        delta_softplus: Pass the time steps through softplus.
        return_last_state: Return h_l too.
        backend: Key of `available_backends()`; default: what `scan_backend` or HSMAMBA_SCAN forces, else the rule's.
        initial_state: h before the first step (b, d, n); default zeros.

    Returns:
        y (b, d, l) in u's dtype; with `return_last_state` also h_l (b, d, n), float32 or float64; both differentiable.

    Raises:
        ValueError: Shapes or devices that do not fit, or an unknown backend.
        TypeError: A tensor that is not real floating point.
        BackendUnavailableError: The backend that was asked for cannot run; says why and what it needs.
    """
    inputs = check_inputs(u, delta, A, B, C, D, z, delta_bias, initial_state, delta_softplus)
    name = choose_backend(
        forced_backend() if backend is None else backend,
        u.device.type,
        u.dtype == torch.float64,
        return_last_state or initial_state is not None,
        _needs_plain_operations(),
    )
    scan = BACKENDS[name].scan
    if isinstance(scan, Fused):
        y, last, _ = run_scan(*inputs, _needs_gradient(inputs), name)
    else:
        y, last = scan(inputs)
    return (y, last) if return_last_state else y


def decompositions() -> dict[Any, Callable[..., Any]]:
    """Decompose the operator in a program that was exported with it, for runtimes that know torch's own operators only.

    `torch.onnx.export(model, ...)` needs none of this. For a program that exists already, or for other runtimes::

        program = torch.export.export(model, inputs).run_decompositions(hsmamba.ops.decompositions())

    Returns:
        Table of `ExportedProgram.run_decompositions`, from the operator to plain torch operations.
    """

    def scan(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
        y, last = scan_torch(ScanInputs(*args[:10]))
        return y, last, last.new_empty(0)  # the checkpoints are for a backward, which an exported program has not

    return {torch.ops.hsmamba.selective_scan.default: scan}


def _needs_plain_operations() -> str | None:
    """What is going on that custom operators have no part in, None if nothing is."""
    if torch.onnx.is_in_onnx_export():
        return "ONNX export"
    # Without this, torch drops the tangents of a custom operator's inputs and says nothing.
    if torch.autograd.forward_ad._current_level >= 0:
        return "forward-mode differentiation"
    return None


def _needs_gradient(inputs: ScanInputs) -> bool:
    return torch.is_grad_enabled() and any(isinstance(x, Tensor) and x.requires_grad for x in inputs)
