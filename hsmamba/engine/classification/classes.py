"""The classes of a model beside those of data: by name where both have names, else by number, never by the pixels."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hsmamba.data import PatchDataset, Scene
from hsmamba.data.image import like
from hsmamba.errors import HsmambaWarning, SceneError
from hsmamba.models import Classifier

Names: TypeAlias = tuple[str, ...]
Labels: TypeAlias = npt.NDArray[np.int64]
_LISTED = 12  # names in a message


def class_names(model: Classifier, names: Names = ()) -> Names:
    """Name every class of a model: as the model does, else as the data do, else by its number."""
    numbers = tuple(f"class {k}" for k in range(1, model.num_classes + 1))
    known = model.class_names or names[: model.num_classes]
    return (*known, *numbers[len(known) :])


def listed(names: Sequence[object]) -> str:
    """List names in a message, the first of them where they are many."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(map(str, names[:_LISTED])) + more


def in_model_classes(model: Classifier, labels: npt.ArrayLike, names: Names) -> Labels:
    """Bring labels to the class numbers of a model.

    Args:
        model: The model.
        labels: Integers of any shape, 0 = unlabelled; classes that do not occur are not asked for.
        names: Names of the classes of these labels; empty where unknown.

    Returns:
        int64 of the same shape, 0 or 1..`model.num_classes`.

    Raises:
        SceneError: A class that the model does not have, or names on one side alone that leave a doubt.
    """
    return _translated(np.asarray(labels, dtype=np.int64), names, model.class_names, model.num_classes)


def scenes_in_model_classes(model: Classifier, scenes: Sequence[Scene]) -> tuple[list[Scene], Names]:
    """Bring scenes to train on to the classes of a model, which takes their names where it has none.

    Returns:
        The scenes with labels by the model's numbers, and the names of its classes; empty where nobody knows them.

    Raises:
        SceneError: The scenes have classes that the model does not have, or more than one way to name them.
    """
    own = model.class_names or _names_of_all(scenes, model.num_classes)
    if own and not all(scene.class_names for scene in scenes):
        _tell_of_names(own)
    return [scene_in_classes(scene, own, model.num_classes) for scene in scenes], own


def scene_in_classes(scene: Scene, own: Names, num_classes: int) -> Scene:
    """Bring a scene to the classes of a model, named `own`; without such names it keeps those it has."""
    labels: Any = scene.labels
    if labels is None:
        return replace(scene, class_names=own or scene.class_names)
    before = np.asarray(labels, dtype=np.int64)
    after = _translated(before, scene.class_names, own, num_classes)
    return replace(
        scene, labels=labels if after is before else like(labels, after), class_names=own or scene.class_names
    )


def dataset_in_model_classes(model: Classifier, dataset: PatchDataset) -> PatchDataset:
    """Do for a dataset what `scenes_in_model_classes` does for scenes; the caller's is left alone."""
    own = model.class_names or _all_named(dataset.class_names, model.num_classes)
    result = copy.copy(dataset)  # the patches are shared
    result.labels = _translated(dataset.labels, dataset.class_names, own, model.num_classes)
    result.class_names = own
    if own and not dataset.class_names:
        _tell_of_names(own)
    return result


def has_classes(model: Classifier, scene: Scene) -> bool:
    """Tell whether a model has the classes of a scene, so that it can go on with the head it has."""
    if not scene.class_names and scene.num_classes != model.num_classes:
        return False
    try:
        scene_in_classes(scene, model.class_names or _names_of_all([scene], model.num_classes), model.num_classes)
    except SceneError:
        return False
    return True


def shown_in_classes(model: Classifier, scene: Scene) -> Scene:
    """Give a scene the names of a model's classes, for a picture of both; labels that do not fit them are left out."""
    names = class_names(model, scene.class_names)
    try:
        return replace(scene_in_classes(scene, model.class_names, model.num_classes), class_names=names)
    except SceneError:
        return replace(scene, labels=None, class_names=names)


def _names_of_all(scenes: Sequence[Scene], num_classes: int) -> Names:
    """Unite the class names of several scenes, in the order in which they come."""
    without = [k for k, scene in enumerate(scenes) if not scene.class_names]
    if 0 < len(without) < len(scenes):
        raise SceneError(
            f"scene {without[0]} has no class names, and others have; give every scene its own with class_names="
        )
    return _all_named(tuple(dict.fromkeys(name for scene in scenes for name in scene.class_names)), num_classes)


def _all_named(names: Names, num_classes: int) -> Names:
    if names and len(names) != num_classes:
        raise _other_number(num_classes, len(names))
    return names


def _translated(labels: Labels, names: Names, own: Names, num_classes: int) -> Labels:
    """Translate labels from classes `names` to the classes `own` of a model of so many classes."""
    present = [int(k) for k in np.unique(labels) if k > 0]
    if own and names and own != names:
        return _by_name(labels, present, names, own)
    if not names:
        _check_unnamed(own)
    if not own:
        _check_names(names)
    if present and present[-1] > num_classes:
        raise _other_number(num_classes, present[-1])
    return labels


def _by_name(labels: Labels, present: list[int], names: Names, own: Names) -> Labels:
    if present and present[-1] > len(names):
        raise SceneError(f"labels reach up to {present[-1]}, but there are {len(names)} class names; name every class")
    for which, side in (("data", names), ("model", own)):
        if twice := sorted({name for name in side if side.count(name) > 1}):
            raise SceneError(f"the {which} have two classes named {twice[0]!r}; give every class a name of its own")
    numbers = {name: k for k, name in enumerate(own, start=1)}
    if unknown := [names[k - 1] for k in present if names[k - 1] not in numbers]:
        raise SceneError(
            f"the data have the classes {listed(unknown)}, which the model does not; it has {listed(own)}. Name the "
            "classes of the data as the model does (class_names=), set the labels of further ones to 0, or give the "
            f"model a new head with model.reset_classifier({len(names)}) and fine-tune it"
        )
    table = np.array([0, *(numbers.get(name, 0) for name in names)])
    translated: Labels = table[labels]
    return translated


def _check_unnamed(own: Names) -> None:
    """Refuse labels without names beside a model whose classes are codes: they may be the codes, or numbers."""
    if _are_codes(own):
        raise SceneError(
            f"the labels have no class names, and the model's classes are the codes {listed(own)}; open the scene with "
            f"classes=[{', '.join(own)}] where the labels hold these codes, or with class_names={own!r} where they "
            f"are 1..{len(own)} in this order"
        )


def _check_names(names: Names) -> None:
    """Refuse names that are codes beside a model without names: its numbers may be those of another legend."""
    if _are_codes(names):
        raise SceneError(
            f"the classes of the data are the codes {listed(names)}, and the model's have no names; say which they "
            "are: model.class_names = (...), one name a class"
        )


def _are_codes(names: Names) -> bool:
    """Whether classes are named by codes that are not just their numbers."""
    return all(name.isdecimal() for name in names) and names != tuple(str(k) for k in range(1, len(names) + 1))


def _other_number(num_classes: int, of_data: int) -> SceneError:
    return SceneError(
        f"the model has {num_classes} classes, the data {of_data}; give the model a new head with "
        f"model.reset_classifier({of_data}) or create_model(..., num_classes={of_data}) and fine-tune it"
    )


def _tell_of_names(own: Names) -> None:
    warnings.warn(
        f"the labels have no class names and are taken as numbers of the model's classes ({listed(own)}); where they "
        f"are other classes, give class_names=, or a new head with model.reset_classifier({len(own)})",
        HsmambaWarning,
        stacklevel=5,
    )


def tell_of_untrained(model: Classifier, labels: Labels, names: Names) -> None:
    """Warn of classes of a model that none of the training labels (N,) has."""
    counts = np.bincount(labels, minlength=model.num_classes + 1)[1:]
    absent = [class_names(model, names)[k] for k in np.flatnonzero(counts == 0)]
    if absent:
        codes = ", ".join(str(k + 1) for k in np.flatnonzero(counts))
        hint = "" if names else f"; labels that are codes of a legend become classes 1..K by classes=[{codes}]"
        warnings.warn(
            f"no training pixel has one of {len(absent)} of the model's {model.num_classes} classes "
            f"({listed(absent)}): the model cannot learn them{hint}",
            HsmambaWarning,
            stacklevel=4,
        )
