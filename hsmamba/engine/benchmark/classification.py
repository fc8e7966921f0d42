"""Cells of classification: the split of a seed, a method trained or fitted on it, figures on its test pixels."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hsmamba.baselines import make_classifier
from hsmamba.data import Compose, Scene, Split, block_split, group_split, leakage, load_scenes, load_split, random_split
from hsmamba.data.image import pixel_mask
from hsmamba.data.splits.pixels import draw
from hsmamba.data.transforms.steps import STEPS
from hsmamba.engine import finetune
from hsmamba.engine.benchmark.suite import Cell, Method, Values
from hsmamba.engine.benchmark.units import count, ground_units, write_counts
from hsmamba.engine.classification.classes import class_names, in_model_classes
from hsmamba.engine.classification.fitting import PIXELS_A_COMPONENT, fitting_pixels, sizes_for
from hsmamba.engine.classification.job import prepare_classification
from hsmamba.engine.results import Row
from hsmamba.errors import ManifestError
from hsmamba.metrics import ClassificationReport
from hsmamba.models import Classifier, as_classifier
from hsmamba.zoo.factory import create_model
from hsmamba.zoo.source import find_folder


def run(cell: Cell, root: str | None) -> Row:
    """Run a cell; the rest of its row is the same for all tasks."""
    scenes, data_hash = _load(cell.data.set, root)
    split = make_split(scenes, cell.split_spec, cell.seed)
    used = [scene if cell.method.aux else replace(scene, aux=None) for scene in scenes]
    start = time.process_time()
    model = _trained(cell.method, used, split, cell.seed)
    trained = time.process_time()
    predicted = predict(model, used, split.test, **cell.method.classify)
    done = time.process_time()
    names = scenes[0].class_names
    truth = in_model_classes(model, labels_of(scenes)[split.test], names)
    report = ClassificationReport.from_labels(truth, predicted, class_names(model, names))
    units = ground_units([scene.shape for scene in scenes], cell.data.block)[split.test]
    side = model.patch_size
    return {
        "data_sha256": data_hash,
        "split_id": split.id,
        "split_sha256": split.sha256,
        "train": int(split.train.size),
        "val": int(split.val.size),
        "test": int(split.test.size),
        "leakage": round(leakage(split, side, [scene.shape for scene in scenes]).share, 4),
        **report.percent(),
        "train_seconds": round(trained - start, 2),
        "test_seconds": round(done - trained, 2),
        "units": write_counts(count(units, truth, predicted)),
    }


@lru_cache(maxsize=2)
def _load(name: str, root: str | None) -> tuple[list[Scene], str]:
    """Load scenes with a hash of their numbers."""
    scenes = load_scenes(name, root)
    digest = hashlib.sha256()
    for scene in scenes:
        for array in (scene.hsi, scene.labels, scene.aux):
            if array is not None:
                values = np.ascontiguousarray(array)
                digest.update(f"{values.dtype.str}{values.shape}".encode())
                digest.update(values.tobytes())
    return scenes, digest.hexdigest()


def labels_of(scenes: Sequence[Scene]) -> NDArray[np.int64]:
    """Return the labels (N,) of all pixels, scene after scene."""
    return np.concatenate([np.asarray(scene.labels, np.int64).ravel() for scene in scenes])


def make_split(scenes: Sequence[Scene], spec: Values, seed: int) -> Split:
    """Make a split of a suite.

    Kinds: "random" and "block" of one scene, as `random_split` and `block_split`; "plots" as `group_split`, by scene,
    of all scenes or of those that a stored split trains and validates on (`within` is its name, and its test pixels
    are on neither side); "stored", of the package. The last two take a `count`: so many of the training pixels of each
    class are drawn (or all that there are), the others are left out of the split. `count` is of the pixels of training;
    what a method sets aside of them to validate on is never of the test. "pixels" draws a `fraction` of each class at
    random out of the pixels that a stored split (`of`) tests on, and tests on the others: what their own labels make of
    that ground, which no other ground's can be asked for.

    Raises:
        SplitError: It cannot be made.
    """
    arguments = {key: value for key, value in spec.items() if key != "kind"}
    kind = spec["kind"]
    labels = labels_of(scenes)
    if kind == "random":
        return random_split(labels.reshape(scenes[0].shape), seed=seed, **arguments)
    if kind == "block":
        return block_split(labels.reshape(scenes[0].shape), seed=seed, **arguments)
    if kind == "pixels":
        tested = np.isin(np.arange(labels.size), _stored(scenes, labels, arguments["of"]).test)
        return random_split(np.where(tested, labels, 0)[None], fraction=arguments["fraction"], cap=True, seed=seed)
    amount, within = arguments.pop("count", None), arguments.pop("within", None)
    if kind == "stored":
        split = _stored(scenes, labels, **arguments)
    else:
        if within is not None:
            own = _stored(scenes, labels, within)
            labels = np.where(np.isin(np.arange(labels.size), np.union1d(own.train, own.val)), labels, 0)
        groups = np.repeat(np.arange(len(scenes)), [scene.shape[0] * scene.shape[1] for scene in scenes])
        split = group_split(labels, groups, seed=seed, **arguments)
    return split if amount is None else _thinned(split, labels, amount, seed)


def _stored(scenes: Sequence[Scene], labels: NDArray[np.int64], name: str) -> Split:
    """Load a split of the package, which must be of these scenes."""
    split = load_split(name)
    split.check(labels.reshape(scenes[0].shape if len(scenes) == 1 else (1, labels.size)))
    return split


def _thinned(split: Split, labels: NDArray[np.int64], amount: int, seed: int) -> Split:
    """Leave so many training pixels of each class in a split."""
    generator = np.random.default_rng(seed)
    of_class = labels[split.train]
    kept = [draw(split.train[of_class == k], amount, generator) for k in np.unique(of_class)]
    return replace(split, train=np.concatenate(kept), id=f"{split.id}-{amount}px-seed{seed}")


def predict(model: Classifier, scenes: Sequence[Scene], pixels: NDArray[np.int64], **options: Any) -> NDArray[np.int64]:
    """Predict pixels of scenes, counted through; 0 where the result is not finite."""
    found, first = [], 0
    for scene in scenes:
        size = scene.shape[0] * scene.shape[1]
        here = pixels[(pixels >= first) & (pixels < first + size)] - first
        first += size
        if here.size:
            wanted = pixel_mask(here, scene.shape)
            job = prepare_classification(model, scene, wanted=wanted, progress=False, **options)
            found.append(job.arrays()[0].ravel()[here])
    return np.concatenate(found).astype(np.int64)


def _trained(method: Method, scenes: Sequence[Scene], split: Split, seed: int) -> Classifier:
    """Make the model of a method, and train it unless it is a weight that stays as it is."""
    bands, data = scenes[0].good_bands.size, scenes[0] if len(scenes) == 1 else list(scenes)
    aux = 0 if scenes[0].aux is None else int(scenes[0].aux.shape[2])
    if method.is_weight:
        _check_unseen(method.model, scenes, split)
    if method.is_classical:
        sides = [min(scene.shape) for scene in scenes]
        options: dict[str, Any] = {"aux_chans": aux, "largest_patch": min(sides), "seed": seed}
        classical = make_classifier(method.model, bands, scenes[0].num_classes, **options)
        finetune(classical, data, split, progress=False)
        return as_classifier(classical)
    torch.manual_seed(seed)
    model = as_classifier(_network(method, bands, aux, scenes[0].num_classes, len(scenes)))
    if method.is_trained:
        transform = _transform(method, scenes, split, model.in_chans)
        settings = {} if hasattr(model, "fit") else {**(method.finetune or {}), "seed": seed}
        finetune(model, data, split, transform=transform, progress=False, **settings)
    return model


def _network(method: Method, bands: int, aux: int, num_classes: int, scenes: int) -> torch.nn.Module:
    if method.is_weight:
        return create_model(method.model, pretrained=True, **method.args)
    args = dict(method.args)
    sizes = sizes_for(method.model, bands, scenes=scenes, **args)
    if "in_chans" in args:
        most = sizes_for(method.model, bands, scenes=scenes, components=bands, **args)
        sizes["in_chans"] = min(args["in_chans"], most["in_chans"])
    args |= sizes
    if aux:
        args.setdefault("aux_chans", aux)
    return create_model(method.model, num_classes=num_classes, **args)


def _transform(method: Method, scenes: Sequence[Scene], split: Split, in_chans: int) -> Compose | None:
    """Fit the transform of a method on training pixels, or on all where these are few; labels are not looked at."""
    if not method.transform:
        return None
    steps = [STEPS[step["kind"]](**{k: v for k, v in step.items() if k != "kind"}) for step in method.transform]
    return Compose(steps).fit_scene(list(scenes), fitting_pixels(scenes, split, PIXELS_A_COMPONENT * in_chans))


def _check_unseen(model: str, scenes: Sequence[Scene], split: Split) -> None:
    """Refuse a weight that was trained on test pixels of the split."""
    own = find_folder(model).load_split()
    if own is None or own.shape != split.shape:
        return
    seen = np.intersect1d(np.union1d(own.train, own.val), split.test).size
    if seen:
        raise ManifestError(
            f"{model} was trained on {seen} of the {split.test.size} test pixels of the split {split.id!r}; give it "
            f"data of another scene, or the split that it came with ({own.id!r})"
        )
