"""Means and covariances of pixels in double precision, block by block: no copy of all of them is made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

import numpy as np

from hsmamba.data.image import iter_strips
from hsmamba.data.transforms.step import Floats, Spectra

Blocks: TypeAlias = "Callable[[], Iterable[Floats]]"  # gives the same blocks (n, B) each time, which may be written to

_BLOCK_BYTES = 2**19  # of pixels as they are stored; in double precision some times as much


def in_blocks(pixels: Spectra) -> Iterator[Floats]:
    """Give pixels (N, ...) in float64, some at a time."""
    for _, block in iter_strips(pixels, _BLOCK_BYTES):
        yield block.astype(np.float64)


def mean_of(blocks: Blocks) -> Floats:
    """Return the mean (B,) of what comes in blocks."""
    count, total = 0, None
    for block in blocks():
        part = block.sum(axis=0)
        count, total = count + len(block), part if total is None else total + part
    return np.asarray(total) / count


def deviation(blocks: Blocks, mean: Floats) -> Floats:
    """Return the standard deviation (B,), of the population, of what comes in blocks and has this mean."""
    count, total = 0, np.zeros_like(mean)
    for block in blocks():
        block -= mean
        count, total = count + len(block), total + np.square(block, out=block).sum(axis=0)
    return np.sqrt(total / count)


def covariance(blocks: Blocks, mean: Floats) -> Floats:
    """Return the covariance (B, B), of a sample, of what comes in blocks and has this mean."""
    count, total = 0, np.zeros((len(mean), len(mean)))
    for block in blocks():
        block -= mean
        count, total = count + len(block), total + block.T @ block
    return total / (count - 1)
