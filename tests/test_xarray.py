"""Methods of DataArrays: registered by an explicit import alone, and the functions' results."""

import numpy as np
import pytest
import torch

import hsmamba
from tests.conftest import run_python

xarray = pytest.importorskip("xarray", reason="needs the geo extra")
pytest.importorskip("hsmamba.xarray")


def image(rows, columns, bands, step=1.0):
    rng = np.random.default_rng(bands)
    values = rng.uniform(0.1, 1, (rows, columns, bands)).astype(np.float32)
    coords = {"y": -step * (np.arange(rows) + 0.5), "x": step * (np.arange(columns) + 0.5)}
    return xarray.DataArray(values, dims=("y", "x", "band"), coords=coords)


@pytest.fixture
def classifier():
    torch.manual_seed(0)
    model = hsmamba.create_model("md2f_mamba", in_chans=6, num_classes=3, patch_size=5, dim=8, filters=2)
    model.class_names = ("corn", "winter wheat", "oats")
    return model


def test_a_scene_is_classified_into_a_dataset_that_names_its_classes(classifier):
    scene = image(12, 14, 6)
    found = scene.hsmamba.classify(classifier, progress=False)
    labels, confidence = hsmamba.classify(classifier, scene, progress=False)
    np.testing.assert_array_equal(found.label, labels)
    np.testing.assert_array_equal(found.confidence, confidence)
    assert found.label.attrs == {"flag_values": [1, 2, 3], "flag_meanings": "corn winter_wheat oats"}
    np.testing.assert_array_equal(found.x, scene.x)


def test_chunks_stay_chunks(classifier):
    dask = pytest.importorskip("dask", reason="needs the dask extra")
    scene = image(12, 14, 6)
    found = scene.chunk(y=6, x=7).hsmamba.classify(classifier, progress=False)
    assert dask.is_dask_collection(found.label.data) and dask.is_dask_collection(found.confidence.data)
    xarray.testing.assert_allclose(found.compute(scheduler="synchronous"), scene.hsmamba.classify(classifier))


def test_an_image_is_sharpened_by_a_network_or_a_weight_of_the_zoo():
    ms, pan = image(8, 8, 4, 4.0), image(32, 32, 1)
    torch.manual_seed(0)
    model = hsmamba.create_model("ramsf", in_chans=4, dim=8, mlp_dims=(8,))
    options = {"maximum": 1.0, "progress": False}
    xarray.testing.assert_identical(ms.hsmamba.sharpen(pan, model, **options), hsmamba.fuse(model, ms, pan, **options))
    weight = hsmamba.create_model("ramsf.ikonos", pretrained=True)
    options["gains"] = None
    sharp = ms.hsmamba.sharpen(pan, "ramsf.ikonos", **options)
    xarray.testing.assert_identical(sharp, hsmamba.fuse(weight, ms, pan, **options))


def test_the_methods_come_with_their_import_alone():
    code = "import xarray, hsmamba; a = xarray.DataArray([1]); {}print(hasattr(a, 'hsmamba'))"
    assert run_python(code.format("")) == "False\n"
    assert run_python(code.format("import hsmamba.xarray; ")) == "True\n"
