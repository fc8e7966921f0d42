"""`hsmamba finetune`: train a model on a labelled scene and save it as a model folder."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    ScaleOption,
    SceneArgument,
    VariableOption,
    app,
    check_writable,
    load_model,
    numbers,
    open_or_load,
    say,
)
from hsmamba.errors import HsmambaWarning, SceneError

if TYPE_CHECKING:
    from hsmamba.data import Scene
    from hsmamba.models import Classifier

_PCA, _MNF = 30, 40  # components


@app.command("finetune")
def finetune_command(
    scene: SceneArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for model, checkpoint, history and report.")],
    model: Annotated[str, typer.Option("--model", "-m", help=f"An architecture, or {MODEL_HELP}")] = "md2f_mamba",
    labels: LabelsOption = None,
    variable: VariableOption = None,
    labels_variable: LabelsVariableOption = None,
    labels_field: LabelsFieldOption = None,
    classes: ClassesOption = None,
    aux: AuxOption = None,
    fraction: Annotated[float | None, typer.Option(help="Share of each class's pixels to train on.")] = None,
    count: Annotated[int | None, typer.Option(help="Pixels of each class to train on.")] = None,
    cap: Annotated[bool, typer.Option("--cap", help="Take fewer of a class that has no more.")] = False,
    disjoint: Annotated[bool, typer.Option("--disjoint", help="Spatially disjoint blocks (with --fraction).")] = False,
    nan: NanOption = "raise",
    scale: ScaleOption = None,
    patch_size: Annotated[int | None, typer.Option(help="Side of the patches; default the architecture's.")] = None,
    bands: Annotated[
        int | None, typer.Option(help="Components for an architecture without weights; default 30, of MNF (lda) 40.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training pixels; default 100.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate; default 1e-3.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Patches a step; default 64.")] = None,
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
    resumed = _resumed(checkpoint, (log, folder), resume, overwrite)
    if (fraction is None) == (count is None):
        raise ValueError("give either --fraction (0.05 is 5 % of each class) or --count (pixels of each class)")
    if disjoint and (fraction is None or cap):
        raise ValueError("--disjoint takes --fraction, and no --cap")
    opened = open_or_load(scene, variable, labels, labels_variable, aux, classes, labels_field)
    import torch

    from hsmamba import evaluate, finetune, save_pretrained
    from hsmamba.data import block_split, random_split
    from hsmamba.engine.classification.train import fits_in_one_step
    from hsmamba.engine.lock import only_run

    if opened.labels is None:
        raise SceneError(f"{scene} has no labels; give a label image with --labels")
    torch.manual_seed(seed)
    network = _network(model, opened, bands, patch_size, device)
    if disjoint:
        size = network.patch_size
        split = block_split(opened.labels, patch_size=size, fraction=fraction or 0.0, seed=seed, strict=False)
    else:
        split = random_split(opened.labels, fraction=fraction, count=count, cap=cap, seed=seed)
    if overwrite:
        with only_run(checkpoint):  # which a later --resume would else continue if this run were killed at once
            checkpoint.unlink(missing_ok=True)
    policy: Any = nan
    settings = {"epochs": epochs, "lr": lr, "batch_size": batch_size}
    options: Any = {name: value for name, value in settings.items() if value is not None}
    if not fits_in_one_step(network):
        options |= {"seed": seed, "checkpoint": checkpoint, "resume": resumed, "log": log}
    result = finetune(network, opened, split, nan=policy, scale=numbers(scale), progress=not as_json, **options)
    report = evaluate(network, opened, result.split, nan=policy)
    if license is None and network.record is None:
        license = opened.license or "unknown"
    data = {"name": opened.name or scene, "source": opened.source, "license": opened.license, "seed": seed}
    save_pretrained(network, folder, split=result.split, metrics=report.percent(), data=data, license=license)
    if as_json:
        say(json.dumps({"model": str(folder), "best_epoch": result.best_epoch, "test": report.to_dict()}))
        return
    how = f"best epoch {result.best_epoch} of {len(result.history)} by validation"
    say(f"{report}\n\n{'fitted in one step' if fits_in_one_step(network) else how}; model in {folder}")
    if license is None and network.record is not None:
        say(f"its licence is that of {model}: {network.record['license']}; --license names another")


def _resumed(checkpoint: Path, others: tuple[Path, ...], resume: bool, overwrite: bool) -> Path | None:
    """Check what an earlier run has left in the folder; return the checkpoint to go on from."""
    out = checkpoint.parent
    check_writable(checkpoint)
    if resume and overwrite:
        raise ValueError("--resume continues the run that --overwrite replaces; give one of them")
    if resume and not checkpoint.exists():
        if any(path.exists() for path in others):
            raise ValueError(f"{out} holds an earlier run without its checkpoint.pt; replace it with --overwrite")
        warnings.warn(f"{out} holds no checkpoint yet; the run starts anew", HsmambaWarning, stacklevel=1)
    there = [path.name for path in (checkpoint, *others) if path.exists()]
    if there and not (resume or overwrite):
        raise ValueError(
            f"{out} holds an earlier run ({', '.join(there)}); continue it with --resume, replace it with --overwrite, "
            "or choose another folder"
        )
    return checkpoint if resume and checkpoint.exists() else None


def _network(model: str, opened: Scene, bands: int | None, patch_size: int | None, device: str | None) -> Classifier:
    """Build an architecture for a scene, or load a weight and give it what the scene has."""
    from hsmamba import create_model, is_model
    from hsmamba.engine.classification.classes import has_classes
    from hsmamba.models import as_classifier, entry
    from hsmamba.zoo.arguments import rehearse

    if is_model(model) and "." not in model:
        reduction = as_classifier(rehearse(entry(model), {}, 0, model)).reduction
        components = bands or (_MNF if reduction == "mnf" else _PCA)
        sizes: dict[str, Any] = {"num_classes": opened.num_classes, "in_chans": min(components, opened.good_bands.size)}
        if opened.aux is not None:
            sizes["aux_chans"] = int(opened.aux.shape[2])
        return as_classifier(create_model(model, device=device, patch_size=patch_size, **sizes))
    network = as_classifier(load_model(model, device=device, patch_size=patch_size))
    if network.in_chans > opened.good_bands.size:
        in_chans = opened.good_bands.size
        network = as_classifier(load_model(model, in_chans=in_chans, device=device, patch_size=patch_size))
    if not has_classes(network, opened):
        warnings.warn(f"{model} gets a new head, for {opened.num_classes} classes", HsmambaWarning, stacklevel=1)
        network.reset_classifier(opened.num_classes)
    return network
