"""Classical classifiers of pixels: shrinkage LDA, random forest and SVM on bands or components, with means around.

What a user has anyway, from scikit-learn (the `classical` extra), as modules that `hsmamba.finetune`, `classify` and
`evaluate` take like a network: `fit` is one step, `forward` gives log probabilities.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hsmamba._optional import optional_import
from hsmamba.errors import SplitError
from hsmamba.layers.multiscale import MultiScaleMeans, windows_within

Batches: TypeAlias = "Iterable[tuple[Tensor, Tensor | None, Tensor]]"
Estimator: TypeAlias = "Callable[[int], Any]"
Reduction: TypeAlias = Literal["pca", "pca-unscaled", "mnf"]

_TREES = 300
_SHARE_TRIED = 0.3  # of the features, for each split of an extra tree
_PENALTY = 100.0  # C of the SVM
_STEPS = 1000  # of a logistic regression, at most
_NEVER = -1e4  # logit of a class without training pixels; the best of the others has 0 or more


def shrinkage_lda(seed: int = 0) -> Any:
    """Linear discriminant analysis with the shrinkage of Ledoit and Wolf; nothing in it is random."""
    lda = optional_import("sklearn.discriminant_analysis", "to fit a linear discriminant analysis")
    return lda.LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")


def random_forest(seed: int = 0) -> Any:
    """A random forest of 300 trees."""
    return optional_import("sklearn.ensemble", "to fit a random forest").RandomForestClassifier(
        _TREES, random_state=seed
    )


def support_vectors(seed: int = 0) -> Any:
    """A support vector machine with radial kernel, C = 100 and gamma = 1 / (features * variance)."""
    return optional_import("sklearn.svm", "to fit a support vector machine").SVC(C=_PENALTY, break_ties=True)


def extra_trees(count: int, seed: int = 0) -> Any:
    """Extra trees, which look at three tenths of the features for each split."""
    trees = optional_import("sklearn.ensemble", "to fit extra trees")
    return trees.ExtraTreesClassifier(count, max_features=_SHARE_TRIED, random_state=seed)


@dataclass(frozen=True)
class ClassicalCfg:
    """A classical classifier by name.

    Attributes:
        estimator: Makes the estimator of scikit-learn, from a seed.
        reduction: Kind of the components that the bands are brought to, as for `hsmamba.engine.default_transform`.
        components: How many, or fewer where the scene has no more bands; None for the bands as they are.
        windows: Sides of the windows over which features are averaged; 1 is the pixel itself.
    """

    estimator: Estimator
    reduction: Reduction = "pca-unscaled"
    components: int | None = None
    windows: tuple[int, ...] = (1,)


CLASSIFIERS: dict[str, ClassicalCfg] = {
    "forest-bands": ClassicalCfg(random_forest),
    "forest-pca": ClassicalCfg(random_forest, "pca-unscaled", 30),
    "forest-pca-means": ClassicalCfg(random_forest, "pca-unscaled", 30, (1, 5, 13)),
    "svm-bands": ClassicalCfg(support_vectors),
    "svm-pca": ClassicalCfg(support_vectors, "pca-unscaled", 30),
    "svm-mnf-means": ClassicalCfg(support_vectors, "mnf", 40, (1, 5, 11)),
    "lda-bands": ClassicalCfg(shrinkage_lda),
    "lda-mnf": ClassicalCfg(shrinkage_lda, "mnf", 40),
    "lda-mnf-means": ClassicalCfg(shrinkage_lda, "mnf", 40, (1, 5, 11)),
}


class ClassicalClassifier(nn.Module):
    """An estimator of scikit-learn behind means over windows, with the sizes and the call of a classifier.

    It has no tensors, so that it cannot be saved as a model folder: it is fitted again in seconds.

    Args:
        estimator: Anything with `fit(X, y)` and `predict_proba` or `decision_function`.
        in_chans: Bands of the (transformed) patch.
        num_classes: Classes K.
        patch_size: Side P of the patch; None for that of the largest window. Windows beyond it become the patch.
        aux_chans: Channels of the second source; 0 for none.
        windows: Sides of the windows over which both sources are averaged.
        reduction: Kind of the components that `hsmamba.finetune` fits where no transform is given, as for
            `hsmamba.engine.default_transform`.

    Shape:
        hsi: (B, in_chans, P, P), aux: (B, aux_chans, P, P). Output: (B, K) float32, log probabilities; of an estimator
        without probabilities (SVM) the logarithm of the softmax of its decision function. A class without training
        pixels has -inf.
    """

    def __init__(
        self,
        estimator: Any,
        in_chans: int,
        num_classes: int,
        patch_size: int | None = None,
        aux_chans: int = 0,
        *,
        windows: tuple[int, ...] = (1,),
        reduction: Reduction = "pca-unscaled",
    ) -> None:
        super().__init__()
        self.estimator, self.reduction = estimator, reduction
        self.in_chans, self.num_classes, self.aux_chans = in_chans, num_classes, aux_chans
        self.patch_size = max(windows) if patch_size is None else patch_size
        self.means = MultiScaleMeans(windows_within(windows, self.patch_size))

    def forward_features(self, hsi: Tensor, aux: Tensor | None = None) -> Tensor:
        """Average the sources over the windows, (B, features)."""
        features: Tensor = self.means(hsi) if aux is None else self.means(hsi, aux)
        return features

    def fit(self, batches: Batches) -> None:
        """Fit the estimator on patches.

        Args:
            batches: Patches (n, in_chans, P, P), those of the second source or None, and classes (n,) from 0 to K - 1,
                as `hsmamba.data.PatchDataset.batch` gives them.

        Raises:
            SplitError: The patches are of one class alone, or the estimator cannot be fitted on them.
        """
        features, target = gather_features(self.forward_features, batches)
        self.estimator = _fitted(self.estimator, features, target)

    def forward(self, hsi: Tensor, aux: Tensor | None = None) -> Tensor:
        """Classify patches.

        Raises:
            ValueError: It is not fitted.
        """
        if not hasattr(self.estimator, "classes_"):
            raise ValueError(
                f"the {type(self.estimator).__name__} is not fitted; hsmamba.finetune(model, scene, split) does it"
            )
        features = self.forward_features(hsi, aux).float().cpu().numpy()
        result = torch.full((len(hsi), self.num_classes), -torch.inf)
        result[:, torch.from_numpy(self.estimator.classes_)] = _log_probabilities(self.estimator, features)
        return result.to(hsi.device)


def _fitted(estimator: Any, features: NDArray[Any], target: NDArray[np.int64]) -> Any:
    """Fit an estimator of scikit-learn, whose refusals become ours."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Only one sample")  # of a class, which then adds nothing to a covariance
            return estimator.fit(features, target)
    except ValueError as error:
        raise SplitError(
            f"{type(estimator).__name__} cannot be fitted on {target.size} training pixels of {np.unique(target).size} "
            f"classes ({str(error).splitlines()[0]}); take more training pixels"
        ) from error


def _log_probabilities(estimator: Any, features: NDArray[np.float32]) -> Tensor:
    """Log probabilities (N, k) of the k classes that an estimator has seen."""
    if hasattr(estimator, "predict_proba"):
        return torch.from_numpy(estimator.predict_proba(features)).log().float()
    scores = torch.from_numpy(estimator.decision_function(features))
    if scores.ndim == 1:  # two classes have one score, that of the second
        scores = torch.stack([-scores, scores], dim=1)
    return scores.log_softmax(1).float()


def make_classifier(
    name: str,
    bands: int,
    num_classes: int,
    *,
    aux_chans: int = 0,
    largest_patch: int | None = None,
    seed: int = 0,
) -> ClassicalClassifier:
    """Make a classical classifier of `CLASSIFIERS`, to be fitted.

    `hsmamba.finetune` fits its transform with it; `hsmamba.engine.fit_baseline` does all of it.

    Args:
        name: A key of `CLASSIFIERS`.
        bands: Bands of the scene, bad ones left out: at most so many components are taken.
        num_classes: Classes K.
        aux_chans: Channels of the second source; 0 for none.
        largest_patch: Rows or columns of the scene: patches are no larger, nor are windows.
        seed: Of a random forest.

    Raises:
        ValueError: No such name.
        MissingExtraError: scikit-learn is not installed.
    """
    if name not in CLASSIFIERS:
        raise ValueError(f"no classical classifier named {name!r}; there are: {', '.join(CLASSIFIERS)}")
    cfg = CLASSIFIERS[name]
    side = max(cfg.windows) if largest_patch is None else min(largest_patch, max(cfg.windows))
    chans = bands if cfg.components is None else min(bands, cfg.components)
    return ClassicalClassifier(
        cfg.estimator(seed), chans, num_classes, side, aux_chans, windows=cfg.windows, reduction=cfg.reduction
    )


def gather_features(
    features_of: Callable[[Tensor, Tensor | None], Tensor], batches: Batches
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Compute the features of patches, batch by batch, so that the patches are never held together.

    Args:
        features_of: From patches of both sources to features (n, F).
        batches: See `ClassicalClassifier.fit`.

    Returns:
        Features (N, F) and classes (N,) from 0.

    Raises:
        SplitError: Patches without a class, or of one class alone.
    """
    features, targets = [], []
    with torch.no_grad():
        for hsi, aux, target in batches:
            features.append(features_of(hsi, aux).float().cpu())
            targets.append(target.cpu())
    classes: NDArray[np.int64] = torch.cat(targets).numpy()
    if classes.min() < 0:
        raise SplitError(
            f"{int((classes < 0).sum())} of {classes.size} patches to fit on are unlabelled; leave them out"
        )
    if np.unique(classes).size < 2:
        raise SplitError(
            f"all {classes.size} training pixels are of one class, and a classifier tells two or more apart; take a "
            "split with training pixels of further classes"
        )
    return torch.cat(features).numpy(), classes


def discriminants(
    features: NDArray[np.float32], target: NDArray[np.int64], num_classes: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fit a shrinkage LDA and return it as a linear layer.

    Linear discriminant functions x^T S^-1 m_k - m_k^T S^-1 m_k / 2 + log p_k, with S the covariance within classes,
    each class's shrunk by the formula of Ledoit and Wolf (Journal of Multivariate Analysis 88, 2004), weighted by the
    priors p_k, the shares of the training pixels. Their mean over the classes is taken off, which changes no posterior;
    classes without pixels have a logit far below, so that they are never predicted.

    Args:
        features: (N, F).
        target: (N,) classes from 0.
        num_classes: Classes K.

    Returns:
        Weight (K, F) and bias (K,).

    Raises:
        SplitError: No class has two pixels, so that there is no covariance.
    """
    return _as_layer(_fitted(shrinkage_lda(), features.astype(np.float64), target), num_classes)


def logistic(
    features: NDArray[np.float32], target: NDArray[np.int64], num_classes: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fit a multinomial logistic regression and return it as a linear layer.

    Features are centred and divided by the largest of their standard deviations, so that strong components stay strong,
    and the squared weights are added to the loss (C = 1); arguments, results and errors are those of `discriminants`.
    """
    maker = optional_import("sklearn.linear_model", "to fit a logistic regression").LogisticRegression
    values = features.astype(np.float64)
    mean, scale = values.mean(axis=0), values.std(axis=0).max()
    scale = scale if scale > 0 else 1.0
    weight, bias = _as_layer(_fitted(maker(max_iter=_STEPS), (values - mean) / scale, target), num_classes)
    return weight / scale, bias - weight @ mean / scale


def _as_layer(fitted: Any, num_classes: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a linear estimator of some classes as weight (K, F) and bias (K,) of all."""
    weight, bias = fitted.coef_, fitted.intercept_
    if len(weight) == 1:  # two classes have one function, the difference of the second from the first
        weight, bias = np.concatenate([0 * weight, weight]), np.concatenate([0 * bias, bias])
    all_weights, all_biases = np.zeros((num_classes, weight.shape[1])), np.full(num_classes, _NEVER)
    all_weights[fitted.classes_], all_biases[fitted.classes_] = weight - weight.mean(0), bias - bias.mean()
    return all_weights, all_biases
