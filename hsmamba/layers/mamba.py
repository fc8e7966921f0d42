"""The Mamba block: projection, causal convolution, selective scan and gate.

Source: Gu and Dao, Mamba, arXiv 2312.00752, section 3.4 and figure 3.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from hsmamba.layers.linear import Linear
from hsmamba.layers.ssm import S6


class Mamba(nn.Module):
    """Mix a sequence, each step with those before it.

    `[u | z] = in_proj x`, `y = S6(SiLU(conv u))` and `out_proj(y SiLU(z))`, the convolution depthwise and causal.

    Args:
        dim: Width D of the sequence.
        d_state: States N of a channel.
        d_conv: Steps that the convolution sees.
        expand: Inner width as a multiple of `dim`.

    Shape: (B, L, D) -> (B, L, D).
    """

    def __init__(self, dim: int, d_state: int = 16, d_conv: int = 4, expand: int = 2) -> None:
        super().__init__()
        d = expand * dim
        self.in_proj = Linear(dim, 2 * d, bias=False)
        self.conv = nn.Conv1d(d, d, d_conv, padding=d_conv - 1, groups=d)
        self.ssm = S6(d, d_state, math.ceil(dim / 16))
        self.out_proj = Linear(d, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Mix."""
        d = self.out_proj.in_features
        u, gate = self.in_proj.parts(x, (d, ""), (d, "silu"))  # (B, L, d) each
        u = F.silu(causal_conv(u, self.conv.weight.squeeze(1), self.conv.bias))
        y: Tensor = self.ssm(u.mT.unsqueeze(1)).squeeze(1)  # (B, d, L)
        out: Tensor = self.out_proj(y.mT * gate)
        return out


def causal_conv(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve each channel of a sequence with its own few taps, the last of which is of the step itself.

    Sums of shifted sequences: torch's depthwise convolution takes several times as long backward on a CPU.

    Args:
        x: (B, L, d).
        weight: (d, K), as a depthwise convolution has it.
        bias: (d,)

    Returns:
        (B, L, d); before the sequence there are zeros.
    """
    length, taps = x.shape[1], weight.shape[1]
    before = F.pad(x, (0, 0, taps - 1, 0))
    y = before[:, :length] * weight[:, 0]
    for k in range(1, taps):
        y = y + before[:, k : k + length] * weight[:, k]
    return y if bias is None else y + bias
