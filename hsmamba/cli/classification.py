"""Commands on scenes to classify: demo, classify, finetune, evaluate, train."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hsmamba.cli._common import (
    MODEL_HELP,
    AuxOption,
    DeviceOption,
    JsonFlag,
    LabelsOption,
    LabelsVariableOption,
    NanOption,
    SceneArgument,
    VariableOption,
    app,
    check_writable,
    load_model,
    open_or_load,
    say,
    split_of,
)
from hsmamba.cli.fusion_training import train_fusion

if TYPE_CHECKING:
    from hsmamba.data import Scene


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the picture and the arrays.")] = Path("."),
    as_json: JsonFlag = False,
) -> None:
    """Classify the Indian Pines scene with the weights that come with the package, and draw the map."""
    start = time.perf_counter()
    name = "md2f_mamba.indian_pines"
    picture, arrays = out / "indian_pines_map.png", out / "indian_pines_map.npz"
    check_writable(picture)
    import numpy as np

    from hsmamba import classify, load_scene, viz
    from hsmamba._files import atomic_path
    from hsmamba.metrics import ClassificationReport

    scene = load_scene("indian_pines")
    model = load_model(name)
    split = split_of(name)
    ready = time.perf_counter()
    labels, confidence = classify(model, scene, progress=not as_json)
    classified = time.perf_counter()
    truth = np.asarray(scene.labels).ravel()[split.test]
    report = ClassificationReport.from_labels(truth, labels.ravel()[split.test], scene.class_names)
    title = f"Indian Pines, {name}: OA {100 * report.oa:.2f} % on {split.test.size} test pixels"
    figure = viz.classification_map(scene, labels, confidence, title=title)
    with atomic_path(picture) as temporary:
        figure.savefig(temporary, dpi=150)
    with atomic_path(arrays) as temporary:
        np.savez_compressed(temporary, labels=labels, confidence=confidence)
    seconds = {"load": ready - start, "classify": classified - ready, "total": time.perf_counter() - start}
    if as_json:
        say(json.dumps({**report.to_dict(), "seconds": seconds, "files": [str(picture), str(arrays)]}))
        return
    say(f"{name} on the {split.test.size} test pixels of its own split ({split.id})\n\n{report}\n")
    say(f"wrote {picture} and {arrays}")
    pixels = labels.size / seconds["classify"]
    say(f"took {seconds['total']:.1f} s; {seconds['classify']:.1f} s to classify, {pixels:,.0f} pixels a second")


@app.command("classify")
def classify_command(
    scene: SceneArgument,
    model: Annotated[str, typer.Option("--model", "-m", help=MODEL_HELP)],
    out: Annotated[list[Path], typer.Option("--out", "-o", help="Output: .tif, .npz, .npy or .png; may be repeated.")],
    variable: VariableOption = None,
    aux: AuxOption = None,
    nan: NanOption = "raise",
    tta: Annotated[
        bool, typer.Option("--tta", help="Average over flips and quarter turns (8 times the work).")
    ] = False,
    batch_size: Annotated[int | None, typer.Option(help="Pixels at a time.")] = None,
    device: DeviceOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Classify every pixel of a scene and write the map."""
    for path in out:
        if path.suffix not in _WRITERS:
            raise ValueError(f"cannot write {path.suffix or 'a file without suffix'}; choose {', '.join(_WRITERS)}")
        check_writable(path)
    opened = open_or_load(scene, variable, aux=aux)
    network = load_model(model, device=device)
    from hsmamba import classify

    start = time.perf_counter()
    labels, confidence = classify(network, opened, batch_size=batch_size, nan=nan, tta=tta, progress=not as_json)
    seconds = time.perf_counter() - start
    opened.class_names = tuple(network.class_names) or opened.class_names
    for path in out:
        _WRITERS[path.suffix](path, opened, labels, confidence)
    counts = _counts(labels, opened.class_names)
    if as_json:
        say(json.dumps({"pixels": counts, "seconds": seconds, "files": [str(path) for path in out]}))
        return
    width = max(len(key) for key in counts)
    say("\n".join(f"{key:<{width}}  {count:>9}" for key, count in counts.items()))
    say(f"wrote {', '.join(map(str, out))}; took {seconds:.1f} s")


def _counts(labels: Any, names: tuple[str, ...]) -> dict[str, int]:
    import numpy as np

    values, counts = np.unique(np.asarray(labels), return_counts=True)
    label = dict(enumerate(("unclassified", *names)))
    return {label.get(int(v), f"class {v}"): int(n) for v, n in zip(values, counts, strict=True)}


def _write_arrays(path: Path, scene: Scene, labels: Any, confidence: Any) -> None:
    import numpy as np

    from hsmamba._files import atomic_path

    with atomic_path(path) as temporary:
        if path.suffix == ".npy":
            np.save(temporary, np.asarray(labels))
        else:
            np.savez_compressed(temporary, labels=np.asarray(labels), confidence=np.asarray(confidence))


def _write_tif(path: Path, scene: Scene, labels: Any, confidence: Any) -> None:
    from hsmamba.data.writers import write_raster

    write_raster(path, labels, nodata=0)
    write_raster(path.with_name(f"{path.stem}_confidence{path.suffix}"), confidence)


def _write_png(path: Path, scene: Scene, labels: Any, confidence: Any) -> None:
    from hsmamba import viz
    from hsmamba._files import atomic_path

    figure = viz.classification_map(scene, labels, confidence)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)


_WRITERS = {".tif": _write_tif, ".tiff": _write_tif, ".npz": _write_arrays, ".npy": _write_arrays, ".png": _write_png}


@app.command("finetune")
def finetune_command(
    scene: SceneArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for model, checkpoint, history and report.")],
    model: Annotated[str, typer.Option("--model", "-m", help=f"An architecture, or {MODEL_HELP}")] = "md2f_mamba",
    labels: LabelsOption = None,
    variable: VariableOption = None,
    labels_variable: LabelsVariableOption = None,
    aux: AuxOption = None,
    fraction: Annotated[float | None, typer.Option(help="Share of each class's pixels to train on.")] = None,
    count: Annotated[int | None, typer.Option(help="Pixels of each class to train on.")] = None,
    disjoint: Annotated[bool, typer.Option("--disjoint", help="Spatially disjoint blocks (with --fraction).")] = False,
    bands: Annotated[int, typer.Option(help="PCA components for an architecture without weights.")] = 30,
    epochs: Annotated[int, typer.Option(help="Passes over the training pixels.")] = 100,
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = 1e-3,
    batch_size: Annotated[int, typer.Option(help="Patches a step.")] = 64,
    seed: Annotated[int, typer.Option(help="Of split, initial weights and training.")] = 0,
    device: DeviceOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run in OUT.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Fine-tune a model on a labelled scene; OUT/model is a folder that every command takes as a model."""
    checkpoint = out / "checkpoint.pt"
    check_writable(checkpoint)
    if (fraction is None) == (count is None):
        raise ValueError("give either --fraction (0.05 is 5 % of each class) or --count (pixels of each class)")
    opened = open_or_load(scene, variable, labels, labels_variable, aux)
    import torch

    from hsmamba import create_model, finetune, is_model, save_pretrained
    from hsmamba.data import block_split, random_split
    from hsmamba.errors import SceneError

    if opened.labels is None:
        raise SceneError(f"{scene} has no labels; give a label image with --labels")
    torch.manual_seed(seed)
    new = is_model(model) and "." not in model
    if new:
        sizes = {"num_classes": opened.num_classes, "in_chans": min(bands, opened.num_bands)}
        if opened.aux is not None:
            sizes["aux_chans"] = int(opened.aux.shape[2])
        network: Any = create_model(model, device=device, **sizes)
    else:
        network = load_model(model, num_classes=opened.num_classes, device=device)
    if disjoint:
        if fraction is None:
            raise ValueError("--disjoint takes --fraction")
        split = block_split(opened.labels, patch_size=network.patch_size, fraction=fraction, seed=seed, strict=False)
    else:
        split = random_split(opened.labels, fraction=fraction, count=count, seed=seed)
    result = finetune(
        network, opened, split, epochs=epochs, lr=lr, batch_size=batch_size, seed=seed, checkpoint=checkpoint,
        resume=checkpoint if resume else None, log=out / "history.csv", progress=not as_json,
    )  # fmt: skip
    from hsmamba import evaluate

    report = evaluate(network, opened, result.split)
    metrics = {key: round(100 * getattr(report, key), 2) for key in ("oa", "aa", "kappa", "mean_f1")}
    folder = save_pretrained(
        network, out / "model", split=result.split, metrics=metrics, class_names=opened.class_names,
        data={"name": opened.name or scene, "source": opened.source, "license": opened.license, "seed": seed},
        bands=opened.num_bands, wavelengths=opened.wavelengths, license=opened.license or "unknown",
    )  # fmt: skip
    if as_json:
        say(json.dumps({"model": str(folder), "best_epoch": result.best_epoch, "test": report.to_dict()}))
        return
    say(f"{report}\n\nbest epoch {result.best_epoch} of {len(result.history)} by validation; model in {folder}")


@app.command("evaluate")
def evaluate_command(
    model: Annotated[str, typer.Argument(help=MODEL_HELP)],
    scene: SceneArgument,
    labels: LabelsOption = None,
    variable: VariableOption = None,
    labels_variable: LabelsVariableOption = None,
    aux: AuxOption = None,
    split: Annotated[Path | None, typer.Option(help="A split file; default the one in the model's folder.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every labelled pixel, whatever the split.")] = False,
    nan: NanOption = "raise",
    tta: Annotated[bool, typer.Option("--tta", help="Average over flips and quarter turns.")] = False,
    device: DeviceOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Print OA, AA, kappa and the accuracy of every class on the test pixels."""
    import numpy as np

    from hsmamba import Split, evaluate

    opened = open_or_load(scene, variable, labels, labels_variable, aux)
    network = load_model(model, device=device)
    if every:
        shape = opened.shape
        none = np.empty(0, np.int64)
        labelled = np.flatnonzero(np.asarray(opened.labels)) if opened.labels is not None else none
        chosen = Split(train=none, val=none, test=labelled, shape=shape, id="all labelled pixels")
    elif split is not None:
        chosen = Split.load(split)
    else:
        chosen = split_of(model)
    report = evaluate(network, opened, chosen, nan=nan, tta=tta, progress=not as_json)
    say(report.to_json() if as_json else f"{chosen.id}\n\n{report}")


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="A recipe of the package, or a .toml file.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the runs; default runs/RECIPE.")] = Path("runs"),
    split: Annotated[list[str] | None, typer.Option(help="Only these splits.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Only these seeds.")] = None,
    publish: Annotated[Path | None, typer.Option(help="Write the model folder of the finished recipe here.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of scenes that come with no package.")] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Stop a fusion recipe after about so long, to go on later.")
    ] = None,
    device: DeviceOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Train a weight of the zoo again, by its recipe; continues where an earlier call stopped."""
    from hsmamba.engine import recipe as recipes
    from hsmamba.engine.fusion.recipe import FusionRecipe

    chosen = recipes.load_recipe(recipe)
    folder = out / chosen.name
    check_writable(folder / "results.csv")
    if isinstance(chosen, FusionRecipe):
        train_fusion(chosen, folder, data=data, minutes=minutes, publish=publish, device=device, as_json=as_json)
        return
    rows = recipes.run_recipe(chosen, folder, data=data, splits=split, seeds=seed, device=device, progress=not as_json)
    summary = recipes.summarise(rows)
    if publish is not None:
        recipes.publish(chosen, folder, publish)
    if as_json:
        say(json.dumps({"runs": rows, "summary": summary}))
        return
    for name, metrics in summary.items():
        runs = [row for row in rows if row["split"] == name]
        say(f"\n{chosen.name}, split {name}: {len(runs)} runs")
        for row in runs:
            say("  seed {seed}: OA {oa:.2f}  AA {aa:.2f}  kappa {kappa:.2f}".format(**row))
        say("  " + "  ".join(f"{key} {value['mean']:.2f} ± {value['std']:.2f}" for key, value in metrics.items()))
    say(f"\nresults in {folder / 'results.csv'}")
