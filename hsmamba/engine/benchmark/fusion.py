"""Cells of fusion: pairs of a data set, a method trained on them or not, figures on the test images."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from hsmamba.baselines import BASELINES
from hsmamba.data import load_pairs
from hsmamba.data.pairs import FusionPair, FusionPairs
from hsmamba.engine import finetune
from hsmamba.engine.benchmark.suite import METRICS, Cell, Method
from hsmamba.engine.benchmark.units import Values, write_values
from hsmamba.engine.fusion.asked import Adapt
from hsmamba.engine.fusion.evaluate import predict, reduced_figures
from hsmamba.engine.fusion.job import fuse
from hsmamba.engine.results import Row
from hsmamba.errors import ManifestError
from hsmamba.metrics.report import Figures
from hsmamba.models import FusionNetwork, as_fusion_network
from hsmamba.ops.resampling import bicubic
from hsmamba.zoo.factory import create_model

_DIGITS = 5
_OF_BLOCKS = ("PSNR", "SAM", "ERGAS", "Q2n")  # the others look at windows that a block has few of


def run(cell: Cell, root: str | None) -> Row:
    """Run a cell; the rest of its row is the same for all tasks."""
    pairs = _pairs(cell, root)
    start = time.process_time()
    method = _method(cell, pairs)
    trained = time.process_time()
    fused = [method(pair) for pair in pairs.test]
    done = time.process_time()
    figures = [reduced_figures(image, pair, pairs) for image, pair in zip(fused, pairs.test, strict=True)]
    means = {key: round(sum(one[key] for one in figures) / len(figures), _DIGITS) for key in figures[0]}
    return {
        "data_sha256": _hash_of_test(pairs),
        "split_id": f"{cell.split}: {', '.join(image.name for image in pairs.train) or 'nothing'} to train on",
        "split_sha256": pairs.sha256,
        "train": sum(image.gt[0].numel() for image in pairs.train),
        "val": sum(pair.guide[0].numel() for pair in pairs.val),
        "test": sum(pair.guide[0].numel() for pair in pairs.test),
        **{metric: means.get(metric, "") for metric in METRICS["fusion"]},
        "train_seconds": round(trained - start, 2),
        "test_seconds": round(done - trained, 2),
        "units": write_values(_by_unit(fused, figures, pairs, cell.data.block)),
    }


def _pairs(cell: Cell, root: str | None) -> FusionPairs:
    """Load what a cell trains and tests on."""
    spec = {key: value for key, value in cell.split_spec.items() if key not in ("kind", "train")}
    if cell.split_spec["kind"] == "own":
        return _load(cell.data.set, root, _frozen({**cell.data.options, **spec}))
    return _whole(cell, root)


def _whole(cell: Cell, root: str | None) -> FusionPairs:
    """Test on the whole of an image, and train on others."""
    others = cell.split_spec.get("train", ())
    pairs = _load(cell.data.set, root, _frozen({**cell.data.options, "val": 0, "test": 0}))
    judged = pairs.to_judge()
    if not cell.method.is_trained:
        return judged
    if not others:
        raise ManifestError(
            f"the split {cell.split!r} tests on the whole of {cell.data.set!r} and names no other data to train on; "
            "give train = [...], or leave out methods that are trained"
        )
    trained = [_load(name, root, _frozen({**options, "test": 0})) for name, options in others]
    for other in trained:
        if (other.ratio, other.in_chans, other.guide_chans) != (pairs.ratio, pairs.in_chans, pairs.guide_chans):
            raise ManifestError(
                f"{other.name} has {other.in_chans} bands, {other.guide_chans} of the guide and ratio {other.ratio}, "
                f"{pairs.name} {pairs.in_chans}, {pairs.guide_chans} and {pairs.ratio}; train on images that agree"
            )
    train = tuple(image for other in trained for image in other.train)
    return replace(judged, train=train, val=tuple(pair for other in trained for pair in other.val))


@lru_cache(maxsize=4)
def _load(name: str, root: str | None, options: tuple[tuple[str, Any], ...]) -> FusionPairs:
    given = dict(options)
    bands = given.pop("bands", None)
    pairs = load_pairs(name, root, **given)
    return pairs if bands is None else pairs.with_bands(bands)


def _frozen(options: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple((key, tuple(v) if isinstance(v, list) else v) for key, v in sorted(options.items()))


def _hash_of_test(pairs: FusionPairs) -> str:
    """Fingerprint of the test images, the same on all machines.

    What was filtered has other last digits on another machine: of the truth all bytes count, of the rest the means.
    """
    digest = hashlib.sha256(f"{pairs.ratio} {pairs.sensor.ms_gains} {pairs.sensor.pan_gain}".encode())
    for pair in pairs.test:
        truth = pair.ms if pair.gt is None else pair.gt
        means = [f"{mean:.4e}" for mean in pair.guide.double().mean(dim=(1, 2)).tolist()]
        digest.update(f"{pair.name}{tuple(truth.shape)}{tuple(pair.guide.shape)}{means}".encode())
        digest.update(truth.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _method(cell: Cell, pairs: FusionPairs) -> Callable[[FusionPair], Tensor]:
    """Make what fuses a pair to (C, H, W) in [0, 1], trained where the cell trains."""
    method = cell.method
    if method.model == "bicubic":
        return lambda pair: bicubic(pair.ms[None], pairs.ratio)[0].clamp(0, 1)
    if method.is_classical:
        return lambda pair: _classical(method.model, pair, pairs)
    network = _network(method, pairs, cell.seed)
    if method.adapt is None:
        return lambda pair: predict(network, pair)
    chosen = method.adapt if isinstance(method.adapt, Mapping) else {"seconds": method.adapt}
    how = Adapt(**chosen, sensor=pairs.sensor, seed=cell.seed)
    return lambda pair: _adapted(network, pair, how)


def _adapted(network: FusionNetwork, pair: FusionPair, how: Adapt) -> Tensor:
    """Fuse a pair with a network that is tuned on its images, without the truth, before."""
    ms, guide = (image.permute(1, 2, 0).contiguous().numpy() for image in (pair.ms, pair.guide))
    fused = fuse(network, ms, guide, maximum=1.0, adapt=how, progress=False)
    return torch.from_numpy(fused).permute(2, 0, 1).clamp(0, 1)


def _classical(name: str, pair: FusionPair, pairs: FusionPairs) -> Tensor:
    fused: Tensor = BASELINES[name](pair.ms[None], pair.guide[None], ratio=pairs.ratio, sensor=pairs.sensor)
    return fused[0].clamp(0, 1)


def _network(method: Method, pairs: FusionPairs, seed: int) -> FusionNetwork:
    torch.manual_seed(seed)
    if method.is_weight:
        network = as_fusion_network(create_model(method.model, pretrained=True, **method.args))
        _check_unseen(network, method.model, pairs)
    else:
        sizes: dict[str, Any] = {"in_chans": pairs.in_chans, "guide_chans": pairs.guide_chans, "scale": pairs.ratio}
        network = as_fusion_network(create_model(method.model, **{**sizes, **method.args}))
    if method.is_trained:
        finetune(network, pairs, progress=False, **{**(method.finetune or {}), "seed": seed})
    return network


def _check_unseen(network: FusionNetwork, name: str, pairs: FusionPairs) -> None:
    """Refuse a weight whose record says that it was trained on the image of a test pair."""
    parts = ((network.record or {}).get("data") or {}).get("split") or {}
    seen = [*parts.get("train", ()), *parts.get("val", ())]
    images = {one.partition(",")[0] for one in seen}
    for pair in pairs.test:
        if pair.name in seen or (pair.name.partition(",")[0] in images and pair.name not in parts.get("test", ())):
            raise ManifestError(
                f"{name} was trained on the image of the test pair {pair.name!r} ({', '.join(seen)}); give it "
                "other data"
            )


def _by_unit(fused: list[Tensor], figures: list[Figures], pairs: FusionPairs, block: int) -> Values:
    """Figures of each image, or of each whole block of an image."""
    if not block:
        return dict(enumerate(figures))
    inner = replace(pairs, cut=0)
    values: Values = {}
    for image, pair in zip(fused, pairs.test, strict=True):
        for top in range(pairs.cut, image.shape[1] - pairs.cut - block + 1, block):
            for left in range(pairs.cut, image.shape[2] - pairs.cut - block + 1, block):
                part = (slice(None), slice(top, top + block), slice(left, left + block))
                gt = None if pair.gt is None else pair.gt[part]
                found = reduced_figures(image[part], pair._replace(gt=gt), inner)
                values[len(values)] = {key: found[key] for key in _OF_BLOCKS if key in found}
    if not values:
        raise ManifestError(
            f"no block of {block} x {block} pixels fits into the test images of {pairs.name}; lower block"
        )
    return values
