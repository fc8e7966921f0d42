"""Whether a network that is trained still has a gradient: a dead one computes on and learns nothing, without a word."""

from __future__ import annotations

import warnings

from torch import nn

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
        for part, module in self.parts.items():
            found = _moves(module)
            self.still[part] = 0 if found else self.still[part] + (found is not None)
        dead = [part for part, count in self.still.items() if count >= _STILL]
        if not dead:
            return
        cure = f"as where ReLUs are zero for every pixel; train anew with a lower lr= (it is {lr:g}, try {lr / 10:g})"
        if not any(_moves(module) for module in self.parts.values()):
            raise TrainingError(f"{when}: {self.name} has had no gradient left for {_STILL} steps, {cure}")
        if new := [part for part in dead if self.still[part] == _STILL]:
            text = f"{when}: {', '.join(new)} of {self.name} has had no gradient left for {_STILL} steps"
            warnings.warn(f"{text} and is not trained any more, {cure}", HsmambaWarning, stacklevel=2)


def _moves(module: nn.Module) -> bool | None:
    """Tell whether a gradient of a module is not zero; None where it has no gradients."""
    gradients = [weight.grad for weight in module.parameters() if weight.grad is not None]
    return any(bool(gradient.any()) for gradient in gradients) if gradients else None
