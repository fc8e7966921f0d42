"""Class probabilities of patches: of a batch, of items of a dataset."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hsmamba.data import PatchDataset
from hsmamba.engine.running import evaluating, progress_bar
from hsmamba.models import Classifier, numbers_of


def default_batch_size(device: torch.device) -> int:
    """Pixels at a time that keep a device busy without filling it."""
    return 256 if device.type == "cpu" else 4096


def _turned(batch: Tensor, quarter_turns: int, mirrored: bool) -> Tensor:
    batch = torch.rot90(batch, quarter_turns, (-2, -1))
    return batch.flip(-1) if mirrored else batch


def probabilities(model: Classifier, inputs: tuple[Tensor, ...], *, tta: bool = False) -> Tensor:
    """Compute class probabilities of patches.

    Args:
        model: A classifier in evaluation mode.
        inputs: `(hsi (N, C, P, P),)` or `(hsi, aux)`, on the model's device.
        tta: Average over the eight flips and quarter turns of each patch.

    Returns:
        (N, K) float32.
    """
    dtype = numbers_of(model).dtype
    inputs = tuple(x.to(dtype) for x in inputs)
    views = [(turns, mirrored) for turns in range(4) for mirrored in (False, True)] if tta else [(0, False)]
    total = sum(model(*(_turned(x, *view) for x in inputs)).float().softmax(1) for view in views)
    return torch.as_tensor(total) / len(views)


def predict_items(
    model: Classifier,
    dataset: PatchDataset,
    items: NDArray[np.int64],
    *,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
    tta: bool = False,
    progress: bool = False,
) -> Tensor:
    """Compute class probabilities of items of a dataset.

    Args:
        model: A classifier; its mode and device are left as they were.
        dataset: The patches.
        items: (N,) indices into the dataset.
        batch_size: Patches at a time.
        device: Where to compute; default where the model is.
        tta: See `probabilities`.
        progress: Show a progress bar.

    Returns:
        (N, K) float32 on the CPU.
    """
    with (
        evaluating(model, device) as where,
        progress_bar(len(items), "classify", progress) as bar,
    ):
        step = batch_size or default_batch_size(where)
        parts = [torch.empty(0, model.num_classes)]
        for start in range(0, len(items), step):
            hsi, aux, labels = dataset.batch(items[start : start + step])
            inputs = (hsi,) if aux is None else (hsi, aux)
            parts.append(probabilities(model, tuple(x.to(where) for x in inputs), tta=tta).cpu())
            bar.update(len(labels))
        return torch.cat(parts)
