"""Where and in which mode a network runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluating(model: nn.Module, device: torch.device | str | None) -> Iterator[torch.device]:
    """Put a model in evaluation mode on a device, without gradients, and back to what it was.

    Args:
        model: The network.
        device: Where to compute; None where the model is.

    Yields:
        The device.
    """
    training = model.training
    home = next(model.parameters()).device
    where = home if device is None else torch.device(device)
    model.to(where).eval()
    try:
        with torch.inference_mode():
            yield where
    finally:
        model.to(home).train(training)
