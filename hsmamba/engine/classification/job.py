"""Classify every pixel of a scene, window by window, so that memory does not grow with the scene."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, NoReturn, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm.auto import tqdm

from hsmamba.data import Compose, Patches, Scene, like
from hsmamba.data.image import NanPolicy
from hsmamba.data.validity import check_policy, refuse_invalid
from hsmamba.data.windows import Within
from hsmamba.engine.classification.chunked import classify_chunks, holds_chunks
from hsmamba.engine.classification.images import check_memory, pixel_probabilities, tell_of_windows
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
from hsmamba.engine.classification.regularise import STEPS, Graph, check_regularise, diffused_rows
from hsmamba.engine.classification.windows import Window, Windows
from hsmamba.engine.running import ahead, evaluating, progress_bar, team
from hsmamba.models import Classifier, as_classifier

Write: TypeAlias = "Callable[[int, NDArray[Any], NDArray[np.float32]], None]"
Make: TypeAlias = "Callable[[NDArray[np.float32]], tuple[NDArray[Any], ...]]"
_Waiting: TypeAlias = "tuple[NDArray[np.int64], Callable[[], Tensor]]"  # a batch and its probabilities

_COMPARED = 1024  # pixels that are classified in both precisions
_logger = logging.getLogger(__name__)


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
    half: float = 0.0,
    progress: bool = True,
) -> Classification:
    """Classify every pixel of a scene.

    Where model and scene both know their wavelengths, the model's bands are found by them: in any order, among others,
    or resampled by their response.

    A network of whole images (`patch_size` None) sees the scene at once, or in windows that overlap where it has more
    pixels than a square of the network's `window`. What has no data is the mean of the rest to it.

    Of a DataArray that dask holds the result is one that dask holds, too: block by block with the patches' margin,
    equal to that of the image in memory, computed when it is asked for (`docs/cluster.md`).

    Args:
        model: A classifier; its mode and device are left as they were.
        scene: A `Scene`, or its hyperspectral image alone: (H, W, B) numpy array or xarray.DataArray.
        transform: Fitted preprocessing; default the one that came with the model, or none.
        batch_size: Pixels at a time; default as many as fit a CPU's cache (8 to 256), 4096 on a GPU. On a CPU, batches
            run side by side, as many as torch has threads. Of no use to a network of whole images.
        device: Where to compute; default where the model is.
        nan: "raise" refuses invalid pixels (`hsmamba.data.valid_mask` says which are), "mask" leaves them
            unclassified.
        scale: What the scene's numbers are to be multiplied by to be those that the model was trained on: one number
            for the hyperspectral image, or a pair (of it, of the auxiliary source). Default 1, where the numbers look
            like those of the training; 1, given, takes them as they are.
        tta: Average the probabilities over the eight flips and quarter turns of each patch, or of the image (8 times
            the work).
        regularise: "on" diffuses the probabilities between pixels that lie side by side and look alike
            (`hsmamba.engine.classification.regularise`).
        half: Share of labels that computing in half precision may change, 0 to below 1; 0.001 is a pixel in a thousand.
            Up to 1024 pixels in the middle of the scene are classified both ways, and half precision is taken where no
            larger share of them differs; the log says so. It is for GPUs: on a CPU it is slower. 0 takes single
            precision. Not for networks of whole images, nor for images that dask holds.
        progress: Show a progress bar.

    Returns:
        Labels and confidence; for a DataArray with its coordinates and CRS.

    Raises:
        SceneError: Bands, sources or size do not fit the model, its numbers lie far off those of the training, pixels
            are invalid with `nan="raise"`, or the image does not fit into memory.
        TypeError: The model is no classifier.
        ValueError: A `nan`, a `scale`, a `regularise` or a `half` that is none.

    Warns:
        HsmambaWarning: The numbers lie off those of the training, but not so far that they must be of another unit; or
            bands were reordered, selected or resampled; or a network of whole images sees the scene in windows.
    """
    options: dict[str, Any] = {"batch_size": batch_size, "device": device, "scale": scale, "tta": tta}
    options |= {"nan": nan, "regularise": regularise, "progress": progress}
    if holds_chunks(scene):
        if half:
            raise ValueError(f"half is {half}, but blocks that dask holds are computed one by one; leave half out")
        return Classification(*classify_chunks(prepare_classification, model, scene, transform, **options))
    job = prepare_classification(model, scene, transform, half=half, **options)
    labels, confidence = job.arrays()
    grid = job.sources["hsi"]
    return Classification(like(grid, labels, name="label"), like(grid, confidence, name="confidence"))


@dataclass(frozen=True)
class ClassifyJob:
    """A checked classification, ready to run; `prepare_classification` makes it.

    Attributes:
        model: The network.
        windows: How the images (H, W, C) that it looks at are read.
        wanted: Tells which pixels of a window to classify, of the valid ones; None for all.
        graph: What the probabilities are diffused on, over all valid pixels; None where they are not.
        batch_size: See `classify`.
        device: See `classify`.
        tta: See `classify`.
        half: See `classify`.
        progress: See `classify`.
    """

    model: Classifier
    windows: Windows
    wanted: Within | None
    graph: Graph | None
    batch_size: int | None
    device: torch.device | str | None
    tta: bool
    half: float
    progress: bool

    @property
    def sources(self) -> Sources:
        """The images (H, W, C) by the name of the input."""
        return self.windows.sources

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the result."""
        return self.windows.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the labels."""
        return np.dtype(np.uint8 if self.model.num_classes < 256 else np.uint16)

    def run(self, write: Write, *, start: int = 0) -> None:
        """Classify.

        Args:
            write: Gets the first row and finished rows (n, W) of the labels and of the confidence, from top to bottom;
                0 and NaN where a pixel is not wanted.
            start: Row to go on with, as many as an earlier run of this very job has written; the rows that follow are
                those of a whole run bit for bit.
        """
        self._run(start, self._named, write)

    def run_probabilities(self, write: Callable[[int, NDArray[np.float32]], None]) -> None:
        """Classify, and give the probabilities of all classes.

        Args:
            write: Gets the first row and finished rows (n, W, K) of the probabilities, from top to bottom; NaN where a
                pixel is not wanted.
        """
        self._run(0, lambda scores: (scores,), write)

    def _run(self, start: int, make: Make, write: Callable[..., None]) -> None:
        """Give the first row and what `make` makes of the probabilities of finished rows, from the row `start` on."""
        height, width = self.shape
        with (
            evaluating(self.model, self.device) as where,
            progress_bar(height * width, "classify", self.progress) as bar,
            self._precision(where),
        ):
            bar.update(start * width)
            if self.graph is None:
                for top, rows in self._bands(start, self.wanted, make, where, bar):
                    write(top, *rows)
                return
            scores = self._bands(max(0, start - STEPS), None, lambda scores: (scores,), where, bar)
            for top, diffused in diffused_rows(self._with_features(scores, self.graph), height, start):
                if self.wanted is not None:
                    diffused[~self.wanted(slice(top, top + len(diffused)), slice(0, width))] = np.nan
                write(top, *make(diffused))

    def _precision(self, where: torch.device) -> AbstractContextManager[Any]:
        """Compute in half precision where that changes few enough labels, which pixels in the scene's middle tell."""
        if not self.half or (part := self._middle()) is None:
            return nullcontext()
        pixels = np.flatnonzero(part.seen)
        chosen = part.within_patches(pixels[np.linspace(0, pixels.size - 1, min(_COMPARED, pixels.size)).astype(int)])
        inputs = tuple(x.to(where)(chosen) for x in part.patches)
        exact = probabilities(self.model, inputs, tta=self.tta).argmax(1)
        context = torch.autocast(where.type, torch.float16 if where.type == "cuda" else torch.bfloat16)
        with context:
            quick = probabilities(self.model, inputs, tta=self.tta).argmax(1)
        changed = float((exact != quick).float().mean())
        _logger.info(
            "half precision changes %.3g %% of %d labels: %s", 100 * changed, chosen.size,
            "taken" if changed <= self.half else "not taken",
        )  # fmt: skip
        return context if changed <= self.half else nullcontext()

    def _middle(self) -> Window | None:
        """Read the window of the scene's middle, or the next one that has pixels to classify; None for none."""
        tops = [row[0][0].start for row in self.windows.cut()]
        for top in sorted(tops, key=lambda top: abs(top - self.shape[0] // 2)):
            found = next((part for part in self.windows.read(top, self.wanted) if part.seen.any()), None)
            if found is not None:
                return found
        return None

    def _named(self, scores: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Name the class of the highest probability (h, w, K), and that probability; 0 and NaN where it is not one."""
        best = scores.max(axis=2)
        labels = np.where(np.isfinite(best), scores.argmax(axis=2) + 1, 0)
        return labels.astype(self.dtype), best

    def _bands(
        self, first: int, wanted: Within | None, make: Make, where: torch.device, bar: tqdm[NoReturn]
    ) -> Iterator[tuple[int, tuple[NDArray[Any], ...]]]:
        """Predict the windows from the row of them on that has the row `first`.

        Yields:
            The first row of each row of windows, and what `make` made of its probabilities, (n, W, ...) each.
        """
        width, held = self.shape[1], []
        for part, scores in self._predicted(first, wanted, where, bar):
            held.append(make(scores))
            if part.columns.stop == width:
                yield part.rows.start, tuple(np.concatenate(each, axis=1) for each in zip(*held, strict=True))
                held = []

    def _predicted(
        self, first: int, wanted: Within | None, where: torch.device, bar: tqdm[NoReturn]
    ) -> Iterator[tuple[Window, NDArray[np.float32]]]:
        """Give windows and their probabilities (h, w, K), NaN where not seen or not finite.

        With several threads, a window is read while the one before is computed and the one before that is used.
        """
        if self.model.patch_size is None:
            yield from self._predicted_images(first, wanted, where, bar)
            return
        step, threads = ways(self.model, where)
        step = self.batch_size or step
        several = threads > 1 or where.type != "cpu"

        def prepared() -> Generator[tuple[Window, list[Patches], bool]]:
            for part in self.windows.read(first, wanted):
                maps = where.type == "cpu" and self._shares(part)  # a GPU waits longer for the parts of maps
                made = shared(self.model, part.patches, where) if maps else [x.to(where) for x in part.patches]
                yield part, made, maps

        def predict(patches: list[Patches], maps: bool, batch: NDArray[np.int64]) -> Tensor:
            return probabilities(self.model, tuple(x(batch) for x in patches), tta=self.tta, maps=maps)

        def finished(part: Window, waiting: list[_Waiting]) -> tuple[Window, NDArray[np.float32]]:
            scores = np.full((*part.seen.shape, self.model.num_classes), np.nan, np.float32)
            found = []  # copied at once: on a GPU a copy waits for all that was asked for before
            for batch, result in waiting:
                found.append(result())
                bar.update(batch.size)
            if found:
                scores[part.seen] = torch.cat(found).cpu().numpy()
            bar.update(part.seen.size - int(part.seen.sum()))
            return part, scores

        parts = ahead(prepared()) if several and self.graph is None else prepared()
        held: deque[tuple[Window, list[_Waiting]]] = deque()
        with team(threads) as submit, closing(parts):
            for part, patches, maps in parts:
                pixels = np.flatnonzero(part.seen)
                batches = [pixels[start : start + step] for start in range(0, pixels.size, step)]
                waiting = [(x, submit(predict, patches, maps, part.within_patches(x))) for x in batches]
                held.append((part, waiting))
                if threads < 2 or len(held) > 1:
                    yield finished(*held.popleft())
            if held:
                yield finished(*held.popleft())

    def _predicted_images(
        self, first: int, wanted: Within | None, where: torch.device, bar: tqdm[NoReturn]
    ) -> Iterator[tuple[Window, NDArray[np.float32]]]:
        """See `_predicted`, of a network of whole images."""
        check_memory(self.model, self.shape, where)
        for part in self.windows.read(first, wanted):
            scores = np.full((*part.seen.shape, self.model.num_classes), np.nan, np.float32)
            if part.patches:
                images, valid = tuple(x.image for x in part.patches), torch.from_numpy(part.valid)
                found = pixel_probabilities(self.model, images, valid, where, tta=self.tta).numpy()
                scores[part.seen] = found[part.core][part.seen]
            bar.update(part.seen.size)
            yield part, scores

    def _shares(self, part: Window) -> bool:
        """Whether maps for all pixels that were read are less work than those of the patches that are wanted."""
        if self.tta or not part.patches or not isinstance(self.model, Classifier) or not shares(self.model):
            return False
        side = self.windows.size - 2 * int(self.model.shared_rim or 0)
        times = (3 + self.model.shared_places) // 2  # only the end of the shared part is done for every place
        return int(part.seen.sum()) * side**2 > times * int(np.prod(part.patches[0].shape))

    def _with_features(
        self, rows: Iterable[tuple[int, tuple[NDArray[np.float32], ...]]], graph: Graph
    ) -> Iterator[tuple[int, NDArray[np.float32], NDArray[np.float32]]]:
        """Add to the probabilities of rows what the graph is made of."""
        for top, (scores,) in rows:
            yield top, scores, graph.features(np.asarray(self.sources["hsi"][top : top + len(scores)]))

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


def prepare_classification(
    model: nn.Module,
    scene: Scene | Any,
    transform: Compose | None = None,
    *,
    wanted: NDArray[np.bool_] | Within | None = None,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
    nan: NanPolicy = "raise",
    scale: Scale | None = None,
    tta: bool = False,
    regularise: Literal["off", "on"] = "off",
    half: float = 0.0,
    progress: bool = True,
) -> ClassifyJob:
    """Check a classification without running it; arguments and errors are those of `classify`.

    Of the valid pixels those alone are classified that `wanted` has True: an array (H, W), or a function from the rows
    and columns of a window (two slices) to its pixels (h, w), which alone are looked at with `nan="raise"`.

    Returns:
        The classification; `run` gives its rows one after the other, for results that are to be written and not held.
    """
    check_regularise(regularise, ("off", "on"))
    classifier = as_classifier(model)
    if not 0 <= half < 1:
        raise ValueError(f"half is {half}; expected the share of labels that may change, 0 to below 1 (0.001)")
    if half and classifier.patch_size is None:
        raise ValueError(f"half is {half}, but {type(classifier).__name__} sees whole images; leave half out")
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
    inside = None if wanted is None else wanted if callable(wanted) else partial(_part, wanted)
    check_policy(nan)
    whole = classifier.patch_size is None
    sides: Any = {"size": classifier.patch_size or 1, "image": classifier.window if whole else None}
    windows = Windows(sources, transform, bands, classes=classifier.num_classes, **sides)
    windows.check_memory()
    if whole:
        tell_of_windows(windows.shape, classifier.window)
    for on, source in sources.items() if nan == "raise" else ():
        refuse_invalid(source, bands=bands[on], within=wanted if callable(wanted) else None)
    check_units(transform, sources, given=scale is not None)
    graph = Graph.fit(sources, bands) if regularise == "on" else None
    return ClassifyJob(classifier, windows, inside, graph, batch_size, device, tta, half, progress)


def _part(wanted: NDArray[np.bool_], rows: slice, columns: slice) -> NDArray[np.bool_]:
    return wanted[rows, columns]


def _bands(transform: Compose | None, on: Source) -> NDArray[np.int64] | None:
    known = transform is not None and transform.in_channels(on) is not None
    return transform.input_bands(on) if known and transform is not None else None
