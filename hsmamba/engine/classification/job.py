"""Classify every pixel of a scene, strip by strip, so that memory does not grow with the scene."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm.auto import tqdm

from hsmamba.data import Compose, Patches, Scene, like, valid_mask
from hsmamba.engine.classification.predict import default_batch_size, evaluating, probabilities, sizes_of
from hsmamba.errors import SceneError

_STRIP_BYTES = 64 * 2**20


class Classification(NamedTuple):
    """Labels and confidence of every pixel: numpy arrays, or DataArrays where the scene is one.

    Attributes:
        labels: (H, W) uint8 (uint16 above 255 classes), classes 1..K; 0 where the pixel was masked.
        confidence: (H, W) float32, softmax probability of the label; NaN where the pixel was masked.
    """

    labels: Any
    confidence: Any


def classify(
    model: nn.Module,
    scene: Scene | Any,
    transform: Compose | None = None,
    *,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
    nan: Literal["raise", "mask"] = "raise",
    tta: bool = False,
    progress: bool = True,
) -> Classification:
    """Classify every pixel of a scene.

    Args:
        model: A classifier; its mode and device are left as they were.
        scene: A `Scene`, or its hyperspectral image alone: (H, W, B) numpy array or xarray.DataArray.
        transform: Fitted preprocessing; default the one that came with the model, or none.
        batch_size: Pixels at a time; default 256 on a CPU, 4096 on a GPU.
        device: Where to compute; default where the model is.
        nan: "raise" refuses NaN and infinite pixels, "mask" leaves such pixels unclassified.
        tta: Average the probabilities over the eight flips and quarter turns of each patch (8 times the work).
        progress: Show a progress bar.

    Returns:
        Labels and confidence; for a DataArray with its coordinates and CRS.

    Raises:
        SceneError: Bands, sources or size do not fit the model, or pixels are not finite with `nan="raise"`.
    """
    scene = scene if isinstance(scene, Scene) else Scene(scene)
    valid = usable_pixels(model, scene, transform, nan)
    labels, confidence = predict_pixels(
        model, scene, transform, valid, batch_size=batch_size, device=device, tta=tta, progress=progress
    )
    return Classification(like(scene.hsi, labels, name="label"), like(scene.hsi, confidence, name="confidence"))


def usable_pixels(
    model: nn.Module, scene: Scene, transform: Compose | None, nan: Literal["raise", "mask"]
) -> NDArray[np.bool_]:
    """Find the pixels that are finite in every band that the transform (default the model's) reads, (H, W)."""
    transform = transform if transform is not None else getattr(model, "transform", None)
    check_fits(model, scene, transform)
    valid = np.ones(scene.shape, bool)
    for on, source in _sources(model, scene).items():
        fitted = transform is not None and transform.in_channels(on) is not None
        valid &= valid_mask(source, nan, bands=transform.input_bands(on) if transform is not None and fitted else None)
    return valid


def _sources(model: nn.Module, scene: Scene) -> dict[Literal["hsi", "aux"], Any]:
    """The images of a scene that a model looks at, by the name of the input."""
    sources: dict[Literal["hsi", "aux"], Any] = {"hsi": scene.hsi}
    return sources | {"aux": scene.aux} if sizes_of(model).aux_chans else sources


def predict_pixels(
    model: nn.Module,
    scene: Scene,
    transform: Compose | None,
    wanted: NDArray[np.bool_],
    *,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
    tta: bool = False,
    progress: bool = True,
) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Classify the wanted pixels of a scene; arguments as for `classify`.

    Args:
        model: See `classify`.
        scene: The scene.
        transform: See `classify`.
        wanted: (H, W) bool.
        batch_size: See `classify`.
        device: See `classify`.
        tta: See `classify`.
        progress: See `classify`.

    Returns:
        Labels (H, W), 0 where not wanted, and confidence (H, W), NaN where not wanted.

    Raises:
        SceneError: Bands, sources or size do not fit the model.
    """
    transform = transform if transform is not None else getattr(model, "transform", None)
    check_fits(model, scene, transform)
    num_classes = sizes_of(model).num_classes
    labels = np.zeros(scene.shape, np.uint8 if num_classes < 256 else np.uint16)
    confidence = np.full(scene.shape, np.nan, np.float32)
    with (
        evaluating(model, device) as where,
        tqdm(total=int(wanted.sum()), unit="px", desc="classify", disable=not progress, leave=False) as bar,
    ):
        step = batch_size or default_batch_size(where)
        for rows, patches in _strips(model, scene, transform):
            pixels = np.flatnonzero(wanted[rows])
            for batch in np.split(pixels, range(step, pixels.size, step)):
                best, cls = probabilities(model, patches(batch, where), tta=tta).max(1)
                labels[rows].reshape(-1)[batch] = cls.cpu().numpy() + 1
                confidence[rows].reshape(-1)[batch] = best.cpu().numpy()
                bar.update(batch.size)
    return labels, confidence


def _strips(
    model: nn.Module, scene: Scene, transform: Compose | None
) -> Iterator[tuple[slice, Callable[[NDArray[np.int64], torch.device], tuple[Tensor, ...]]]]:
    """Cut a scene in strips of rows; give the rows and a function from flat indices within them to patches.

    A strip is read with half a patch of neighbouring rows, so its patches equal those of the whole scene.
    """
    height, width = scene.shape
    size = sizes_of(model).patch_size
    sources = _sources(model, scene)
    row_bytes = 8 * width * sum(source.shape[2] for source in sources.values())
    step = max(size, _STRIP_BYTES // row_bytes)
    for top in range(0, height, step):
        bottom = min(top + step, height)
        # At the lower edge of the scene the strip reaches up far enough to hold a whole patch.
        first = max(0, min(top - size // 2, height - size))
        last = min(max(bottom + size // 2, size), height)
        cubes = []
        for name, source in sources.items():
            cube = np.asarray(source[first:last])
            cube = transform(cube, on=name) if transform is not None else cube.astype(np.float32)
            cubes.append(Patches(np.nan_to_num(cube, copy=False, nan=0.0, posinf=0.0, neginf=0.0), size))
        offset = (top - first) * width

        def patches(
            pixels: NDArray[np.int64],
            device: torch.device,
            cubes: list[Patches] = cubes,
            offset: int = offset,
        ) -> tuple[Tensor, ...]:
            return tuple(cube(pixels + offset).to(device) for cube in cubes)

        yield slice(top, bottom), patches


def check_fits(model: nn.Module, scene: Scene, transform: Compose | None) -> None:
    """Check that a scene has what a model needs.

    Args:
        model: A classifier.
        scene: The scene.
        transform: The preprocessing that will be used.

    Raises:
        SceneError: Another number of bands or channels, no auxiliary source, or smaller than a patch.
    """
    sizes = sizes_of(model)
    size = sizes.patch_size
    if min(scene.shape) < size:
        raise SceneError(
            f"the scene is {scene.shape[0]} x {scene.shape[1]} pixels, smaller than the model's {size} x {size} "
            f"patches; create the model with a smaller patch_size or take a larger scene"
        )
    if sizes.aux_chans and scene.aux is None:
        raise SceneError(
            f"the model takes an auxiliary source of {sizes.aux_chans} channels, the scene has none; "
            f"open it with aux= (LiDAR or SAR on the same grid)"
        )
    for name, source in _sources(model, scene).items():
        expected = transform.in_channels(name) if transform is not None else None
        if expected is None:
            expected = sizes.in_chans if name == "hsi" else sizes.aux_chans
        if source.shape[2] != expected:
            span = ""
            if name == "hsi" and scene.wavelengths is not None:
                span = f" ({scene.wavelengths.min():.0f} to {scene.wavelengths.max():.0f} nm)"
            raise SceneError(
                f"the scene's {name} has {source.shape[2]} bands{span}, the "
                f"{'model' if transform is None else 'transform of the model'} takes {expected}; select the bands it "
                f"was trained on (hsmamba.data.SelectBands), or fine-tune with a transform fitted on this scene"
            )
