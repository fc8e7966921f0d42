"""`hsmamba finetune` of a fusion network on a pair of images of one's own, by Wald's protocol."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hsmamba.cli._common import load_model, say, shows_progress, tell
from hsmamba.cli._running import note
from hsmamba.cli._training import RunFolder, chosen, license_of, say_licence

if TYPE_CHECKING:
    from hsmamba.data.pairs import FusionPairs
    from hsmamba.metrics import FusionReport
    from hsmamba.models import FusionNetwork

_KINDS = {"reduced resolution": False, "full resolution": True}


def finetune_pair(
    model: str | None,
    paths: dict[str, Path | None],
    variables: dict[str, str | None],
    *,
    ratio: int | None,
    sensor: str | None,
    maximum: Any,
    shares: Any,
    settings: dict[str, Any],
    folder: RunFolder,
    nan: Any,
    license: str | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Train, judge beside the classical methods, and save; the arguments are the command's."""
    from hsmamba import evaluate, finetune, save_pretrained
    from hsmamba.data import open_image, wald_pairs
    from hsmamba.data.wald import ratio_of
    from hsmamba.engine.parallel import group

    if model is None:
        raise ValueError(f"give a fusion network with --model: {', '.join(_architectures())}, or a weight")
    images: dict[str, Any] = {key: open_image(path or "", variable=variables[key]) for key, path in paths.items()}
    found = ratio or ratio_of(images["ms"], images["guide"])
    network = _network(model, _bands(images["ms"]), _bands(images["guide"]), found, settings["seed"], device)
    chosen_sensor = sensor or _sensor(network, _bands(images["ms"]))
    name = Path(paths["ms"] or "").stem
    pairs = wald_pairs(
        images["ms"], images["guide"], sensor=chosen_sensor, ratio=found, maximum=maximum, nan=nan, name=name, **shares
    )
    result = finetune(network, pairs, progress=shows_progress(as_json), **folder.keeping(), **chosen(**settings))
    if pairs.test:
        note("the training is over; judging the held-out rows beside the classical methods")
    report = group().on_first(lambda: evaluate(network, pairs) if pairs.test else None)
    data = {"name": name, "sensor": pairs.sensor.name, "maximum": pairs.maximum, "seed": settings["seed"]}
    terms = license_of(network, license, None)
    figures = _figures(report) if report else None
    kept: dict[str, Any] = {"metrics": figures, "data": data, "license": terms, "bands": pairs.in_chans}
    group().on_first(lambda: save_pretrained(network, folder.model, **kept))
    if as_json:
        test = report.to_dict() if report else None
        tell({"model": str(folder.model), "best_epoch": result.best_epoch, "test": test})
        return
    say(_told(report, pairs))
    choice = "by validation" if pairs.val else "the last"
    say(f"\nbest epoch {result.best_epoch} of {len(result.history)}, {choice}; model in {folder.model}")
    say_licence(network, terms, model)


def _architectures() -> list[str]:
    from hsmamba import list_models

    names: list[str] = list_models(task="fusion")
    return names


def _bands(image: Any) -> int:
    return int(image.shape[2]) if image.ndim == 3 else 1


def _network(model: str, in_chans: int, guide_chans: int, scale: int, seed: int, device: str | None) -> FusionNetwork:
    """Build an architecture for a pair, or load a weight and give it the pair's sizes where it has others."""
    import torch

    from hsmamba import create_model, is_model
    from hsmamba.models import as_fusion_network, registry

    torch.manual_seed(seed)
    sizes: dict[str, Any] = {"in_chans": in_chans, "guide_chans": guide_chans, "scale": scale}
    if is_model(model) and "." not in model:
        if registry()[model].cfg.task == "classification":
            raise ValueError(f"{model} is a classifier; a pair trains a fusion network: {', '.join(_architectures())}")
        return as_fusion_network(create_model(model, device=device, **registry()[model].cfg.train_args, **sizes))
    network = as_fusion_network(load_model(model, device=device))
    if network.sizes != sizes:
        network = as_fusion_network(load_model(model, device=device, **sizes))
    return network


def _sensor(network: FusionNetwork, bands: int) -> str:
    """Return the sensor of the weight where the pair has its bands, else "generic", and say so."""
    from hsmamba.data import get_sensor
    from hsmamba.data.sensors import band_gains
    from hsmamba.errors import SceneError

    name = str(((network.record or {}).get("data") or {}).get("sensor") or "generic")
    try:
        band_gains(get_sensor(name), bands)
    except (ValueError, SceneError):
        return "generic"
    return name


def _figures(report: FusionReport) -> dict[str, dict[str, float]]:
    """Return the network's means by kind of figures, as records hold them."""
    tables = {kind: report.mean(full=full) for kind, full in _KINDS.items()}
    return {
        kind: {key: round(value, 4) for key, value in means[report.model].items()}
        for kind, means in tables.items()
        if means
    }


def _told(report: FusionReport | None, pairs: FusionPairs) -> str:
    """Write the tables, and whether a classical method is better on the held-out rows."""
    if report is None:
        return "no rows were held out (--test 0), so nothing is known of how good it is"
    means = report.mean()
    best = min(means, key=lambda method: means[method]["ERGAS"])
    if best == report.model:
        return str(report)
    figures = f"ERGAS {means[best]['ERGAS']:.3f} against {means[report.model]['ERGAS']:.3f}"
    return f"{report}\n\n{best} is better on the held-out rows of {pairs.name}: {figures}"
