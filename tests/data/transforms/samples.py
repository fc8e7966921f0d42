"""Pixels to fit on, and lists of steps."""

import numpy as np

from hsmamba.data import PCA, MinMax, SelectBands, SensorScale, Standardise

BANDS = 12


def pixels(count=200, bands=BANDS, seed=0, dtype=np.uint16):
    generator = np.random.default_rng(seed)
    mixing = generator.normal(size=(bands, bands))
    return (2000 + 300 * generator.normal(size=(count, bands)) @ mixing).clip(0, 60000).astype(dtype)


STEP_LISTS = {
    "pca": lambda: [Standardise(), PCA(5), Standardise()],
    "whitened": lambda: [SelectBands([11, 0, 3, 4, 5]), SensorScale(1e-4, 0.5), PCA(3, whiten=True)],
    "min_max": lambda: [MinMax()],
    "nothing": list,
}
