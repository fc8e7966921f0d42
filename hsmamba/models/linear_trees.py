"""LDA, logistic regression and extra trees on the same components, whose probabilities are averaged: for other ground.

A dozen labels a class that are to name the pixels of other images leave each classifier to chance in its own way: trees
follow single labels, a discriminant analysis its estimate of the spread within classes, a logistic regression the
pixels at the borders. Their mean errs less, and needs no choice. Labels drawn class by class say nothing of how common
the classes are; pixels without labels do: the mean of the probabilities over them, one step of the estimate of Saerens
et al., corrects the weight of the classes by half, for the classifier's own errors have a part in that mean.

Source: Geurts, Ernst, Wehenkel, "Extremely randomized trees", Machine Learning 63 (2006); Saerens, Latinne,
Decaestecker, "Adjusting the outputs of a classifier to new a priori probabilities", Neural Computation 14 (2002),
section 2.2.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import linear as linear_of

from hsmamba.baselines.classification import Batches, gather_features, logistic
from hsmamba.baselines.classification import extra_trees as estimator
from hsmamba.layers.trees import Trees
from hsmamba.models._registry import ModelCfg, register_model
from hsmamba.models.graph_trees import some_of
from hsmamba.models.lda import ShrinkageLDA

_TEMPERATURE = 10.0  # of the discriminants, as in `graph_lda`
_BELIEVED = 0.5  # exponent of the correction: with 1 rare classes lose more than common ones gain

default_cfgs = {
    "linear_trees": ModelCfg(
        summary="mean of LDA, logistic regression and extra trees on components, for few labels of other images",
        citation="Saerens, Latinne, Decaestecker: Adjusting the outputs of a classifier to new a priori probabilities. "
        "Neural Computation 14, 21-41 (2002). doi:10.1162/089976602753284446",
        tiny={"in_chans": 6, "aux_chans": 1, "trees": 3},
    )
}


class LinearTrees(ShrinkageLDA):
    """Mean of the probabilities of a shrinkage LDA, a logistic regression and extra trees.

    Args:
        in_chans: Principal components of the patch.
        num_classes: See `ShrinkageLDA`.
        patch_size: See `ShrinkageLDA`.
        aux_chans: See `ShrinkageLDA`.
        windows: See `ShrinkageLDA`; by default the pixel alone.
        trees: How many trees.
        nodes: Nodes of the largest tree, which `fit` sets.
        depth: Splits on the longest path in a tree, which `fit` sets.

    Shape:
        As for `Classifier`; the logits are log probabilities, without trees those of the linear parts alone.

    Raises:
        ValueError: See `ShrinkageLDA`.
    """

    reduction = "pca-unscaled"
    learns_unlabelled = True
    learns_from_scenes = True
    logistic: Tensor
    prior: Tensor

    def __init__(
        self,
        in_chans: int = 30,
        num_classes: int = 16,
        patch_size: int | None = None,
        aux_chans: int = 0,
        *,
        windows: tuple[int, ...] = (1,),
        trees: int = 200,
        nodes: int = 1,
        depth: int = 0,
    ) -> None:
        super().__init__(in_chans, num_classes, patch_size, aux_chans, windows=windows)
        self.register_buffer("logistic", torch.zeros(num_classes, self.num_features + 1))  # weights, and the constant
        self.trees = Trees(trees, nodes, depth)
        self.register_buffer("prior", torch.zeros(num_classes))

    def fit(self, batches: Batches, unlabelled: Iterable[tuple[Tensor, Tensor | None]] = ()) -> None:
        """Fit all parts; arguments and errors are those of `ShrinkageLDA.fit`.

        Args:
            batches: See `ShrinkageLDA.fit`.
            unlabelled: Patches (n, in_chans, P, P) of further pixels, and those of the second source or None: how often
                they are taken for a class corrects the weight of the classes.
        """
        held = list(batches)
        super().fit(held)
        features, target = gather_features(self.forward_features, held)
        weight, bias = logistic(features, target, self.num_classes)
        forest = estimator(len(self.trees.label)).fit(*some_of(features, target))
        where = self.trees.label.device
        self.trees = Trees.of(forest.estimators_, forest.classes_).to(where)
        self.model_args = {**self.model_args, "nodes": self.trees.label.shape[1], "depth": self.trees.depth}
        with torch.no_grad():
            self.logistic.copy_(torch.from_numpy(np.concatenate([weight, bias[:, None]], axis=1)))
            self.prior.zero_()
            found = [self(*sources).double().exp() for sources in unlabelled]
            if found:
                share = torch.from_numpy(np.bincount(target, minlength=self.num_classes) / target.size).to(where)
                common = torch.cat(found).mean(dim=0) / share
                self.prior.copy_(torch.where(share > 0, common.log() * _BELIEVED, 0.0))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Classify features: (B, num_classes), or (B, num_features) with `pre_logits`."""
        linear = super().forward_head(x, pre_logits)
        if pre_logits or not self.num_classes:
            return linear
        named = self.trees(x)[..., None] == torch.arange(self.num_classes, device=x.device)
        votes = named.to(linear.dtype).mean(dim=1)
        summed = (
            (linear / _TEMPERATURE).softmax(1)
            + linear_of(x, self.logistic[:, :-1], self.logistic[:, -1]).softmax(1)
            + votes
        )
        return (torch.log(summed / (2 + votes.sum(1, keepdim=True))) + self.prior).log_softmax(1)

    def reset_classifier(self, num_classes: int) -> None:
        """Give the model new head, unfitted other parts, and classes that weigh alike."""
        super().reset_classifier(num_classes)
        self.logistic = self.logistic.new_zeros(num_classes, self.num_features + 1)
        self.prior = self.prior.new_zeros(num_classes)
        self.trees.label.fill_(-1)


@register_model
def linear_trees(**kwargs: Any) -> LinearTrees:
    """LDA, logistic regression and 200 extra trees on the pixel's components."""
    return LinearTrees(**kwargs)
