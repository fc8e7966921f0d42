"""From labels to a map: the model, the map with its confidence, and how far labels that were held out agree."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hsmamba.app.work import Teller
from hsmamba.data import Scene, Split
from hsmamba.metrics.classification import wilson_interval

if TYPE_CHECKING:
    from hsmamba.data import PatchDataset

DEFAULT = "graph_trees"

_ROUNDS = 4  # parts of the labels, each of which is held out once
_LARGE = 2**18  # pixels of a scene that is gone over once more, not four times

Items = NDArray[np.int64]


@dataclass(frozen=True)
class Request:
    """What is to be learnt.

    Attributes:
        model: Architecture, or weight that is trained further.
        epochs: Of a network that is trained; None for what suits it. One that is fitted has none.
        seed: Of initial weights and training.
    """

    model: str = DEFAULT
    epochs: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Accuracy:
    """How many held-out labels the map has right.

    Attributes:
        right: Pixels of each class (K,) that are right.
        total: Pixels of each class (K,).
        places: Places (strokes, patches) that the pixels are of. Pixels of one place are much alike, so that the
            interval is that of so many samples (Wilson).
        kind: "kept aside" for labels of a map that trained nothing, else "in turn": parts of the labels that were held
            out one after the other, each by a model of its own.
    """

    right: tuple[int, ...]
    total: tuple[int, ...]
    places: int
    kind: str

    @property
    def share(self) -> float:
        """Share of the pixels that are right."""
        return sum(self.right) / sum(self.total)

    @property
    def interval(self) -> tuple[float, float]:
        """Of the share, 95 %."""
        return wilson_interval(self.share, self.places)


@dataclass(frozen=True)
class Result:
    """A model and its map.

    Attributes:
        model: Trained.
        labels: (H, W) classes 1..K, 0 where a pixel is invalid.
        confidence: (H, W) float32, NaN where there is none.
        names: Of the classes.
        request: What was asked for.
        split: The training pixels.
        sheet: (H, W) the labels that it was trained on.
        seconds: Until the map was there.
        accuracy: None until it is known, or where nothing could be held out.
        notes: What else is to be said.
    """

    model: Any
    labels: NDArray[Any]
    confidence: NDArray[np.float32]
    names: tuple[str, ...]
    request: Request
    split: Split
    sheet: NDArray[np.uint8]
    seconds: float
    accuracy: Accuracy | None = None
    notes: tuple[str, ...] = field(default=())


def learn(scene: Scene, request: Request, tell: Teller) -> Result:
    """Train on every label of a scene, and classify it.

    Args:
        scene: Labelled; its class names are those of all classes.
        request: What is to be learnt.
        tell: Is told how far it is.

    Raises:
        Cancelled: The work is to end.
        HsmambaError: What the library says of scene, labels or model.
        ValueError: There are fewer than two classes with labels.
    """
    begun, labels = time.perf_counter(), np.asarray(scene.labels)
    if len(np.unique(labels[labels > 0])) < 2:
        raise ValueError("there are labels of fewer than two classes; label some pixels of two classes or more")
    tell("getting ready")
    split = _split(np.flatnonzero(labels), scene.shape)
    model = _trained(scene, scene, split, request, tell, "training")
    found, confidence = _map(model, scene, None, lambda share: tell("classifying", share))
    seconds = time.perf_counter() - begun
    return Result(
        model, found, confidence, scene.class_names, request, split, labels.astype(np.uint8), round(seconds, 1)
    )


def kept_aside(result: Result, truth: NDArray[np.integer], places: NDArray[np.integer]) -> Accuracy | None:
    """Compare a map with labels that trained nothing; None where there are none.

    Args:
        result: The map.
        truth: (H, W) labels, 0 = none.
        places: (H, W) number of the place of each label.
    """
    items = np.flatnonzero((truth > 0) & (result.sheet == 0))
    if not items.size:
        return None
    return _accuracy(truth, result.labels, items, places, len(result.names), "kept aside")


def held_out(scene: Scene, places: NDArray[np.integer], result: Result, tell: Teller) -> Accuracy | None:
    """Train without a part of the labels, place by place, and classify that part.

    A model that is fitted in one step does so for four parts, so that every label is held out once; for a network that
    is trained, and for large scenes, one part has to do.

    Args:
        scene: As for `learn`.
        places: (H, W) number of the place of each label.
        result: Of `learn`; its transform, which looks at no label's class, serves all parts.
        tell: Is told how far it is.

    Returns:
        How far they agree; None where no class has labels of two places.
    """
    from hsmamba.data import PatchDataset
    from hsmamba.engine.classification.inputs import alike, used_sources
    from hsmamba.engine.classification.predict import predict_items
    from hsmamba.engine.classification.train import fits_in_one_step

    labels, first = np.asarray(scene.labels), result.model
    part = _parts(labels, places)
    if part.max() < 0:
        return None
    several = fits_in_one_step(first) and labels.size <= _LARGE
    tell("holding labels out")
    seen = alike(first, used_sources(first, [scene]), first.transform)
    dataset = PatchDataset(seen, first.transform, first.patch_size, nan="mask")
    found = np.zeros(labels.size, np.int64)
    usable, judged = dataset.labels > 0, np.zeros(labels.size, bool)
    for number in range(_ROUNDS if several else 1):
        held, rest = (np.flatnonzero(usable & which.ravel()) for which in (part == number, part != number))
        if not held.size or len(np.unique(dataset.labels[rest])) < 2:
            continue
        what = f"holding labels out, {number + 1} of {_ROUNDS}" if several else "holding labels out"
        tell(what, number / _ROUNDS if several else None)
        model = _trained(scene, dataset, _split(rest, (1, labels.size)), result.request, tell, what)
        found[held] = predict_items(model, dataset, held).numpy().argmax(axis=1) + 1
        judged[held] = True
    if not judged.any():
        return None
    return _accuracy(labels, found.reshape(labels.shape), np.flatnonzero(judged), places, len(result.names), "in turn")


def _parts(labels: NDArray[np.integer], places: NDArray[np.integer]) -> NDArray[np.int64]:
    """Deal the places of each class out to the parts; a class of a single place stays in training, which is part -1."""
    part = np.full(labels.shape, -1, np.int64)
    generator = np.random.default_rng(0)
    for k in np.unique(labels[labels > 0]):
        of_class = np.unique(places[labels == k])
        if len(of_class) > 1:
            dealt = np.empty(len(of_class), np.int64)
            dealt[generator.permutation(len(of_class))] = np.arange(len(of_class)) % _ROUNDS
            here = labels == k
            part[here] = dealt[np.searchsorted(of_class, places[here])]
    return part


def _accuracy(
    truth: NDArray[Any], found: NDArray[Any], items: Items, places: NDArray[Any], count: int, kind: str
) -> Accuracy:
    true, right = truth.ravel()[items].astype(np.int64), (truth == found).ravel()[items]
    total = np.bincount(true, minlength=count + 1)[1:]
    good = np.bincount(true[right], minlength=count + 1)[1:]
    return Accuracy(tuple(good.tolist()), tuple(total.tolist()), len(np.unique(places.ravel()[items])), kind)


def _split(items: Items, shape: tuple[int, int]) -> Split:
    none = np.empty(0, np.int64)
    return Split(train=items, val=none, test=none, shape=shape, id="app")


def _trained(scene: Scene, data: Scene | PatchDataset, split: Split, request: Request, tell: Teller, what: str) -> Any:
    """Make a model for a scene and train it, on the scene or on the patches of it."""
    import torch

    from hsmamba.engine import finetune
    from hsmamba.engine.classification.network import network_for
    from hsmamba.engine.classification.train import fits_in_one_step, settings_by_labels

    with torch.random.fork_rng():
        torch.manual_seed(request.seed)
        model = network_for(request.model, scene)
    tell(what)
    settings: dict[str, Any] = {"progress": False}
    if isinstance(data, Scene):
        settings["nan"] = "mask"
    if fits_in_one_step(model):
        finetune(model, data, split, **settings)
        return model
    given: dict[str, Any] = {"seed": request.seed}
    if request.epochs is not None:
        given["epochs"] = request.epochs
    epochs = settings_by_labels(model, given, data, split).epochs

    def after(record: dict[str, float], network: Any) -> bool:
        tell(f"{what}, epoch {int(record['epoch'])} of {epochs}", record["epoch"] / epochs)
        return False

    finetune(model, data, split, callback=after, **settings, **given)
    return model


def _map(
    model: Any, scene: Scene, wanted: NDArray[np.bool_] | None, advance: Callable[[float], None]
) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Classify, and tell the share of the rows that are done."""
    from hsmamba.engine.classification.job import prepare_classification

    plain = replace(scene, labels=None, class_names=(), classes=None)
    job = prepare_classification(model, plain, wanted=wanted, nan="mask", progress=False)
    labels, confidence = np.zeros(job.shape, job.dtype), np.full(job.shape, np.nan, np.float32)

    def keep(top: int, rows: NDArray[Any], sure: NDArray[np.float32]) -> None:
        labels[top : top + len(rows)], confidence[top : top + len(rows)] = rows, sure
        advance((top + len(rows)) / job.shape[0])

    job.run(keep)
    return labels, confidence


def models() -> Iterator[tuple[str, str]]:
    """Name the classifiers that can be chosen, the default first, and say what they are."""
    from hsmamba.zoo.listing import rows

    known = [(name, text) for name, _, text in rows(task="classification") if name != "ensemble"]
    weights = [(name, f"{size}; {text}") for name, size, text in rows(task="classification", pretrained=True)]
    yield from sorted(known, key=lambda one: (one[0] != DEFAULT, not one[0].startswith(("graph", "lda"))))
    yield from weights
