"""Classifiers of scenes as scikit-learn has them: `fit`, `predict`, `cross_val_score`, `GridSearchCV`.

The `classical` extra brings scikit-learn. A scene is given whole, with a map of labels, or as `Pixels`, samples that
know their neighbourhood and that scikit-learn can divide::

    X, y = labelled_pixels(scene)
    cross_val_score(SceneClassifier("graph_trees"), X, y, cv=BlockSplits(patch_size=13))
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import torch

from hsmamba._optional import optional_import
from hsmamba.data import Compose, Scene, Split, Standardise, block_split
from hsmamba.data.image import NanPolicy, is_dataarray, pixel_mask
from hsmamba.engine import finetune
from hsmamba.engine.classification.inputs import Scale
from hsmamba.engine.classification.job import prepare_classification
from hsmamba.engine.classification.network import network_for
from hsmamba.errors import SceneError

optional_import("sklearn", "for hsmamba.sklearn")
from sklearn.base import BaseEstimator, ClassifierMixin  # noqa: E402 - the error above names the extra
from sklearn.metrics import accuracy_score  # noqa: E402
from sklearn.utils.multiclass import check_classification_targets  # noqa: E402
from sklearn.utils.validation import check_array, check_is_fitted, check_X_y  # noqa: E402

__all__ = ["BlockSplits", "Pixels", "SceneClassifier", "labelled_pixels"]

Labels: TypeAlias = "npt.NDArray[Any]"


class Pixels:
    """Pixels of one scene as samples: they can be indexed and counted, and their neighbours are still there.

    Args:
        scene: The scene.
        items: int (N,) flat indices row * W + column.
    """

    ndim = 2

    def __init__(self, scene: Scene, items: npt.ArrayLike) -> None:
        self.scene, self.items = scene, np.asarray(items, dtype=np.int64)

    @property
    def shape(self) -> tuple[int, int]:
        """Samples N and bands B."""
        return self.items.size, self.scene.num_bands

    def __len__(self) -> int:
        """Samples N."""
        return int(self.items.size)

    def __getitem__(self, key: Any) -> Pixels:
        """Take some samples, by indices, a mask or a slice."""
        key = key[0] if isinstance(key, tuple) else key
        return Pixels(self.scene, np.atleast_1d(self.items[key]))

    def __repr__(self) -> str:
        """Say how many there are, and of which scene."""
        return f"Pixels({len(self)} of {self.scene!r})"


def labelled_pixels(scene: Scene) -> tuple[Pixels, Labels]:
    """Return the labelled pixels of a scene and their classes, int64 (N,), as samples for scikit-learn.

    Raises:
        SceneError: The scene has no labels.
    """
    if scene.labels is None:
        raise SceneError("the scene has no labels; open it with labels= (a label image on the same grid)")
    labels = np.asarray(scene.labels).ravel().astype(np.int64)
    items = np.flatnonzero(labels)
    return Pixels(scene, items), labels[items]


class BlockSplits:
    """Spatially disjoint splits as a cross-validator: no training patch holds a pixel that tests.

    Each split is `hsmamba.data.block_split` with a seed of its own; pixels between both sides are left out.

    Args:
        n_splits: How many.
        fraction: Share of each class to train on.
        patch_size: Side of the patches of the model, in pixels.
        block_size: Side of the blocks; default as `block_split` chooses.
        seed: Of the first split; the others follow.
    """

    def __init__(
        self,
        n_splits: int = 5,
        *,
        fraction: float = 0.1,
        patch_size: int = 13,
        block_size: int | None = None,
        seed: int = 0,
    ) -> None:
        self.n_splits, self.fraction, self.patch_size = n_splits, fraction, patch_size
        self.block_size, self.seed = block_size, seed

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return how many splits there are."""
        return self.n_splits

    def split(
        self, X: Pixels, y: npt.ArrayLike, groups: Any = None
    ) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
        """Give the positions of training and of test samples, split by split.

        Args:
            X: The samples.
            y: (N,) their classes.
            groups: Not looked at.

        Raises:
            SplitError: No split serves the classes.
            TypeError: The samples have no place.
        """
        if not isinstance(X, Pixels):
            raise TypeError(
                f"X is {type(X).__name__}, whose samples have no place; take Pixels (labelled_pixels(scene))"
            )
        labels = np.zeros(X.scene.shape, np.int64)
        labels.ravel()[X.items] = np.unique(np.asarray(y), return_inverse=True)[1].ravel() + 1
        position = np.full(labels.size, -1, np.int64)
        position[X.items] = np.arange(len(X))
        for seed in range(self.seed, self.seed + self.n_splits):
            found = block_split(
                labels, patch_size=self.patch_size, fraction=self.fraction, block_size=self.block_size, seed=seed,
                strict=False,
            )  # fmt: skip
            yield position[found.train], position[found.test]


class SceneClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier of the zoo with scikit-learn's face.

    Where X stands below, three kinds of data may be given:

    - a `Scene`, or a cube (H, W, B) as numpy or DataArray; y is then a map (H, W) of labels, 0 (or "") where there is
      none, by default the scene's own, and what is predicted is a map;
    - `Pixels` with y (N,), for cross-validation;
    - a table (N, B) with y (N,), whose samples have no neighbours: for models of single pixels.

    Args:
        model: An architecture, made for the data, or a weight, which is trained further; names as for `create_model`.
        model_args: Further arguments of an architecture.
        components: How many components of the bands an architecture sees; default what suits it.
        patch_size: Side of the patches; default the model's. Not for a model of whole images.
        preprocessing: Fitted transform; default as for `hsmamba.finetune`.
        epochs: As for `finetune`, as are the next ones; None for what suits the model.
        lr: Peak learning rate.
        batch_size: Patches a step.
        settings: Further settings of `finetune` by name.
        nan: "raise" refuses invalid pixels of scenes; "mask" leaves them out, without a label.
        scale: Factor of the numbers, as for `hsmamba.classify`.
        regularise: "on" diffuses the probabilities over the image, as `classify` does.
        tta: Average over flips and quarter turns.
        seed: Of initial weights and training.
        device: Where to compute.
        progress: Show progress bars.

    Attributes:
        classes_: (K,) the classes of y, sorted.
        model_: The fitted network, for `hsmamba.save_pretrained`.
        result_: What `finetune` returned.
        n_features_in_: Bands B.
    """

    def __init__(
        self,
        model: str = "graph_trees",
        *,
        model_args: Mapping[str, Any] | None = None,
        components: int | None = None,
        patch_size: int | None = None,
        preprocessing: Compose | None = None,
        epochs: int | None = None,
        lr: float | None = None,
        batch_size: int | None = None,
        settings: Mapping[str, Any] | None = None,
        nan: NanPolicy = "raise",
        scale: Scale | None = None,
        regularise: str = "off",
        tta: bool = False,
        seed: int = 0,
        device: str | None = None,
        progress: bool = False,
    ) -> None:
        self.model = model
        self.model_args = model_args
        self.components = components
        self.patch_size = patch_size
        self.preprocessing = preprocessing
        self.epochs = epochs
        self.lr = lr
        self.batch_size = batch_size
        self.settings = settings
        self.nan = nan
        self.scale = scale
        self.regularise = regularise
        self.tta = tta
        self.seed = seed
        self.device = device
        self.progress = progress

    def fit(self, X: Any, y: Any = None) -> SceneClassifier:
        """Train on the labelled pixels.

        Args:
            X: See the class.
            y: Labels (H, W) of a scene, default its own, or the class of each sample (N,).

        Returns:
            Itself.

        Raises:
            SceneError: The data do not fit each other or the model, or nothing is labelled.
            ValueError: Samples that no classifier can be fitted on; the text says why.
        """
        table = _is_table(X)
        if table:
            X, y = check_X_y(X, y, dtype=np.float64)
        scene, items, values = _training(X, y)
        check_classification_targets(values)
        self.classes_, codes = np.unique(values, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"classifier can't train when only one class is present: {self.classes_.tolist()}")
        self.n_features_in_ = scene.num_bands
        labels = np.zeros(scene.shape, np.int64)
        labels.ravel()[items] = codes.ravel() + 1
        scene = replace(scene, labels=labels, class_names=_names(scene, self.classes_), classes=None)
        none = np.empty(0, np.int64)
        split = Split(train=items, val=none, test=none, shape=scene.shape, id="fit")
        with torch.random.fork_rng(), warnings.catch_warnings():
            torch.manual_seed(self.seed)
            self.model_ = network_for(
                self.model, scene, patch_size=self.patch_size, device=self.device, **self._sizes(scene, table)
            )
            side = self.model_.patch_size
            if table and side != 1:
                sees = "whole images" if side is None else f"patches of {side} x {side} pixels"
                raise SceneError(
                    f"a table has no neighbours, and {self.model} looks at {sees}; give the scene, or take "
                    'model="lda", model_args={"windows": (1,)}'
                )
            transform = Compose([Standardise()]).fit(X) if table and self.preprocessing is None else self.preprocessing
            named = {"epochs": self.epochs, "lr": self.lr, "batch_size": self.batch_size, "seed": self.seed or None}
            given = {key: value for key, value in named.items() if value is not None}
            self.result_ = finetune(
                self.model_, scene, split, transform=transform, nan=self.nan, scale=self.scale,
                progress=self.progress, **{**given, **(self.settings or {})},
            )  # fmt: skip
        return self

    def _sizes(self, scene: Scene, table: bool) -> dict[str, Any]:
        """Return components and arguments of the network; of a table it takes the bands as they are."""
        if table:
            return {"components": scene.num_bands, "model_args": self.model_args}
        return {"components": self.components, "model_args": self.model_args}

    def predict_proba(self, X: Any) -> npt.NDArray[np.float64]:
        """Return the probability of every class of `classes_`: (H, W, K) of a scene, NaN where a pixel is masked.

        Of `Pixels` and of a table it is (N, K). X is as for `fit`.
        """
        check_is_fitted(self)
        if _is_table(X):
            X = check_array(X, dtype=np.float64)
        scene, items = _ground(X)
        if scene.num_bands != self.n_features_in_:
            raise SceneError(
                f"X has {scene.num_bands} features, but {type(self).__name__} is expecting {self.n_features_in_} "
                "features as input"
            )
        wanted = None if items is None else pixel_mask(items, scene.shape)
        job = prepare_classification(
            self.model_, replace(scene, labels=None, class_names=(), classes=None), wanted=wanted, nan=self.nan,
            scale=self.scale, tta=self.tta, regularise=cast(Any, self.regularise), progress=self.progress,
        )  # fmt: skip
        found = job.probabilities().astype(np.float64)
        return found if items is None else found.reshape(-1, found.shape[2])[items]

    def predict(self, X: Any) -> Labels:
        """Return the likeliest class: a map (H, W) of a scene, 0 (or "") where a pixel is masked; else (N,)."""
        scores = self.predict_proba(X)
        good = np.isfinite(scores).all(axis=-1)
        chosen: Labels = self.classes_[np.where(good, np.nan_to_num(scores).argmax(axis=-1), 0)]
        return chosen if good.all() else np.where(good, chosen, chosen.dtype.type())

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return the share of labelled pixels, or of samples, that are predicted right.

        Args:
            X: As for `fit`.
            y: As for `fit`.
            sample_weight: (N,) weights of the labelled pixels or samples.
        """
        predicted = self.predict(X)
        if _is_table(X):
            truth = np.asarray(y)
        else:
            _, items, truth = _training(X, y)
            predicted = predicted if isinstance(X, Pixels) else predicted.ravel()[items]
        return float(accuracy_score(truth, predicted, sample_weight=sample_weight))


def _is_table(X: Any) -> bool:
    """Whether samples come without a place."""
    return not isinstance(X, (Scene, Pixels)) and not (hasattr(X, "shape") and len(X.shape) == 3)


def _ground(X: Any) -> tuple[Scene, npt.NDArray[np.int64] | None]:
    """Return the scene, and the pixels of it that are meant; None for all. A table is a scene of one column."""
    if isinstance(X, Pixels):
        return X.scene, X.items
    if isinstance(X, Scene):
        return X, None
    if _is_table(X):
        return Scene(np.asarray(X)[:, None]), np.arange(len(X))
    return Scene(X if is_dataarray(X) else np.asarray(X)), None


def _training(X: Any, y: Any) -> tuple[Scene, npt.NDArray[np.int64], Labels]:
    """Return the scene, its labelled pixels and their classes."""
    scene, items = _ground(X)
    given = scene.labels if y is None else y
    if given is None:
        raise SceneError("there are no labels; give a map as y, or a scene that has labels")
    values = np.asarray(given)
    if items is not None:
        values = values.ravel()[items] if values.shape == scene.shape and y is None else values
        if values.shape != items.shape:
            raise SceneError(f"y has the shape {values.shape}; expected ({items.size},), one class a sample")
        return scene, items, values
    if values.shape != scene.shape:
        raise SceneError(
            f"y has the shape {values.shape}; expected a map of {scene.shape[0]} x {scene.shape[1]} labels"
        )
    labelled = np.flatnonzero((values != values.dtype.type()).ravel())
    if not labelled.size:
        raise SceneError("y has no labelled pixel; give a map of classes, 0 where there is none")
    return scene, labelled, values.ravel()[labelled]


def _names(scene: Scene, classes: Labels) -> tuple[str, ...]:
    """Name the classes as the scene does where they are its numbers, else by themselves."""
    known = scene.class_names
    if known and classes.dtype.kind in "iu" and classes.min() >= 1 and classes.max() <= len(known):
        return tuple(known[k - 1] for k in classes)
    return tuple(map(str, classes))
