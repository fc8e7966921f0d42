"""Recipes of classifiers: a scene, a transform, splits, seeds and the settings of `finetune`.

Every run (one split, one seed) ends as a model folder and a row of `results.csv`; `baselines.csv` holds what classical
classifiers give on the same pixels.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from hsmamba._files import write_text
from hsmamba.data import Compose, Scene, Split, block_split, leakage, load_scenes, load_split, random_split
from hsmamba.data.transforms.steps import STEPS
from hsmamba.engine.classification.baselines import judge_baselines
from hsmamba.engine.classification.evaluate import evaluate_classifier, labels_of
from hsmamba.engine.classification.fitting import sizes_for
from hsmamba.engine.classification.network import network_for
from hsmamba.engine.classification.train import ClassificationResult, settings_for, train_classifier
from hsmamba.engine.paper import Paper, mean_and_deviation
from hsmamba.engine.parallel import group
from hsmamba.engine.results import Outcome, Row, machine, read_results, summarise, write_results
from hsmamba.engine.training import Keeping
from hsmamba.errors import HsmambaError, HsmambaWarning, ManifestError, MissingExtraError
from hsmamba.metrics.report import HEADLINES
from hsmamba.models import Classifier, as_classifier
from hsmamba.zoo.factory import create_model
from hsmamba.zoo.save import save_pretrained
from hsmamba.zoo.source import read_folder

OPTIONS = ("splits", "seeds")
BASELINES = "baselines.csv"
_SPLITS: dict[str, Callable[..., Split]] = {"random": random_split, "block": block_split}


@dataclass(frozen=True)
class Recipe:
    """How a classifier's weight is trained.

    Attributes:
        task: "classification".
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
        splits: By name: `{kind, arguments...}`, kind "random", "block", "stored" (a `name` of `list_splits`) or
            "distributed" (the split that comes with the data of the scene `name`, see `load_split`).
        finetune: Fields of `ClassificationSettings`, None written as "none".
        license: Licence of the weight.
        data: What the record says of the data: name, source, licence, sensor; by default what the catalogue says.
        fit: Pixels that the transform is fitted on: those of the "training", or "all" of the scene, as many papers do.
            Labels are looked at in neither case.
        beside: Models of the zoo that are fitted in one step ("graph_trees"), to be judged on the same pixels among the
            classical classifiers.
        paper: Figures that were published for this experiment, by split.
    """

    task: Literal["classification"]
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
    fit: Literal["training", "all"] = "training"
    beside: tuple[str, ...] = ()
    paper: Paper | None = None

    @property
    def architecture(self) -> str:
        """The part of the name before the dot."""
        return self.name.partition(".")[0]


def parse(values: Mapping[str, Any], path: object) -> Recipe:
    """Make a recipe of the values of a TOML file, whose names are those of the fields."""
    if values.get("fit", "training") not in ("training", "all"):
        raise ManifestError(f"{path}: the field fit is {values['fit']!r}; it is 'training' or 'all'")
    lists = {key: tuple(values.get(key, ())) for key in ("seeds", "transform", "beside")}
    return Recipe(**{**values, **lists, "paper": Paper.of(values.get("paper"), path)})


def make_split(
    recipe: Recipe, data: Scene | list[Scene], name: str, seed: int, root: str | Path | None = None
) -> Split:
    """Make the split of a run; arguments as in the recipe, `patch_size` the model's where the kind takes one.

    `root` is the folder of data, for a split that comes with them.

    Raises:
        ManifestError: The recipe has no such split, or its kind is unknown.
    """
    arguments = dict(recipe.splits.get(name) or {})
    kind = arguments.pop("kind", None)
    if kind == "stored":
        return load_split(**arguments)
    if kind == "distributed":
        return load_split(root=root, **arguments)
    if kind not in _SPLITS or isinstance(data, list):
        kinds = "stored" if isinstance(data, list) else ", ".join(("stored", "distributed", *_SPLITS))
        raise ManifestError(f"the recipe's split {name!r} is of kind {kind!r}; kinds are {kinds}")
    if kind == "block":
        arguments.setdefault("patch_size", recipe.model_args.get("patch_size", 1))
    return _SPLITS[kind](np.asarray(data.labels), seed=seed, **arguments)


def run(
    recipe: Recipe,
    out: Path,
    *,
    data: str | Path | None = None,
    device: str | None = None,
    progress: bool = True,
    splits: Iterable[str] | None = None,
    seeds: Iterable[int] | None = None,
) -> Outcome:
    """Run a recipe, or what is left of it; `hsmamba.engine.recipe.run` calls this and has the words.

    The folder `out` gets `<split>-seed<seed>/` for each run.

    Returns:
        The rows of `results.csv` as "runs", of earlier calls too, their "summary", and that of the "baselines".

    Warns:
        HsmambaWarning: scikit-learn is not installed, so that there are no baselines.
    """
    scenes = load_scenes(recipe.scene, data)
    here = group()
    rows, others = here.on_first(lambda: (read_results(out / "results.csv"), read_results(out / BASELINES)))
    for name in splits or recipe.splits:
        for seed in seeds or recipe.seeds:
            if not any(row["split"] == name and row["seed"] == seed for row in rows):
                rows.append(_run(recipe, scenes, name, seed, out / f"{name}-seed{seed}", data, device, progress))
                rows.sort(key=lambda row: (row["split"] != recipe.publish, row["split"], row["seed"]))
                here.on_first(partial(write_results, out / "results.csv", rows))
            if not any(row["split"] == name and row["seed"] == seed for row in others):
                others += here.on_first(partial(_baselines, recipe, scenes, name, seed, data))
                if others:
                    here.on_first(partial(write_results, out / BASELINES, others))
    summary = summarise(rows)
    lines = []
    for name, metrics in summary.items():
        runs = [row for row in rows if row["split"] == name]
        lines.append(f"\n{recipe.name}, split {name}: {len(runs)} runs")
        lines += ["  seed {seed}: OA {oa:.2f}  AA {aa:.2f}  kappa {kappa:.2f}".format(**row) for row in runs]
        lines.append("  " + "  ".join(f"{key} {v['mean']:.2f} ± {v['std']:.2f}" for key, v in metrics.items()))
    classical = summarise_baselines(others)
    lines += ["\nclassical classifiers on the same pixels"] if classical else []
    lines += [f"  {method}: OA {v['oa']['mean']:.2f} ± {v['oa']['std']:.2f}" for method, v in classical.items()]
    if recipe.paper is not None:
        lines.append(f"\n{recipe.paper.beside(_spread(rows), out)}")
    text = "\n".join([*lines, f"\nresults in {out / 'results.csv'}"])
    return Outcome({"runs": rows, "summary": summary, "baselines": classical}, text)


def _spread(rows: Iterable[Row]) -> dict[str, dict[str, tuple[float, float]]]:
    """Return mean and sample deviation over the seeds of each split's figures."""
    by_split: dict[str, list[Row]] = {}
    for row in rows:
        by_split.setdefault(str(row["split"]), []).append(row)
    return {
        name: {key: mean_and_deviation([row[key] for row in runs]) for key in HEADLINES}
        for name, runs in by_split.items()
    }


def _baselines(recipe: Recipe, scenes: list[Scene], name: str, seed: int, root: str | Path | None = None) -> list[Row]:
    """Fit the classical classifiers on all pixels that train the weight of a run; none without scikit-learn."""
    try:
        return baseline_rows(recipe, scenes, name, seed, root)
    except MissingExtraError as error:
        warnings.warn(
            f"no classical classifiers beside: {error}; then run the recipe again", HsmambaWarning, stacklevel=4
        )
        return []


def baseline_rows(
    recipe: Recipe, scenes: list[Scene], name: str, seed: int, root: str | Path | None = None
) -> list[Row]:
    """Judge the classical classifiers on the test pixels of a run, fitted on what its network sees of the others.

    Returns:
        One row a classifier: split, seed, method and the figures in percent; those of `recipe.beside` are the last.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    if not recipe.model_args.get("aux_chans"):
        scenes = [replace(scene, aux=None) for scene in scenes]
    data = scenes[0] if len(scenes) == 1 else scenes
    split = make_split(recipe, data, name, seed, root)
    whole = without_validation(split)
    reports = judge_baselines(data, whole, seed=seed)
    for other in recipe.beside:
        sizes = sizes_for(other, scenes[0].good_bands.size, scenes=len(scenes))
        model = network_for(other, scenes[0], model_args=sizes)
        train_classifier(model, data, whole, settings_for(model, {}), keeping=Keeping(progress=False))
        reports[other] = evaluate_classifier(model, data, whole)
    place: Row = {"split": name, "seed": seed, "split_sha256": split.sha256}
    return [{**place, "method": method, **report.percent()} for method, report in reports.items()]


def without_validation(split: Split) -> Split:
    """Give the validation pixels of a split to its training part."""
    return replace(split, train=np.union1d(split.train, split.val), val=split.val[:0])


def summarise_baselines(rows: Iterable[Row]) -> dict[str, dict[str, dict[str, float]]]:
    """Average the rows of `baselines.csv` over the seeds, by "method, split"."""
    return summarise({**row, "split": f"{row['method']}, {row['split']}"} for row in rows)


def _run(
    recipe: Recipe,
    scenes: list[Scene],
    name: str,
    seed: int,
    folder: Path,
    root: str | Path | None,
    device: str | None,
    progress: bool,
) -> Row:
    data = scenes[0] if len(scenes) == 1 else scenes
    split = make_split(recipe, data, name, seed, root)
    validation: Row = dict.fromkeys(("val_oa", "val_loss"), "")
    if name == recipe.publish and recipe.holdout:
        trial = split
        if not split.val.size:
            trial = split.with_validation(labels_of(data, split), fraction=recipe.holdout, seed=seed)
        _, result = _train(recipe, data, trial, seed, folder / "trial", device, progress)
        last = result.history[-1]
        validation = {"val_oa": round(100 * last["val_oa"], 2), "val_loss": round(last["val_loss"], 4)}
    whole = without_validation(split)
    model, result = _train(recipe, data, whole, seed, folder, device, progress)
    rest = (recipe, scenes, model, result, name, seed, split, whole, validation, folder, device)
    return group().on_first(lambda: _judged(*rest))


def _judged(
    recipe: Recipe,
    scenes: list[Scene],
    model: Classifier,
    result: ClassificationResult,
    name: str,
    seed: int,
    split: Split,
    whole: Split,
    validation: Row,
    folder: Path,
    device: str | None,
) -> Row:
    """Judge what was trained on a whole split, and write it; its row."""
    data = scenes[0] if len(scenes) == 1 else scenes
    report = evaluate_classifier(model, data, split, tta=recipe.tta)
    row: Row = {
        "split": name,
        "seed": seed,
        "split_id": split.id,
        "split_sha256": split.sha256,
        "train_pixels": int(whole.train.size),
        "test_pixels": int(split.test.size),
        "leakage": round(leakage(whole, model.patch_size, [scene.shape for scene in scenes]).share, 4),
        "epochs": len(result.history),
        **validation,
        **report.percent(),
        "minutes": round(result.seconds / 60, 1),
        "torch": torch.__version__,
        "machine": machine(device),
    }
    write_text(folder / "report.txt", f"{report}\n")
    record = {**recipe.data, "split": {"name": name, "id": split.id, "sha256": split.sha256}, "seed": seed}
    save_pretrained(
        model,
        folder / "model",
        split=split,
        metrics=report.percent(),
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
) -> tuple[Classifier, ClassificationResult]:
    """Train from the seed's initial weights on all training pixels of a split, or continue where it was interrupted."""
    steps = [STEPS[step["kind"]](**{k: v for k, v in step.items() if k != "kind"}) for step in recipe.transform]
    pixels = split.train if recipe.fit == "training" else np.arange(split.shape[0] * split.shape[1])
    transform = Compose(steps).fit_scene(data, pixels)
    torch.manual_seed(seed)
    model = as_classifier(create_model(recipe.architecture, device=device, **recipe.model_args))
    settings = settings_for(model, recipe.finetune, seed=seed, val_fraction=0.0)
    keeping = Keeping.in_folder(folder, progress=progress)
    return model, train_classifier(model, data, split, settings, transform=transform, keeping=keeping)


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


def publish(recipe: Recipe, out: Path, folder: str | Path) -> Path:
    """Write the model folder of a finished recipe: the median run's weight, with the metrics over all runs.

    Raises:
        HsmambaError: Runs are missing.
    """
    rows = read_results(out / "results.csv")
    wanted = {(name, seed) for name in recipe.splits for seed in recipe.seeds}
    if missing := sorted(wanted - {(row["split"], row["seed"]) for row in rows}):
        raise HsmambaError(f"{out} lacks the runs {missing}; run the recipe to its end first")
    chosen = median_run(recipe, rows)
    source = out / f"{chosen['split']}-seed{chosen['seed']}" / "model"
    others = read_results(out / BASELINES)
    classical = {"baselines": summarise_baselines(others)} if _is_whole(others, wanted) else {}
    trained = read_folder(source)
    model = create_model(f"local-dir:{source}")
    return save_pretrained(
        model,
        folder,
        split=trained.load_split(),
        metrics={**summarise(rows), "this weight": {key: chosen[key] for key in HEADLINES}},
        data={**trained.data, **recipe.data, "seeds": list(recipe.seeds), **classical},
        license=recipe.license,
        recipe=recipe.name,
        bands=trained.bands,
    )


def _is_whole(rows: Iterable[Row], wanted: set[tuple[str, int]]) -> bool:
    """Whether there are baselines of every run."""
    return wanted <= {(row["split"], row["seed"]) for row in rows}
