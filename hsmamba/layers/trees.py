"""A forest of decision trees as tensors: fitted by scikit-learn, voting without it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_SPLITS = ("feature", "threshold", "left", "right")


class Trees(nn.Module):
    """Decision trees that each name one class.

    Args:
        trees: How many.
        nodes: Nodes of the largest.
        depth: Splits on its longest path.

    Shape:
        Features (B, F) -> the class (B, trees) that each tree names, from 0; -1 of trees that are not fitted.
    """

    feature: Tensor
    threshold: Tensor
    left: Tensor
    right: Tensor
    label: Tensor

    def __init__(self, trees: int, nodes: int = 1, depth: int = 0) -> None:
        super().__init__()
        self.depth = depth
        none = torch.zeros(trees, nodes, dtype=torch.int32)
        self.register_buffer("feature", none.clone())
        self.register_buffer("threshold", torch.zeros(trees, nodes))
        self.register_buffer("left", none.clone())
        self.register_buffer("right", none.clone())
        self.register_buffer("label", none.clone() - 1)

    @classmethod
    def of(cls, estimators: Sequence[Any], classes: Sequence[int]) -> Trees:
        """Take over fitted trees (`DecisionTreeClassifier`), whose classes are these, in the same order."""
        found = [one.tree_ for one in estimators]
        forest = cls(len(found), max(tree.node_count for tree in found), max(int(tree.max_depth) for tree in found))
        for number, tree in enumerate(found):
            leaf, itself = tree.children_left < 0, np.arange(tree.node_count)
            labels = np.asarray(classes)[tree.value[:, 0].argmax(axis=1)]
            # The largest float32 below: features are compared in float32, and so none changes its side.
            threshold = tree.threshold.astype(np.float32)
            threshold = np.where(threshold > tree.threshold, np.nextafter(threshold, np.float32(-np.inf)), threshold)
            children = (np.where(leaf, itself, side) for side in (tree.children_left, tree.children_right))
            parts = (np.where(leaf, 0, tree.feature), np.where(leaf, 0, threshold), *children, labels)
            for name, values in zip((*_SPLITS, "label"), parts, strict=True):
                getattr(forest, name)[number, : tree.node_count] = torch.from_numpy(np.asarray(values))
        return forest

    def forward(self, features: Tensor) -> Tensor:
        """Let each tree name a class."""
        count, nodes = self.feature.shape
        first = nodes * torch.arange(count, device=features.device)
        feature, threshold, left, right, label = (getattr(self, name).reshape(-1) for name in (*_SPLITS, "label"))
        node = first + torch.zeros_like(features[:, :1], dtype=torch.int64)
        for _ in range(self.depth):
            goes_left = features.gather(1, feature[node].long()) <= threshold[node]
            node = first + torch.where(goes_left, left[node], right[node])
        named: Tensor = label[node].long()
        return named
