"""Recipes of a network for any images, trained on several images of several sensors: leave one image out.

For each image a network is trained on all the others and judged on the whole of the one left out; then the weight is
trained on all. Images that are only to be judged are judged by that weight. Every training writes a checkpoint after
each epoch, so that a run can stop at any time and goes on bit for bit; it ends as a model folder and `results.csv`, a
row for each image and method.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from hsmamba._files import write_text
from hsmamba.data import load_pairs
from hsmamba.data.pairs import FusionPairs
from hsmamba.data.sets.catalog import list_data
from hsmamba.engine.fusion.evaluate import REDUCED, evaluate_fusion
from hsmamba.engine.fusion.recipe import publish
from hsmamba.engine.fusion.train import FusionResult, FusionSettings
from hsmamba.engine.multisensor.train import Several, train_several
from hsmamba.engine.pace import deadline
from hsmamba.engine.parallel import group
from hsmamba.engine.results import Outcome, Row, machine, read_results, write_results
from hsmamba.engine.settings import make_settings
from hsmamba.engine.training import Callback, Keeping
from hsmamba.errors import ManifestError
from hsmamba.models.bandwise import Bandwise
from hsmamba.zoo.factory import create_model
from hsmamba.zoo.save import save_pretrained

__all__ = ["COLUMNS", "OPTIONS", "Recipe", "parse", "publish", "run"]

OPTIONS = ("minutes",)
COLUMNS = ("image", "trained_on", "method", *REDUCED)
UNTRAINED = "untrained"  # the network before its training: the mixture of classical methods
_WHOLE = {"val": 0, "test": 0}  # of a data set: all of it is one image
_JUDGED = {"SAM": min, "ERGAS": min, "Q2n": max}  # by which methods are compared, and which is better
_DIGITS = {"SAM": 3, "ERGAS": 3, "Q2n": 4}
_KIND = "reduced resolution"


@dataclass(frozen=True)
class Recipe:
    """How a fusion weight for any images is trained.

    Attributes:
        task: "multisensor".
        name: Name of the weight, "architecture.tag".
        datasets: Names that `hsmamba.data.load_pairs` knows, to train on, each left out in turn.
        seed: Of the initial weights, of the further versions and of the training.
        versions: Of each image: as it is, and further ones of parts of it (`hsmamba.engine.multisensor.train`).
        model_args: Arguments of `create_model` but for the sizes.
        finetune: Fields of `FusionSettings`, None written as "none".
        license: Licence of the weight.
        data: What the record says of the data: name, source, licence.
        others: Names of data sets that are only judged.
        paper: None; there is no published experiment of this kind.
    """

    task: Literal["multisensor"]
    name: str
    datasets: Sequence[str]
    seed: int
    versions: int
    model_args: Mapping[str, Any]
    finetune: Mapping[str, Any]
    license: str
    data: Mapping[str, Any]
    others: Sequence[str] = ()
    paper: None = None

    @property
    def architecture(self) -> str:
        """The part of the name before the dot."""
        return self.name.partition(".")[0]


def parse(values: Mapping[str, Any], path: object) -> Recipe:
    """Make a recipe of the values of a TOML file, whose names are those of the fields.

    Raises:
        ManifestError: No such data set, or fewer than two to train on.
    """
    recipe = Recipe(**values)
    known = list_data("pairs")
    if unknown := [name for name in (*recipe.datasets, *recipe.others) if name not in known]:
        raise ManifestError(f"{path}: no data set {unknown[0]!r}; there are {', '.join(known)}")
    if len(set(recipe.datasets)) < 2:
        raise ManifestError(f"{path}: datasets is {list(recipe.datasets)}; name two or more, of which each is left out")
    return recipe


def run(
    recipe: Recipe,
    out: Path,
    *,
    data: str | Path | None = None,
    device: str | None = None,
    progress: bool = True,
    minutes: float | None = None,
) -> Outcome:
    """Run a recipe, or what is left of it, and judge what is there; `hsmamba.engine.recipe.run` has the words.

    The folder `out` gets a folder `without_NAME` for each image left out, `results.csv`, `report.txt` and the model
    folder `model/`, and beside them the checkpoint and history of the weight.

    Returns:
        The figures of every image by method.
    """
    settings = make_settings(FusionSettings, {**recipe.finetune, "seed": recipe.seed})
    pairs = {name: load_pairs(name, data, **_WHOLE) for name in (*recipe.datasets, *recipe.others)}
    several = Several.of({name: pairs[name] for name in recipe.datasets}, recipe.versions, recipe.seed)
    stop = None if minutes is None else deadline(minutes)
    rows: list[Row] = []
    for name in (*recipe.datasets, None):
        folder = out if name is None else out / f"without_{name}"
        if name is not None and (found := read_results(folder / "results.csv")):
            rows += found
            continue
        model, result = _trained(recipe, several.without(name), settings, folder, device, stop, progress)
        if len(result.history) < settings.epochs:
            return Outcome({}, f"{recipe.name}: stopped in {folder}; the same line goes on")
        seen = [other for other in recipe.datasets if other != name]
        judged = recipe.others if name is None else [name]
        found = [row for other in judged for row in _judged(recipe, model, pairs[other], other, seen)]
        if name is not None:
            group().on_first(partial(write_results, folder / "results.csv", found, COLUMNS))
        rows += found
    return group().on_first(lambda: _written(recipe, model, result, pairs, rows, out, device))


def _trained(
    recipe: Recipe,
    several: Several,
    settings: FusionSettings,
    folder: Path,
    device: str | None,
    stop: Callback | None,
    progress: bool,
) -> tuple[Bandwise, FusionResult]:
    """Train a network on samples, or go on with that."""
    model = _network(recipe, device)
    folder.mkdir(parents=True, exist_ok=True)
    keeping = Keeping.in_folder(folder, callback=stop, progress=progress)
    result = train_several(model, several, settings, device=device, keeping=keeping)
    model.half().float()  # stored in half the space; the figures are of what is stored
    return model, result


def _network(recipe: Recipe, device: str | None = None) -> Bandwise:
    """Make the untrained network, the same whenever it is called."""
    torch.manual_seed(recipe.seed)
    model = create_model(recipe.architecture, device=device, **recipe.model_args)
    if not isinstance(model, Bandwise):
        raise ManifestError(
            f"{recipe.name} is to be trained on images of several sensors, and {recipe.architecture} is for images of "
            "one size; take bandwise"
        )
    return model


def _judged(recipe: Recipe, model: Bandwise, pairs: FusionPairs, name: str, seen: Sequence[str]) -> list[Row]:
    """Judge a network, as trained and untrained, beside the classical methods on the whole of an image."""
    whole = pairs.to_judge()
    bare = _network(recipe).eval()
    report, before = evaluate_fusion(model, whole), evaluate_fusion(bare, whole, baselines=False)
    (figures,), (plain,) = report.reduced.values(), before.reduced.values()
    methods = {**figures, f"{report.model}, {UNTRAINED}": plain[before.model]}
    return [
        {"image": name, "trained_on": " ".join(seen), "method": method, **{k: round(v, 5) for k, v in row.items()}}
        for method, row in methods.items()
    ]


def _written(
    recipe: Recipe,
    model: Bandwise,
    result: FusionResult,
    pairs: Mapping[str, FusionPairs],
    rows: Sequence[Row],
    out: Path,
    device: str | None,
) -> Outcome:
    """Write results, report and the model folder."""
    write_results(out / "results.csv", rows, COLUMNS)
    figures = by_image(rows)
    means = _means(figures)
    report = table(figures, recipe.architecture)
    write_text(out / "report.txt", f"{report}\n")
    settings, own, bare = result.settings, recipe.architecture, f"{recipe.architecture}, {UNTRAINED}"
    record = {
        **recipe.data,
        "training": f"{settings.epochs} epochs of {settings.steps} steps of {settings.batch_size} bands, "
        f"{result.seconds / 60:.0f} minutes on {'one device' if device else 'a CPU'} ({machine(device)})",
        "figures": "means over images, each judged by a network that was trained on the other data sets alone; by "
        f"image: {json.dumps(_headlines(figures, recipe.architecture))}",
        "judged_on": f"{len(figures)} images that it has not seen",
        "torch": torch.__version__,
        "seed": recipe.seed,
        "split": {"train": [image.name for name in recipe.datasets for image in pairs[name].train], "val": [],
                  "test": []},
        UNTRAINED: means[bare],
        "baselines": {f"{method}, {_KIND}": row for method, row in means.items() if method not in (own, bare)},
    }  # fmt: skip
    save_pretrained(
        copy.deepcopy(model).half(),
        out / "model",
        metrics={_KIND: means[recipe.architecture]},
        data=record,
        license=recipe.license,
        recipe=recipe.name,
        bands=model.in_chans,
    )
    told = f"{recipe.name}, by networks that have not seen the image\n\n{report}\n\n"
    return Outcome(figures, f"{told}results in {out / 'results.csv'}, the model in {out / 'model'}")


def by_image(rows: Sequence[Row]) -> dict[str, dict[str, dict[str, float]]]:
    """Order rows of `results.csv` by image, method and metric, those that papers compare."""
    figures: dict[str, dict[str, dict[str, float]]] = {}
    for row in rows:
        found = {metric: float(row[metric]) for metric in REDUCED if row.get(metric, "") != ""}
        figures.setdefault(row["image"], {})[row["method"]] = found
    return figures


def _means(figures: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Average over the images, by method and metric: methods that all images have, each metric where there is one."""
    images = list(figures.values())
    means: dict[str, dict[str, float]] = {}
    for method in (method for method in images[0] if all(method in one for one in images)):
        for metric in REDUCED:
            values = [one[method][metric] for one in images if metric in one[method]]
            if values:
                means.setdefault(method, {})[metric] = round(sum(values) / len(values), 4)
    return means


def _headlines(figures: Mapping[str, Mapping[str, Mapping[str, float]]], model: str) -> dict[str, str]:
    return {image: _line(methods[model]) for image, methods in figures.items()}


def _line(row: Mapping[str, float]) -> str:
    return " / ".join(f"{row[metric]:.{digits}f}" for metric, digits in _DIGITS.items() if metric in row)


def table(figures: Mapping[str, Mapping[str, Mapping[str, float]]], model: str) -> str:
    """Write SAM / ERGAS / Q2n by image as Markdown.

    Args:
        figures: By image, method and metric.
        model: The network among the methods.

    Returns:
        A row an image: the network, untrained, the classical method of the lowest ERGAS, and the best figure of any
        classical method by each metric, of which nobody knows beforehand which method it is.
    """
    lines = [
        f"| image | {model} | {UNTRAINED} | best classical method by ERGAS | best classical figures |",
        "|---|---:|---:|---:|---:|",
    ]
    for image, methods in figures.items():
        own, plain = methods[model], methods[f"{model}, {UNTRAINED}"]
        classical = {name: row for name, row in methods.items() if name.partition(",")[0] != model}
        _, best = min((row["ERGAS"], name) for name, row in classical.items())
        each = {m: pick(row[m] for row in classical.values()) for m, pick in _JUDGED.items() if m in own}
        cells = [_line(own), _line(plain), f"{_line(classical[best])} ({best})", _line(each)]
        lines.append(f"| {image} | {' | '.join(cells)} |")
    return "\n".join(lines)
