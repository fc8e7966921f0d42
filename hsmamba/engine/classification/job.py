"""Classify every pixel of a scene, strip by strip, so that memory does not grow with the scene."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hsmamba.data import Compose, Patches, Scene, like, valid_mask
from hsmamba.data.image import Array, NanPolicy
from hsmamba.engine.classification.predict import default_batch_size, probabilities
from hsmamba.engine.running import evaluating, progress_bar
from hsmamba.errors import SceneError
from hsmamba.models import Classifier, as_classifier

Sources: TypeAlias = "Mapping[Literal['hsi', 'aux'], Array]"
Write: TypeAlias = "Callable[[int, NDArray[Any], NDArray[np.float32]], None]"

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
    nan: NanPolicy = "raise",
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
        TypeError: The model is no classifier.
    """
    job = prepare_classification(
        model, scene, transform, batch_size=batch_size, device=device, nan=nan, tta=tta, progress=progress
    )
    labels, confidence = job.arrays()
    grid = job.sources["hsi"]
    return Classification(like(grid, labels, name="label"), like(grid, confidence, name="confidence"))


@dataclass(frozen=True)
class ClassifyJob:
    """A checked classification, ready to run; `prepare_classification` makes it.

    Attributes:
        model: The network.
        sources: The images (H, W, C) that it looks at, by the name of the input.
        transform: What stands before it, or None.
        wanted: (H, W) bool, the pixels to classify.
        batch_size: See `classify`.
        device: See `classify`.
        tta: See `classify`.
        progress: See `classify`.
    """

    model: Classifier
    sources: Sources
    transform: Compose | None
    wanted: NDArray[np.bool_]
    batch_size: int | None
    device: torch.device | str | None
    tta: bool
    progress: bool

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the result."""
        return int(self.wanted.shape[0]), int(self.wanted.shape[1])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the labels."""
        return np.dtype(np.uint8 if self.model.num_classes < 256 else np.uint16)

    def run(self, write: Write) -> None:
        """Classify.

        Args:
            write: Gets the first row and finished rows (n, W) of the labels and of the confidence, from top to bottom;
                0 and NaN where a pixel is not wanted.
        """
        with (
            evaluating(self.model, self.device) as where,
            progress_bar(int(self.wanted.sum()), "classify", self.progress) as bar,
        ):
            step = self.batch_size or default_batch_size(where)
            for rows, patches in self._strips():
                wanted = self.wanted[rows]
                labels, confidence = np.zeros(wanted.shape, self.dtype), np.full(wanted.shape, np.nan, np.float32)
                pixels = np.flatnonzero(wanted)
                for start in range(0, pixels.size, step):
                    batch = pixels[start : start + step]
                    best, cls = probabilities(self.model, patches(batch, where), tta=self.tta).max(1)
                    labels.reshape(-1)[batch] = cls.cpu().numpy() + 1
                    confidence.reshape(-1)[batch] = best.cpu().numpy()
                    bar.update(batch.size)
                write(rows.start, labels, confidence)

    def arrays(self) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Classify and hold the whole result: labels (H, W) and confidence (H, W)."""
        labels, confidence = np.empty(self.shape, self.dtype), np.empty(self.shape, np.float32)

        def keep(top: int, *rows: NDArray[Any]) -> None:
            for whole, part in zip((labels, confidence), rows, strict=True):
                whole[top : top + len(part)] = part

        self.run(keep)
        return labels, confidence

    def _strips(self) -> Iterator[tuple[slice, Callable[[NDArray[np.int64], torch.device], tuple[Tensor, ...]]]]:
        """Cut the scene in strips of rows; give the rows and a function from flat indices within them to patches.

        A strip is read with half a patch of neighbouring rows, so its patches equal those of the whole scene.
        """
        (height, width), size = self.shape, self.model.patch_size
        row_bytes = 8 * width * sum(source.shape[2] for source in self.sources.values())
        step = max(size, _STRIP_BYTES // row_bytes)
        for top in range(0, height, step):
            bottom = min(top + step, height)
            # At the lower edge of the scene the strip reaches up far enough to hold a whole patch.
            first = max(0, min(top - size // 2, height - size))
            last = min(max(bottom + size // 2, size), height)
            cubes = []
            for name, source in self.sources.items():
                cube = np.asarray(source[first:last])
                cube = self.transform(cube, on=name) if self.transform is not None else cube.astype(np.float32)
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


def prepare_classification(
    model: nn.Module,
    scene: Scene | Any,
    transform: Compose | None = None,
    *,
    wanted: NDArray[np.bool_] | None = None,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
    nan: NanPolicy = "raise",
    tta: bool = False,
    progress: bool = True,
) -> ClassifyJob:
    """Check a classification without running it; arguments and errors are those of `classify`.

    Of the valid pixels those alone are classified that `wanted` (H, W), if given, has True.

    Returns:
        The classification; `run` gives its rows one after the other, for results that are to be written and not held.
    """
    classifier = as_classifier(model)
    scene = scene if isinstance(scene, Scene) else Scene(scene)
    transform = transform_of(classifier, transform)
    check_fits(classifier, scene, transform)
    sources = sources_of(classifier, scene)
    valid = np.ones(scene.shape, bool) if wanted is None else wanted.copy()
    for on, source in sources.items():
        fitted = transform is not None and transform.in_channels(on) is not None
        valid &= valid_mask(source, nan, bands=transform.input_bands(on) if transform is not None and fitted else None)
    return ClassifyJob(classifier, sources, transform, valid, batch_size, device, tta, progress)


def transform_of(model: Classifier, given: Compose | None) -> Compose | None:
    """Return the preprocessing to use: the caller's, else the one that came with the model."""
    return given if given is not None else cast("Compose | None", model.transform)


def sources_of(model: Classifier, scene: Scene) -> Sources:
    """The images of a scene that a model looks at, by the name of the input."""
    sources: dict[Literal["hsi", "aux"], Array] = {"hsi": scene.hsi}
    return sources | {"aux": scene.aux} if model.aux_chans and scene.aux is not None else sources


def check_fits(model: Classifier, scene: Scene, transform: Compose | None) -> None:
    """Check that a scene has what a model needs.

    Args:
        model: A classifier.
        scene: The scene.
        transform: The preprocessing that will be used.

    Raises:
        SceneError: Another number of bands or channels, no auxiliary source, or smaller than a patch.
    """
    size = model.patch_size
    if min(scene.shape) < size:
        raise SceneError(
            f"the scene is {scene.shape[0]} x {scene.shape[1]} pixels, smaller than the model's {size} x {size} "
            f"patches; create the model with a smaller patch_size or take a larger scene"
        )
    if model.aux_chans and scene.aux is None:
        raise SceneError(
            f"the model takes an auxiliary source of {model.aux_chans} channels, the scene has none; "
            f"open it with aux= (LiDAR or SAR on the same grid)"
        )
    for name, source in sources_of(model, scene).items():
        expected = transform.in_channels(name) if transform is not None else None
        if expected is None:
            expected = model.in_chans if name == "hsi" else model.aux_chans
        if source.shape[2] != expected:
            span = ""
            if name == "hsi" and scene.wavelengths is not None:
                span = f" ({scene.wavelengths.min():.0f} to {scene.wavelengths.max():.0f} nm)"
            raise SceneError(
                f"the scene's {name} has {source.shape[2]} bands{span}, the "
                f"{'model' if transform is None else 'transform of the model'} takes {expected}; select the bands it "
                f"was trained on (hsmamba.data.SelectBands), or fine-tune with a transform fitted on this scene"
            )
