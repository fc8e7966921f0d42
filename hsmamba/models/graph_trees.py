"""`graph_lda` and extra trees on the same diffused components, whose probabilities are averaged.

Linear discriminants carry over to ground that is unlike the training pixels, trees find what is not linear and ignore
what does not tell; half and half they are better than either on most scenes, and no choice between them is needed.

Source: Geurts, Ernst, Wehenkel, "Extremely randomized trees", Machine Learning 63 (2006).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from hsmamba.baselines.classification import Batches, gather_features
from hsmamba.baselines.classification import extra_trees as estimator
from hsmamba.layers.trees import Trees
from hsmamba.models._registry import ModelCfg, register_model
from hsmamba.models.graph_lda import GraphLDA

_MOST_FITTED = 2**15  # pixels, so that no tree has more nodes than a file may tell

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

    def fit(self, batches: Batches) -> None:
        """Fit both parts; arguments and errors are those of `ShrinkageLDA.fit`."""
        held = list(batches)
        super().fit(held)
        features, target = gather_features(self.forward_features, held)
        if len(target) > _MOST_FITTED:
            chosen = np.random.default_rng(0).permutation(len(target))[:_MOST_FITTED]
            features, target = features[chosen], target[chosen]
        forest = estimator(len(self.trees.label)).fit(features, target)
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


@register_model
def graph_trees(**kwargs: Any) -> GraphTrees:
    """`graph_lda` and 200 extra trees."""
    return GraphTrees(**kwargs)
