"""Linear layers, by the compiled kernel where it may run."""

from __future__ import annotations

from torch import Tensor, nn

from hsmamba.ops.linear import linear, linear_parts


class Linear(nn.Linear):
    """A linear layer and what follows it: activation(x W^T + b) + add; see `hsmamba.ops.linear.linear`.

    Shape: (..., K) -> (..., N).
    """

    def forward(self, input: Tensor, activation: str = "", *, add: Tensor | None = None) -> Tensor:
        """Project."""
        return linear(input, self.weight, self.bias, activation, add=add)

    def parts(self, input: Tensor, *parts: tuple[int, str]) -> tuple[Tensor, ...]:
        """Project, and give parts of the outputs an activation each; see `hsmamba.ops.linear.linear_parts`."""
        return linear_parts(input, self.weight, self.bias, *parts)
