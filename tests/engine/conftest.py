"""A small labelled scene whose classes can be told apart."""

import numpy as np
import pytest
import torch

import hsmamba
from hsmamba.baselines import CLASSIFIERS
from hsmamba.data import PCA, Compose, Scene, Standardise, random_split


@pytest.fixture
def scene():
    rng = np.random.default_rng(0)
    labels = np.kron(rng.integers(1, 4, (4, 5)), np.ones((6, 6), int))
    labels[::7] = 0
    signature = rng.normal(size=(4, 12))
    hsi = (signature[labels] + 0.3 * rng.normal(size=(*labels.shape, 12))).astype(np.float32)
    return Scene(hsi, labels, class_names=("corn", "oats", "wheat"), name="toy")


@pytest.fixture
def split(scene):
    return random_split(scene.labels, fraction=0.2, seed=0)


@pytest.fixture
def transform(scene, split):
    return Compose([Standardise(), PCA(4)]).fit(scene.hsi.reshape(-1, 12)[split.train])


@pytest.fixture
def make_model():
    def make(**kwargs):
        torch.manual_seed(0)
        sizes = {"in_chans": 4, "num_classes": 3, "patch_size": 5, "dim": 8, "d_state": 2, "filters": 2, "expand": 1.0}
        return hsmamba.create_model("md2f_mamba", **sizes | kwargs)

    return make


@pytest.fixture
def few():
    """Two of the classifiers, which is enough to see what all are given."""
    whole = dict(CLASSIFIERS)
    for name in whole.keys() - {"lda-mnf-means", "svm-bands"}:
        del CLASSIFIERS[name]
    yield
    CLASSIFIERS.clear()
    CLASSIFIERS.update(whole)


@pytest.fixture(scope="session")
def cluster():
    """A client of two processes that may not spill what they hold onto a disk."""
    dask = pytest.importorskip("dask", reason="needs the dask extra")
    distributed = pytest.importorskip("distributed", reason="needs the dask extra")
    kept = {f"distributed.worker.memory.{name}": False for name in ("spill", "target")}
    with (
        dask.config.set(kept),
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, memory_limit="2GB", dashboard_address=None) as two,
        distributed.Client(two, set_as_default=True) as client,
    ):
        yield client
