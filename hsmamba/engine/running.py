"""Where and in which mode a network runs, and the bar that shows how far it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import torch
from torch import nn
from tqdm.auto import tqdm


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


def progress_bar(pixels: int, verb: str, shown: bool) -> tqdm[NoReturn]:
    """Make the bar of a job that goes over so many pixels."""
    return tqdm(total=pixels, unit="px", desc=verb, disable=not shown, leave=False)
