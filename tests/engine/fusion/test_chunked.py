"""Pairs that dask holds: nothing is computed before it is asked for, and then it is what the pair in memory gives."""

import numpy as np
import pytest

import hsmamba
from hsmamba.errors import SceneError
from hsmamba.models._registry import entry
from tests.engine.fusion.toys import Copy, images, make

xarray = pytest.importorskip("xarray", reason="needs the geo extra")
dask = pytest.importorskip("dask", reason="needs the dask extra")

CHUNKS = [{"y": 150, "x": 130}, {"y": 512, "x": 100}, {"y": (3, 300, 209), "x": 384}]
QUIET = {"maximum": 2047, "progress": False}


def pair(rows=128, columns=96, dtype=np.float32, bands_first=False):
    """MS and guide with a place."""
    ms, guide = (array.astype(dtype) for array in images(rows, columns))
    made = []
    for array, step in ((ms, 4), (guide, 1)):
        y, x = (step * (np.arange(n) + 0.5) for n in array.shape[:2])
        dims = ("y", "x", "band")[: array.ndim]
        made.append(xarray.DataArray(array, dims=dims, coords={"y": -y, "x": x, "spatial_ref": 0}, name="toy"))
    if bands_first:
        made[0] = made[0].transpose("band", "y", "x")
    return made


def cropped(rows, columns):
    """A pair whose MS has so many rows and columns."""
    ms, guide = pair(64, 48)
    return ms[:rows, :columns], guide[: 4 * rows, : 4 * columns]


def chunked(arrays, chunks):
    """The guide in chunks, MS in its own."""
    ms, guide = arrays
    return ms.chunk(y=40, x=96), guide.chunk(chunks)


def same(lazy, eager, atol=2e-3):
    assert dask.is_dask_collection(lazy.data)
    assert (lazy.dtype, lazy.dims, lazy.name, lazy.attrs) == (eager.dtype, eager.dims, eager.name, eager.attrs)
    computed = lazy.compute(scheduler="synchronous")
    xarray.testing.assert_allclose(computed, eager, rtol=0, atol=atol)
    return True


@pytest.mark.parametrize("chunks", CHUNKS, ids=str)
def test_blocks_give_what_the_whole_image_gives(chunks):
    model, arrays = Copy(scale=4, margin=1, in_chans=4), pair()
    eager = hsmamba.fuse(model, *arrays, tile=128, **QUIET)
    assert same(hsmamba.fuse(model, *chunked(arrays, chunks), **QUIET), eager)
    assert same(hsmamba.fuse(model, *chunked(arrays, chunks), tile=11, **QUIET), eager)


@pytest.mark.parametrize("name", ["ramsf", "rsanet"])
def test_networks_are_told_where_their_blocks_lie(name):
    options = {} if name == "ramsf" else {"depth": 1, "recursions": 2}
    model, arrays = make(name, **options), pair(64, 64)
    eager = hsmamba.fuse(model, *arrays, **QUIET)
    assert same(hsmamba.fuse(model, *chunked(arrays, {"y": 128, "x": 120}), **QUIET), eager)


def test_whole_numbers_and_bands_first():
    model, arrays = Copy(scale=4, margin=1, in_chans=4), pair(dtype=np.uint16, bands_first=True)
    assert same(hsmamba.fuse(model, *chunked(arrays, CHUNKS[0]), **QUIET), hsmamba.fuse(model, *arrays, **QUIET), 1)


def test_one_of_both_in_chunks_and_a_ratio_of_three():
    model, (ms, guide) = Copy(scale=3, margin=1, in_chans=4), (one.drop_vars(["y", "x"]) for one in pair(64, 48))
    ms, guide = ms[:60, :40], guide[:180, :120]
    eager = hsmamba.fuse(model, ms.values, guide, **QUIET)
    assert same(hsmamba.fuse(model, ms.chunk(y=13, x=17), guide, **QUIET), hsmamba.fuse(model, ms, guide, **QUIET))
    np.testing.assert_allclose(hsmamba.fuse(model, ms.values, guide.chunk(y=50, x=61), **QUIET), eager, atol=2e-3)


def test_an_up_sampled_image_alone_whose_last_coarse_pixel_is_cut():
    model, guide = Copy(scale=4, margin=1, in_chans=4), pair()[1]
    guide = guide[:499, :383]
    up = guide.expand_dims(band=4, axis=2) * xarray.DataArray([1.0, 0.5, 2.0, 1.5], dims="band").astype(np.float32)
    eager = hsmamba.fuse(model, None, guide, ms_up=up, **QUIET)
    lazy = hsmamba.fuse(model, None, guide.chunk(y=100, x=90), ms_up=up.chunk(y=77, x=383), **QUIET)
    assert same(lazy, eager)


@pytest.mark.parametrize("where", ["value", "mask", "nan"])
def test_invalid_pixels_are_masked_or_refused_when_their_block_is_computed(where):
    model, (ms, guide) = Copy(scale=4, margin=1, in_chans=4), pair()
    rows, columns = slice(20, 22), slice(60, 63)
    if where == "mask":
        valid = np.ones(ms.shape[:2], bool)
        valid[rows, columns] = False
        ms = ms.assign_coords(valid=(("y", "x"), valid))
    else:
        ms[rows, columns] = np.nan if where == "nan" else -1
        ms.attrs |= {"_FillValue": -1.0} if where == "value" else {}
    lazy = chunked((ms, guide), CHUNKS[0])
    masked = hsmamba.fuse(model, ms, guide, nan="mask", **QUIET)
    near = np.zeros(guide.shape, bool)  # invalid pixels are filled from their block, which near ones see
    near[40:140, 200:300] = True
    got = hsmamba.fuse(model, *lazy, nan="mask", **QUIET)
    assert got.attrs == masked.attrs
    got = got.compute(scheduler="synchronous")
    np.testing.assert_array_equal(got == masked.attrs["_FillValue"], masked == masked.attrs["_FillValue"])
    np.testing.assert_array_equal(np.isnan(got), np.isnan(masked))
    np.testing.assert_allclose(got.values[~near], masked.values[~near], rtol=0, atol=2e-3)
    result = hsmamba.fuse(model, *lazy, **QUIET)
    with pytest.raises(SceneError, match=r'of a block of ms .* the first at row 20, column 60; pass nan="mask"'):
        result[80:88, 240:252].compute(scheduler="synchronous")
    result[300:310, :10].compute(scheduler="synchronous")


def test_brightness_is_matched_on_the_same_pixels(pairs):
    model = make()
    hsmamba.finetune(model, pairs, epochs=1, steps=2, progress=False)
    ms, guide = pair(64, 64)
    ms, guide = ms * 1.7, guide * 0.6
    eager = hsmamba.fuse(model, ms, guide, maximum=2047, progress=False)
    assert not np.allclose(eager, hsmamba.fuse(model, ms, guide, maximum=2047, gains=None, progress=False), atol=1)
    lazy = hsmamba.fuse(model, *chunked((ms, guide), CHUNKS[0]), maximum=2047, progress=False)
    assert same(lazy, eager)


@pytest.mark.parametrize("name", ["cf2n", *(pytest.param(x, marks=pytest.mark.slow) for x in ("mmapp", "le_mamba"))])
def test_networks_that_look_at_the_whole_image_run_in_its_windows(name):
    tiny = {**entry(name).cfg.tiny, "in_chans": 4, "guide_chans": 1, "scale": 4}
    model, (ms, guide) = make(name, **tiny), cropped(46, 43)
    eager = hsmamba.fuse(model, ms, guide, tile=8, **QUIET)
    lazy = hsmamba.fuse(model, *chunked((ms, guide), {"y": 92, "x": 80}), tile=8, **QUIET)
    assert len(lazy.chunks[0]) > 1 and len(lazy.chunks[1]) > 1
    np.testing.assert_allclose(lazy.compute(scheduler="threads"), eager, rtol=0, atol=0.05)  # of 2047


@pytest.mark.parametrize(
    ("tile", "size", "overlap"),
    [
        (8, (21, 30), 6),
        (8, (21, 30), 4),
        (11, (40, 30), None),
        (16, (16, 16), None),
        (64, (20, 30), 9),
        (4, (40, 9), 3),
    ],
)
def test_windows_of_any_side_are_those_of_the_image_in_memory(tile, size, overlap):
    class Wide(Copy):
        """Depends on all that it gets, and on nothing beyond."""

        def forward(self, ms, guide, ms_up=None):
            return super().forward(ms, guide, ms_up) + guide.mean(dim=(2, 3), keepdim=True)

    options = {"tile": tile, "overlap": overlap, **QUIET}
    model, arrays = Wide(scale=4, margin=None, in_chans=4), cropped(*size)
    eager = hsmamba.fuse(model, *arrays, **options)
    for chunks in ({"y": 40, "x": 36}, {"y": 84, "x": 24}):
        assert same(hsmamba.fuse(model, *chunked(arrays, chunks), **options), eager)
    odd = arrays[1][: 4 * size[0] - 1, : 4 * size[1] - 3]
    up = odd.expand_dims(band=4, axis=2) * xarray.DataArray([1.0, 0.5, 2.0, 1.5], dims="band").astype(np.float32)
    eager = hsmamba.fuse(model, None, odd, ms_up=up, **options)
    assert same(hsmamba.fuse(model, None, odd.chunk(y=44, x=40), ms_up=up.chunk(y=77, x=30), **options), eager)


def test_what_looks_at_the_whole_image_is_told_to_load_it():
    ms, guide = chunked(pair(), CHUNKS[0])
    residual = hsmamba.create_model("residual", in_chans=4)
    for name, model, adapt in (("Residual", residual, None), ("adapt", make(), 1.0)):
        with pytest.raises(SceneError, match=f"{name} looks at the whole images at once; load them before"):
            hsmamba.fuse(model, ms, guide, adapt=adapt, **QUIET)


def test_grids_and_bands_are_looked_at_at_once():
    ms, guide = chunked(pair(), CHUNKS[0])
    with pytest.raises(SceneError, match="ms is 30 x 96 x 4 and the guide 512 x 384"):
        hsmamba.fuse(make(), ms[:30], guide, **QUIET)
    with pytest.raises(SceneError, match="ms has 3 bands"):
        hsmamba.fuse(make(), ms[..., :3], guide, **QUIET)


@pytest.mark.slow
def test_two_processes_of_a_cluster(cluster, tmp_path):
    pytest.importorskip("zarr")
    model, arrays = make(), pair(64, 64)
    for array, name in zip(chunked(arrays, CHUNKS[0]), ("ms", "guide"), strict=True):
        array.drop_vars("spatial_ref").to_dataset(name=name).to_zarr(tmp_path / f"{name}.zarr")
    ms, guide = (xarray.open_zarr(tmp_path / f"{name}.zarr")[name] for name in ("ms", "guide"))
    assert len(cluster.scheduler_info()["workers"]) == 2
    for one, atol in ((model, 2e-3), (make("cf2n", depth=1), 0.05)):
        path = tmp_path / f"{type(one).__name__}.zarr"
        hsmamba.fuse(one, ms, guide, **QUIET).to_dataset(name="sharp").to_zarr(path)
        eager = hsmamba.fuse(one, *arrays, **QUIET)
        np.testing.assert_allclose(xarray.open_zarr(path).sharp, eager, rtol=0, atol=atol)
