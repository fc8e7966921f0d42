"""Patches of labelled scenes as a torch dataset whose batches are assembled without a loop over pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from hsmamba.data.image import Array, NanPolicy
from hsmamba.data.patches import Patches
from hsmamba.data.scene import Scene
from hsmamba.data.transforms.compose import Compose
from hsmamba.data.transforms.step import Source
from hsmamba.data.validity import valid_mask
from hsmamba.errors import SceneError

Sample: TypeAlias = "tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Tensor]"


class PatchDataset(Dataset[Sample]):
    """Every pixel of one or several scenes as a patch with its label.

    Item i of a dataset of one scene is the pixel with the flat index i = row * W + column, so the indices of a `Split`
    are items; further scenes follow, each with H * W items. The transformed cubes are held in memory, the patches
    are views of them.

    Attributes:
        labels: int64 (N,) label of each item as in the scenes: 0 = unlabelled, 1..K.
        usable: bool (N,) whether an item has data; one without is unlabelled.
        groups: int64 (N,) number of the scene of each item, for splits by scene.
        class_names: Names of the classes, from the scenes.
        transform: The fitted transform of the scenes.
        patch_size: Side P.
    """

    def __init__(
        self,
        scenes: Scene | Sequence[Scene],
        transform: Compose,
        patch_size: int,
        *,
        padding: str = "reflect",
        nan: NanPolicy = "raise",
    ) -> None:
        """Transform and pad the scenes.

        Args:
            scenes: Labelled scenes with the same bands and classes.
            transform: Fitted transform.
            patch_size: Side P of the patches.
            padding: Beyond the border, as for `Patches`.
            nan: "raise" refuses pixels that are not finite; "mask" makes them unlabelled and 0 in the patches of
                their neighbours.

        Raises:
            SceneError: No labels, scenes that differ in auxiliary input or class names, pixels that are not finite,
                other bands than the transform's, a scene smaller than a patch.
        """
        scenes = (scenes,) if isinstance(scenes, Scene) else tuple(scenes)
        check_scenes(scenes)
        self.class_names = scenes[0].class_names
        self.transform, self.patch_size = transform, int(patch_size)
        labels, valid, self._hsi, self._aux = [], [], [], []
        for scene in scenes:
            hsi, usable = _transformed(scene.hsi, transform, "hsi", nan)
            self._hsi.append(Patches(hsi, patch_size, padding=padding))
            if scene.aux is not None:
                aux, usable_aux = _transformed(scene.aux, transform, "aux", nan)
                self._aux.append(Patches(aux, patch_size, padding=padding))
                usable &= usable_aux
            labels.append(np.where(usable, np.asarray(scene.labels), 0).astype(np.int64).ravel())
            valid.append(usable.ravel())
        self.labels: npt.NDArray[np.int64] = np.concatenate(labels)
        self.usable: npt.NDArray[np.bool_] = np.concatenate(valid)
        self._starts = np.cumsum([0, *map(len, labels)])
        self.groups: npt.NDArray[np.int64] = np.repeat(np.arange(len(labels)), [len(part) for part in labels])

    def __len__(self) -> int:
        """Return the number of items N: the pixels of all scenes, unlabelled ones included."""
        return len(self.labels)

    def batch(self, indices: npt.ArrayLike) -> tuple[Tensor, Tensor | None, Tensor]:
        """Assemble the patches of some items (n,).

        Returns:
            hsi float32 (n, C, P, P), aux likewise or None, and the targets int64 (n,): label - 1, so 0..K - 1, and
            -1 where an item is unlabelled.

        Raises:
            IndexError: There is no such item.
        """
        items = np.asarray(indices, dtype=np.int64).reshape(-1)
        if items.size and (items.min() < 0 or items.max() >= len(self)):
            raise IndexError(f"items run from {items.min()} to {items.max()}; the dataset has 0..{len(self) - 1}")
        hsi = self._gather(self._hsi, items)
        aux = self._gather(self._aux, items) if self._aux else None
        return hsi, aux, torch.from_numpy(self.labels[items] - 1)

    def image(self, number: int) -> tuple[Tensor, Tensor | None, npt.NDArray[np.bool_], int]:
        """Return a whole scene as the patches are cut from it.

        Args:
            number: Of the scene, as `groups` has it.

        Returns:
            hsi float32 (C, H, W), aux likewise or None, the pixels that have data (H, W) bool, and the number of the
            item that is its first pixel.

        Raises:
            IndexError: There is no such scene.
        """
        if not 0 <= number < len(self._hsi):
            raise IndexError(f"there is no scene {number}; the dataset has 0..{len(self._hsi) - 1}")
        first, last = (int(self._starts[i]) for i in (number, number + 1))
        patches = self._hsi[number]
        aux = self._aux[number].image if self._aux else None
        return patches.image, aux, self.usable[first:last].reshape(patches.shape), first

    def __getitem__(self, index: int) -> Sample:
        """Return one item: (hsi (C, P, P), target), or (hsi, aux, target) where the scenes have an auxiliary input."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[Sample]:
        """Return several items, gathered at once; torch's `DataLoader` calls this."""
        hsi, aux, targets = self.batch(indices)
        sources = (hsi, targets) if aux is None else (hsi, aux, targets)
        return list(zip(*sources, strict=True))

    def _gather(self, patches: list[Patches], items: npt.NDArray[np.int64]) -> Tensor:
        if len(patches) == 1:
            return patches[0](items)
        size = (items.size, patches[0].channels, self.patch_size, self.patch_size)
        result = torch.empty(size, dtype=torch.float32)
        groups = self.groups[items]
        for group in np.unique(groups):
            here = np.flatnonzero(groups == group)
            result[torch.from_numpy(here)] = patches[group](items[here] - self._starts[group])
        return result


def check_scenes(scenes: Sequence[Scene]) -> None:
    """Refuse scenes that are no data together: without labels, or of more than one kind.

    Raises:
        SceneError: The text names the scene.
    """
    if not scenes:
        raise SceneError("a dataset needs one scene at least, got none")
    first = scenes[0]
    for number, scene in enumerate(scenes):
        if scene.labels is None:
            raise SceneError(f"scene {number} ({scene.name!r}) has no labels; open it with labels=...")
        if (scene.aux is None) != (first.aux is None) or scene.class_names != first.class_names:
            raise SceneError(
                f"scene {number} ({scene.name!r}) differs from the first in its auxiliary input or its class names; "
                "give scenes of one kind"
            )


def _transformed(
    array: Array, transform: Compose, on: Source, nan: NanPolicy
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Return the transformed cube (H, W, C), 0 where a pixel is not finite, and the mask (H, W) of the finite ones."""
    transform.out_channels(int(array.shape[-1]), on)  # refuses other numbers of bands than it was fitted on
    bands = transform.input_bands(on) if transform.in_channels(on) is not None else None
    usable = valid_mask(array, nan, bands=bands)
    with np.errstate(over="ignore", invalid="ignore"):  # of what is invalid
        cube = np.asarray(transform(array, on, valid=usable))
    cube[~usable] = 0
    return cube, usable
