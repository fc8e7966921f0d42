"""The command line: `hsmamba list | info | demo | classify | finetune | evaluate | train | download | verify | ...`.

Everything heavy is imported inside the commands, so that `--help` answers at once. A user's mistake ends with one line
on standard error and exit code 2.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from hsmamba.errors import HsmambaError

if TYPE_CHECKING:
    from hsmamba.data import Scene, Split

app = typer.Typer(
    name="hsmamba",
    help="A zoo of remote-sensing models with pretrained weights: classify a scene, fine-tune, evaluate.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
SceneArgument = Annotated[str, typer.Argument(help="A .mat, .npy, .npz, ENVI .hdr or GeoTIFF file, or 'indian_pines'.")]
VariableOption = Annotated[str | None, typer.Option(help="Name of the cube in a file with several arrays.")]
LabelsOption = Annotated[Path | None, typer.Option(help="Label image on the same grid, 0 = unlabelled.")]
LabelsVariableOption = Annotated[str | None, typer.Option(help="Name of the labels in a file with several arrays.")]
DeviceOption = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps; default cpu.")]
NanOption = Annotated[str, typer.Option(help="raise: refuse NaN pixels; mask: leave them unclassified.")]
MODEL_HELP = "architecture.tag, hf-hub:owner/repo[@revision] or local-dir:path (a folder alone will do)."


def main() -> NoReturn:
    """Run the command line; a user's mistake ends with one line and exit code 2."""
    try:
        app()
    except (HsmambaError, ValueError, TypeError, OSError) as error:
        if os.environ.get("HSMAMBA_TRACEBACK"):
            raise
        typer.echo(f"hsmamba: {' '.join(str(error).split())}", err=True)
        sys.exit(2)
    sys.exit(0)


def _say(text: object = "") -> None:
    typer.echo(str(text))


def _scene(path: str, variable: str | None, labels: Path | None, labels_variable: str | None) -> Scene:
    from hsmamba.data import load_scene, open_scene

    if not Path(path).suffix and not Path(path).exists():
        return load_scene(path)
    return open_scene(path, variable=variable, labels=labels, labels_variable=labels_variable)


def _named(model: str) -> str:
    """Let a model folder be named without its prefix."""
    return f"local-dir:{model}" if (Path(model) / "config.json").is_file() else model


def _model(name: str, **kwargs: Any) -> Any:
    from hsmamba import create_model

    return create_model(_named(name), pretrained=True, **kwargs)


def _split_of(model: str) -> Split:
    from hsmamba.zoo.factory import folder_behind

    split = folder_behind(_named(model)).load_split()
    if split is None:
        raise ValueError(f"{model} carries no split; give one with --split, or --all for every labelled pixel")
    return split


def _check_writable(path: Path) -> None:
    """Refuse an output that cannot be written before the work is done, not after."""
    folder = path.absolute().parent
    while not folder.exists():
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"cannot write {str(path)!r}: {folder}: {error.strerror}; choose another folder") from None
    if path.is_dir():
        raise ValueError(f"cannot write {str(path)!r}: it is a folder; name a file in it")


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        from hsmamba import __version__

        _say(__version__)
        raise typer.Exit


@app.command("list")
def list_command(
    pattern: Annotated[str, typer.Argument(help="Shell wildcard.")] = "*",
    pretrained: Annotated[bool, typer.Option(help="List weights instead of architectures.")] = False,
    task: Annotated[str | None, typer.Option(help="classification or fusion.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """List the models, or the pretrained weights."""
    from hsmamba import list_models

    names = list_models(pattern, pretrained=pretrained, task=task)
    _say(json.dumps(names) if as_json else "\n".join(names))


@app.command()
def info(
    name: Annotated[str | None, typer.Argument(help=MODEL_HELP)] = None,
    backends: Annotated[bool, typer.Option("--backends", help="The backends of the selective scan here.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Tell what is known of a model: size, cost, inputs, weights with their metrics, paper."""
    if backends:
        from hsmamba.ops import available_backends

        states = available_backends()
        if as_json:
            _say(json.dumps({key: state._asdict() for key, state in states.items()}))
            return
        for key, state in states.items():
            _say(f"{key:<10} {state}")
        return
    if name is None:
        raise ValueError("name a model (hsmamba list shows them), or ask for --backends")
    from hsmamba import model_info

    found = model_info(name)
    _say(found.to_json() if as_json else found)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the picture and the arrays.")] = Path("."),
    as_json: JsonFlag = False,
) -> None:
    """Classify the Indian Pines scene with the weights that come with the package, and draw the map."""
    start = time.perf_counter()
    name = "md2f_mamba.indian_pines"
    picture, arrays = out / "indian_pines_map.png", out / "indian_pines_map.npz"
    _check_writable(picture)
    import numpy as np

    from hsmamba import classify, load_scene, viz
    from hsmamba._files import atomic_path
    from hsmamba.metrics import ClassificationReport

    scene = load_scene("indian_pines")
    model = _model(name)
    split = _split_of(name)
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
        _say(json.dumps({**report.to_dict(), "seconds": seconds, "files": [str(picture), str(arrays)]}))
        return
    _say(f"{name} on the {split.test.size} test pixels of its own split ({split.id})\n\n{report}\n")
    _say(f"wrote {picture} and {arrays}")
    pixels = labels.size / seconds["classify"]
    _say(f"took {seconds['total']:.1f} s; {seconds['classify']:.1f} s to classify, {pixels:,.0f} pixels a second")


@app.command("classify")
def classify_command(
    scene: SceneArgument,
    model: Annotated[str, typer.Option("--model", "-m", help=MODEL_HELP)],
    out: Annotated[list[Path], typer.Option("--out", "-o", help="Output: .tif, .npz, .npy or .png; may be repeated.")],
    variable: VariableOption = None,
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
        _check_writable(path)
    opened = _scene(scene, variable, None, None)
    network = _model(model, device=device)
    from hsmamba import classify

    start = time.perf_counter()
    labels, confidence = classify(network, opened, batch_size=batch_size, nan=nan, tta=tta, progress=not as_json)
    seconds = time.perf_counter() - start
    opened.class_names = tuple(network.class_names) or opened.class_names
    for path in out:
        _WRITERS[path.suffix](path, opened, labels, confidence)
    counts = _counts(labels, opened.class_names)
    if as_json:
        _say(json.dumps({"pixels": counts, "seconds": seconds, "files": [str(path) for path in out]}))
        return
    width = max(len(key) for key in counts)
    _say("\n".join(f"{key:<{width}}  {count:>9}" for key, count in counts.items()))
    _say(f"wrote {', '.join(map(str, out))}; took {seconds:.1f} s")


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
    _check_writable(checkpoint)
    if (fraction is None) == (count is None):
        raise ValueError("give either --fraction (0.05 is 5 % of each class) or --count (pixels of each class)")
    opened = _scene(scene, variable, labels, labels_variable)
    import torch

    from hsmamba import create_model, finetune, is_model, save_pretrained
    from hsmamba.data import block_split, random_split
    from hsmamba.errors import SceneError

    if opened.labels is None:
        raise SceneError(f"{scene} has no labels; give a label image with --labels")
    torch.manual_seed(seed)
    new = is_model(model) and "." not in model
    if new:
        network: Any = create_model(
            model, num_classes=opened.num_classes, in_chans=min(bands, opened.num_bands), device=device
        )
    else:
        network = _model(model, num_classes=opened.num_classes, device=device)
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
        _say(json.dumps({"model": str(folder), "best_epoch": result.best_epoch, "test": report.to_dict()}))
        return
    _say(f"{report}\n\nbest epoch {result.best_epoch} of {len(result.history)} by validation; model in {folder}")


@app.command("evaluate")
def evaluate_command(
    model: Annotated[str, typer.Argument(help=MODEL_HELP)],
    scene: SceneArgument,
    labels: LabelsOption = None,
    variable: VariableOption = None,
    labels_variable: LabelsVariableOption = None,
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

    opened = _scene(scene, variable, labels, labels_variable)
    network = _model(model, device=device)
    if every:
        shape = opened.shape
        none = np.empty(0, np.int64)
        labelled = np.flatnonzero(np.asarray(opened.labels)) if opened.labels is not None else none
        chosen = Split(train=none, val=none, test=labelled, shape=shape, id="all labelled pixels")
    elif split is not None:
        chosen = Split.load(split)
    else:
        chosen = _split_of(model)
    report = evaluate(network, opened, chosen, nan=nan, tta=tta, progress=not as_json)
    _say(report.to_json() if as_json else f"{chosen.id}\n\n{report}")


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="A recipe of the package, or a .toml file.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the runs; default runs/RECIPE.")] = Path("runs"),
    split: Annotated[list[str] | None, typer.Option(help="Only these splits.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Only these seeds.")] = None,
    publish: Annotated[Path | None, typer.Option(help="Write the model folder of the finished recipe here.")] = None,
    device: DeviceOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Train a weight of the zoo again, by its recipe; continues where an earlier call stopped."""
    from hsmamba.engine import recipe as recipes

    chosen = recipes.load_recipe(recipe)
    folder = out / chosen.name
    _check_writable(folder / "results.csv")
    rows = recipes.run_recipe(chosen, folder, splits=split, seeds=seed, device=device, progress=not as_json)
    summary = recipes.summarise(rows)
    if publish is not None:
        recipes.publish(chosen, folder, publish)
    if as_json:
        _say(json.dumps({"runs": rows, "summary": summary}))
        return
    for name, metrics in summary.items():
        runs = [row for row in rows if row["split"] == name]
        _say(f"\n{chosen.name}, split {name}: {len(runs)} runs")
        for row in runs:
            _say("  seed {seed}: OA {oa:.2f}  AA {aa:.2f}  kappa {kappa:.2f}".format(**row))
        _say("  " + "  ".join(f"{key} {value['mean']:.2f} ± {value['std']:.2f}" for key, value in metrics.items()))
    _say(f"\nresults in {folder / 'results.csv'}")


@app.command()
def download(
    name: Annotated[str, typer.Argument(help="architecture.tag or hf-hub:owner/repo[@revision].")],
    cache_dir: Annotated[Path | None, typer.Option(help="Default: the Hugging Face cache.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Fetch a weight into the cache, verified, and print where its files are."""
    from hsmamba.zoo.factory import folder_behind

    files = {key: str(path) for key, path in folder_behind(name, cache_dir=cache_dir).files.items()}
    _say(json.dumps(files) if as_json else "\n".join(f"{key}: {path}" for key, path in files.items()))


@app.command()
def verify(
    name: Annotated[str | None, typer.Argument(help=f"{MODEL_HELP} Default: all embedded weights.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Check the SHA-256 of every file of a weight."""
    from hsmamba import list_pretrained
    from hsmamba.zoo.factory import folder_behind
    from hsmamba.zoo.manifest import sha256_file

    checked = {}
    for weight in [name] if name else list_pretrained():
        # Looking the folder up verifies every file; the hashes are printed for the user's own records.
        checked[weight] = {key: sha256_file(file) for key, file in folder_behind(_named(weight)).files.items()}
    if as_json:
        _say(json.dumps(checked))
        return
    for weight, hashes in checked.items():
        for key, digest in hashes.items():
            _say(f"ok  {weight}  {key}  {digest}")


bench = typer.Typer(help="Measure our speed beside the peers', in one process.", no_args_is_help=True)
app.add_typer(bench, name="bench")


@bench.command("scan")
def bench_scan_command(
    workload: Annotated[list[str] | None, typer.Option(help="Only these workloads (W1, W2a, ...).")] = None,
    candidate: Annotated[list[str] | None, typer.Option(help="Only these peers; ours always runs.")] = None,
    rounds: Annotated[int, typer.Option(help="Interleaved rounds; figures are medians.")] = 7,
) -> None:
    """Time the selective scan against its peers and against the physical limit of this machine."""
    from hsmamba.bench.scan import CANDIDATES, WORKLOADS, bench_scan

    bench_scan(workload or WORKLOADS, candidate or CANDIDATES, rounds, say=_say)


@app.command()
def convert(
    checkpoint: Annotated[
        Path, typer.Argument(help="Official checkpoint: a state dictionary, .pth, .pt or .safetensors.")
    ],
    out: Annotated[Path, typer.Argument(help="Model folder to write.")],
    arch: Annotated[str, typer.Option(help="Our architecture, for example md2f_mamba_ref.")],
    config: Annotated[
        str, typer.Option(help="Official configuration as JSON; what the tensors tell may be left out.")
    ] = "{}",
    license: Annotated[str, typer.Option(help="Licence of the checkpoint.")] = "unknown",
) -> None:
    """Convert an official checkpoint into a model folder."""
    _check_writable(out / "config.json")
    from hsmamba import load_official, save_pretrained
    from hsmamba.zoo.official import read_official

    model: Any = load_official(arch, read_official(checkpoint), **json.loads(config))
    data = {"source": f"official checkpoint {checkpoint.name}"}
    _say(f"wrote {save_pretrained(model, out, license=license, data=data)}")
