"""`hsmamba evaluate`: metrics of a model on a labelled scene."""

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
    SceneArgument,
    VariableOption,
    app,
    load_model,
    numbers,
    open_or_load,
    shows_progress,
    split_of,
    tell,
)


@app.command("evaluate")
def evaluate_command(
    model: Annotated[str, typer.Argument(help=MODEL_HELP)],
    scene: SceneArgument,
    labels: LabelsOption = None,
    variable: VariableOption = None,
    labels_variable: LabelsVariableOption = None,
    labels_field: LabelsFieldOption = None,
    classes: ClassesOption = None,
    aux: AuxOption = None,
    split: Annotated[Path | None, typer.Option(help="A split file; default the one in the model's folder.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every labelled pixel, whatever the split.")] = False,
    nan: NanOption = "raise",
    scale: ScaleOption = None,
    tta: Annotated[bool, typer.Option("--tta", help="Average over flips and quarter turns.")] = False,
    regularise: Annotated[
        str,
        typer.Option(
            help="on: diffuse the probabilities between neighbours that look alike; off; auto: as is better on the "
            "validation pixels of the split."
        ),
    ] = "off",
    batch_size: Annotated[int | None, typer.Option(help="Pixels at a time.")] = None,
    baselines: Annotated[
        bool,
        typer.Option("--baselines", help="Fit classical classifiers on the training pixels and show them beside."),
    ] = False,
    device: DeviceOption = None,
    quiet: QuietFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Print OA, AA, kappa and the accuracy of every class on the test pixels."""
    import numpy as np

    from hsmamba import Split, evaluate

    opened = open_or_load(scene, variable, labels, labels_variable, aux, classes, labels_field)
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
    options: Any = {"nan": nan, "scale": numbers(scale), "tta": tta, "regularise": regularise, "batch_size": batch_size}
    report = evaluate(network, opened, chosen, baselines=baselines, progress=shows_progress(as_json), **options)
    tell(report.to_json() if as_json else f"{chosen.id}\n\n{report}")
