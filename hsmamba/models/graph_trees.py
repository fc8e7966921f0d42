"""`graph_lda` and extra trees on the same diffused components, whose probabilities are averaged.

Linear discriminants carry over to ground that is unlike the training pixels, trees find what is not linear and ignore
what does not tell; half and half they are better than either on most scenes, and no choice between them is needed.
Trees of a dozen labels a class are coarse; so they name pixels without labels, too, and are fitted again with some of
those that they are sure of.

Source: Geurts, Ernst, Wehenkel, "Extremely randomized trees", Machine Learning 63 (2006); a classifier's
own labels: Scudder, "Probability of error of some adaptive pattern-recognition machines", IEEE Transactions on
Information Theory 11 (1965).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hsmamba.baselines.classification import Batches, gather_features
from hsmamba.baselines.classification import extra_trees as estimator
from hsmamba.layers.trees import Trees
from hsmamba.models._registry import ModelCfg, register_model
from hsmamba.models.graph_lda import GraphLDA

_MOST_FITTED = 2**15  # pixels, so that no tree has more nodes than a file may tell
_ADDED = 60  # unlabelled pixels of each class

default_cfgs = {
    "graph_trees": ModelCfg(
        summary="mean of graph_lda and extra trees on the same diffused components, both fitted in one step",
        citation="Geurts, Ernst, Wehenkel: Extremely randomized trees. Machine Learning 63, 3-42 (2006). "
        "doi:10.1007/s10994-006-6226-1",
        tiny={"in_chans": 24, "aux_chans": 1, "trees": 3},
    )
}


class GraphTrees(GraphLDA):
    """Mean of the probabilities of `GraphLDA` and of extra trees.

    Args:
        in_chans: See `GraphLDA`.
        num_classes: See `GraphLDA`.
        patch_size: See `GraphLDA`.
        aux_chans: See `GraphLDA`.
        levels: See `GraphLDA`.
        trees: How many trees.
        nodes: Nodes of the largest tree, which `fit` sets.
        depth: Splits on the longest path in a tree, which `fit` sets.

    Shape:
        As for `Classifier`; the logits are log probabilities, without trees those of the linear part alone.
    """

    learns_unlabelled = True

    def __init__(
        self,
        in_chans: int = 240,
        num_classes: int = 16,
        patch_size: int | None = None,
        aux_chans: int = 0,
        *,
        levels: int = 4,
        trees: int = 200,
        nodes: int = 1,
        depth: int = 0,
    ) -> None:
        super().__init__(in_chans, num_classes, patch_size, aux_chans, levels=levels)
        self.trees = Trees(trees, nodes, depth)

    def fit(self, batches: Batches, unlabelled: Iterable[tuple[Tensor, Tensor | None]] = ()) -> None:
        """Fit both parts; arguments and errors are those of `ShrinkageLDA.fit`.

        Args:
            batches: See `ShrinkageLDA.fit`.
            unlabelled: Patches (n, in_chans, P, P) of further pixels, and those of the second source or None. The trees
                name them and are fitted again on those that they are sure of, too.
        """
        held = list(batches)
        super().fit(held)
        features, target = gather_features(self.forward_features, held)
        with torch.no_grad():
            others = [self.forward_features(*sources).float().cpu().numpy() for sources in unlabelled]
        forest = estimator(len(self.trees.label)).fit(*some_of(features, target))
        if others:
            more, named = _sure_of(forest, np.concatenate(others))
            forest.fit(*some_of(np.concatenate([features, more]), np.concatenate([target, named])))
        where = self.trees.label.device
        self.trees = Trees.of(forest.estimators_, forest.classes_).to(where)
        self.model_args = {**self.model_args, "nodes": self.trees.label.shape[1], "depth": self.trees.depth}

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Classify features: (B, num_classes), or (B, num_features) with `pre_logits`."""
        linear = super().forward_head(x, pre_logits)
        if pre_logits or not self.num_classes:
            return linear
        named = self.trees(x)[..., None] == torch.arange(self.num_classes, device=x.device)
        votes = named.to(linear.dtype).mean(dim=1)
        return torch.log((linear.softmax(1) + votes) / (1 + votes.sum(1, keepdim=True)))

    def reset_classifier(self, num_classes: int) -> None:
        """Give the model a new head and unfitted trees."""
        super().reset_classifier(num_classes)
        self.trees.label.fill_(-1)


def some_of(features: NDArray[np.float32], target: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Leave out pixels beyond what trees are fitted on."""
    if len(target) <= _MOST_FITTED:
        return features, target
    chosen = np.random.default_rng(0).permutation(len(target))[:_MOST_FITTED]
    return features[chosen], target[chosen]


def _sure_of(forest: Any, features: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Choose of each class some pixels out of the half that a forest is most sure of.

    Returns:
        Features (n, F) and classes (n,), as the forest names them.
    """
    votes = forest.predict_proba(features)
    ordered = np.sort(votes, axis=1)
    margin, named = ordered[:, -1] - ordered[:, -2], votes.argmax(axis=1)
    generator = np.random.default_rng(0)
    chosen = []
    for k in np.unique(named):
        of_class = np.flatnonzero(named == k)
        sure = of_class[margin[of_class] >= np.median(margin[of_class])]
        chosen.append(generator.permutation(sure)[:_ADDED])
    items = np.concatenate(chosen)
    return features[items], forest.classes_[named[items]]


@register_model
def graph_trees(**kwargs: Any) -> GraphTrees:
    """`graph_lda` and 200 extra trees."""
    return GraphTrees(**kwargs)
