"""`hsmamba finetune` of a classifier on a labelled scene."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hsmamba.cli._common import named, open_or_load, say, shows_progress, tell
from hsmamba.cli._training import RunFolder, chosen, license_of, say_licence
from hsmamba.errors import SceneError

if TYPE_CHECKING:
    from hsmamba.data import Scene, Split


def finetune_scene(
    model: str,
    scene: str,
    *,
    opening: tuple[Any, ...],
    fraction: float | None,
    count: int | None,
    cap: bool,
    split_file: Path | None,
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
    if sum(given is not None for given in (fraction, count, split_file)) != 1:
        raise ValueError(
            "give one of --fraction (0.05 is 5 % of each class), --count (pixels of each class) and --split (a file)"
        )
    if disjoint and (fraction is None or cap):
        raise ValueError("--disjoint takes --fraction, and no --cap")
    opened = open_or_load(scene, *opening)
    if opened.labels is None:
        raise SceneError(f"{scene} has no labels; give a label image with --labels")
    import torch

    from hsmamba import Split, evaluate, finetune, save_pretrained
    from hsmamba.engine.classification.network import network_for
    from hsmamba.engine.classification.train import fits_in_one_step
    from hsmamba.engine.parallel import group

    seed = settings["seed"]
    torch.manual_seed(seed)
    network = network_for(named(model), opened, components=bands, patch_size=patch_size, device=device)
    if split_file is not None:
        split = Split.load(split_file)
    else:
        split = _split(opened, (network.patch_size or 1) if disjoint else None, fraction, count, cap, seed)
    at_once, keeping = fits_in_one_step(network), folder.keeping()
    if at_once:  # nothing to keep on the way, and nothing random
        settings, keeping = {**settings, "seed": None}, {"callback": keeping["callback"]}
    result = finetune(
        network, opened, split, nan=nan, scale=scale, progress=shows_progress(as_json), **keeping, **chosen(**settings)
    )
    shown = shows_progress(as_json)
    report = group().on_first(lambda: evaluate(network, opened, result.split, nan=nan, progress=shown))
    data = {"name": opened.name or scene, "source": opened.source, "license": opened.license, "seed": seed}
    terms = license_of(network, license, opened.license)
    kept: dict[str, Any] = {"metrics": report.percent(), "data": data, "license": terms}
    group().on_first(lambda: save_pretrained(network, folder.model, split=result.split, **kept))
    if as_json:
        tell({"model": str(folder.model), "best_epoch": result.best_epoch, "test": report.to_dict()})
        return
    epochs = len(result.history)
    how = f"best epoch {result.best_epoch} of {epochs} by validation"
    if result.validation is None:
        how = f"the last of {epochs} epochs on all {result.split.train.size} training pixels"
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
