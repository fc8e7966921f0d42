"""Convolutions as plain sums over their taps, for oracles."""

import torch


def convolve(x, state, name):
    """x (B, C, H, W) with zeros around it, kernel and bias of `name`: (B, O, H, W)."""
    weight, (height, width) = state[f"{name}.weight"], x.shape[2:]
    tall, wide = (side // 2 for side in weight.shape[2:])
    padded = x.new_zeros(*x.shape[:2], height + 2 * tall, width + 2 * wide)
    padded[..., tall : tall + height, wide : wide + width] = x
    out = state[f"{name}.bias"].view(1, -1, 1, 1).expand(len(x), -1, height, width)
    for i in range(2 * tall + 1):
        for j in range(2 * wide + 1):
            window = padded[..., i : i + height, j : j + width]
            out = out + torch.einsum("bchw,oc->bohw", window, weight[..., i, j])
    return out


def random_state(shapes, seed):
    """Random tensors of these shapes in float64, kernels of a size that keeps the numbers about 1."""
    gen = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=gen, dtype=torch.float64) * max(torch.Size(shape[1:]).numel(), 4) ** -0.5
        for name, shape in shapes.items()
    }


def with_biases(kernels):
    """Shapes of kernels by the names of their layers -> shapes of the kernels and of one bias an output."""
    return {f"{name}.weight": shape for name, shape in kernels.items()} | {
        f"{name}.bias": (shape[0],) for name, shape in kernels.items()
    }
