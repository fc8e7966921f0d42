"""Patches of a cube as views, gathered into batches, and their augmentation."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from hsmamba.data.image import check_pixels
from hsmamba.errors import SceneError

Pixels: TypeAlias = "npt.ArrayLike | Tensor"

_PADDING = {"reflect": "reflect", "edge": "replicate", "zero": "constant"}


class Patches:
    """The patches around the pixels of one transformed cube.

    The cube is padded once; a patch is a view of it, and a batch is one gather. The pixel sits at index P // 2 of its
    patch in both directions.

    Attributes:
        shape: Rows and columns (H, W) of the cube.
        channels: Channels C.
        patch_size: Side P.
        padded: The image (C, H + P - 1, W + P - 1) in which they lie.
    """

    def __init__(self, cube: npt.NDArray[Any] | Tensor, patch_size: int, *, padding: str = "reflect") -> None:
        """Pad a cube.

        Args:
            cube: (H, W, C), numpy or torch, any real dtype; batches live on its device.
            patch_size: Side P of a patch in pixels, odd or even.
            padding: What lies beyond the border: "reflect" (mirrored, border not repeated), "edge" or "zero".

        Raises:
            SceneError: The cube has other dimensions, or the patch is larger than the scene.
            ValueError: An unknown padding, or a patch size below 1.
        """
        if padding not in _PADDING:
            raise ValueError(f"padding is {padding!r}; expected one of {sorted(_PADDING)}")
        if patch_size < 1:
            raise ValueError(f"patch_size is {patch_size}; expected 1 or more")
        if cube.ndim != 3:
            raise SceneError(f"the cube has shape {tuple(cube.shape)}; expected (H, W, C)")
        height, width, self.channels = (int(size) for size in cube.shape)
        if patch_size > min(height, width):
            raise SceneError(
                f"a patch of {patch_size} x {patch_size} pixels is larger than the scene of {height} x {width}; "
                "take a larger scene or a model with a smaller patch_size"
            )
        self.shape, self.patch_size = (height, width), int(patch_size)
        if isinstance(cube, np.ndarray):
            cube = torch.from_numpy(np.array(cube, dtype=np.float32))  # a copy: maps may be read-only or byte-swapped
        before = patch_size // 2
        after = patch_size - 1 - before
        channels_first = cube.to(torch.float32).permute(2, 0, 1)
        padded = F.pad(channels_first, (before, after, before, after), mode=_PADDING[padding]).contiguous()
        self._look_at(padded)

    @classmethod
    def within(cls, padded: Tensor, patch_size: int) -> Patches:
        """Take the patches that lie within an image (C, H + P - 1, W + P - 1), which has its padding already.

        Batches get the image's memory format: channels last where its channels are neighbours in memory.
        """
        self = cls.__new__(cls)
        self.channels, height, width = (int(size) for size in padded.shape)
        self.shape, self.patch_size = (height - patch_size + 1, width - patch_size + 1), int(patch_size)
        self._look_at(padded)
        return self

    def _look_at(self, padded: Tensor) -> None:
        self.padded = padded
        plane, row, step = padded.stride()
        size = (*self.shape, self.channels, self.patch_size, self.patch_size)
        self._view = padded.as_strided(size, (row, step, plane, row, step))  # (H, W, C, P, P), no copy
        last = self.channels > 1 and plane == 1
        self._format = torch.channels_last if last else torch.contiguous_format

    @property
    def image(self) -> Tensor:
        """The cube (C, H, W) without its padding; a view."""
        first, (height, width) = self.patch_size // 2, self.shape
        return self.padded[:, first : first + height, first : first + width]

    def __call__(self, pixels: Pixels) -> Tensor:
        """Gather the patches of pixels (N,), flat indices row * W + column: float32 (N, C, P, P), contiguous.

        Raises:
            SceneError: An index lies outside the scene.
        """
        flat = check_pixels(pixels.cpu() if isinstance(pixels, Tensor) else pixels, self.shape)
        if flat.size and (np.diff(flat) == 1).all():
            return self._run(int(flat[0]), int(flat.size))
        rows, columns = (torch.from_numpy(part).to(self._view.device) for part in np.divmod(flat, self.shape[1]))
        return self._view[rows, columns].contiguous(memory_format=self._format)

    def _run(self, first: int, count: int) -> Tensor:
        """Gather the patches of pixels that follow each other, row by row: a copy of slices, no index of each value."""
        batch = torch.empty(
            count, *self._view.shape[2:], dtype=self._view.dtype, device=self._view.device, memory_format=self._format
        )
        done = 0
        while done < count:
            row, column = divmod(first + done, self.shape[1])
            part = min(count - done, self.shape[1] - column)
            batch[done : done + part] = self._view[row, column : column + part]
            done += part
        return batch


def augment_d4(*batches: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, ...]:
    """Flip and rotate each sample at random: one of the eight symmetries of the square, each equally likely.

    Sample n gets the same symmetry in every batch, so that sources stay registered.

    Args:
        *batches: (N, C, P, P) each, with the same N; C and P may differ.
        generator: Source of randomness; torch's global one by default.

    Raises:
        ValueError: Patches that are not square, or batches of different length.
    """
    if any(batch.ndim != 4 or batch.shape[-1] != batch.shape[-2] for batch in batches) or len({*map(len, batches)}) > 1:
        shapes = [tuple(batch.shape) for batch in batches]
        raise ValueError(f"the batches have shapes {shapes}; expected (N, C, P, P) with one N for all")
    if not batches:
        return ()
    device = generator.device if generator is not None else torch.device("cpu")
    draws = torch.randint(2, (3, len(batches[0]), 1, 1, 1), generator=generator, device=device).bool()
    result = []
    for batch in batches:
        across, down, transposed = draws.to(batch.device)
        turned = torch.where(across, batch.flip(-1), batch)
        turned = torch.where(down, turned.flip(-2), turned)
        result.append(torch.where(transposed, turned.transpose(-1, -2), turned))
    return tuple(result)


def erase_rim(*batches: Tensor, probability: float, generator: torch.Generator | None = None) -> tuple[Tensor, ...]:
    """Set the outer rings of some patches to 0, the mean of standardised data: the centre has to do alone.

    Each sample is chosen with `probability`; of a chosen one, the pixels further than r from the centre become 0
    (Chebyshev distance, r drawn from 1..P // 2 of the first batch), in every batch. A network that has seen this leans
    less on what surrounds its training pixels, which is elsewhere in the scene something else.

    Batches and generator are those of `augment_d4`.
    """
    device = generator.device if generator is not None else torch.device("cpu")
    count, half = len(batches[0]), max(1, batches[0].shape[-1] // 2)
    radius = torch.randint(1, half + 1, (count, 1, 1, 1), generator=generator, device=device)
    chosen = torch.rand((count, 1, 1, 1), generator=generator, device=device) < probability
    result = []
    for batch in batches:
        size = batch.shape[-1]
        offset = (torch.arange(size, device=device) - size // 2).abs()
        distance = torch.maximum(offset[:, None], offset[None])  # (P, P)
        result.append(batch.masked_fill((chosen & (distance > radius)).to(batch.device), 0))
    return tuple(result)
