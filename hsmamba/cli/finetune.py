"""`hsmamba finetune`: train a model on a labelled scene, or on a pair of images, and save it as a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hsmamba.cli._common import (
    MODEL_HELP,
    AuxOption,
    ClassesOption,
    DeviceOption,
    JsonFlag,
    LabelsFieldOption,
    LabelsOption,
    LabelsVariableOption,
    NanOption,
    QuietFlag,
    ScaleOption,
    VariableOption,
    app,
    numbers,
)
from hsmamba.cli._finetune_pair import finetune_pair
from hsmamba.cli._finetune_scene import finetune_scene
from hsmamba.cli._training import RunFolder

_PAIR = "Of a pair of images"
_ONE_TASK: dict[str, tuple[str, ...]] = {
    "scene": (
        "scene", "labels", "variable", "labels_variable", "labels_field", "classes", "aux", "fraction", "count", "cap",
        "split", "disjoint", "scale", "patch_size", "bands",
    ),
    "pair": (
        "ms", "guide", "ms_variable", "guide_variable", "ratio", "sensor", "maximum", "val", "test", "steps", "crop",
    ),
}  # fmt: skip


@app.command("finetune")
def finetune_command(
    context: typer.Context,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for model, checkpoint, history and report.")],
    scene: Annotated[
        str | None, typer.Argument(help="A .mat, .npy, .npz, ENVI .hdr or GeoTIFF file, or 'indian_pines'.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help=f"An architecture, or {MODEL_HELP} Default, of scenes: md2f_mamba."),
    ] = None,
    labels: LabelsOption = None,
    variable: VariableOption = None,
    labels_variable: LabelsVariableOption = None,
    labels_field: LabelsFieldOption = None,
    classes: ClassesOption = None,
    aux: AuxOption = None,
    fraction: Annotated[float | None, typer.Option(help="Share of each class's pixels to train on.")] = None,
    count: Annotated[int | None, typer.Option(help="Pixels of each class to train on.")] = None,
    cap: Annotated[bool, typer.Option("--cap", help="Take fewer of a class that has no more.")] = False,
    split: Annotated[Path | None, typer.Option(help="A split file, instead of these: Split.save writes one.")] = None,
    disjoint: Annotated[bool, typer.Option("--disjoint", help="Spatially disjoint blocks (with --fraction).")] = False,
    scale: ScaleOption = None,
    patch_size: Annotated[int | None, typer.Option(help="Side of the patches; default the architecture's.")] = None,
    bands: Annotated[
        int | None,
        typer.Option(help="Components for an architecture without weights; default 30, of lda 40, of graph_lda 60."),
    ] = None,
    ms: Annotated[Path | None, typer.Option(help="The coarse image.", rich_help_panel=_PAIR)] = None,
    guide: Annotated[Path | None, typer.Option(help="The sharp image.", rich_help_panel=_PAIR)] = None,
    ms_variable: Annotated[
        str | None, typer.Option(help="Name of MS in a file with several arrays.", rich_help_panel=_PAIR)
    ] = None,
    guide_variable: Annotated[
        str | None, typer.Option(help="Name of the guide in a file with several arrays.", rich_help_panel=_PAIR)
    ] = None,
    ratio: Annotated[
        int | None, typer.Option(help="Scale ratio; default that of the rows.", rich_help_panel=_PAIR)
    ] = None,
    sensor: Annotated[
        str | None,
        typer.Option(
            help="Whose MTF blurs: WV2, IKONOS, ...; default the weight's, else generic.", rich_help_panel=_PAIR
        ),
    ] = None,
    maximum: Annotated[
        str | None,
        typer.Option(help="What is 1: 2047, '10000,255' (MS, guide) or a sensor, 'WV3'.", rich_help_panel=_PAIR),
    ] = None,
    val: Annotated[
        float | None, typer.Option(help="Share of the rows to choose the epoch by.", rich_help_panel=_PAIR)
    ] = None,
    test: Annotated[
        float, typer.Option(help="Share of the rows that is held out and judged.", rich_help_panel=_PAIR)
    ] = 0.3,
    steps: Annotated[int | None, typer.Option(help="Steps an epoch; default 25.", rich_help_panel=_PAIR)] = None,
    crop: Annotated[
        int | None, typer.Option(help="Side of the crops in pixels of the reduced guide.", rich_help_panel=_PAIR)
    ] = None,
    nan: NanOption = "raise",
    epochs: Annotated[
        int | None,
        typer.Option(
            help="Passes over the training pixels, or stretches of --steps; default 100, with few labels 300 steps."
        ),
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Stop with the first epoch that ends so late.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate; default 1e-3, of mmapp 3e-4.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Patches a step, default 64, with few labels 32; or crops, default 2.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of split, initial weights and training.")] = 0,
    license: Annotated[
        str | None, typer.Option(help="Licence of the weights; default that of the base weight, else of the data.")
    ] = None,
    device: DeviceOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run in OUT.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run in OUT.")] = False,
    quiet: QuietFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Fine-tune a classifier on a labelled SCENE, or a fusion network on a pair, --ms and --guide.

    OUT/model is a folder that every command takes as a model.
    """
    task = _task(context)
    folder = RunFolder(out, resume, overwrite, minutes)
    folder.check()
    settings = {"epochs": epochs, "lr": lr, "batch_size": batch_size, "seed": seed}
    common: dict[str, Any] = {"folder": folder, "nan": nan, "license": license, "device": device, "as_json": as_json}
    if task == "pair":
        finetune_pair(
            model, {"ms": ms, "guide": guide}, {"ms": ms_variable, "guide": guide_variable}, ratio=ratio,
            sensor=sensor, maximum=numbers(maximum), shares={"val": val, "test": test},
            settings={**settings, "steps": steps, "crop": crop}, **common,
        )  # fmt: skip
        return
    finetune_scene(
        model or "md2f_mamba", scene or "", opening=(variable, labels, labels_variable, aux, classes, labels_field),
        fraction=fraction, count=count, cap=cap, split_file=split, disjoint=disjoint, scale=numbers(scale), bands=bands,
        patch_size=patch_size, settings=settings, **common,
    )  # fmt: skip


def _task(context: typer.Context) -> str:
    """Tell the task by the data, and refuse what is given of the other one."""
    given = {name for name in context.params if _is_given(context, name)}
    pair = bool(given & {"ms", "guide"})
    if not pair and "scene" not in given:
        raise ValueError("give a labelled SCENE, or --ms and --guide, the coarse image and the sharp one of a pair")
    task, other, what = ("pair", "scene", "a pair of images") if pair else ("scene", "pair", "a labelled scene")
    if odd := [_spelt(name) for name in _ONE_TASK[other] if name in given]:
        raise ValueError(f"{what} has no use for {' and '.join(odd)}; leave {'it' if len(odd) == 1 else 'them'} out")
    if missing := [f"--{name}" for name in ("ms", "guide") if pair and name not in given]:
        raise ValueError(f"a pair has a coarse image and a sharp one; give {missing[0]} too")
    return task


def _spelt(name: str) -> str:
    return "SCENE" if name == "scene" else f"--{name.replace('_', '-')}"


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
