"""The confusion matrix, from which the field's classification metrics follow (`ClassificationReport`)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def confusion_matrix(truth: NDArray[Any], predicted: NDArray[Any], num_classes: int) -> NDArray[np.int64]:
    """Count pixels by true and predicted class.

    Args:
        truth: (N,) integers, classes 1..K; 0 (unlabelled) is left out.
        predicted: (N,) integers, classes 1..K; 0 (not classified) counts as wrong, in no column.
        num_classes: K.

    Returns:
        (K, K + 1) counts, rows true, columns predicted; the last column holds what was not classified.

    Raises:
        ValueError: Shapes differ, or a class is outside 0..K.
    """
    truth, predicted = np.asarray(truth).ravel(), np.asarray(predicted).ravel()
    if truth.shape != predicted.shape:
        raise ValueError(f"truth has {truth.size} pixels and predicted {predicted.size}; they must be the same pixels")
    for name, values in (("truth", truth), ("predicted", predicted)):
        if values.size and not (values.min() >= 0 and values.max() <= num_classes):
            raise ValueError(f"{name} holds classes {values.min()}..{values.max()}, expected 0..{num_classes}")
    labelled = truth > 0
    columns = np.where(predicted == 0, num_classes + 1, predicted)[labelled].astype(np.int64) - 1
    cells = (truth[labelled].astype(np.int64) - 1) * (num_classes + 1) + columns
    counts = np.bincount(cells, minlength=num_classes * (num_classes + 1))
    return counts.reshape(num_classes, num_classes + 1).astype(np.int64)


def wilson_interval(right: float, count: int, z: float = 1.959964) -> tuple[float, float]:
    """Give the interval of a share that was found right in a sample, by Wilson's score.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", Journal of the American
    Statistical Association 22 (1927); unlike the usual formula it holds for few samples, and for shares near 0 and 1.

    Args:
        right: Share in 0..1.
        count: Independent samples, 1 or more.
        z: Quantile of the normal distribution; default that of 95 %.

    Returns:
        Low and high, in 0..1.

    Raises:
        ValueError: A share or a count out of range.
    """
    if not (0 <= right <= 1 and count >= 1):
        raise ValueError(f"the share is {right} of {count}; expected 0 to 1, of 1 or more")
    middle = right + z**2 / (2 * count)
    reach = z * np.sqrt(right * (1 - right) / count + z**2 / (4 * count**2))
    low, high = (float((middle + sign * reach) / (1 + z**2 / count)) for sign in (-1, 1))
    return max(0.0, low), min(1.0, high)
