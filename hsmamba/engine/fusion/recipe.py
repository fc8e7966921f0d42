"""Recipes of fusion networks: a data set, its pairs, a seed and the settings of `finetune`.

The run writes a checkpoint after every epoch, so that it can stop at any time and goes on bit for bit; it ends as a
model folder and `results.csv`, a row for each image and method.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from hsmamba._files import write_text
from hsmamba.data import load_pairs
from hsmamba.data.pairs import FusionPairs
from hsmamba.data.sets.catalog import list_data
from hsmamba.engine.fusion.evaluate import FULL, REDUCED, evaluate_fusion
from hsmamba.engine.fusion.train import FusionResult, FusionSettings, train_fusion
from hsmamba.engine.pace import deadline
from hsmamba.engine.paper import Paper, mean_and_deviation
from hsmamba.engine.parallel import group
from hsmamba.engine.results import Outcome, Row, machine, write_results
from hsmamba.engine.settings import make_settings
from hsmamba.engine.training import Keeping
from hsmamba.errors import HsmambaError, ManifestError
from hsmamba.metrics import FusionReport
from hsmamba.metrics.report import Figures
from hsmamba.models import FusionNetwork, as_fusion_network
from hsmamba.zoo.factory import create_model
from hsmamba.zoo.save import save_pretrained
from hsmamba.zoo.source import read_folder

OPTIONS = ("minutes",)
_KINDS = {"reduced resolution": False, "full resolution": True}
COLUMNS = ("resolution", "image", "method", *REDUCED, *FULL)


@dataclass(frozen=True)
class Recipe:
    """How a fusion weight is trained.

    Attributes:
        task: "fusion".
        name: Name of the weight, "architecture.tag".
        dataset: Name that `hsmamba.data.load_pairs` knows.
        seed: Of the initial weights and the training.
        pairs: Arguments of the data set's reader: ratio, shares of validation and test.
        model_args: Arguments of `create_model`, None written as "none"; bands, channels of the guide and ratio come
            from the data.
        finetune: Fields of `FusionSettings`, None written as "none".
        license: Licence of the weight.
        data: What the record says of the data: name, source, licence, sensor; by default what the catalogue says. With
            `consistent = true` the results are made consistent with both images, when the weight is judged and by
            `hsmamba.fuse`.
        passes: Passes over the training images that are an epoch, which then decide `steps`; 0 leaves these alone.
        paper: Figures that were published for this experiment, by resolution ("reduced", "full"). The network is then
            judged as papers do: without a match of brightness, and a global one by LE-Mamba's official tiling.
    """

    task: Literal["fusion"]
    name: str
    dataset: str
    seed: int
    pairs: Mapping[str, Any]
    model_args: Mapping[str, Any]
    finetune: Mapping[str, Any]
    license: str
    data: Mapping[str, Any]
    passes: float = 0.0
    paper: Paper | None = None

    @property
    def architecture(self) -> str:
        """The part of the name before the dot."""
        return self.name.partition(".")[0]


def parse(values: Mapping[str, Any], path: object) -> Recipe:
    """Make a recipe of the values of a TOML file, whose names are those of the fields.

    Raises:
        ManifestError: No such data set.
    """
    if values["dataset"] not in list_data("pairs"):
        raise ManifestError(f"{path}: no data set {values['dataset']!r}; there are {', '.join(list_data('pairs'))}")
    return Recipe(**{**values, "paper": Paper.of(values.get("paper"), path)})


def make_model(recipe: Recipe, pairs: FusionPairs, device: str | None = None) -> FusionNetwork:
    """Make the untrained network of a recipe, the same whenever it is called."""
    torch.manual_seed(recipe.seed)
    sizes: dict[str, Any] = {"in_chans": pairs.in_chans, "guide_chans": pairs.guide_chans, "scale": pairs.ratio}
    return as_fusion_network(create_model(recipe.architecture, device=device, **sizes, **recipe.model_args))


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

    The folder `out` gets checkpoint, history, `report.txt` and the model folder `model/`.

    Returns:
        The figures on the test images, as `FusionReport.to_dict` has them.
    """
    pairs = load_pairs(recipe.dataset, data, **recipe.pairs)
    model = make_model(recipe, pairs, device)
    settings = settings_of(recipe, pairs)
    keeping = Keeping.in_folder(out, callback=None if minutes is None else deadline(minutes), progress=progress)
    result = train_fusion(model, pairs, settings, keeping=keeping)
    return group().on_first(lambda: _judged(recipe, pairs, model, result, out, device))


def _judged(
    recipe: Recipe, pairs: FusionPairs, model: FusionNetwork, result: FusionResult, out: Path, device: str | None
) -> Outcome:
    """Judge what was trained, and write it."""
    model.half().float()  # stored in half the space; the figures are of what is stored
    consistent = bool(recipe.data.get("consistent"))
    report = evaluate_fusion(model, pairs, consistent=consistent, **({} if recipe.paper is None else _as_papers(model)))
    write_results(out / "results.csv", rows_of(report), COLUMNS)
    write_text(out / "report.txt", f"{report}\n")
    save_pretrained(
        copy.deepcopy(model).half(),
        out / "model",
        metrics=metrics_of(report),
        data={
            **recipe.data,
            "maximum": pairs.maximum,
            **_training(recipe, pairs, result, device),
            "baselines": baselines_of(report),
        },
        license=recipe.license,
        recipe=recipe.name,
        bands=pairs.in_chans,
    )
    text = f"{recipe.name}\n\n{report}\n\n"
    if recipe.paper is not None:
        text += f"{recipe.paper.beside(_spread(report), out)}\n\n"
    text += f"results in {out / 'results.csv'}, the model in {out / 'model'}"
    return Outcome(report.to_dict(), text)


def _as_papers(model: FusionNetwork) -> dict[str, Any]:
    """Return how papers judge: no match of brightness, and the tiling of LE-Mamba's authors."""
    windows = {"tile": 16, "overlap": 12} if model.margin is None else {}
    return {"gains": None, **windows}


def settings_of(recipe: Recipe, pairs: FusionPairs) -> FusionSettings:
    """Make the settings of a recipe's run; a pass over the data drops the batch that is not full."""
    settings = make_settings(FusionSettings, {**recipe.finetune, "seed": recipe.seed})
    if not recipe.passes:
        return settings
    return replace(settings, steps=max(int(recipe.passes * len(pairs.train)) // settings.batch_size, 1))


def _spread(report: FusionReport) -> dict[str, dict[str, tuple[float, float]]]:
    """Return mean and sample deviation over the images of the network's figures, by resolution and metric."""
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for kind, images in (("reduced", report.reduced), ("full", report.full)):
        figures = [methods[report.model] for methods in images.values()]
        for metric in figures[0] if figures else ():
            values = [one[metric] for one in figures]
            found.setdefault(kind, {})[metric] = mean_and_deviation(values)
    return found


def _training(recipe: Recipe, pairs: FusionPairs, result: FusionResult, device: str | None) -> dict[str, Any]:
    """Say how long and on what the weight was trained."""
    settings, done = result.settings, len(result.history)
    minutes = result.seconds / 60
    text = (
        f"{done} epochs of {settings.steps} steps of {settings.batch_size} crops, {minutes:.0f} minutes on "
        f"{'one device' if device else 'a CPU'} ({machine(device)})"
    )
    if done < settings.epochs:
        text += f"; the recipe asks for {settings.epochs}: the run was stopped early and the recipe continues it"
    return {
        "training": text,
        "epochs": done,
        "epochs_of_recipe": settings.epochs,
        "best_epoch": result.best_epoch,
        "validation": {key: round(value, 4) for key, value in (result.validation or {}).items()},
        "minutes": round(minutes, 1),
        "torch": torch.__version__,
        "seed": recipe.seed,
        "split": {
            "train": [image.name for image in pairs.train],
            "val": [pair.name for pair in pairs.val],
            "test": [pair.name for pair in pairs.test],
        },
    }


def _rounded(means: dict[str, Figures]) -> dict[str, Figures]:
    return {method: {key: round(value, 4) for key, value in figures.items()} for method, figures in means.items()}


def metrics_of(report: FusionReport) -> dict[str, Figures]:
    """Return what a record holds of the network itself: means over the images by resolution."""
    means = {kind: _rounded(report.mean(full=full)) for kind, full in _KINDS.items()}
    return {kind: table[report.model] for kind, table in means.items() if table}


def baselines_of(report: FusionReport) -> dict[str, Figures]:
    """Return what a record holds of the classical methods: means over the images by "method, resolution"."""
    return {
        f"{method}, {kind}": figures
        for kind, full in _KINDS.items()
        for method, figures in _rounded(report.mean(full=full)).items()
        if method != report.model
    }


def rows_of(report: FusionReport) -> list[Row]:
    """Turn a report into rows of `results.csv`, one for each resolution, image and method."""
    return [
        {"resolution": kind, "image": image, "method": method, **{k: round(v, 5) for k, v in figures.items()}}
        for kind, images in (("reduced", report.reduced), ("full", report.full))
        for image, methods in images.items()
        for method, figures in methods.items()
    ]


def publish(recipe: Recipe, out: Path, folder: str | Path) -> Path:
    """Copy the model folder of a run to `folder`.

    Raises:
        HsmambaError: There is none yet.
    """
    source = out / "model"
    if not (source / "config.json").is_file():
        raise HsmambaError(f"{out} holds no model yet; run the recipe {recipe.name} first")
    trained = read_folder(source)
    return save_pretrained(
        create_model(f"local-dir:{source}", dtype=torch.float16),
        folder,
        metrics=trained.metrics,
        data={**trained.data, **recipe.data},
        license=trained.license,
        recipe=recipe.name,
        bands=trained.bands,
    )
