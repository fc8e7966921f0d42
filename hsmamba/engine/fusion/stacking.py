"""How much of each of several results goes into their mean.

Stacking: the shares are those with which results on held-out pixels explain the truth best (Wolpert, Neural Networks
5(2), 1992), held to be no less than 0 and to add up to 1, which keeps the mean from being fitted to chance (Breiman,
Machine Learning 24(1), 1996). A ridge draws them towards equal ones: of results that are alike, all are taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls
from torch import Tensor

from hsmamba.engine.fusion.heldout import Held

RIDGE = 0.1  # where squared errors are 1 in the mean
LEAST = 0.05  # share below which a result is left out: it would have to be made for next to nothing
_SUM = 1e3  # weight of the equation that shares add up to 1


def mean_of(
    results: Sequence[Sequence[Tensor]], held: Sequence[Held], ridge: float = RIDGE
) -> tuple[dict[int, float], list[Tensor]]:
    """Find the shares of results in their mean, and the mean.

    Errors of each band count relative to its mean, as in ERGAS.

    Args:
        results: M of them, each an image (C, H, W) for each held-out pair.
        held: These pairs. Where they are of several folds, the mean on the pixels of one is made by the shares that the
            others give, so that it can be compared with what was not fitted to them.
        ridge: How strongly the shares are drawn towards equal ones.

    Returns:
        Shares of at least `LEAST` by the index of the result, which add up to 1; the mean on each pair.
    """
    truths = [torch.as_tensor(part.pair.gt) for part in held]
    level = torch.cat([truth.flatten(1) for truth in truths], dim=1).double().mean(dim=1).abs()
    level = torch.where(level > 0, level, torch.inf)[:, None]
    products: dict[int, NDArray[Any]] = {}
    for index, (part, truth) in enumerate(zip(held, truths, strict=True)):
        errors = torch.stack([(images[index] - truth).flatten(1).double() / level for images in results])
        for fold in torch.unique(part.fold).tolist():
            own = errors[:, :, part.fold.flatten() == fold].flatten(1)
            products[fold] = products.get(fold, 0.0) + (own @ own.T).numpy()
    whole: NDArray[Any] = np.sum(list(products.values()), axis=0)
    found = {fold: shares(whole - own if len(products) > 1 else whole, ridge) for fold, own in products.items()}
    mean = [torch.zeros_like(truth) for truth in truths]
    for index, part in enumerate(held):
        for fold in torch.unique(part.fold).tolist():
            blend = torch.stack([share * results[result][index] for result, share in found[fold].items()]).sum(0)
            mean[index] = torch.where(part.fold == fold, blend, mean[index])
    return shares(whole, ridge), mean


def shares(products: NDArray[Any], ridge: float = RIDGE) -> dict[int, float]:
    """Find the shares of M results by the products (M, M) of the errors of each with those of each other.

    Returns:
        Shares of at least `LEAST` by the index of the result; they add up to 1.
    """
    taken = list(range(len(products)))
    while True:
        found = _solved(products[np.ix_(taken, taken)], ridge)
        if len(taken) == 1 or (found >= LEAST).all():
            return dict(zip(taken, found.tolist(), strict=True))
        taken = [index for index, share in zip(taken, found, strict=True) if share >= LEAST]


def _solved(products: NDArray[Any], ridge: float) -> NDArray[Any]:
    """Shares w >= 0 of sum 1 that minimise w P w + ridge |w - 1 / M|^2, P being scaled to a mean diagonal of 1."""
    count = len(products)
    scale = float(np.trace(products)) / count
    scaled = products / scale if scale > 0 else np.zeros_like(products)
    root = np.linalg.cholesky(scaled + ridge * np.eye(count)).T
    even = np.linalg.solve(root.T, np.full(count, ridge / count))
    found: NDArray[Any] = nnls(np.vstack([root, np.full((1, count), _SUM)]), np.append(even, _SUM))[0]
    normed: NDArray[Any] = found / found.sum()
    return normed
