"""One model of several trained ones."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from hsmamba.models import Classifier, as_classifier, numbers_of
from hsmamba.zoo.build import build


def ensemble(models: Sequence[nn.Module], weights: Sequence[float] | None = None) -> Classifier:
    """Make one classifier of several trained ones: it averages their probabilities, and saves to one file.

    The members must see the same numbers, so all carry one transform: fine-tune them with the same `transform=`. Their
    parameters are copied.

    Args:
        models: Classifiers made by the factory, for example one a seed, or a network and a linear classifier. A member
            of fewer bands gets the first ones, one of a smaller patch its centre.
        weights: One positive number a member; None for equal ones.

    Returns:
        A network of the architecture "ensemble", in evaluation mode, with the transform and the class names of the
        members, on the device of the first. Its licence is what all of theirs say.

    Raises:
        ValueError: Members that are none of the factory's or are ensembles, or whose transforms, classes or class names
            differ; weights that are none.
        TypeError: A model is no classifier.
    """
    members = [as_classifier(getattr(model, "_orig_mod", model)) for model in models]
    if not members:
        raise ValueError("got no models; give the trained classifiers that the ensemble is to be made of")
    _check_agreement(members)
    args: dict[str, Any] = {
        "num_classes": members[0].num_classes,
        "members": [{"architecture": member.architecture, "model_args": _arguments(member)} for member in members],
    }
    if weights is not None:
        args["weights"] = [float(weight) for weight in weights]
    joined = as_classifier(build("ensemble", args))
    for member, own in zip(members, joined.get_submodule("members").children(), strict=True):
        own.load_state_dict(member.state_dict())
    first = numbers_of(members[0])
    joined.transform, joined.class_names, joined.record = members[0].transform, members[0].class_names, _record(members)
    return joined.to(device=first.device, dtype=first.dtype).eval()


def _arguments(member: Classifier) -> dict[str, Any]:
    """Return how a member was built, but for the classes, which are the ensemble's."""
    return {name: value for name, value in member.model_args.items() if name != "num_classes"}


def _check_agreement(members: Sequence[Classifier]) -> None:
    """Refuse members that cannot be asked the same question."""
    transform = _stored(members[0])
    for number, member in enumerate(members):
        if not member.architecture or member.architecture == "ensemble":
            what = "an ensemble: give its members" if member.architecture else "not made by create_model: make it so"
            raise ValueError(f"model {number} is {what}, since an ensemble is rebuilt from names and arguments")
        for what in ("num_classes", "class_names"):
            ours, theirs = getattr(members[0], what), getattr(member, what)
            if ours != theirs:
                raise ValueError(
                    f"{what} of model {number} is {theirs!r}, that of model 0 {ours!r}; train the members on the same "
                    "classes in the same order"
                )
        if _stored(member) != transform:
            raise ValueError(
                f"the transform of model {number} is not that of model 0; fit one and train every member with it: "
                "hsmamba.finetune(model, scene, split, transform=...)"
            )


def _stored(member: Classifier) -> bytes | None:
    """Return a transform as its file has it: the same bytes are the same transform."""
    if member.transform is None:
        return None
    with tempfile.TemporaryDirectory(prefix="hsmamba-") as folder:
        path = Path(folder) / "transform.safetensors"
        member.transform.save(path)
        return path.read_bytes()


def _record(members: Sequence[Classifier]) -> dict[str, Any] | None:
    """Return what is known of an ensemble of weights: all their licences, and what their records agree on."""
    records = [member.record for member in members if member.record is not None]
    if not records:
        return None
    shared = {
        name: value
        for name, value in records[0].items()
        if name in ("bands", "wavelengths", "data", "license") and all(one.get(name) == value for one in records)
    }
    licences = sorted({str(one.get("license", "unknown")) for one in records})
    return {**shared, "license": " AND ".join(licences)}
