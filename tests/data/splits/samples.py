"""A label map to split, and what its splits are held against."""

import numpy as np


def fields(height=60, width=70, classes=4, seed=0):
    """Labels in rectangular fields with unlabelled paths between them."""
    generator = np.random.default_rng(seed)
    labels = np.zeros((height, width), np.uint8)
    values = generator.permutation(np.arange(len(range(0, height, 15)) * len(range(0, width, 14))) % classes + 1)
    corners = [(row, column) for row in range(0, height, 15) for column in range(0, width, 14)]
    for value, (row, column) in zip(values, corners, strict=True):
        labels[row : row + 13, column : column + 12] = value
    return labels


def by_class(labels, pixels):
    return np.bincount(labels.ravel()[pixels], minlength=labels.max() + 1)[1:]


def inside_some_patch(split, part, patch_size):
    """Count test pixels inside patches one by one, as a patch is cut."""
    seen = np.zeros(split.shape, bool)
    before = patch_size // 2
    for row, column in zip(*np.divmod(getattr(split, part), split.shape[1]), strict=True):
        top, left = row - before, column - before
        seen[max(top, 0) : top + patch_size, max(left, 0) : left + patch_size] = True
    return int(seen.ravel()[split.test].sum())
