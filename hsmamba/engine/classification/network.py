"""The network that a scene is to be learnt by: an architecture made for it, or a weight brought to it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch

from hsmamba.data import Scene
from hsmamba.engine.classification.classes import has_classes
from hsmamba.engine.classification.fitting import sizes_for
from hsmamba.errors import HsmambaWarning
from hsmamba.models import Classifier, as_classifier, entry
from hsmamba.zoo.arguments import parameters_of
from hsmamba.zoo.factory import create_model, is_model


def network_for(
    model: str,
    scene: Scene,
    *,
    components: int | None = None,
    patch_size: int | None = None,
    model_args: Mapping[str, Any] | None = None,
    device: torch.device | str | None = None,
) -> Classifier:
    """Build an architecture for a scene, or load a weight and give it what the scene has.

    Args:
        model: Name of an architecture, or of a weight as `create_model` takes it.
        scene: Labelled; its number of bands and classes, and its auxiliary bands where the architecture takes some.
        components: Of an architecture, how many components of the bands it sees; default what suits it.
        patch_size: Side of the patches; default the model's.
        model_args: Further arguments of an architecture.
        device: Where to put it.

    Warns:
        HsmambaWarning: A weight gets a new head.
    """
    if is_model(model) and "." not in model:
        args = dict(model_args or {})
        levels = {key: value for key, value in args.items() if key == "levels"}
        sizes: dict[str, Any] = {"num_classes": scene.num_classes}
        sizes |= sizes_for(model, scene.good_bands.size, components=components, **levels)
        known = parameters_of(entry(model))
        if scene.aux is not None and (not known or "aux_chans" in known):
            sizes["aux_chans"] = int(scene.aux.shape[2])
        return as_classifier(create_model(model, device=device, patch_size=patch_size, **{**sizes, **args}))
    options: dict[str, Any] = {"pretrained": True, "device": device, "patch_size": patch_size}
    network = as_classifier(create_model(model, **options))
    if network.in_chans > scene.good_bands.size:
        network = as_classifier(create_model(model, in_chans=scene.good_bands.size, **options))
    if not has_classes(network, scene):
        warnings.warn(f"{model} gets a new head, for {scene.num_classes} classes", HsmambaWarning, stacklevel=2)
        network.reset_classifier(scene.num_classes)
    return network
