"""The table of architectures: name, entry point and what is known of each; mirrored into timm's own registry."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, overload

import timm.models
import torch
from torch import Tensor, nn

from hsmamba.errors import UnknownModelError
from hsmamba.models._base import as_classifier, as_fusion_network, numbers_of

Task = Literal["classification", "fusion"]
EntryPoint = Callable[..., nn.Module]
F = TypeVar("F", bound=EntryPoint)


@dataclass(frozen=True)
class ModelCfg:
    """What is known of an architecture beside its code.

    Attributes:
        task: "classification": `forward(hsi, aux=None)`; "fusion": `forward(ms, guide, ms_up=None)`.
        summary: One line for listings.
        citation: The paper, with venue and DOI.
        default_tag: The weight that the bare name with `pretrained=True` takes; None where there is no weight.
        train_args: Arguments with which `hsmamba finetune` builds it without a weight, where the paper's own network
            would need far more steps.
        train_settings: Settings of `finetune` that suit it better than the defaults, for callers who give none.
        tiny: Arguments of a small network of the kind, on which the tests of all networks run.
        can_compile: `torch.compile(fullgraph=True)` works.
        can_export: `torch.export.export` works.
        can_onnx: `torch.onnx.export` works and onnxruntime runs the result.
    """

    task: Task = "classification"
    summary: str = ""
    citation: str = ""
    default_tag: str | None = None
    train_args: Mapping[str, Any] = field(default_factory=dict)
    train_settings: Mapping[str, Any] = field(default_factory=dict)
    tiny: Mapping[str, Any] = field(default_factory=dict)
    can_compile: bool = True
    can_export: bool = True
    can_onnx: bool = True


@dataclass(frozen=True)
class RegistryEntry:
    """One architecture: its name, its entry point, the module that defines it and its configuration."""

    name: str
    entry_point: EntryPoint
    module: str
    cfg: ModelCfg


_SIDE = 16  # of an image for a network of whole images
_ENTRIES: dict[str, RegistryEntry] = {}


@overload
def register_model(entry_point: F, *, cfg: ModelCfg | None = None) -> F: ...
@overload
def register_model(entry_point: None = None, *, cfg: ModelCfg | None = None) -> Callable[[F], F]: ...


def register_model(entry_point: F | None = None, *, cfg: ModelCfg | None = None) -> F | Callable[[F], F]:
    """Register an architecture under the name of its entry point, here and in timm.

    Use it as a decorator, `@register_model` or `@register_model(cfg=ModelCfg(...))`. Without `cfg` the module's
    `default_cfgs[name]` is taken, else the defaults of `ModelCfg`. Registering a name again from the same module
    replaces it (a notebook cell run twice).

    Args:
        entry_point: Function of keyword arguments that returns the network.
        cfg: What is known of the architecture.

    Returns:
        The entry point, unchanged.

    Raises:
        ValueError: Another module, or timm, has registered the name.
    """

    def register(function: F) -> F:
        name, module = function.__name__, function.__module__
        known = _ENTRIES.get(name)
        if known is not None and known.module != module:
            raise ValueError(f"a model named {name!r} is registered by {known.module}; give yours another name")
        if known is None and timm.models.is_model(name):
            raise ValueError(f"timm has a model named {name!r}, which yours would replace; give it another name")
        defaults = getattr(sys.modules.get(module), "default_cfgs", {})
        _ENTRIES[name] = RegistryEntry(name, function, module, cfg or defaults.get(name) or ModelCfg())
        if known is None:
            _mirror_into_timm(name, function)
        return function

    return register if entry_point is None else register(entry_point)


def _mirror_into_timm(name: str, function: EntryPoint) -> None:
    def create(
        pretrained: bool = False, pretrained_cfg: Any = None, pretrained_cfg_overlay: Any = None, **kwargs: Any
    ) -> nn.Module:
        # timm puts weights behind the entry point; here they live floors above, so the public face is asked for them.
        face: Any = sys.modules["hsmamba"]
        source = pretrained_cfg.get("source") if isinstance(pretrained_cfg, Mapping) else None
        if source in ("hf-hub", "local-dir"):  # timm has read the configuration alone, which is none of its own
            raise ValueError(
                f"timm cannot load a model folder of hsmamba, which holds a {name}: call "
                f'hsmamba.create_model("{source}:...") instead'
            )
        tag = f".{pretrained_cfg}" if isinstance(pretrained_cfg, str) and pretrained_cfg else ""
        model: nn.Module = face.create_model(name + tag, pretrained=pretrained, **kwargs)
        return model

    create.__name__ = create.__qualname__ = name
    create.__doc__ = function.__doc__
    timm.models.register_model(create)


def registry() -> dict[str, RegistryEntry]:
    """Return a copy of the table of architectures, by name."""
    return dict(_ENTRIES)


def entry(name: str) -> RegistryEntry:
    """Return the registry entry of an architecture.

    Raises:
        UnknownModelError: No architecture has this name.
    """
    try:
        return _ENTRIES[name]
    except KeyError:
        raise UnknownModelError(f"no architecture named {name!r}; there are: {', '.join(sorted(_ENTRIES))}") from None


def example_inputs(model: nn.Module, batch_size: int = 2, *, seed: int = 0) -> tuple[Tensor, ...]:
    """Make inputs that a model accepts, from the attributes of the model contract.

    Args:
        model: A network made by an entry point.
        batch_size: Number of samples.
        seed: Seed of the white noise; the caller's random state is left alone.

    Returns:
        `(hsi (B, in_chans, P, P),)` or `(hsi, aux (B, aux_chans, P, P))` for a classifier, of P = 16 where it takes
        whole images;
        `(ms (B, in_chans, 16, 16), guide (B, guide_chans, 16 r, 16 r))` for a fusion network of scale r.
    """
    generator = torch.Generator().manual_seed(seed)
    like = numbers_of(model)

    def noise(chans: int, side: int) -> Tensor:
        return torch.randn(batch_size, chans, side, side, generator=generator).to(like)

    if hasattr(model, "guide_chans"):
        fusion = as_fusion_network(model)
        return noise(fusion.in_chans, 16), noise(fusion.guide_chans, 16 * fusion.scale)
    classifier = as_classifier(model)
    side = _SIDE if classifier.patch_size is None else classifier.patch_size
    hsi = noise(classifier.in_chans, side)
    return (hsi, noise(classifier.aux_chans, side)) if classifier.aux_chans else (hsi,)
