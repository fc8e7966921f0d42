"""Linear layers, by the compiled kernel where it may run."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hsmamba.ops import inference
from hsmamba.ops.linear import linear, linear_parts, linear_shared


class Linear(nn.Linear):
    """A linear layer and what follows it: activation(x W^T + b) + add; see `hsmamba.ops.linear.linear`.

    Shape: (..., K) -> (..., N).
    """

    def forward(self, input: Tensor, activation: str = "", *, add: Tensor | None = None) -> Tensor:
        """Project."""
        return linear(input, self.weight, self.bias, activation, add=add)

    def shared(self, input: Tensor, activation: str = "") -> tuple[Tensor, Tensor]:
        """Project, and give the input back for what else is made of it; see `hsmamba.ops.linear.linear_shared`."""
        return linear_shared(input, self.weight, self.bias, activation)

    def parts(self, input: Tensor, *parts: tuple[int, str]) -> tuple[Tensor, ...]:
        """Project, and give parts of the outputs an activation each; see `hsmamba.ops.linear.linear_parts`."""
        return linear_parts(input, self.weight, self.bias, *parts)


def pointwise(conv: nn.Conv1d | nn.Conv2d, x: Tensor, activation: str = "") -> Tensor:
    """Apply a convolution of size 1, and an activation, to what has its channels last: (..., K) -> (..., N)."""
    return linear(x, _matrix(conv), conv.bias, activation)


def pointwise_parts(conv: nn.Conv1d | nn.Conv2d, x: Tensor, *parts: tuple[int, str]) -> tuple[Tensor, ...]:
    """Do the same, and give parts of the outputs an activation each; see `hsmamba.ops.linear.linear_parts`."""
    return linear_parts(x, _matrix(conv), conv.bias, *parts)


def _matrix(conv: nn.Conv1d | nn.Conv2d) -> Tensor:
    """Weight (N, K) of a convolution of size 1."""
    if inference.takes(conv.weight):  # one tensor for all calls, by which what is made of it is found again
        return inference.prepared(torch.flatten, conv.weight, start_dim=1)
    return conv.weight.flatten(1)
