"""Numbers of another byte order give what native ones give, at every door."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import hsmamba
from hsmamba.data import Compose, PatchDataset, Scene, Standardise, open_scene, random_split, valid_mask, wald_pairs
from tests.data.files.samples import write_swapped_envi


def mapped(path, array):
    array.tofile(path)
    return np.memmap(path, array.dtype, "r", shape=array.shape)


@pytest.fixture(params=["array", "map", "ENVI", "DataArray", "DataArray with a fill value"])
def swapped(request, scene, tmp_path):
    """The scene in big-endian integers, however they come, and in native ones."""
    values = np.rint(1000 * scene.hsi).astype(">i2")
    labels = np.asarray(scene.labels).astype(">i4")
    if request.param == "map":
        values, labels = mapped(tmp_path / "cube.raw", values), mapped(tmp_path / "labels.raw", labels)
    elif request.param == "ENVI":
        write_swapped_envi(tmp_path / "cube.hdr", values)
        values = open_scene(tmp_path / "cube.hdr").hsi
        assert isinstance(values, np.memmap) and not values.dtype.isnative
    elif request.param.startswith("DataArray"):
        xr = pytest.importorskip("xarray", reason="needs the geo extra")
        attrs = {"_FillValue": -32768} if "fill" in request.param else {}
        values = xr.DataArray(values.astype(">f4" if not attrs else ">i2"), dims=("y", "x", "band"), attrs=attrs)
    native = Scene(np.asarray(values).astype(np.float32), np.asarray(labels).astype(np.int64))
    return Scene(values, labels), native


def test_splits_and_validity(swapped):
    one, other = swapped
    split, native = (random_split(scene.labels, count=5, seed=1) for scene in (one, other))
    for part in ("train", "test"):
        np.testing.assert_array_equal(getattr(split, part), getattr(native, part))
    assert valid_mask(one.hsi).all()


def test_training_evaluation_and_maps(swapped, make_model):
    results = []
    for scene in swapped:
        split = random_split(scene.labels, count=8, seed=1)
        model = make_model()
        hsmamba.finetune(model, scene, split, epochs=2, warmup_epochs=1, batch_size=16, progress=False)
        report = hsmamba.evaluate(model, scene, split, progress=False)
        results.append((hsmamba.classify(model, scene, progress=False), report, model.state_dict()))
    (map_one, report_one, state_one), (map_other, report_other, state_other) = results
    np.testing.assert_array_equal(np.asarray(map_one.labels), map_other.labels)
    np.testing.assert_allclose(np.asarray(map_one.confidence), map_other.confidence, rtol=1e-5)
    np.testing.assert_array_equal(report_one.confusion, report_other.confusion)
    for key, tensor in state_one.items():
        torch.testing.assert_close(tensor, state_other[key])


def test_datasets_of_two_sources(swapped):
    batches = []
    for scene in swapped:
        two = replace(scene, aux=np.asarray(scene.hsi)[..., :2].astype(">f8"))
        transform = Compose([Standardise(), Standardise(on="aux")])
        transform.fit(np.asarray(two.hsi).reshape(-1, 12), np.asarray(two.aux).reshape(-1, 2))
        batches.append(PatchDataset(two, transform, patch_size=5).batch(np.arange(0, 700, 31)))
    for one, other in zip(*batches, strict=True):
        torch.testing.assert_close(one, other)


def test_pairs():
    rng = np.random.default_rng(0)
    ms, pan = rng.random((48, 48, 4)), rng.random((192, 192, 1))
    native = wald_pairs(ms.astype("<f4"), pan.astype("<f4"), ratio=4, sensor="generic")
    other = wald_pairs(ms.astype(">f4"), pan.astype(">f4"), ratio=4, sensor="generic")
    assert native.sha256 == other.sha256
