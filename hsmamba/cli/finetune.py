"""`hsmamba finetune`: train a model on a labelled scene and save it as a model folder."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Annotated

import typer

from hsmamba.cli._common import (
    MODEL_HELP,
    AuxOption,
    ClassesOption,
    DeviceOption,
    JsonFlag,
    LabelsOption,
    LabelsVariableOption,
    SceneArgument,
    VariableOption,
    app,
    check_writable,
    load_model,
    open_or_load,
    say,
)
from hsmamba.errors import HsmambaWarning, SceneError


@app.command("finetune")
def finetune_command(
    scene: SceneArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for model, checkpoint, history and report.")],
    model: Annotated[str, typer.Option("--model", "-m", help=f"An architecture, or {MODEL_HELP}")] = "md2f_mamba",
    labels: LabelsOption = None,
    variable: VariableOption = None,
    labels_variable: LabelsVariableOption = None,
    classes: ClassesOption = None,
    aux: AuxOption = None,
    fraction: Annotated[float | None, typer.Option(help="Share of each class's pixels to train on.")] = None,
    count: Annotated[int | None, typer.Option(help="Pixels of each class to train on.")] = None,
    cap: Annotated[bool, typer.Option("--cap", help="Take fewer of a class that has no more.")] = False,
    disjoint: Annotated[bool, typer.Option("--disjoint", help="Spatially disjoint blocks (with --fraction).")] = False,
    bands: Annotated[int, typer.Option(help="PCA components for an architecture without weights.")] = 30,
    epochs: Annotated[int, typer.Option(help="Passes over the training pixels.")] = 100,
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = 1e-3,
    batch_size: Annotated[int, typer.Option(help="Patches a step.")] = 64,
    seed: Annotated[int, typer.Option(help="Of split, initial weights and training.")] = 0,
    license: Annotated[
        str | None, typer.Option(help="Licence of the weights; default that of the base weight, else of the data.")
    ] = None,
    device: DeviceOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run in OUT.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run in OUT.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Fine-tune a model on a labelled scene; OUT/model is a folder that every command takes as a model."""
    checkpoint, log, folder = out / "checkpoint.pt", out / "history.csv", out / "model"
    check_writable(checkpoint)
    if resume and overwrite:
        raise ValueError("--resume continues the run that --overwrite replaces; give one of them")
    resumed = checkpoint if resume and checkpoint.exists() else None
    if resume and resumed is None:
        if log.exists() or folder.exists():
            raise ValueError(f"{out} holds an earlier run without its checkpoint.pt; replace it with --overwrite")
        warnings.warn(f"{out} holds no checkpoint yet; the run starts anew", HsmambaWarning, stacklevel=1)
    if not (resume or overwrite) and (there := [path.name for path in (checkpoint, log, folder) if path.exists()]):
        raise ValueError(
            f"{out} holds an earlier run ({', '.join(there)}); continue it with --resume, replace it with --overwrite, "
            "or choose another folder"
        )
    if (fraction is None) == (count is None):
        raise ValueError("give either --fraction (0.05 is 5 % of each class) or --count (pixels of each class)")
    opened = open_or_load(scene, variable, labels, labels_variable, aux, classes)
    import torch

    from hsmamba import create_model, evaluate, finetune, is_model, save_pretrained
    from hsmamba.data import block_split, random_split
    from hsmamba.engine.classification.classes import has_classes
    from hsmamba.engine.lock import only_run
    from hsmamba.models import as_classifier

    if opened.labels is None:
        raise SceneError(f"{scene} has no labels; give a label image with --labels")
    torch.manual_seed(seed)
    new = is_model(model) and "." not in model
    if new:
        sizes = {"num_classes": opened.num_classes, "in_chans": min(bands, opened.good_bands.size)}
        if opened.aux is not None:
            sizes["aux_chans"] = int(opened.aux.shape[2])
        network = as_classifier(create_model(model, device=device, **sizes))
    else:
        network = as_classifier(load_model(model, device=device))
        if network.in_chans > opened.good_bands.size:
            network = as_classifier(load_model(model, in_chans=opened.good_bands.size, device=device))
        if not has_classes(network, opened):
            warnings.warn(f"{model} gets a new head, for {opened.num_classes} classes", HsmambaWarning, stacklevel=1)
            network.reset_classifier(opened.num_classes)
    if disjoint:
        if fraction is None or cap:
            raise ValueError("--disjoint takes --fraction, and no --cap")
        split = block_split(opened.labels, patch_size=network.patch_size, fraction=fraction, seed=seed, strict=False)
    else:
        split = random_split(opened.labels, fraction=fraction, count=count, cap=cap, seed=seed)
    if overwrite:
        with only_run(checkpoint):  # which a later --resume would else continue if this run were killed at once
            checkpoint.unlink(missing_ok=True)
    result = finetune(
        network, opened, split, epochs=epochs, lr=lr, batch_size=batch_size, seed=seed, checkpoint=checkpoint,
        resume=resumed, log=log, progress=not as_json,
    )  # fmt: skip
    report = evaluate(network, opened, result.split)
    if license is None and network.record is None:
        license = opened.license or "unknown"
    save_pretrained(
        network, folder, split=result.split, metrics=report.percent(),
        data={"name": opened.name or scene, "source": opened.source, "license": opened.license, "seed": seed},
        bands=opened.num_bands, wavelengths=opened.wavelengths, license=license,
    )  # fmt: skip
    if as_json:
        say(json.dumps({"model": str(folder), "best_epoch": result.best_epoch, "test": report.to_dict()}))
        return
    say(f"{report}\n\nbest epoch {result.best_epoch} of {len(result.history)} by validation; model in {folder}")
    if license is None and network.record is not None:
        say(f"its licence is that of {model}: {network.record['license']}; --license names another")
