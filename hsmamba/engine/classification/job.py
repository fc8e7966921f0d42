"""Classify every pixel of a scene, strip by strip, so that memory does not grow with the scene."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, NoReturn, TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from tqdm.auto import tqdm

from hsmamba.data import Compose, Patches, Scene, like, valid_mask
from hsmamba.data.image import NanPolicy
from hsmamba.data.validity import Validity
from hsmamba.engine.classification.chunked import classify_chunks, holds_chunks
from hsmamba.engine.classification.inputs import (
    Scale,
    Source,
    Sources,
    check_fits,
    check_units,
    match_of,
    scaled,
    sources_of,
    transform_of,
)
from hsmamba.engine.classification.predict import probabilities, shared, shares, ways
from hsmamba.engine.classification.regularise import Graph, check_regularise, diffused_rows
from hsmamba.engine.running import ahead, evaluating, progress_bar, team
from hsmamba.models import Classifier, as_classifier

Write: TypeAlias = "Callable[[int, NDArray[Any], NDArray[np.float32]], None]"
_Waiting: TypeAlias = "tuple[NDArray[np.int64], Callable[[], NDArray[np.float32]]]"  # a batch and its probabilities

_STRIP_BYTES = 32 * 2**20  # of which three may be there: one made, one computed, one used


class _Strip(NamedTuple):
    """Rows of a scene and the patches around their pixels.

    Attributes:
        rows: Which.
        patches: Of each input of the network; those of some neighbouring rows among them.
        maps: They are the network's `shared_maps` instead of its inputs.
        offset: Pixels above the first row in the numbering of the patches.
    """

    rows: slice
    patches: list[Patches]
    maps: bool
    offset: int


class Classification(NamedTuple):
    """Labels and confidence of every pixel: numpy arrays, or DataArrays where the scene is one.

    Attributes:
        labels: (H, W) uint8 (uint16 above 255 classes), classes 1..K; 0 where the pixel was masked, or the network's
            result is not finite.
        confidence: (H, W) float32, probability of the label (softmax, then what `tta` and `regularise` make of it);
            NaN where there is none.
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
    scale: Scale | None = None,
    tta: bool = False,
    regularise: Literal["off", "on"] = "off",
    progress: bool = True,
) -> Classification:
    """Classify every pixel of a scene.

    Where model and scene both know their wavelengths, the model's bands are found by them: in any order, among others,
    or resampled by their response.

    Of a DataArray that dask holds the result is one that dask holds, too: block by block with the patches' margin,
    equal to that of the image in memory, computed when it is asked for (`docs/cluster.md`).

    Args:
        model: A classifier; its mode and device are left as they were.
        scene: A `Scene`, or its hyperspectral image alone: (H, W, B) numpy array or xarray.DataArray.
        transform: Fitted preprocessing; default the one that came with the model, or none.
        batch_size: Pixels at a time; default as many as fit a CPU's cache (8 to 256), 4096 on a GPU. On a CPU, batches
            run side by side, as many as torch has threads.
        device: Where to compute; default where the model is.
        nan: "raise" refuses invalid pixels (`hsmamba.data.valid_mask` says which are), "mask" leaves them
            unclassified.
        scale: What the scene's numbers are to be multiplied by to be those that the model was trained on: one number
            for the hyperspectral image, or a pair (of it, of the auxiliary source). Default 1, where the numbers look
            like those of the training; 1, given, takes them as they are.
        tta: Average the probabilities over the eight flips and quarter turns of each patch (8 times the work).
        regularise: "on" diffuses the probabilities between pixels that lie side by side and look alike
            (`hsmamba.engine.classification.regularise`).
        progress: Show a progress bar.

    Returns:
        Labels and confidence; for a DataArray with its coordinates and CRS.

    Raises:
        SceneError: Bands, sources or size do not fit the model, its numbers lie far off those of the training, or
            pixels are invalid with `nan="raise"`.
        TypeError: The model is no classifier.
        ValueError: A `nan`, a `scale` or a `regularise` that is none.

    Warns:
        HsmambaWarning: The numbers lie off those of the training, but not so far that they must be of another unit; or
            bands were reordered, selected or resampled.
    """
    options: dict[str, Any] = {"batch_size": batch_size, "device": device, "scale": scale, "tta": tta}
    options |= {"nan": nan, "regularise": regularise, "progress": progress}
    if holds_chunks(scene):
        return Classification(*classify_chunks(prepare_classification, model, scene, transform, **options))
    job = prepare_classification(model, scene, transform, **options)
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
        bands: The bands of each source that count for the validity of a pixel; None for all.
        valid: (H, W) bool, the pixels that have data.
        wanted: (H, W) bool, those of them to classify.
        graph: What the probabilities are diffused on, over all valid pixels; None where they are not.
        batch_size: See `classify`.
        device: See `classify`.
        tta: See `classify`.
        progress: See `classify`.
    """

    model: Classifier
    sources: Sources
    transform: Compose | None
    bands: dict[Source, NDArray[np.int64] | None]
    valid: NDArray[np.bool_]
    wanted: NDArray[np.bool_]
    graph: Graph | None
    batch_size: int | None
    device: torch.device | str | None
    tta: bool
    progress: bool
    validity: dict[Source, Validity] = field(init=False)

    def __post_init__(self) -> None:
        """Read off what is invalid in each source."""
        object.__setattr__(self, "validity", {on: Validity.of(source) for on, source in self.sources.items()})

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

        def decide(top: int, scores: NDArray[np.float32]) -> None:
            best = scores.max(axis=2)
            labels = np.where(np.isfinite(best), scores.argmax(axis=2) + 1, 0)
            write(top, labels.astype(self.dtype), best.astype(np.float32))

        self.run_probabilities(decide)

    def run_probabilities(self, write: Callable[[int, NDArray[np.float32]], None]) -> None:
        """Classify, and give the probabilities of all classes.

        Args:
            write: Gets the first row and finished rows (n, W, K) of the probabilities, from top to bottom; NaN where a
                pixel is not wanted.
        """
        seen = self.wanted if self.graph is None else self.valid
        with (
            evaluating(self.model, self.device) as where,
            progress_bar(int(seen.sum()), "classify", self.progress) as bar,
        ):
            rows = self._scores(seen, where, bar)
            if self.graph is not None:
                rows = diffused_rows(self._with_features(rows, self.graph), self.shape[0])
            for top, scores in rows:
                write(top, np.where(self.wanted[top : top + len(scores), :, None], scores, np.float32(np.nan)))

    def _scores(
        self, seen: NDArray[np.bool_], where: torch.device, bar: tqdm[NoReturn]
    ) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Give first row and probabilities (n, W, K) of strips from top to bottom, NaN where not seen or not finite.

        With several threads, a strip is made while the one before is computed and the one before that is used.
        """
        step, threads = ways(self.model, where)
        step = self.batch_size or step
        strips = self._strips(seen, where)
        if threads > 1 and self.graph is None:
            strips = ahead(strips)

        def predict(patches: list[Patches], maps: bool, batch: NDArray[np.int64]) -> NDArray[np.float32]:
            inputs = tuple(x(batch).to(where) for x in patches)
            return probabilities(self.model, inputs, tta=self.tta, maps=maps).cpu().numpy()

        def finished(rows: slice, waiting: list[_Waiting]) -> tuple[int, NDArray[np.float32]]:
            scores = np.full((*seen[rows].shape, self.model.num_classes), np.nan, np.float32)
            for batch, result in waiting:
                scores.reshape(-1, self.model.num_classes)[batch] = result()
                bar.update(batch.size)
            return rows.start, scores

        held: deque[tuple[slice, list[_Waiting]]] = deque()
        with team(threads) as submit, closing(strips):
            for rows, patches, maps, offset in strips:
                pixels = np.flatnonzero(seen[rows])
                batches = [pixels[start : start + step] for start in range(0, pixels.size, step)]
                waiting = [(batch, submit(predict, patches, maps, batch + offset)) for batch in batches]
                held.append((rows, waiting))
                if threads < 2 or len(held) > 1:
                    yield finished(*held.popleft())
            if held:
                yield finished(*held.popleft())

    def _with_features(
        self, rows: Iterable[tuple[int, NDArray[np.float32]]], graph: Graph
    ) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Add to the probabilities of strips what the graph is made of."""
        for top, scores in rows:
            yield scores, graph.features(np.asarray(self.sources["hsi"][top : top + len(scores)]))

    def arrays(self) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Classify and hold the whole result: labels (H, W) and confidence (H, W)."""
        labels, confidence = np.empty(self.shape, self.dtype), np.empty(self.shape, np.float32)

        def keep(top: int, *rows: NDArray[Any]) -> None:
            for whole, part in zip((labels, confidence), rows, strict=True):
                whole[top : top + len(part)] = part

        self.run(keep)
        return labels, confidence

    def probabilities(self) -> NDArray[np.float32]:
        """Classify and hold the probabilities of all classes, (H, W, K); NaN where a pixel is not wanted."""
        whole = np.empty((*self.shape, self.model.num_classes), np.float32)

        def keep(top: int, scores: NDArray[np.float32]) -> None:
            whole[top : top + len(scores)] = scores

        self.run_probabilities(keep)
        return whole

    def _whole(self, on: Source) -> NDArray[np.float32]:
        """Transform a source at once, whose pixels depend on what lies around them."""
        source, transform = self.sources[on], cast("Compose", self.transform)
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(transform(source, on, valid=valid_mask(source, "mask", bands=self.bands[on])))

    def _strips(self, seen: NDArray[np.bool_], where: torch.device) -> Generator[_Strip]:
        """Cut the scene in strips of rows; see `_Strip`.

        A strip is read with half a patch of neighbouring rows, so its patches equal those of the whole scene.
        """
        (height, width), size = self.shape, self.model.patch_size
        whole = {on: self._whole(on) for on in self.sources if self.transform and self.transform.looks_around(on)}
        row_bytes = width * (8 * sum(source.shape[2] for source in self.sources.values()) + 4 * self.model.num_classes)
        step = max(size, _STRIP_BYTES // row_bytes)
        for top in range(0, height, step):
            bottom = min(top + step, height)
            # At the lower edge of the scene the strip reaches up far enough to hold a whole patch.
            first = max(0, min(top - size // 2, height - size))
            last = min(max(bottom + size // 2, size), height)
            cubes = []
            for name, source in self.sources.items():
                cube = np.asarray(source[first:last])
                good = self.validity[name](cube, slice(first, last), bands=self.bands[name])
                with np.errstate(over="ignore", invalid="ignore"):  # of what is invalid
                    if name in whole:
                        cube = whole[name][first:last]
                    else:
                        cube = self.transform(cube, on=name) if self.transform is not None else cube.astype(np.float32)
                cubes.append(Patches(np.where(good[..., None], cube, np.float32(0)), size))
            maps = self._shares(int(seen[top:bottom].sum()), (last - first) * width)
            patches = shared(self.model, cubes, where) if maps else cubes
            yield _Strip(slice(top, bottom), patches, maps, (top - first) * width)

    def _shares(self, pixels: int, area: int) -> bool:
        """Whether maps for all pixels of a strip are less work than those of the patches that are wanted."""
        if self.tta or not isinstance(self.model, Classifier) or not shares(self.model):
            return False
        return pixels * (self.model.patch_size - 2 * int(self.model.shared_rim or 0)) ** 2 > 2 * area


def prepare_classification(
    model: nn.Module,
    scene: Scene | Any,
    transform: Compose | None = None,
    *,
    wanted: NDArray[np.bool_] | None = None,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
    nan: NanPolicy = "raise",
    scale: Scale | None = None,
    tta: bool = False,
    regularise: Literal["off", "on"] = "off",
    progress: bool = True,
) -> ClassifyJob:
    """Check a classification without running it; arguments and errors are those of `classify`.

    Of the valid pixels those alone are classified that `wanted` (H, W), if given, has True.

    Returns:
        The classification; `run` gives its rows one after the other, for results that are to be written and not held.
    """
    check_regularise(regularise, ("off", "on"))
    classifier = as_classifier(model)
    if not classifier.num_classes:
        raise ValueError("the model has no classes; give it a head with model.reset_classifier(K) and train it")
    scene = scene if isinstance(scene, Scene) else Scene(scene)
    transform = transform_of(classifier, transform)
    match = match_of(classifier, scene, transform)
    if match is not None:
        transform = (transform or Compose()).taking(match, scene.num_bands)
    check_fits(classifier, scene, transform)
    transform = scaled(transform, scale)
    sources = sources_of(classifier, scene)
    bands = {on: _bands(transform, on) for on in sources}
    valid = np.ones(scene.shape, bool)
    for on, source in sources.items():
        valid &= valid_mask(source, nan, bands=bands[on])
    check_units(transform, sources, given=scale is not None)
    wanted = valid if wanted is None else valid & wanted
    graph = Graph.fit(sources["hsi"], valid, bands["hsi"]) if regularise == "on" else None
    return ClassifyJob(
        classifier, sources, transform, bands, valid, wanted, graph, batch_size, device, tta, progress
    )  # fmt: skip


def _bands(transform: Compose | None, on: Source) -> NDArray[np.int64] | None:
    known = transform is not None and transform.in_channels(on) is not None
    return transform.input_bands(on) if known and transform is not None else None
