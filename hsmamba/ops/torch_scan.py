"""The selective scan parallel over time, in differentiable torch operations only.

For devices without a kernel of their own (MPS and others), for export to runtimes that know no custom operator, and for
higher derivatives. It makes (b, d, l, n) tensors: the other backends are leaner.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hsmamba.ops.inputs import ScanInputs, split_axis
from hsmamba.ops.reference import gates, initial_state, output


def linear_recurrence(decay: Tensor, x: Tensor) -> Tensor:
    """Solve h_t = decay_t h_{t-1} + x_t with h_{-1} = 0 along the axis before the last, in O(log l) passes.

    Neighbouring steps (2k, 2k+1) are joined into one, the recurrence of half the length is solved the same way and
    gives every odd step; the even steps follow from the odd ones before them. Nothing is divided: a decay of 0 is safe.
    All are (..., l, n) with l >= 1.
    """
    length = x.shape[-2]
    if length == 1:
        return x
    even, odd = slice(0, length - 1, 2), slice(1, None, 2)
    joined = x[..., odd, :] + decay[..., odd, :] * x[..., even, :]
    h_odd = linear_recurrence(decay[..., odd, :] * decay[..., even, :], joined)
    later = slice(2, None, 2)
    before = h_odd[..., : (length - 1) // 2, :]
    h_even = torch.cat([x[..., :1, :], x[..., later, :] + decay[..., later, :] * before], dim=-2)
    pairs = torch.stack([h_even[..., : length // 2, :], h_odd], dim=-2).flatten(-3, -2)
    return torch.cat([pairs, h_even[..., length // 2 :, :]], dim=-2)


def scan_torch(inputs: ScanInputs) -> tuple[Tensor, Tensor]:
    """Scan in parallel over time: y (b, d, l) in u's dtype and the last state (b, d, n) in the compute dtype."""
    dt, u = gates(inputs)  # (b, d, l)
    h0 = initial_state(inputs)  # (b, d, n)
    if u.shape[-1] == 0:
        return output(u, inputs), h0
    groups = inputs.B.shape[1]
    dt = split_axis(dt, 1, groups)[..., None]  # (b, g, d/g, l, 1)
    A = split_axis(inputs.A.to(dt.dtype), 0, groups)[..., None, :]  # (g, d/g, 1, n)
    B, C = (x.to(dt.dtype).transpose(-1, -2).unsqueeze(2) for x in (inputs.B, inputs.C))  # (b | 1, g, 1, l | 1, n)
    decay = torch.exp(dt * A)  # (b, g, d/g, l, n)
    x = dt * split_axis(u, 1, groups)[..., None] * B
    first = x[..., :1, :] + decay[..., :1, :] * split_axis(h0, 1, groups)[..., None, :]
    h = linear_recurrence(decay, torch.cat([first, x[..., 1:, :]], dim=-2))
    y = (h * C).sum(-1).flatten(1, 2)
    return output(y, inputs), h[..., -1, :].flatten(1, 2)
