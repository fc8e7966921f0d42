"""`hsmamba finetune` of a classifier on a labelled scene."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any

from hsmamba.cli._common import load_model, open_or_load, say
from hsmamba.cli._training import RunFolder, chosen, license_of, say_licence
from hsmamba.errors import HsmambaWarning, SceneError

if TYPE_CHECKING:
    from hsmamba.data import Scene, Split
    from hsmamba.models import Classifier


def finetune_scene(
    model: str,
    scene: str,
    *,
    opening: tuple[Any, ...],
    fraction: float | None,
    count: int | None,
    cap: bool,
    disjoint: bool,
    bands: int | None,
    patch_size: int | None,
    settings: dict[str, Any],
    folder: RunFolder,
    nan: Any,
    scale: Any,
    license: str | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Train, judge and save; the arguments are the command's, `opening` what `open_or_load` takes after the name."""
    if (fraction is None) == (count is None):
        raise ValueError("give either --fraction (0.05 is 5 % of each class) or --count (pixels of each class)")
    if disjoint and (fraction is None or cap):
        raise ValueError("--disjoint takes --fraction, and no --cap")
    opened = open_or_load(scene, *opening)
    if opened.labels is None:
        raise SceneError(f"{scene} has no labels; give a label image with --labels")
    import torch

    from hsmamba import evaluate, finetune, save_pretrained
    from hsmamba.engine.classification.train import fits_in_one_step

    seed = settings["seed"]
    torch.manual_seed(seed)
    network = _network(model, opened, bands, patch_size, device)
    split = _split(opened, network.patch_size if disjoint else None, fraction, count, cap, seed)
    at_once, keeping = fits_in_one_step(network), folder.keeping()
    if at_once:  # nothing to keep on the way, and nothing random
        settings, keeping = {**settings, "seed": None}, {"callback": keeping["callback"]}
    result = finetune(
        network, opened, split, nan=nan, scale=scale, progress=not as_json, **keeping, **chosen(**settings)
    )
    report = evaluate(network, opened, result.split, nan=nan)
    data = {"name": opened.name or scene, "source": opened.source, "license": opened.license, "seed": seed}
    terms = license_of(network, license, opened.license)
    save_pretrained(network, folder.model, split=result.split, metrics=report.percent(), data=data, license=terms)
    if as_json:
        say(json.dumps({"model": str(folder.model), "best_epoch": result.best_epoch, "test": report.to_dict()}))
        return
    how = f"best epoch {result.best_epoch} of {len(result.history)} by validation"
    say(f"{report}\n\n{'fitted in one step' if at_once else how}; model in {folder.model}")
    say_licence(network, terms, model)


def _split(
    opened: Scene, patch_size: int | None, fraction: float | None, count: int | None, cap: bool, seed: int
) -> Split:
    """Split the labels at random, or in blocks further apart than a patch where a patch size is given."""
    from hsmamba.data import block_split, random_split

    labels: Any = opened.labels
    if patch_size is not None:
        return block_split(labels, patch_size=patch_size, fraction=fraction or 0.0, seed=seed, strict=False)
    return random_split(labels, fraction=fraction, count=count, cap=cap, seed=seed)


def _network(model: str, opened: Scene, bands: int | None, patch_size: int | None, device: str | None) -> Classifier:
    """Build an architecture for a scene, or load a weight and give it what the scene has."""
    from hsmamba import create_model, is_model
    from hsmamba.engine.classification.classes import has_classes
    from hsmamba.engine.classification.fitting import sizes_for
    from hsmamba.models import as_classifier

    if is_model(model) and "." not in model:
        fitting = sizes_for(model, opened.good_bands.size, components=bands)
        sizes: dict[str, Any] = {"num_classes": opened.num_classes, **fitting}
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
