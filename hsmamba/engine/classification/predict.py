"""Class probabilities of patches: of a batch, of items of a dataset."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hsmamba.data import PatchDataset, Patches
from hsmamba.engine.classification.images import predict_images
from hsmamba.engine.running import evaluating, largest_bytes, progress_bar, team
from hsmamba.models import Classifier, numbers_of

_CACHED = 8 * 2**20  # bytes of the largest tensor of a batch: more falls out of the caches, less is mostly calls
_FEWEST, _MOST = 8, 256  # patches at a time
_SHARED_ROWS = 8  # of maps at a time: what makes them is many times wider


def default_batch_size(device: torch.device) -> int:
    """Pixels at a time that keep a device busy without filling it."""
    return _MOST if device.type == "cpu" else 4096


def ways(model: Classifier, device: torch.device) -> tuple[int, int]:
    """Say how a model in evaluation mode goes over many patches: patches at a time, and batches side by side.

    On a CPU, networks of the zoo take as many patches as leave the largest tensor in the caches, which calls on a few
    patches tell, and as many batches at once as torch has threads. A module of a user's own may not be made for
    threads that share it: it takes one large batch after the other, as does a GPU. The first number does not depend on
    the second, so that the labels do not, either.
    """
    if device.type != "cpu" or not isinstance(model, Classifier):
        return default_batch_size(device), 1
    fitting = int(_CACHED // max(1, largest_bytes(model)))
    return max(_FEWEST, min(_MOST, 1 << fitting.bit_length() - 1 if fitting else 0)), torch.get_num_threads()


def _turned(batch: Tensor, quarter_turns: int, mirrored: bool) -> Tensor:
    batch = torch.rot90(batch, quarter_turns, (-2, -1))
    return batch.flip(-1) if mirrored else batch


def probabilities(model: Classifier, inputs: tuple[Tensor, ...], *, tta: bool = False, maps: bool = False) -> Tensor:
    """Compute class probabilities of patches.

    Args:
        model: A classifier in evaluation mode.
        inputs: `(hsi (N, C, P, P),)` or `(hsi, aux)`, on the model's device.
        tta: Average over the eight flips and quarter turns of each patch.
        maps: The inputs are `shared_maps` of patches.

    Returns:
        (N, K) float32.
    """
    dtype = numbers_of(model).dtype
    inputs = tuple(x.to(dtype) for x in inputs)
    if maps:
        return model.forward_head(model.from_maps(*inputs)).float().softmax(1)
    views = [(turns, mirrored) for turns in range(4) for mirrored in (False, True)] if tta else [(0, False)]
    total = sum(model(*(_turned(x, *view) for x in inputs)).float().softmax(1) for view in views)
    return torch.as_tensor(total) / len(views)


def shares(model: Classifier) -> bool:
    """Whether a network is computed from `shared_maps`: not where another forward or a hook stands in the way."""
    methods: Any = ((model.forward, Classifier.forward), (model.forward_features, Classifier.forward_features))
    plain = all(getattr(bound, "__func__", None) is function for bound, function in methods)
    return plain and model.shared_rim is not None and not (model._forward_hooks or model._forward_pre_hooks)


def shared(model: Classifier, cubes: list[Patches], device: torch.device) -> list[Patches]:
    """Compute the `shared_maps` of a network in evaluation mode for all patches of cubes at once.

    Args:
        model: A network with a `shared_rim`.
        cubes: Its inputs.
        device: Where to compute.

    Returns:
        The maps of the patches, in the order of the pixels, on that device.
    """
    rim, dtype = int(model.shared_rim or 0), numbers_of(model).dtype
    height = cubes[0].padded.shape[1] - 2 * rim
    beside = int(model.shared_places > 1)  # rows that those of a strip look at
    images: list[Tensor] = []
    with torch.inference_mode():
        for top in range(0, height, _SHARED_ROWS):
            bottom = min(top + _SHARED_ROWS, height)
            first, last = max(0, top - beside), min(height, bottom + beside)
            parts = (cube.padded[None, :, first : last + 2 * rim].to(device, dtype) for cube in cubes)
            rows = slice(top - first, bottom - first)
            maps = [found[0, :, rows].permute(1, 2, 0) for found in model.scene_maps(*parts)]  # (rows, W', C)
            images = images or [x.new_empty(height, *x.shape[1:]) for x in maps]
            for image, part in zip(images, maps, strict=True):
                image[top:bottom] = part
    side = cubes[0].patch_size - 2 * rim
    return [Patches.within(image.permute(2, 0, 1), side, model.shared_places) for image in images]


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
        dataset: The patches; of a network of whole images, its scenes.
        items: (N,) indices into the dataset.
        batch_size: Patches at a time; default what `ways` says.
        device: Where to compute; default where the model is.
        tta: See `probabilities`.
        progress: Show a progress bar.

    Returns:
        (N, K) float32 on the CPU.
    """
    if model.patch_size is None:
        return predict_images(model, dataset, items, device=device, tta=tta, progress=progress)
    with (
        evaluating(model, device) as where,
        progress_bar(len(items), "classify", progress) as bar,
    ):
        step, threads = ways(model, where)
        step = batch_size or step

        def predict(part: NDArray[np.int64]) -> Tensor:
            hsi, aux, _ = dataset.batch(part)
            inputs = (hsi,) if aux is None else (hsi, aux)
            return probabilities(model, tuple(x.to(where) for x in inputs), tta=tta).cpu()

        with team(threads) as submit:
            waiting = [submit(predict, items[start : start + step]) for start in range(0, len(items), step)]
            parts = [torch.empty(0, model.num_classes)]
            for result in waiting:
                parts.append(result())
                bar.update(len(parts[-1]))
        return torch.cat(parts)
