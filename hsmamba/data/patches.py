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
        places: 1, or 9 where a pixel has numbers of its own for each place in a patch: see `within`.
        padded: The image (C, H + P - 1, W + P - 1) in which they lie; with 9 places it has 9 C channels.
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
        self.shape, self.patch_size, self.places = (height, width), int(patch_size), 1
        if isinstance(cube, np.ndarray):
            cube = torch.from_numpy(np.array(cube, dtype=np.float32))  # a copy: maps may be read-only or byte-swapped
        before = patch_size // 2
        after = patch_size - 1 - before
        channels_first = cube.to(torch.float32).permute(2, 0, 1)
        padded = F.pad(channels_first, (before, after, before, after), mode=_PADDING[padding]).contiguous()
        self._look_at(padded)

    @classmethod
    def within(cls, padded: Tensor, patch_size: int, places: int = 1) -> Patches:
        """Take the patches that lie within an image (C, H + P - 1, W + P - 1), which has its padding already.

        Batches get the image's memory format: channels last where its channels are neighbours in memory.

        Args:
            padded: The image; with 9 places (9 C, H + P - 1, W + P - 1), nine images of which the patches have their
                corners, edges and inside, row by row.
            patch_size: Side P, at least 3 with 9 places.
            places: 1 or 9.
        """
        self = cls.__new__(cls)
        self.places = places
        self.channels, height, width = int(padded.shape[0]) // places, int(padded.shape[1]), int(padded.shape[2])
        self.shape, self.patch_size = (height - patch_size + 1, width - patch_size + 1), int(patch_size)
        self._look_at(padded)
        return self

    def _look_at(self, padded: Tensor) -> None:
        self.padded = padded
        plane, row, step = padded.stride()
        size = (*self.shape, self.channels, self.patch_size, self.patch_size)
        images = torch.split(padded, self.channels)
        views = [  # (H, W, C, P, P), no copy
            image.as_strided(size, (row, step, plane, row, step), image.storage_offset()) for image in images
        ]
        thirds = [slice(0, 1), slice(1, self.patch_size - 1), slice(self.patch_size - 1, None)]
        parts = [(down, across) for down in thirds for across in thirds] if self.places > 1 else [(slice(None),) * 2]
        self._parts = [
            (view[..., down, across], down, across) for view, (down, across) in zip(views, parts, strict=True)
        ]
        self._like = views[0]
        last = self.channels > 1 and plane == 1
        self._format = torch.channels_last if last else torch.contiguous_format

    def to(self, device: torch.device) -> Patches:
        """Return the same patches of an image on a device, so that batches are gathered there."""
        if self.padded.device == device:
            return self
        goes_on = device.type == "cuda" and self.padded.device.type == "cpu"  # work, while a pinned image is copied
        pinned = self.padded.pin_memory() if goes_on else self.padded
        return Patches.within(pinned.to(device, non_blocking=True), self.patch_size, self.places)

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
        if self.padded.is_cpu and flat.size and (np.diff(flat) == 1).all():
            return self._run(int(flat[0]), int(flat.size))
        rows, columns = (torch.from_numpy(part).to(self._like.device) for part in np.divmod(flat, self.shape[1]))
        if self.places == 1:
            found: Tensor = self._like[rows, columns].contiguous(memory_format=self._format)
            return found
        batch = self._empty(int(flat.size))
        for view, down, across in self._parts:
            batch[..., down, across] = view[rows, columns]
        return batch

    def _empty(self, count: int) -> Tensor:
        size = count, *self._like.shape[2:]
        return torch.empty(size, dtype=self._like.dtype, device=self._like.device, memory_format=self._format)

    def _run(self, first: int, count: int) -> Tensor:
        """Gather the patches of pixels that follow each other, row by row: a copy of slices, no index of each value."""
        batch = self._empty(count)
        done = 0
        while done < count:
            row, column = divmod(first + done, self.shape[1])
            part = min(count - done, self.shape[1] - column)
            for view, down, across in self._parts:
                batch[done : done + part, :, down, across] = view[row, column : column + part]
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
