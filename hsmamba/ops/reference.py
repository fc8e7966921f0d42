"""The selective scan as its definition reads: a loop over time in plain torch, the measure of every other backend."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hsmamba.ops.inputs import ScanInputs, compute_dtype


def gates(inputs: ScanInputs) -> tuple[Tensor, Tensor]:
    """The time step dt and the input u (b, d, l) in the compute dtype: dt = softplus(delta + delta_bias)."""
    dtype = compute_dtype(inputs)
    dt = inputs.delta.to(dtype)
    if inputs.delta_bias is not None:
        dt = dt + inputs.delta_bias.to(dtype)[:, None]
    return (F.softplus(dt) if inputs.delta_softplus else dt), inputs.u.to(dtype)


def per_channel(x: Tensor, inputs: ScanInputs) -> Tensor:
    """B or C for each channel, (b, d, n, l | 1), in the compute dtype: channel c reads group floor(c g / d)."""
    b, d, _ = inputs.u.shape
    return x.to(compute_dtype(inputs)).repeat_interleave(d // x.shape[1], dim=1).expand(b, -1, -1, -1)


def output(y: Tensor, inputs: ScanInputs) -> Tensor:
    """Skip connection, gate and output dtype: (y + D u) SiLU(z), (b, d, l)."""
    if inputs.D is not None:
        y = y + inputs.D.to(y.dtype)[:, None] * inputs.u.to(y.dtype)
    if inputs.z is not None:
        y = y * F.silu(inputs.z.to(y.dtype))
    return y.to(inputs.u.dtype)


def initial_state(inputs: ScanInputs) -> Tensor:
    """The state (b, d, n) before the first step, in the compute dtype: the given one or zeros."""
    if inputs.initial_state is not None:
        return inputs.initial_state.to(compute_dtype(inputs))
    b, d, _ = inputs.u.shape
    return inputs.u.new_zeros(b, d, inputs.A.shape[1], dtype=compute_dtype(inputs))


def scan_reference(inputs: ScanInputs) -> tuple[Tensor, Tensor]:
    """Scan step by step (Gu and Dao, arXiv 2312.00752, equations 2-4 and algorithm 2).

    Returns y (b, d, l) in u's dtype and the last state (b, d, n) in the compute dtype.
    """
    dt, u = gates(inputs)
    A = inputs.A.to(compute_dtype(inputs))
    length = u.shape[-1]
    B_steps = per_channel(inputs.B, inputs).expand(-1, -1, -1, length).unbind(-1)
    C_steps = per_channel(inputs.C, inputs).expand(-1, -1, -1, length).unbind(-1)
    h = initial_state(inputs)  # (b, d, n)
    y = []
    # unbind, not x[:, t]: the gradient of every such index would be a tensor of full length
    for dt_t, u_t, B_t, C_t in zip(dt.unbind(-1), u.unbind(-1), B_steps, C_steps, strict=True):
        h = torch.exp(dt_t[..., None] * A) * h + (dt_t * u_t)[..., None] * B_t
        y.append((C_t * h).sum(-1))
    return output(torch.stack(y, -1) if y else u, inputs), h
