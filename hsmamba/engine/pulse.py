"""Whether a network that is trained still has a gradient: a dead one computes on and learns nothing, without a word."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from hsmamba.errors import HsmambaWarning, TrainingError

_STILL = 20  # steps in a row; networks whose last layer begins at zero have none before it in the first one


class Pulse:
    """Counts the steps in a row in which a part of a network, or all of it, has a gradient of exactly zero.

    Parts are the network's children. Parameters that are frozen or that the output does not depend on have no gradient
    at all and do not count.

    Args:
        model: The network.
    """

    def __init__(self, model: nn.Module) -> None:
        self.parts = dict(model.named_children()) or {type(model).__name__: model}
        self.name = type(model).__name__
        self.still = dict.fromkeys(self.parts, 0)

    def feel(self, when: str, lr: float) -> None:
        """Look at the gradients of a step.

        Args:
            when: The step, for the text.
            lr: Peak learning rate of the run, for the text.

        Raises:
            TrainingError: No part has had a gradient for 20 steps.

        Warns:
            HsmambaWarning: A part has had none for 20 steps, others have.
        """
        for part, found in _moving(self.parts).items():
            self.still[part] = 0 if found else self.still[part] + 1
        dead = [part for part, count in self.still.items() if count >= _STILL]
        if not dead:
            return
        cure = f"as where ReLUs are zero for every pixel; train anew with a lower lr= (it is {lr:g}, try {lr / 10:g})"
        if not any(_moving(self.parts).values()):
            raise TrainingError(f"{when}: {self.name} has had no gradient left for {_STILL} steps, {cure}")
        if new := [part for part in dead if self.still[part] == _STILL]:
            text = f"{when}: {', '.join(new)} of {self.name} has had no gradient left for {_STILL} steps"
            warnings.warn(f"{text} and is not trained any more, {cure}", HsmambaWarning, stacklevel=2)


def _moving(parts: Mapping[str, nn.Module]) -> dict[str, bool]:
    """Tell of each part that has gradients whether one of them is not zero."""
    gradients = {part: [x.grad for x in module.parameters() if x.grad is not None] for part, module in parts.items()}
    gradients = {part: found for part, found in gradients.items() if found}
    if all(x.is_cpu for found in gradients.values() for x in found):
        return {part: any(bool(x.any()) for x in found) for part, found in gradients.items()}
    # A GPU is asked once: each question waits until all before it is computed.
    peaks = torch.stack([largest(found) for found in gradients.values()])
    return dict(zip(gradients, (peaks != 0).tolist(), strict=True))


def largest(tensors: Iterable[Tensor]) -> Tensor:
    """Return the largest absolute value of tensors on one device, NaN where one is: a scalar there."""
    return nn.utils.get_total_norm([x for x in tensors if x.numel()], math.inf)
