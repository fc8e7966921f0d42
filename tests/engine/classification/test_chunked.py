"""Scenes that dask holds: nothing is computed before it is asked for, and then it is what the scene in memory gives."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import hsmamba
from hsmamba.data import Compose, Diffuse, Scene
from hsmamba.engine.chunked import block_sizes
from hsmamba.errors import HsmambaWarning, SceneError

xarray = pytest.importorskip("xarray", reason="needs the geo extra")
dask = pytest.importorskip("dask", reason="needs the dask extra")


@pytest.fixture
def model(make_model, scene, split):
    network = make_model()
    hsmamba.finetune(network, scene, split, epochs=1, warmup_epochs=0, progress=False)
    return network


def image(array, dims=("y", "x", "band"), **chunks):
    """A DataArray with a place; dask's where there are chunks."""
    rows, columns = (array.shape[dims.index(dim)] for dim in ("y", "x"))
    coords = {"y": 5e6 - 30.0 * np.arange(rows), "x": 4e5 + 30.0 * np.arange(columns), "spatial_ref": 0}
    made = xarray.DataArray(array, dims=dims, coords=coords, attrs={"title": "toy"})
    return made.chunk(chunks) if chunks else made


def same(got, want):
    """Whether lazy results are those of the eager call, with its place."""
    assert all(dask.is_dask_collection(one.data) for one in got)
    for lazy, eager in zip(dask.compute(*got, scheduler="synchronous"), want, strict=True):
        assert lazy.dtype == eager.dtype
        xarray.testing.assert_allclose(lazy, eager, rtol=0, atol=1e-6)
        assert lazy.attrs == eager.attrs and lazy.name == eager.name
    np.testing.assert_array_equal(got[0], want[0])
    return True


@pytest.mark.parametrize(
    "chunks",
    [{"y": 11, "x": 13}, {"y": 24, "x": 30}, {"y": 1, "x": 30, "band": 1}, {"y": (7, 15, 2), "x": (3, 20, 7)}],
    ids=str,
)
def test_blocks_give_what_the_whole_scene_gives(model, scene, chunks):
    cube = np.asarray(scene.hsi)
    assert same(
        hsmamba.classify(model, image(cube, **chunks), progress=False),
        hsmamba.classify(model, image(cube), progress=False),
    )


def test_even_patches_and_two_sources(scene):
    torch.manual_seed(0)
    aux = np.asarray(scene.hsi)[..., :2] ** 2
    model = hsmamba.create_model("msfmamba", in_chans=12, aux_chans=2, num_classes=3, patch_size=7)
    for chunks in ({"y": 9, "x": 9}, {"y": 24, "x": 11}):
        lazy = Scene(image(np.asarray(scene.hsi), **chunks), aux=image(aux))
        eager = Scene(image(np.asarray(scene.hsi)), aux=image(aux))
        assert same(hsmamba.classify(model, lazy, progress=False), hsmamba.classify(model, eager, progress=False))


def test_bands_first_as_rioxarray_opens_them(model, scene):
    cube = np.ascontiguousarray(np.moveaxis(np.asarray(scene.hsi), 2, 0))
    lazy = image(cube, ("band", "y", "x"), y=11, x=13)
    assert same(
        hsmamba.classify(model, lazy, progress=False),
        hsmamba.classify(model, image(cube, ("band", "y", "x")), progress=False),
    )


@pytest.mark.parametrize("where", ["value", "mask"])
def test_invalid_pixels_are_left_out_or_refused_when_their_block_is_computed(model, scene, where):
    cube = np.array(scene.hsi)
    cube[9:12, 5] = -99
    cube[23, 2] = np.nan
    eager, chunks = image(cube), {"y": 11, "x": 13}
    if where == "value":
        eager.attrs["_FillValue"] = -99.0
    else:
        eager = eager.assign_coords(valid=(("y", "x"), np.where(cube[..., 0] == -99, False, True)))
    lazy = eager.chunk(chunks)
    options = {"nan": "mask", "progress": False}
    assert same(hsmamba.classify(model, lazy, **options), hsmamba.classify(model, eager, **options))
    labels = hsmamba.classify(model, lazy, progress=False).labels
    with pytest.raises(SceneError, match=r'the first at row \d+, column 5; pass nan="mask"'):
        labels[:22, :13].compute(scheduler="synchronous")
    labels[12:20, 14:20].compute(scheduler="synchronous")  # whose blocks hold none


def test_units_and_bands_are_looked_at_at_once(model, scene):
    bright = replace(scene, hsi=np.asarray(scene.hsi, np.float64) + 40)
    model.transform = Compose(model.transform.steps).fit_scene(bright, np.arange(200))
    lazy = image(bright.hsi / 1e4, y=11, x=13)
    with pytest.raises(SceneError, match="times as large: pass scale="):
        hsmamba.classify(model, lazy, progress=False)
    assert same(
        hsmamba.classify(model, lazy, scale=1e4, progress=False),
        hsmamba.classify(model, image(bright.hsi / 1e4), scale=1e4, progress=False),
    )
    with pytest.raises(SceneError, match="has 6 bands"):
        hsmamba.classify(model, lazy[..., :6], progress=False)
    with pytest.raises(SceneError, match="the scene is 3 x 30 pixels, smaller than"):
        hsmamba.classify(model, lazy[:3], progress=False)


def test_reversed_bands_are_found_by_their_wavelengths(model, scene):
    nm = np.linspace(400, 900, 12)
    model.transform.wavelengths = nm
    turned = image(np.asarray(scene.hsi)[..., ::-1].copy()).assign_coords(wavelength=("band", nm[::-1]))
    with pytest.warns(HsmambaWarning, match="band"):
        lazy = hsmamba.classify(model, turned.chunk(y=11, x=13), progress=False)
    assert same(lazy, hsmamba.classify(model, image(np.asarray(scene.hsi)), progress=False))


def test_what_looks_at_the_whole_scene_is_told_to_load_it(make_model, scene):
    lazy = image(np.asarray(scene.hsi), y=11, x=13)
    model = make_model(in_chans=48)
    model.transform = Compose([Diffuse()]).fit_scene(scene, np.arange(600))
    with pytest.raises(SceneError, match=r"the transform looks at .*; load the scene before with \.compute\(\)"):
        hsmamba.classify(model, lazy, progress=False)
    assert hsmamba.classify(model, lazy.compute(), progress=False).labels.shape == (24, 30)


def test_nothing_but_a_few_pixels_is_read_before_the_map_is_asked_for(model, scene):
    read = []

    def load(block, block_info=None):
        read.append(tuple(block_info[0]["chunk-location"]))
        return block

    many = np.tile(np.asarray(scene.hsi), (5, 4, 1))
    array = image(many)
    lazy = array.copy(data=dask.array.from_array(many, (12, 12, 12)).map_blocks(load, dtype=many.dtype))
    labels = hsmamba.classify(model, lazy, progress=False).labels
    assert len(set(read)) <= 9
    read.clear()
    labels[:5, :5].compute(scheduler="synchronous")
    assert set(read) == {(0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 0)}


def test_blocks_hold_a_patch_and_stay_near_those_of_the_image():
    assert block_sizes(((10, 10, 4), (24,)), 5) == ((10, 14), (24,))
    assert block_sizes(((1,) * 12, (3,)), 5) == ((5, 7), (3,))
    assert block_sizes(((7, 7, 7), (8, 8)), 4, multiple=4) == ((4, 8, 9), (8, 8))


@pytest.mark.slow
def test_two_processes_of_a_cluster_write_zarr_from_zarr(model, scene, cluster, tmp_path):
    pytest.importorskip("zarr")
    whole = image(np.tile(np.asarray(scene.hsi), (4, 3, 1)))
    whole.to_dataset(name="cube").to_zarr(tmp_path / "scene.zarr", encoding={"cube": {"chunks": (20, 20, 12)}})
    lazy = xarray.open_zarr(tmp_path / "scene.zarr").cube
    workers = cluster.scheduler_info()["workers"]
    assert len(workers) == 2
    labels, confidence = hsmamba.classify(model, lazy, progress=False)
    xarray.Dataset({"label": labels, "confidence": confidence}).to_zarr(tmp_path / "map.zarr")
    written = xarray.open_zarr(tmp_path / "map.zarr").load()
    want = hsmamba.classify(model, whole, progress=False)
    np.testing.assert_array_equal(written.label, want.labels)
    np.testing.assert_allclose(written.confidence, want.confidence, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(written.x, whole.x)
