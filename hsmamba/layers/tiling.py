"""Tiles and shifted views: how kernels that differ from pixel to pixel run without k * k copies of the image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch
from torch import Tensor

# Elements of a tile's largest temporary: 1 MiB of float32 stays in the cache of a CPU core; a GPU wants more work.
_TILE_ELEMENTS = {"cpu": 1 << 18}
_TILE_ELEMENTS_ELSEWHERE = 1 << 25


def tiles(image: Tensor, copies: int) -> Iterator[tuple[slice, slice]]:
    """Cut (B, C, H, W) into blocks of whole images, or of rows of one image: slices of the batch and of the rows.

    `copies` is the number of elements that the work holds at once for each pixel.
    """
    batch, _, height, width = image.shape
    budget = _TILE_ELEMENTS.get(image.device.type, _TILE_ELEMENTS_ELSEWHERE)
    images = max(1, budget // (copies * height * width))
    rows = max(1, min(height, budget // (copies * width)))
    for n in range(0, batch, images):
        for row in range(0, height, rows):
            yield slice(n, min(n + images, batch)), slice(row, min(row + rows, height))


def run_tiles(image: Tensor, copies: int, work: Callable[[slice, slice], None]) -> None:
    """Call `work` for every one of `tiles`; on a CPU with as many threads as torch has.

    A thread for a tile beats torch's threads within each small operation: they would meet hundreds of times a layer,
    and wait there for the slowest whenever the machine has other work. No tile may write where another one does.
    """
    parts, threads = list(tiles(image, copies)), torch.get_num_threads()
    if image.device.type != "cpu" or threads == 1 or len(parts) < 2:
        for part in parts:
            work(*part)
        return
    # Both modes belong to a thread, and what inference mode has made can be written in inference mode alone.
    mode = partial(torch.inference_mode, torch.is_inference_mode_enabled())

    def run(part: tuple[slice, slice]) -> None:
        with mode(), torch.no_grad():
            work(*part)

    try:
        with ThreadPoolExecutor(min(threads, len(parts)), initializer=partial(torch.set_num_threads, 1)) as pool:
            list(pool.map(run, parts))
    finally:
        torch.set_num_threads(threads)  # the workers' number would be the one of threads to come


def halo(rows: slice, kernel: int) -> slice:
    """Rows of the padded image that a k x k kernel reads for these rows."""
    return slice(rows.start, rows.stop + kernel - 1)


def shifts(padded: Tensor, kernel: int) -> Tensor:
    """View (B, C, H + k - 1, W + k - 1) as the k x k shifts of an H x W image: (k, k, B, C, H, W), no copy."""
    *planes, height, width = padded.shape
    strides = padded.stride()
    size = (kernel, kernel, *planes, height - kernel + 1, width - kernel + 1)
    return padded.as_strided(size, (*strides[-2:], *strides), padded.storage_offset())


def add_products(padded: Tensor, values: Tensor, weights: Tensor) -> None:
    """Add values times weights to every shift of `padded` in place: the adjoint of reading the shifts.

    Values are (B, C, H, W), or (k, k, B, C, H, W), one for each shift; weights (k, k, B, C or 1, H, W).
    """
    kernel, height, width = weights.shape[0], weights.shape[-2], weights.shape[-1]
    for u in range(kernel):
        for r in range(kernel):
            value = values[u, r] if values.ndim == 6 else values
            padded[..., u : u + height, r : r + width].addcmul_(value, weights[u, r])
