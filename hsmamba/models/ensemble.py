"""Ensemble: several classifiers, of one architecture or of many, whose probabilities are averaged.

Source: Lakshminarayanan, Pritzel, Blundell, "Simple and Scalable Predictive Uncertainty Estimation using Deep
Ensembles", NIPS 30 (2017), section 2.4: members are trained from different seeds, and the prediction is the mean of
their probabilities. Here members may differ in architecture and weigh differently (a network and a linear classifier).

`hsmamba.ensemble` makes one of trained models; trained as a whole, the members would learn to lean on each other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import chain, zip_longest
from typing import Any

import torch
from torch import Tensor, nn

from hsmamba.models._base import Classifier, as_classifier, patterns_within
from hsmamba.models._registry import ModelCfg, entry, register_model

_PAIR: tuple[Mapping[str, Any], ...] = ({"architecture": "md2f_mamba"}, {"architecture": "md2f_mamba"})
_SMALL = {"in_chans": 8, "patch_size": 7, "dim": 16}

default_cfgs = {
    "ensemble": ModelCfg(
        summary="Mean of the probabilities of several classifiers; by default of two md2f_mamba",
        citation="Lakshminarayanan, Pritzel, Blundell: Simple and Scalable Predictive Uncertainty Estimation using "
        "Deep Ensembles. NIPS 30, 6402-6413 (2017).",
        tiny={
            "members": [
                {"architecture": "md2f_mamba", "model_args": _SMALL},
                {"architecture": "md2f_mamba", "model_args": {**_SMALL, "in_chans": 6, "patch_size": 5}},
            ],
            "weights": [3.0, 1.0],
        },
    )
}


class Ensemble(Classifier):
    """Several classifiers in one, which all look at the same transformed patch.

    A member of fewer bands or channels gets the first of them, one of a smaller patch its centre. What the members
    lose beside their logits in training (`TrainingLogits`) is left out.

    Args:
        in_chans: Bands of the patch: the most that a member takes, and None for just that.
        num_classes: Classes K of every member; 0 leaves the heads out.
        patch_size: Side P of the patch: the largest of a member; None for just that.
        aux_chans: Channels of the second source: the most that a member takes; None for just that.
        members: `{"architecture": name, "model_args": {...}}` each, a registered classifier and its arguments without
            `num_classes`.
        weights: One positive number a member, however large together; None for equal ones.

    Shape:
        As for `Classifier`; the logits are the log of the mean probabilities. Without heads, the features of the
        members side by side.

    Raises:
        ValueError: Members that are none, or sizes and weights that are not theirs.
        UnknownModelError: A member's architecture is not registered.
    """

    def __init__(
        self,
        in_chans: int | None = None,
        num_classes: int = 16,
        patch_size: int | None = None,
        aux_chans: int | None = None,
        *,
        members: tuple[Mapping[str, Any], ...] = _PAIR,
        weights: tuple[float, ...] | None = None,
    ) -> None:
        built = [_member(member, num_classes) for member in members]
        shares = _shares(weights, len(built))
        given = {"in_chans": in_chans, "patch_size": patch_size, "aux_chans": aux_chans}
        sizes = {name: _largest(name, built, value) for name, value in given.items()}
        super().__init__(num_classes=num_classes, **sizes)
        self.members = nn.ModuleList(built)
        self.num_features = sum(getattr(member, "num_features", 0) for member in built)  # modules of a user's own
        self.log_shares = tuple(map(math.log, shares))

    def inputs_of(self, member: Classifier, hsi: Tensor, aux: Tensor | None) -> tuple[Tensor, ...]:
        """Cut out of patches what a member takes."""
        size = member.patch_size or 0
        first = (self.patch_size or 0) // 2 - size // 2
        window = (slice(first, first + size), slice(first, first + size))
        inputs: tuple[Tensor, ...] = (hsi[:, : member.in_chans, window[0], window[1]],)
        if aux is not None and member.aux_chans:
            inputs += (aux[:, : member.aux_chans, window[0], window[1]],)
        return inputs

    def forward_features(self, hsi: Tensor, aux: Tensor | None = None) -> Tensor:
        """Compute the features before the heads, those of the members side by side, (B, num_features)."""
        self.check_inputs(hsi, aux)
        return torch.cat(
            [m.forward_head(m.forward_features(*self.inputs_of(m, hsi, aux)), pre_logits=True) for m in self._each()],
            dim=1,
        )

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Classify features: (B, num_classes), or (B, num_features) with `pre_logits`."""
        if pre_logits or not self.num_classes:
            return x
        parts = torch.split(x, [member.num_features for member in self._each()], dim=1)
        return self._mean([m.get_classifier()(part) for m, part in zip(self._each(), parts, strict=True)])

    def forward(self, hsi: Tensor, aux: Tensor | None = None) -> Tensor:
        """See `Classifier.forward`."""
        self.check_inputs(hsi, aux)
        outputs = [member(*self.inputs_of(member, hsi, aux)) for member in self._each()]
        outputs = [x if isinstance(x, Tensor) else x.logits for x in outputs]
        return self._mean(outputs) if self.num_classes else torch.cat(outputs, dim=1)

    def _mean(self, logits: Sequence[Tensor]) -> Tensor:
        """Log of the weighted mean of the probabilities."""
        terms = [x.log_softmax(1) + share for x, share in zip(logits, self.log_shares, strict=True)]
        return torch.stack(terms).logsumexp(0)

    def _each(self) -> list[Any]:
        return list(self.members)

    def get_classifier(self) -> nn.Module:
        """Return the heads of the members."""
        return nn.ModuleList([member.get_classifier() for member in self._each()])

    def reset_classifier(self, num_classes: int) -> None:
        """Give every member a new head, of classes without names as yet; `num_classes=0` takes them away."""
        self.num_classes, self.class_names = num_classes, ()
        for member in self._each():
            member.reset_classifier(num_classes)

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        """See `Network.pretrained_cfg`; with the names of all heads."""
        return super().pretrained_cfg | {"classifier": tuple(f"members.{i}.head" for i in range(len(self.members)))}

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that weight decay leaves alone, beside biases and norms."""
        return {f"members.{i}.{name}" for i, member in enumerate(self._each()) for name in member.no_weight_decay()}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """See `Network.group_matcher`; the first groups of all members together, then the second ones, and so on."""
        each = [
            [patterns_within(f"members.{i}", patterns) for patterns in member.group_matcher(coarse).values()]
            for i, member in enumerate(self._each())
        ]
        return {f"group{k}": list(chain(*groups)) for k, groups in enumerate(zip_longest(*each, fillvalue=[]))}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """See `Network.set_grad_checkpointing`; of every member."""
        for member in self._each():
            member.set_grad_checkpointing(enable)


def _member(member: Mapping[str, Any], num_classes: int) -> Classifier:
    """Build a member, or raise ValueError."""
    known = isinstance(member, Mapping) and isinstance(member.get("architecture"), str)
    args = dict(member.get("model_args", {})) if known else {}
    if not known or member.keys() - {"architecture", "model_args"} or "num_classes" in args:
        raise ValueError(
            f"a member is {member!r}; expected {{'architecture': name, 'model_args': {{...}}}}, and num_classes beside "
            "members, since it is one for all"
        )
    found = entry(member["architecture"])
    if found.name == "ensemble" or found.cfg.task != "classification":
        raise ValueError(f"a member is of the architecture {found.name!r}; members are single classifiers")
    built = as_classifier(found.entry_point(num_classes=num_classes, **args))
    if built.patch_size is None:
        raise ValueError(f"a member is of the architecture {found.name!r}, of whole images; members are of patches")
    return built


def _shares(weights: Sequence[float] | None, count: int) -> list[float]:
    """Return what each member weighs, together 1."""
    given = [1.0] * count if weights is None else [float(weight) for weight in weights]
    if not count or len(given) != count or not all(0 < weight < math.inf for weight in given):
        raise ValueError(
            f"weights are {weights!r} for {count} members; expected a member at least and one positive number for each"
        )
    return [weight / sum(given) for weight in given]


def _largest(name: str, members: Sequence[Classifier], given: int | None) -> int:
    """Return the largest size of a kind, which is what may be given for it."""
    largest = max(int(getattr(member, name)) for member in members)
    if given not in (None, largest):
        raise ValueError(
            f"{name} is {given}, and the members take up to {largest}; leave {name} out, or give the members another "
            f"{name} in their model_args"
        )
    return largest


@register_model
def ensemble(**kwargs: Any) -> Ensemble:
    """Mean of the probabilities of several classifiers."""
    return Ensemble(**kwargs)
