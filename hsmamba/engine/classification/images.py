"""Networks of whole images: the windows of a large scene, what stands for pixels without data, and how they run.

A scene of no more pixels than a square of the network's `window` is one image. A larger one goes through the network in
parts, each with an eighth of the window around it: far away ground then has no say in a label, as it has in the whole
image. Only the sizes of the scene and the window decide which, not the machine.
"""

from __future__ import annotations

import math
import warnings
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hsmamba.data import PatchDataset
from hsmamba.data.memory import available_bytes
from hsmamba.data.windows import Place
from hsmamba.engine.running import evaluating, largest_bytes, progress_bar
from hsmamba.errors import HsmambaWarning, SceneError
from hsmamba.models import Classifier, example_inputs, numbers_of

_FEW = 2**14  # pixels that any memory holds
_PEAK = 4  # times the largest tensor that a network makes: what it holds at once


def margin_of(window: int) -> int:
    """Pixels around a part of a large scene that go through the network with it."""
    return window // 8


def fits_whole(shape: tuple[int, int], window: int) -> bool:
    """Whether an image goes through a network at once."""
    return shape[0] * shape[1] <= window**2


def cut_image(shape: tuple[int, int], window: int) -> list[list[Place]]:
    """Cut an image into rows of parts: itself, or parts that are at most a window with their margins.

    Args:
        shape: Rows and columns.
        window: See `Classifier`.
    """
    if fits_whole(shape, window):
        return [[(slice(0, shape[0]), slice(0, shape[1]))]]
    core = window - 2 * margin_of(window)
    rows, columns = (_parts(length, window, core) for length in shape)
    return [[(row, column) for column in columns] for row in rows]


def _parts(length: int, window: int, core: int) -> list[slice]:
    """Cut 0..length into parts of about one size."""
    number = 1 if length <= window else math.ceil(length / core)
    ends = np.linspace(0, length, number + 1).round().astype(int).tolist()
    return [slice(start, stop) for start, stop in pairwise(ends)]


def read_around(part: slice, window: int, length: int) -> slice:
    """Add the margin to a part of an image, where the image goes on."""
    margin = margin_of(window)
    return slice(max(0, part.start - margin), min(length, part.stop + margin))


def tell_of_windows(shape: tuple[int, int], window: int) -> None:
    """Warn where an image does not go through a network at once."""
    if not fits_whole(shape, window):
        warnings.warn(
            f"the scene has {shape[0]} x {shape[1]} pixels, more than a window of {window} x {window}: the network "
            f"sees it in windows that overlap by {2 * margin_of(window)} pixels, and labels depend on their size",
            HsmambaWarning,
            stacklevel=4,
        )


def check_memory(model: Classifier, shape: tuple[int, int], device: torch.device) -> None:
    """Raise SceneError where an image, or a window of it, does not fit into memory while the network looks at it.

    Args:
        model: A network of whole images, in evaluation mode.
        shape: Rows and columns of the scene.
        device: Where it runs; on others than the CPU torch tells.
    """
    there = available_bytes() if device.type == "cpu" else None
    pixels = min(shape[0] * shape[1], model.window**2)
    if there is None or pixels < _FEW:
        return
    pixel = _PEAK * largest_bytes(model) / example_inputs(model, 1)[0][0, 0].numel()
    needed = pixel * pixels
    if needed > there:
        side = max(8, math.isqrt(int(there / pixel)))
        raise SceneError(
            f"the network looks at {pixels} pixels at once, about {needed / 1e9:.2g} GB, and {there / 1e9:.2g} GB are "
            f"free; set model.window = {side} or less, so that it sees the scene in windows"
        )


def filled(image: Tensor, valid: Tensor) -> Tensor:
    """Put the mean of the valid pixels where there are no data.

    Args:
        image: (C, H, W).
        valid: (H, W) bool.

    Returns:
        The image, or a copy; zeros where no pixel is valid.
    """
    if bool(valid.all()):
        return image
    good = image[:, valid]
    mean = good.mean(1) if good.shape[1] else image.new_zeros(len(image))
    return torch.where(valid, image, mean[:, None, None])


def pixel_probabilities(
    model: Classifier, images: tuple[Tensor, ...], valid: Tensor, where: torch.device, *, tta: bool = False
) -> Tensor:
    """Compute the class probabilities of every pixel of an image.

    Args:
        model: A network of whole images in evaluation mode.
        images: `(hsi (C, H, W),)` or `(hsi, aux)`.
        valid: (H, W) bool, the pixels that have data.
        where: The model's device.
        tta: Average over the eight flips and quarter turns of the image.

    Returns:
        (H, W, K) float32 on the CPU; NaN where there are no data, or numbers that are not finite, which a scan would
        carry to all pixels behind.
    """
    for x in images:
        valid = valid & x.isfinite().all(0).to(valid.device)
    inputs = [filled(x, valid).to(where, numbers_of(model).dtype)[None] for x in images]
    total: Tensor | None = None
    for turns in range(4 if tta else 1):
        for mirrored in (False, True) if tta else (False,):
            turned = [torch.rot90(x, turns, (-2, -1)) for x in inputs]
            logits = model(*(x.flip(-1) if mirrored else x for x in turned))
            found = torch.as_tensor(logits).float().softmax(1)
            found = torch.rot90(found.flip(-1) if mirrored else found, -turns, (-2, -1))
            total = found if total is None else total + found
    result = (torch.as_tensor(total)[0] / (8 if tta else 1)).permute(1, 2, 0).cpu()
    result[~valid] = torch.nan
    return result


def predict_images(
    model: Classifier,
    dataset: PatchDataset,
    items: NDArray[np.int64],
    *,
    device: torch.device | str | None = None,
    tta: bool = False,
    progress: bool = False,
) -> Tensor:
    """Compute class probabilities of items of a dataset, scene by scene; see `predict.predict_items`."""
    result = torch.empty(len(items), model.num_classes)
    groups = dataset.groups[items]
    with evaluating(model, device) as where, progress_bar(len(items), "classify", progress) as bar:
        for group in np.unique(groups):
            here = np.flatnonzero(groups == group)
            hsi, aux, valid, first = dataset.image(int(group))
            check_memory(model, valid.shape, where)
            images = (hsi,) if aux is None or not model.aux_chans else (hsi, aux)
            wanted = np.zeros(valid.shape, bool)
            wanted.ravel()[items[here] - first] = True
            scores = torch.full((*valid.shape, model.num_classes), torch.nan)
            for rows, columns in (place for row in cut_image(valid.shape, model.window) for place in row):
                if wanted[rows, columns].any():
                    height, width = valid.shape
                    top, left = read_around(rows, model.window, height), read_around(columns, model.window, width)
                    parts, good = tuple(x[:, top, left] for x in images), torch.from_numpy(valid[top, left])
                    found = pixel_probabilities(model, parts, good, where, tta=tta)
                    inner = slice(rows.start - top.start, rows.stop - top.start)
                    scores[rows, columns] = found[inner, columns.start - left.start : columns.stop - left.start]
            result[torch.from_numpy(here)] = scores.flatten(0, 1)[torch.from_numpy(items[here] - first)]
            bar.update(here.size)
    return result
