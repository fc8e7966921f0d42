"""Running a classifier: where, in which mode, on which patches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hsmamba.data import PatchDataset


@dataclass(frozen=True)
class Sizes:
    """What a classifier of the zoo tells of itself: bands, auxiliary channels (0 = none), classes, side of a patch."""

    in_chans: int
    aux_chans: int
    num_classes: int
    patch_size: int


def sizes_of(model: nn.Module) -> Sizes:
    """Read a classifier's sizes off its attributes.

    Raises:
        TypeError: The network does not have them.
    """
    try:
        return Sizes(*(int(getattr(model, name)) for name in ("in_chans", "aux_chans", "num_classes", "patch_size")))
    except AttributeError as error:
        raise TypeError(
            f"{type(model).__name__} is no patch classifier of the zoo's kind ({error}); it needs the attributes "
            f"in_chans, aux_chans (0 for none), num_classes and patch_size, and forward(hsi, aux=None)"
        ) from None


def default_batch_size(device: torch.device) -> int:
    """Pixels at a time that keep a device busy without filling it."""
    return 256 if device.type == "cpu" else 4096


@contextmanager
def evaluating(model: nn.Module, device: torch.device | str | None) -> Iterator[torch.device]:
    """Put a model in evaluation mode on a device, without gradients, and back to what it was.

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


def _turned(batch: Tensor, quarter_turns: int, mirrored: bool) -> Tensor:
    batch = torch.rot90(batch, quarter_turns, (-2, -1))
    return batch.flip(-1) if mirrored else batch


def probabilities(model: nn.Module, inputs: tuple[Tensor, ...], *, tta: bool = False) -> Tensor:
    """Compute class probabilities of patches.

    Args:
        model: A classifier in evaluation mode.
        inputs: `(hsi (N, C, P, P),)` or `(hsi, aux)`, on the model's device.
        tta: Average over the eight flips and quarter turns of each patch.

    Returns:
        (N, K) float32.
    """
    dtype = next(model.parameters()).dtype
    inputs = tuple(x.to(dtype) for x in inputs)
    views = [(turns, mirrored) for turns in range(4) for mirrored in (False, True)] if tta else [(0, False)]
    total = sum(model(*(_turned(x, *view) for x in inputs)).float().softmax(1) for view in views)
    return torch.as_tensor(total) / len(views)


def predict_items(
    model: nn.Module,
    dataset: PatchDataset,
    items: NDArray[np.int64],
    *,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
    tta: bool = False,
) -> Tensor:
    """Compute class probabilities of items of a dataset.

    Args:
        model: A classifier; its mode and device are left as they were.
        dataset: The patches.
        items: (N,) indices into the dataset.
        batch_size: Patches at a time.
        device: Where to compute; default where the model is.
        tta: See `probabilities`.

    Returns:
        (N, K) float32 on the CPU.
    """
    with evaluating(model, device) as where:
        step = batch_size or default_batch_size(where)
        parts = []
        for start in range(0, len(items), step):
            hsi, aux, _ = dataset.batch(items[start : start + step])
            inputs = (hsi,) if aux is None else (hsi, aux)
            parts.append(probabilities(model, tuple(x.to(where) for x in inputs), tta=tta).cpu())
        return torch.cat(parts) if parts else torch.empty(0, sizes_of(model).num_classes)
