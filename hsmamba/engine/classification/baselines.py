"""Classical classifiers beside a network: fitted on the same training pixels, judged on the same pixels as it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hsmamba.baselines import CLASSIFIERS, make_classifier
from hsmamba.data import Compose, Scene, Split
from hsmamba.data.image import NanPolicy, take_bands
from hsmamba.engine.classification.classes import scenes_in_model_classes
from hsmamba.engine.classification.evaluate import Part, evaluate_classifier
from hsmamba.engine.classification.inputs import alike, transform_of, used_sources
from hsmamba.engine.classification.regularise import Regularise
from hsmamba.engine.classification.train import settings_for, train_classifier
from hsmamba.engine.training import Keeping
from hsmamba.errors import HsmambaError, HsmambaWarning, MissingExtraError, SplitError
from hsmamba.metrics import ClassificationReport
from hsmamba.models import Classifier, as_classifier


def fit_baseline(
    name: str,
    data: Scene | Sequence[Scene],
    split: Split,
    *,
    num_classes: int | None = None,
    nan: NanPolicy = "raise",
    seed: int = 0,
) -> Classifier:
    """Make a classical classifier for a scene and fit it, with its transform, on the training pixels of a split.

    Args:
        name: A key of `hsmamba.baselines.CLASSIFIERS`.
        data: A labelled scene, or several of one kind (plots); a second source is used where there is one.
        split: Pixels of the scene, or items of the scenes; validation pixels take no part.
        num_classes: Classes K; default those of the scenes.
        nan: "raise" refuses invalid pixels, "mask" leaves them out.
        seed: Of a random forest.

    Returns:
        The classifier, which `hsmamba.classify` and `evaluate` take. It cannot be saved.

    Raises:
        MissingExtraError: scikit-learn is not installed.
        SceneError: The scene has no labels, or too few pixels for the components.
        SplitError: The split belongs to another scene, or its training pixels are of one class.
        ValueError: No such name.
    """
    scenes = [data] if isinstance(data, Scene) else list(data)
    aux = scenes[0].aux
    module = make_classifier(
        name,
        len(scenes[0].good_bands),
        max(scene.num_classes for scene in scenes) if num_classes is None else num_classes,
        aux_chans=0 if aux is None else int(aux.shape[2]),
        largest_patch=min(side for scene in scenes for side in scene.shape),
        seed=seed,
    )
    model = as_classifier(module)
    train_classifier(model, data, split, settings_for(model, {}), nan=nan, keeping=Keeping(progress=False))
    return model


def evaluate_baselines(
    model: Classifier,
    data: Scene | Sequence[Scene],
    split: Split,
    *,
    part: Part = "test",
    transform: Compose | None = None,
    nan: NanPolicy = "raise",
    regularise: Regularise = "off",
) -> dict[str, ClassificationReport]:
    """Fit every classical classifier on what a model sees of the training pixels, and judge it where the model is.

    Bands, second source, classes and valid pixels are those of the model; arguments as for `hsmamba.evaluate`.

    Returns:
        Reports by the names of `hsmamba.baselines.CLASSIFIERS`.

    Raises:
        MissingExtraError: scikit-learn is not installed.
        SplitError: The split has no training pixels.

    Warns:
        HsmambaWarning: Some could not be fitted on these pixels, and are left out.
    """
    if split.train.size == 0:
        raise SplitError(
            f"the split {split.id!r} has no training pixels, on which the classical classifiers are fitted; evaluate "
            "on the split that the model was trained with, or without baselines"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HsmambaWarning)  # of what the evaluation of the model has told
        seen = _seen(model, data, transform)
    return judge_baselines(seen, split, num_classes=model.num_classes, part=part, nan=nan, regularise=regularise)


def judge_baselines(
    data: Scene | Sequence[Scene],
    split: Split,
    *,
    num_classes: int | None = None,
    part: Part = "test",
    nan: NanPolicy = "raise",
    regularise: Regularise = "off",
    seed: int = 0,
) -> dict[str, ClassificationReport]:
    """Fit every classical classifier on scenes as they are, and judge it; see `evaluate_baselines`."""
    reports, failed = {}, {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HsmambaWarning)
        for name in CLASSIFIERS:
            try:
                fitted = fit_baseline(name, data, split, num_classes=num_classes, nan=nan, seed=seed)
                reports[name] = evaluate_classifier(fitted, data, split, part=part, nan=nan, regularise=regularise)
            except MissingExtraError:
                raise
            except HsmambaError as error:
                failed[name] = str(error)
    for name, why in failed.items():
        warnings.warn(f"left out the classical classifier {name}: {why}", HsmambaWarning, stacklevel=4)
    return reports


def _seen(model: Classifier, data: Scene | Sequence[Scene], transform: Compose | None) -> Scene | list[Scene]:
    """Bring scenes to what a model sees of them: its classes, its sources, and the bands that its transform reads."""
    transform = transform_of(model, transform)
    scenes, _ = scenes_in_model_classes(model, [data] if isinstance(data, Scene) else data)
    scenes = [_read(scene, transform) for scene in alike(model, used_sources(model, scenes), transform)]
    return scenes[0] if isinstance(data, Scene) else scenes


def _read(scene: Scene, transform: Compose | None) -> Scene:
    """Leave out the bands of a scene that a transform drops; of the others none is bad, for the model takes them."""
    kept: dict[str, Any] = {"bad_bands": None}
    if transform is not None and transform.in_channels() is not None:
        bands = transform.input_bands()
        kept["hsi"] = take_bands(scene.hsi, bands)
        for name in ("wavelengths", "fwhm"):
            values = getattr(scene, name)
            kept[name] = None if values is None else values[bands]
        kept["band_names"] = tuple(scene.band_names[i] for i in bands) if scene.band_names else ()
    if scene.aux is not None and transform is not None and transform.in_channels("aux") is not None:
        kept["aux"] = take_bands(scene.aux, transform.input_bands("aux"))
    return replace(scene, **kept)
