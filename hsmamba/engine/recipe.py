"""Recipes: how a weight of the zoo was trained, as a TOML file that anyone can run again.

A recipe names an architecture, a scene, a transform, splits, seeds and the settings of `finetune`. Every run (one
split, one seed) ends as a model folder and a row of `results.csv`; runs that are there already are not repeated, and
an interrupted one is resumed.
"""

from __future__ import annotations

import csv
import platform
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from hsmamba._files import atomic_path, write_text
from hsmamba.data import Compose, Scene, Split, block_split, leakage, load_scenes, load_split, random_split
from hsmamba.data.transforms.steps import STEPS
from hsmamba.engine.classification.evaluate import evaluate, labels_of
from hsmamba.engine.classification.train import FinetuneResult, finetune
from hsmamba.engine.fusion.recipe import FusionRecipe, parse_fusion_recipe
from hsmamba.errors import HsmambaError, ManifestError
from hsmamba.zoo.factory import create_model
from hsmamba.zoo.save import save_pretrained
from hsmamba.zoo.source import read_folder

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

METRICS = ("oa", "aa", "kappa", "mean_f1")
_SPLITS: dict[str, Callable[..., Split]] = {"random": random_split, "block": block_split}
Row = dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """How a weight is trained.

    Attributes:
        name: Name of the weight, "architecture.tag".
        scene: Name of a scene, or of a set of plots, that `load_scenes` knows.
        seeds: One run each, for the split, the initial weights and the training.
        publish: Name of the split whose run with the median validation score becomes the weight.
        holdout: Share of the training pixels that a trial run of that split sets aside for the validation score. The
            weight itself is then trained on all training and validation pixels, and its last epoch is kept: with few
            labels a class, each is worth more to the training than to the choice of an epoch. 0 for no trial: then
            the run of the first seed becomes the weight.
        tta: Whether the metrics are of predictions averaged over flips and quarter turns.
        model_args: Arguments of `create_model`.
        transform: Steps, `{kind, arguments...}` each, fitted on the training pixels.
        splits: By name: `{kind, arguments...}`, kind "random", "block" or "stored" (a `name` of `list_splits`).
        finetune: Fields of `FinetuneSettings`.
        license: Licence of the weight.
        data: What the record says of the data: name, source, licence, sensor.
    """

    name: str
    scene: str
    seeds: tuple[int, ...]
    publish: str
    holdout: float
    tta: bool
    model_args: Mapping[str, Any]
    transform: tuple[Mapping[str, Any], ...]
    splits: Mapping[str, Mapping[str, Any]]
    finetune: Mapping[str, Any]
    license: str
    data: Mapping[str, Any]

    @property
    def architecture(self) -> str:
        """The part of the name before the dot."""
        return self.name.partition(".")[0]


def list_recipes() -> list[str]:
    """List the recipes that come with the package."""
    folder = resources.files("hsmamba") / "recipes"
    return sorted(path.name.removesuffix(".toml") for path in folder.iterdir() if path.name.endswith(".toml"))


def load_recipe(name: str | Path) -> Recipe | FusionRecipe:
    """Read a recipe.

    Args:
        name: A recipe of the package ("md2f_mamba.indian_pines"), or the path of a TOML file.

    Returns:
        The recipe; a `FusionRecipe` where it has `task = "fusion"`.

    Raises:
        ManifestError: No such recipe, not TOML, or fields missing or unknown.
    """
    path: Any = Path(name)
    if path.suffix != ".toml":
        path = resources.files("hsmamba") / "recipes" / f"{name}.toml"
    if not path.is_file():
        raise ManifestError(f"no recipe {str(name)!r}; there are: {', '.join(list_recipes())}, or give a .toml file")
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ManifestError(f"{path} is not TOML: {error}") from error
    if values.get("task") == "fusion":
        return parse_fusion_recipe(values, path)
    expected = {f.name for f in fields(Recipe)}
    if values.keys() != expected:
        missing, unknown = sorted(expected - values.keys()), sorted(values.keys() - expected)
        raise ManifestError(f"{path}: missing {missing or 'nothing'}, unknown {unknown or 'nothing'}")
    return Recipe(**values | {"seeds": tuple(values["seeds"]), "transform": tuple(values["transform"])})


def make_split(recipe: Recipe, data: Scene | list[Scene], name: str, seed: int) -> Split:
    """Make the split of a run; arguments as in the recipe, `patch_size` the model's where the kind takes one.

    Raises:
        ManifestError: The recipe has no such split, or its kind is unknown.
    """
    arguments = dict(recipe.splits.get(name) or {})
    kind = arguments.pop("kind", None)
    if kind == "stored":
        return load_split(**arguments)
    if kind not in _SPLITS or isinstance(data, list):
        kinds = "stored" if isinstance(data, list) else ", ".join(("stored", *_SPLITS))
        raise ManifestError(f"the recipe's split {name!r} is of kind {kind!r}; kinds are {kinds}")
    if kind == "block":
        arguments.setdefault("patch_size", recipe.model_args["patch_size"])
    return _SPLITS[kind](np.asarray(data.labels), seed=seed, **arguments)


def run_recipe(
    recipe: Recipe,
    out: str | Path,
    *,
    data: str | Path | None = None,
    splits: Iterable[str] | None = None,
    seeds: Iterable[int] | None = None,
    device: str | None = None,
    progress: bool = True,
) -> list[Row]:
    """Run a recipe, or what is left of it.

    Args:
        recipe: The recipe.
        out: Folder of the runs: `<split>-seed<seed>/` each, and `results.csv`.
        data: Folder of scenes that come with no package, as for `load_scene`.
        splits: Names of the splits to run; default all.
        seeds: Seeds to run; default all of the recipe's.
        device: Where to train; default the CPU.
        progress: Show progress bars.

    Returns:
        The rows of `results.csv`, of earlier calls too.

    Raises:
        ManifestError: A split that the recipe does not have.
        SceneError: There are no data.
    """
    out = Path(out)
    scenes = load_scenes(recipe.scene, data)
    rows = read_results(out / "results.csv")
    for name in splits or recipe.splits:
        for seed in seeds or recipe.seeds:
            if any(row["split"] == name and row["seed"] == seed for row in rows):
                continue
            rows.append(_run(recipe, scenes, name, seed, out / f"{name}-seed{seed}", device, progress))
            rows.sort(key=lambda row: (row["split"] != recipe.publish, row["split"], row["seed"]))
            write_results(out / "results.csv", rows)
    return rows


def _run(
    recipe: Recipe, scenes: list[Scene], name: str, seed: int, folder: Path, device: str | None, progress: bool
) -> Row:
    data = scenes[0] if len(scenes) == 1 else scenes
    split = make_split(recipe, data, name, seed)
    patch_size = int(recipe.model_args["patch_size"])
    validation: Row = dict.fromkeys(("val_oa", "val_loss"), "")
    if name == recipe.publish and recipe.holdout:
        trial = split
        if not split.val.size:
            trial = split.with_validation(labels_of(data, split), fraction=recipe.holdout, seed=seed)
        _, result = _train(recipe, data, trial, seed, folder / "trial", device, progress)
        last = result.history[-1]
        validation = {"val_oa": _percent(last["val_oa"]), "val_loss": round(last["val_loss"], 4)}
    whole = replace(split, train=np.union1d(split.train, split.val), val=split.val[:0])
    model, result = _train(recipe, data, whole, seed, folder, device, progress)
    report = evaluate(model, data, split, tta=recipe.tta)
    row: Row = {
        "split": name,
        "seed": seed,
        "split_id": split.id,
        "split_sha256": split.sha256,
        "train_pixels": int(whole.train.size),
        "test_pixels": int(split.test.size),
        "leakage": round(leakage(whole, patch_size, [scene.shape for scene in scenes]).share, 4),
        "epochs": len(result.history),
        **validation,
        **{key: _percent(getattr(report, key)) for key in METRICS},
        "minutes": round(result.seconds / 60, 1),
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads" if device is None else device,
    }
    write_text(folder / "report.txt", f"{report}\n")
    record = {**recipe.data, "split": {"name": name, "id": split.id, "sha256": split.sha256}, "seed": seed}
    save_pretrained(
        model,
        folder / "model",
        split=split,
        metrics={key: row[key] for key in METRICS},
        data=record,
        license=recipe.license,
        recipe=recipe.name,
        bands=scenes[0].num_bands,
    )
    return row


def _train(
    recipe: Recipe,
    data: Scene | list[Scene],
    split: Split,
    seed: int,
    folder: Path,
    device: str | None,
    progress: bool,
) -> tuple[nn.Module, FinetuneResult]:
    """Train from the seed's initial weights on all training pixels of a split, or continue where it was interrupted."""
    steps = [STEPS[step["kind"]](**{k: v for k, v in step.items() if k != "kind"}) for step in recipe.transform]
    transform = Compose(steps).fit_scene(data, split.train)
    torch.manual_seed(seed)
    model = create_model(recipe.architecture, device=device, **recipe.model_args)
    checkpoint = folder / "checkpoint.pt"
    result = finetune(
        model,
        data,
        split,
        transform=transform,
        checkpoint=checkpoint,
        resume=checkpoint if checkpoint.is_file() else None,
        log=folder / "history.csv",
        progress=progress,
        **{**recipe.finetune, "seed": seed, "val_fraction": 0.0},
    )
    return model, result


def _percent(value: float) -> float:
    return round(100 * value, 2)


def read_results(path: Path) -> list[Row]:
    """Read rows of a results file, numbers as numbers; none where there is no file."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [{key: _number(value) for key, value in row.items()} for row in csv.DictReader(file)]


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def write_results(path: Path, rows: list[Row]) -> None:
    """Write rows as CSV, whole or not at all."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def summarise(rows: Iterable[Row]) -> dict[str, dict[str, dict[str, float]]]:
    """Average over the seeds of each split.

    Args:
        rows: Rows of a results file.

    Returns:
        By split and metric, mean and sample standard deviation in percent, rounded to two digits.
    """
    by_split: dict[str, list[Row]] = {}
    for row in rows:
        by_split.setdefault(str(row["split"]), []).append(row)
    return {
        name: {
            key: {
                "mean": round(float(np.mean([run[key] for run in runs])), 2),
                "std": round(float(np.std([run[key] for run in runs], ddof=1)), 2) if len(runs) > 1 else 0.0,
            }
            for key in METRICS
        }
        for name, runs in by_split.items()
    }


def median_run(recipe: Recipe, rows: Iterable[Row]) -> Row:
    """Choose the run that is published, never by its test score.

    It is the median by validation OA (then loss, seed) of the recipe's split, or the first seed's where the recipe
    holds nothing out.

    Raises:
        HsmambaError: There is no such run.
    """
    runs = [row for row in rows if row["split"] == recipe.publish]
    if not recipe.holdout:
        runs = [row for row in runs if row["seed"] == recipe.seeds[0]]
    if not runs:
        raise HsmambaError(f"no run of the split {recipe.publish!r} to publish; run the recipe first")
    ordered = sorted(runs, key=lambda row: (row["val_oa"], -(row["val_loss"] or 0.0), row["seed"]))
    return ordered[(len(runs) - 1) // 2]


def publish(recipe: Recipe, out: str | Path, folder: str | Path) -> Path:
    """Write the model folder of a finished recipe: the median run's weight, with the metrics over all runs.

    Args:
        recipe: The recipe.
        out: Folder that `run_recipe` filled.
        folder: Where to.

    Returns:
        The model folder.

    Raises:
        HsmambaError: Runs are missing.
    """
    out = Path(out)
    rows = read_results(out / "results.csv")
    wanted = {(name, seed) for name in recipe.splits for seed in recipe.seeds}
    if missing := sorted(wanted - {(row["split"], row["seed"]) for row in rows}):
        raise HsmambaError(f"{out} lacks the runs {missing}; run the recipe to its end first")
    chosen = median_run(recipe, rows)
    source = out / f"{chosen['split']}-seed{chosen['seed']}" / "model"
    trained = read_folder(source)
    model = create_model(f"local-dir:{source}")
    return save_pretrained(
        model,
        folder,
        split=trained.load_split(),
        metrics={**summarise(rows), "this weight": {key: chosen[key] for key in METRICS}},
        data={**trained.data, **recipe.data, "seeds": list(recipe.seeds)},
        license=recipe.license,
        recipe=recipe.name,
        bands=trained.bands,
    )
