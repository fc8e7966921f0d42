"""The transform to train with: the caller's, the model's where it takes the scenes, else one fitted on them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsmamba.data import MNF, PCA, Compose, Diffuse, Scene, Split, Standardise, Step
from hsmamba.data.image import NanPolicy
from hsmamba.data.splits.pixels import draw
from hsmamba.data.transforms.gathering import by_scene
from hsmamba.data.transforms.steps import AddShape
from hsmamba.data.validity import valid_mask
from hsmamba.engine.classification.defaults import few_labels
from hsmamba.engine.classification.inputs import Scale, alike, scaled, transform_of
from hsmamba.errors import HsmambaWarning, SceneError
from hsmamba.models import Classifier, as_classifier, entry
from hsmamba.models.graph_lda import GraphLDA
from hsmamba.zoo.arguments import rehearse

PIXELS_A_COMPONENT = 10  # fewer describe the noise of the weak components, not the scene
_MOST_FITTED = 50_000
_MOST_LOOKED_AT = 2**22  # pixels of a scene that they are drawn from
_ALL = 2**62  # no training pixels are as many
REDUCTIONS: dict[str, Callable[[int], list[Step]]] = {
    "pca": lambda count: [PCA(count), Standardise()],
    "pca-unscaled": lambda count: [PCA(count)],  # for kernels, which noise at the strength of the signal would spoil
    "mnf": lambda count: [MNF(count)],
    "mnf-spectral": lambda count: [MNF(count, spectral=count // 3)],
    "diffused": lambda count: [MNF(count, spectral=count // 3)],  # before they are
}
_SHARES = Diffuse().shares
_LEVELS, _NEAR = 1 + len(_SHARES), 2  # of a component: itself, and its copies; where scenes are classified by others
_COMPONENTS = {"mnf": 40, "diffused": 60}  # by default; of others 30


def default_transform(
    data: Scene | Sequence[Scene],
    split: Split,
    in_chans: int,
    *,
    nan: NanPolicy = "raise",
    reduction: str = "network",
    levels: int = _LEVELS,
) -> Compose:
    """Fit the usual preprocessing; bands that the scene marks as bad are left out.

    It is fitted on the training pixels. Where these are fewer than ten a component, it is on all valid pixels of the
    scenes with training pixels, or 50 000 of them. Of labels it is looked at how many there are, never at what they
    say.

    Args:
        data: The scene, or scenes of one kind.
        split: Its split.
        in_chans: Bands that the model takes.
        nan: "raise" refuses invalid pixels, "mask" leaves them out.
        reduction: Kind of the components: "pca", standardised; "pca-unscaled", as they are; "mnf"; "mnf-spectral",
            `MNF`, a third of it spectral; or "diffused": the same and `Diffuse`, always fitted on all valid
            pixels; of several scenes with fewer than ten training pixels a component it is the PCA of spectra and of
            their shapes (`AddShape`) in place of `MNF`. "network" is "pca", and where the class in the middle has 30
            training pixels or fewer what the suite `defaults` chose for networks: "mnf-spectral", or of several scenes
            that PCA of spectra and shapes, of all valid pixels. `Classifier.reduction` says which a model wants.
        levels: Of diffused components: how often they come, as they are and by the first shares of `Diffuse()`.

    Returns:
        Standardisation of each band, auxiliary ones too, and, where the scene has other than `in_chans` good bands,
        the components; of "mnf" and "diffused" whatever the number of bands.

    Raises:
        SceneError: The scene has fewer good bands than `in_chans`, or too few pixels for so many components.
        ValueError: A reduction that is none.
    """
    if reduction not in ("network", *REDUCTIONS):
        raise ValueError(f"reduction is {reduction!r}; it is one of network, {', '.join(REDUCTIONS)}")
    scenes = [data] if isinstance(data, Scene) else list(data)
    bands, aux = len(scenes[0].good_bands), scenes[0].aux is not None
    few = reduction == "network" and few_labels(scenes, split)
    reduction = ("mnf-spectral" if few else "pca") if reduction == "network" else reduction
    diffused = reduction == "diffused"
    count = in_chans // levels if diffused else in_chans
    if bands < count:
        raise SceneError(
            f"the model takes {in_chans} {f'channels, {levels} a component' if diffused else 'bands'}, the scene "
            f"has {bands} bands; create the model with in_chans={bands * in_chans // count} or less"
        )
    reduces = bands > in_chans or reduction in ("mnf", "diffused")
    few = few and reduces
    least = PIXELS_A_COMPONENT * in_chans if reduces else 1
    pixels = fitting_pixels(scenes, split, _ALL if diffused or few else least)
    if reduces and count >= pixels.size:
        raise SceneError(
            f"{pixels.size} pixels are too few to bring {bands} bands to the {in_chans} that the model takes; create "
            f"it with in_chans={max(pixels.size - 1, 1) * in_chans // count} or less"
            + (f", or with in_chans={bands}" if reduction not in ("mnf", "diffused") else "")
        )
    # Few labels tell little of weak components, the less so in the light of other scenes.
    few = few or (diffused and split.train.size < PIXELS_A_COMPONENT * count)
    shapes = few and len(scenes) > 1
    steps: list[Step] = [AddShape(), Standardise()] if shapes else [Standardise()]
    if reduces:
        steps += REDUCTIONS["pca-unscaled" if shapes else reduction](count)
    if diffused and levels > 1:
        steps.append(Diffuse(_SHARES[: levels - 1]))
    if aux:
        steps.append(Standardise(on="aux"))
    return Compose(steps).fit_scene(scenes, pixels, nan=nan)


def sizes_for(
    architecture: str, bands: int, *, scenes: int = 1, components: int | None = None, **args: Any
) -> dict[str, int]:
    """Return what a network is to be created with for scenes: `in_chans`, and `levels` where it has any.

    Diffused components come near and far where one scene is completed, and near alone where scenes are classified by
    others: how far like ground reaches is another matter there.

    Args:
        architecture: Registered name.
        bands: Good bands of a scene: no more components are taken.
        scenes: How many scenes there are.
        components: How many; default 30, of MNF 40, of diffused components 60.
        **args: Further arguments of the network, which `levels` may be among.
    """
    reduction = as_classifier(rehearse(entry(architecture), {}, 0, architecture)).reduction
    count = min(components or _COMPONENTS.get(reduction, 30), bands)
    if reduction != "diffused":
        return {"in_chans": count}
    levels = int(args.get("levels") or (_LEVELS if scenes == 1 else _NEAR))
    return {"in_chans": count * levels, "levels": levels}


def fitting_pixels(scenes: Sequence[Scene], split: Split, least: int) -> NDArray[np.int64]:
    """Choose the pixels to fit a transform on: those of training where there are enough, else all valid ones beside.

    Args:
        scenes: Scenes of one kind.
        split: Of their items.
        least: How many are enough.

    Returns:
        int64 (N,) items; of all pixels a random sample that is always the same, in a scene of more than 2^22 pixels out
        of rows that are spread evenly and have as many.
    """
    if split.train.size >= least:
        return split.train
    found, start = [], 0
    for scene, trains in zip(scenes, by_scene(scenes, split.train), strict=True):
        if trains.size:
            found.append(start + _valid_pixels(scene))
        start += scene.shape[0] * scene.shape[1]
    items = np.concatenate(found) if found else np.zeros(0, np.int64)
    return np.sort(draw(items, _MOST_FITTED, np.random.default_rng(0)))


def _valid_pixels(scene: Scene) -> NDArray[np.int64]:
    """Flat indices of valid pixels: of all, or of evenly spread rows of a large scene."""
    height, width = scene.shape
    step = max(1, height // max(1, _MOST_LOOKED_AT // width))
    mask = valid_mask(scene.hsi[::step], "mask", bands=scene.good_bands)
    if scene.aux is not None:
        mask &= valid_mask(scene.aux[::step], "mask")
    rows, columns = np.nonzero(mask)
    return rows * step * width + columns


def with_transform(
    model: Classifier,
    scenes: Sequence[Scene],
    split: Split,
    given: Compose | None,
    *,
    nan: NanPolicy,
    scale: Scale | None,
) -> tuple[list[Scene], Compose]:
    """Choose the transform to train with, and bring the scenes to the bands that it takes.

    Raises:
        SceneError: The scenes lack bands that the caller's transform takes, or nothing can be fitted on them.
        ValueError: Factors for numbers that a new transform is fitted on.

    Warns:
        HsmambaWarning: The model has a transform, which does not take these scenes.
    """
    transform = transform_of(model, given)
    if transform is not None:
        try:
            matched = alike(model, scenes, transform)
            why = _other_bands(matched, transform)
        except SceneError:
            if given is not None:
                raise
            why = "other wavelengths"
        if given is not None or not why:
            return matched, scaled(transform, scale) or transform
        warnings.warn(
            f"the bands of the scene are not those that the model was trained on ({why}): another transform is fitted "
            f"on this scene, which brings them to the {model.in_chans} that the model takes",
            HsmambaWarning,
            stacklevel=5,
        )
    if scale is not None:
        raise ValueError(
            f"scale is {scale!r}, for numbers of another unit than a transform was fitted on; here a new one is fitted "
            "on these very numbers: leave scale out"
        )
    matched = alike(model, scenes, None)
    levels = {"levels": model.levels} if isinstance(model, GraphLDA) else {}
    return matched, default_transform(matched, split, model.in_chans, nan=nan, reduction=model.reduction, **levels)


def _other_bands(scenes: Sequence[Scene], transform: Compose) -> str:
    """Tell how many bands a transform takes and scenes have; nothing where that is the same."""
    bands, takes = scenes[0].num_bands, transform.in_channels()
    return "" if takes in (None, bands) else f"{takes} there, {bands} here"
