"""Learning rates of the layers that see the bands: what suits eight bands kills a network of hundreds.

A step of Adam moves every weight by about the learning rate, whatever its gradient. The bands of one pixel rise and
fall together, so the moves of a layer's weights add up: a layer of n inputs shifts by n times the learning rate, while
its outputs begin at a spread of about n ** -0.5 times n ** 0.5 inputs. Of 360 bands, a single step of 1e-3 takes every
ReLU behind them to zero. So the rate falls as the inputs grow: Yang et al., "Tensor Programs V" (2022), table 3.
"""

from __future__ import annotations

import torch
from torch.optim import Optimizer

from hsmamba import models
from hsmamba.models import FusionNetwork


def lr_scales(model: FusionNetwork, bands: int) -> dict[str, float]:
    """Find the factor of the learning rate of every parameter that has more inputs than with so many bands.

    Args:
        model: A network of the zoo, or a correction around one; there are no factors for others, which cannot be built
            with other bands.
        bands: Bands for which the learning rate is meant.

    Returns:
        Inputs of a parameter with `bands` bands over its inputs in this network, by name, where that is below 1.
    """
    known = models.registry().get(model.architecture)
    if known is None:
        inner = getattr(model, "network", None)
        found = lr_scales(inner, bands) if isinstance(inner, FusionNetwork) else {}
        return {f"network.{name}": factor for name, factor in found.items()}
    if model.in_chans <= bands:
        return {}
    with torch.device("meta"):  # no numbers, and no random ones
        narrow = known.entry_point(**{**model.model_args, "in_chans": bands})
    inputs = {name: weight[0].numel() for name, weight in narrow.named_parameters() if weight.ndim > 1}
    return {
        name: inputs[name] / weight[0].numel()
        for name, weight in model.named_parameters()
        if weight.ndim > 1 and inputs.get(name, 0) and inputs[name] < weight[0].numel()
    }


def slow_down(optimizer: Optimizer, factors: dict[torch.nn.Parameter, float]) -> None:
    """Give parameters groups of their own, of which timm's schedules multiply the learning rate by `lr_scale`."""
    for group in list(optimizer.param_groups):
        by_factor: dict[float, list[torch.nn.Parameter]] = {1.0: []}
        for parameter in group["params"]:
            by_factor.setdefault(factors.get(parameter, 1.0), []).append(parameter)
        group["params"] = by_factor.pop(1.0)
        for factor, parameters in by_factor.items():
            optimizer.add_param_group({**group, "params": parameters, "lr_scale": factor})
