"""The selective scan as users run it today without a CUDA kernel: three fall-backs, written anew.

All take u, delta (b, d, l), A (d, n), B, C (b, g, n, l), D, delta_bias (d,), with softplus, and return y (b, d, l) and
the last state (b, d, n).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def _expanded(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, delta_bias: Tensor) -> tuple[Tensor, Tensor]:
    """Decays and inputs of every step, (b, d, l, n): what all three make first."""
    dt = F.softplus(delta + delta_bias[:, None])
    decay = torch.exp(dt[..., None] * A[:, None, :])
    B = B.repeat_interleave(u.shape[1] // B.shape[1], dim=1).transpose(2, 3)  # (b, d, l, n)
    return decay, (dt * u)[..., None] * B


def reference_loop(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, delta_bias: Tensor
) -> tuple[Tensor, Tensor]:
    """Step by step through the (b, d, l, n) tensors, one multiplication by C a step: mamba-ssm's reference."""
    decay, x = _expanded(u, delta, A, B, delta_bias)
    C = C.repeat_interleave(u.shape[1] // C.shape[1], dim=1)  # (b, d, n, l)
    h = torch.zeros_like(x[:, :, 0])
    y = []
    for t in range(u.shape[2]):
        h = decay[:, :, t] * h + x[:, :, t]
        y.append(torch.einsum("bdn,bdn->bd", h, C[..., t]))
    return torch.stack(y, dim=2) + D[:, None] * u, h


def transformers_loop(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, delta_bias: Tensor
) -> tuple[Tensor, Tensor]:
    """The same loop with a matrix product a step: the slow path of the transformers library."""
    b, d, length = u.shape
    groups = C.shape[1]
    decay, x = _expanded(u, delta, A, B, delta_bias)
    h = torch.zeros_like(x[:, :, 0])
    y = []
    for t in range(length):
        h = decay[:, :, t] * h + x[:, :, t]
        y.append(torch.matmul(h.view(b, groups, d // groups, -1), C[..., t, None]).view(b, d))
    return torch.stack(y, dim=2) + D[:, None] * u, h


def parallel_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, delta_bias: Tensor
) -> tuple[Tensor, Tensor]:
    """A work-efficient parallel scan over the (b, d, l, n) tensors with its own backward: the method of mamba.py."""
    decay, x = _expanded(u, delta, A, B, delta_bias)
    h: Tensor = _ParallelScan.apply(decay, x)
    C = C.repeat_interleave(u.shape[1] // C.shape[1], dim=1).transpose(2, 3)
    return (h * C).sum(-1) + D[:, None] * u, h[:, :, -1]


def _sweep(decay: Tensor, x: Tensor) -> None:
    """Inclusive scan of h = decay h + x along axis 2 in place; the length is a power of two."""
    length = x.shape[2]
    step = 1
    while step < length:  # up: every block of 2 step elements gets its total at its end
        left, right = slice(step - 1, None, 2 * step), slice(2 * step - 1, None, 2 * step)
        x[:, :, right].addcmul_(decay[:, :, right], x[:, :, left])
        decay[:, :, right].mul_(decay[:, :, left])
        step *= 2
    step = length // 4
    while step >= 1:  # down: the element half a block behind each total takes it in
        left, right = slice(2 * step - 1, length - step, 2 * step), slice(3 * step - 1, None, 2 * step)
        x[:, :, right].addcmul_(decay[:, :, right], x[:, :, left])
        decay[:, :, right].mul_(decay[:, :, left])
        step //= 2


def _padded(x: Tensor, length: int) -> Tensor:
    return F.pad(x, (0, 0, 0, length - x.shape[2]))


class _ParallelScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, decay: Tensor, x: Tensor) -> Tensor:
        length = x.shape[2]
        full = 1 << max(0, length - 1).bit_length()
        h = _padded(x, full) if full > length else x.clone()
        _sweep(_padded(decay, full) if full > length else decay.clone(), h)
        h = h[:, :, :length]
        ctx.save_for_backward(decay, h)
        return h

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        decay, h = ctx.saved_tensors
        length = h.shape[2]
        full = 1 << max(0, length - 1).bit_length()
        later = F.pad(decay[:, :, 1:], (0, 0, 0, 1)).flip(2)  # the gradient runs back by the next step's decay
        g = _padded(grads[0].flip(2), full)
        _sweep(_padded(later, full), g)
        g = g[:, :, :length].flip(2)
        return g * F.pad(h[:, :, :-1], (0, 0, 1, 0)), g


PEERS: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {
    "reference loop": reference_loop,  # mamba-ssm's
    "transformers loop": transformers_loop,
    "parallel scan": parallel_scan,  # mamba.py's
}
