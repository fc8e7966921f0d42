"""Fusing whole scenes: tiles equal the whole image, units and grids are kept, bad input is named."""

import functools
import logging
import re
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import hsmamba
from hsmamba.baselines.regression import up_with_border
from hsmamba.data import PCA, Compose, SensorScale
from hsmamba.engine.fusion import images as _images
from hsmamba.engine.fusion import job as jobs
from hsmamba.engine.fusion import tiles
from hsmamba.engine.fusion.images import Image, Images
from hsmamba.engine.fusion.job import prepare_fusion
from hsmamba.errors import HsmambaWarning, SceneError
from hsmamba.ops.resampling import upsample
from tests.conftest import ROOT
from tests.engine.fusion.toys import Copy, ground
from tests.models.samples import FUSION, tiny

LOCAL = [("msdcnn", 3), ("msdcnn", 4), ("pannet", 2), ("pannet", 3), ("pannet", 4), ("pannet", 8)]
LOCAL += [("ramsf", 2), ("ramsf", 4), ("ramsf", 8), ("rsanet", 3), ("rsanet", 4)]


def network(name, scale=4, gain=1.5):
    model = tiny(name, in_chans=3, guide_chans=2, scale=scale)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(gain)  # so that what is far away counts for more
    return model.eval()


def scene(height, width, scale, chans=3, guide_chans=2, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    guide = rng.random((height * scale, width * scale, guide_chans))
    return rng.random((height, width, chans)).astype(dtype), guide.astype(dtype)


fuse = functools.partial(hsmamba.fuse, progress=False)


def whole(model, ms, guide, ms_up=None):
    tensors = [None if x is None else torch.from_numpy(x).permute(2, 0, 1)[None] for x in (ms, guide, ms_up)]
    with torch.inference_mode():
        return model(*tensors)[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("name", FUSION)
def test_every_network_says_how_far_it_looks(name):
    margin = hsmamba.create_model(name).margin
    assert (margin is None) == name.startswith(("le_mamba", "mmapp", "cf2n"))
    assert margin is None or margin > 0


def test_margins_are_those_of_the_user_guide():
    page = (ROOT / "docs" / "fusion.md").read_text(encoding="utf-8")
    for title, name in (("MSDCNN", "msdcnn"), ("PanNet", "pannet"), ("RAMSF", "ramsf"), ("RSANet", "rsanet")):
        assert f"| {title} | {hsmamba.create_model(name).margin} |" in page


@pytest.mark.parametrize(("name", "scale"), LOCAL)
def test_the_margin_is_what_a_pixel_depends_on(name, scale):
    model = network(name, scale).double()
    side = 2 * model.margin + 5
    ms, guide = scene(side, side, scale)
    ms_up = upsample(torch.from_numpy(ms).permute(2, 0, 1)[None], scale)
    images = [torch.from_numpy(x).permute(2, 0, 1)[None] for x in (ms, guide)] + [ms_up]
    for image in images:
        image.requires_grad_()
    middle = slice((side // 2) * scale, (side // 2 + 1) * scale)
    model(*images)[:, :, middle, middle].square().sum().backward()
    reaches = []
    for image, step in zip(images, (1, scale, scale), strict=True):
        if image.grad is not None:
            seen = np.argwhere(image.grad.abs().sum((0, 1)).numpy())
            before = side // 2 - seen.min() / step
            reaches += [before, (seen.max() + 1) / step - side // 2 - 1]
    assert model.margin - 2 < max(reaches) <= model.margin


@pytest.mark.slow
@pytest.mark.parametrize(("name", "scale"), LOCAL)
@pytest.mark.parametrize("given", [False, True], ids=["ms", "ms and ms_up"])
def test_tiles_equal_the_whole_image(name, scale, given):
    model = network(name, scale).double()
    ms, guide = scene(2 * model.margin + 9, 4 * model.margin + 31, scale)
    ms_up = scene(*guide.shape[:2], 1)[0] if given else None
    got = fuse(model, ms, guide, ms_up=ms_up, tile=8)
    np.testing.assert_allclose(got, whole(model, ms, guide, ms_up), atol=1e-9)


@pytest.mark.parametrize("name", ["msdcnn", "pannet", "ramsf", "rsanet"])
def test_tiles_equal_the_whole_image_in_single_precision(name):
    model = network(name)
    ms, guide = scene(40, 120, 4, dtype=np.float32)
    got = fuse(model, ms, guide, tile=24)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, whole(model, ms, guide), atol=1e-4)


@pytest.mark.parametrize("name", ["msdcnn", "pannet", "ramsf", "rsanet"])
@pytest.mark.parametrize("size", [(61, 90), (64, 88)])
def test_tiles_equal_the_whole_image_where_there_is_no_coarse_one(name, size):
    model = network(name).double()
    ms_up, guide = scene(*size, 1)
    got = fuse(model, None, guide, ms_up=ms_up, tile=4)
    np.testing.assert_allclose(got, whole(model, None, guide, ms_up), atol=1e-9)


def test_a_network_forgets_where_its_last_tile_lay():
    model = network("ramsf").double()
    ms, guide = scene(20, 30, 4)
    before = whole(model, ms, guide)
    fuse(model, ms, guide, tile=6)
    np.testing.assert_array_equal(whole(model, ms, guide), before)


@pytest.mark.parametrize("name", ["cf2n", "le_mamba", "mmapp"])
def test_global_networks_run_in_windows_and_say_so(name, caplog):
    model = network(name, gain=1)
    side = model.window
    ms, guide = scene(side + 4, side + 8, 4, dtype=np.float32)
    with caplog.at_level(logging.INFO, logger="hsmamba"):
        got = fuse(model, ms, guide)
    assert "whole image at once" in caplog.text and f"{side} x {side}" in caplog.text
    assert got.shape == (4 * side + 16, 4 * side + 32, 3)
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="hsmamba"):
        once = fuse(model, ms, guide, tile=side + 8)
    assert not caplog.text
    np.testing.assert_allclose(once, whole(model, ms, guide), atol=1e-4)
    first = np.ascontiguousarray(ms[:side, :side]), np.ascontiguousarray(guide[: 4 * side, : 4 * side])
    up = np.asarray(upsample(torch.from_numpy(ms).permute(2, 0, 1)[None], 4)[0].permute(1, 2, 0))
    alone = whole(model, *first, up[: 4 * side, : 4 * side].copy())
    np.testing.assert_allclose(got[:16, :32], alone[:16, :32], atol=1e-4)


@pytest.mark.parametrize("scale", [2, 3, 4, 6, 8])
def test_the_up_sampled_image_is_that_of_the_whole_scene(scale):
    ms, guide = scene(13, 31, scale, 2, 1)
    got = fuse(Copy(scale).double(), ms, guide, tile=3)
    want = upsample(torch.from_numpy(ms).permute(2, 0, 1)[None], scale)[0].permute(1, 2, 0)
    np.testing.assert_allclose(got, want, atol=1e-12)


@pytest.mark.parametrize("ratio", [2, 3, 4])
def test_windows_of_an_image_up_sampled_with_its_border_repeated_are_those_of_the_whole(ratio):
    ms, guide = scene(13, 17, ratio, 2, 1)
    pair = Images(Image(ms), Image(guide), None, ratio, fill=False, dtype=torch.float64, repeats=True)
    want = up_with_border(torch.from_numpy(ms).permute(2, 0, 1)[None], ratio)
    for rows, columns in [(slice(0, 13), slice(0, 17)), (slice(0, 3), slice(14, 17)), (slice(5, 9), slice(2, 4))]:
        _, _, up = pair.window(rows, columns)
        y, x = (slice(part.start * ratio, part.stop * ratio) for part in (rows, columns))
        torch.testing.assert_close(up, want[..., y, x], rtol=0, atol=1e-12)


def test_mode_and_device_are_left_alone():
    model = network("rsanet").train()
    fuse(model, *scene(8, 8, 4))
    assert model.training


def test_windows_are_read_and_not_the_scene(monkeypatch):
    ms, guide = scene(64, 640, 2, 2, 1, dtype=np.float32)
    largest = []

    def watch(array, rows, columns):
        largest.append((rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1))
        return original(array, rows, columns)

    original = _images._outer
    monkeypatch.setattr(_images, "_outer", watch)
    fuse(Copy(), ms, guide, tile=16)
    assert max(largest) <= (16 + 2 * 12) ** 2


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.uint8, np.int32, np.float32, np.float64])
def test_units_and_dtype_are_those_of_the_coarse_image(dtype):
    top = 200 if dtype == np.uint8 else 2047
    rng = np.random.default_rng(0)
    ms = rng.integers(0, top, (12, 9, 2)).astype(dtype)
    guide = rng.integers(0, top, (24, 18)).astype(np.uint16)
    got = fuse(Copy().double(), ms, guide, maximum=float(top))
    assert got.dtype == dtype and got.shape == (24, 18, 2)
    want = upsample(torch.from_numpy(ms.astype(np.float64)).permute(2, 0, 1)[None], 2)[0].permute(1, 2, 0).numpy()
    if np.dtype(dtype).kind != "f":
        info = np.iinfo(dtype)
        assert (want < 0).any()  # the filter overshoots, so that clipping counts
        want = np.clip(np.rint(want), info.min, info.max)
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-4)


def test_a_network_sees_the_range_that_it_is_told():
    seen = {}

    class Watch(Copy):
        def forward(self, ms, guide, ms_up):
            seen.update(ms=float(ms.max()), guide=float(guide.max()))
            return ms_up

    ms, guide = np.full((6, 6, 2), 1023, np.uint16), np.full((12, 12), 4000, np.uint16)
    for maximum, want in [(2046.0, (0.5, 4000 / 2046)), ((1023, 8000), (1.0, 0.5)), ("GF2", (1.0, 4000 / 1023))]:
        got = fuse(Watch(), ms, guide, maximum=maximum)
        assert (seen["ms"], seen["guide"]) == pytest.approx(want)
        assert np.unique(got).tolist() == [1023]


def test_what_came_with_the_weights_is_taken():
    ms, guide = np.full((6, 6, 2), 1000, np.uint16), np.full((12, 12), 500, np.uint16)
    by_transform, by_record, by_sensor = Copy(), Copy(), Copy()
    by_transform.transform = Compose([SensorScale(1 / 2000), SensorScale(1 / 1000, 0.25, on="aux")])
    by_record.record = {"data": {"maximum": 2000, "sensor": "WV3"}}
    by_sensor.record = {"data": {"sensor": "WorldView-3"}}
    for model, wanted in (
        (by_transform, (0.5, 0.75)),
        (by_record, (0.5, 0.25)),
        (by_sensor, (1000 / 2047, 500 / 2047)),
    ):
        job = prepare_fusion(model, ms, guide)
        low, high = (
            image.read(np.arange(2), np.arange(2), fill=False).max() for image in (job.coarse, job.images.guide)
        )
        assert (low, high) == pytest.approx(wanted)
        assert np.unique(fuse(model, ms, guide)).tolist() == [1000]
    with pytest.raises(SceneError, match=r"reaches 1, 0\.0005 to the network.*1 is 2000 in ms.*maximum=.*: 1, 1\?"):
        fuse(by_record, ms / 1000.0, guide / 1000.0)
    with pytest.raises(
        SceneError, match=r"ms reaches 5000, 2\.44 to the network.*: 10000, 10000\? Or 2047, 2047 where"
    ):
        fuse(by_sensor, ms * 5, guide * 10)
    for advice in (10000, 2047):
        assert np.unique(fuse(by_sensor, ms * 5, guide * 10, maximum=advice)).tolist() == [5000]
    by_transform.transform = Compose([PCA(2)])
    with pytest.raises(ValueError, match=r"pca.*SensorScale alone"):
        fuse(by_transform, ms, guide)


def test_units_that_nobody_knows_are_guessed_and_told():
    ms, guide = np.full((6, 6, 2), 1000, np.uint16), np.full((12, 12), 1500, np.uint16)
    for low, high, want in [
        (ms, guide, (2047, 2047)),
        (ms // 4, guide, (2047, 2047)),
        (ms * 10, guide // 10, (16383, 255)),
    ]:
        with pytest.warns(HsmambaWarning, match=r"maximum= to be sure") as told:
            job = prepare_fusion(Copy(), low, high)
        assert (1 / job.coarse.factor, 1 / job.images.guide.factor) == pytest.approx(want)
        assert f"{want[0]} is taken" in str(told[0].message)
    glint = np.full((60, 60, 2), 1000, np.uint16)
    glint[30, 30] = 65535
    with pytest.warns(HsmambaWarning, match="2047 is taken for the coarse image"):
        prepare_fusion(Copy(), glint, np.full((120, 120), 1500, np.uint16))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert prepare_fusion(Copy(), glint / 2000, np.ones((120, 120))).coarse.factor == 1
    with pytest.warns(HsmambaWarning) as told:
        assert np.unique(fuse(Copy(), ms, guide)).tolist() == [1000]
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fuse(Copy(), ms / 1000.0, guide / 1000.0).max() == pytest.approx(1)
    with pytest.raises(ValueError, match=r"generic.*not known"):
        fuse(Copy(), ms, guide, maximum="generic")
    with pytest.raises(ValueError, match="above 0"):
        fuse(Copy(), ms, guide, maximum=-1)


def test_two_axes_in_two_axes_out():
    ms, guide = np.random.default_rng(0).random((8, 9)), np.ones((16, 18))
    assert fuse(Copy(in_chans=1), ms, guide).shape == (16, 18)


def raster(values, pixel, name, crs="EPSG:32631", corner=(500000.0, 4800000.0), **attrs):
    xr = pytest.importorskip("xarray")
    pytest.importorskip("rioxarray")
    height, width = values.shape[:2]
    coords = {
        "y": corner[1] - pixel * (np.arange(height) + 0.5),
        "x": corner[0] + pixel * (np.arange(width) + 0.5),
        "band": np.arange(1, values.shape[2] + 1),
    }
    return xr.DataArray(values, dims=("y", "x", "band"), coords=coords, name=name, attrs=attrs).rio.write_crs(crs)


def test_the_result_lies_on_the_guides_grid_with_the_coarse_images_attributes():
    ms, guide = scene(8, 9, 2, 2, 1)
    low = raster(ms, 20.0, "ms", units="reflectance", long_name=("red", "NIR"), STATISTICS_MAXIMUM=1, made_by="a")
    low = low.assign_coords(wavelength=("band", [650.0, 850.0]))
    high = raster(guide, 10.0, "pan", units="counts", AREA_OR_POINT="Area")
    got = fuse(Copy(), low, high)
    assert got.dims == ("y", "x", "band") and got.shape == (16, 18, 2)
    assert got.rio.crs == high.rio.crs and got.rio.transform() == high.rio.transform()
    assert got.attrs == {"units": "reflectance", "long_name": ("red", "NIR"), "AREA_OR_POINT": "Area"}
    assert got.wavelength.values.tolist() == [650.0, 850.0] and got.name == "ms"
    np.testing.assert_array_equal(got.values, fuse(Copy(), ms, guide))
    assert isinstance(fuse(Copy(), low, guide), np.ndarray)


def test_a_result_tells_of_its_bands_what_the_coarse_image_tells(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    ms, guide = scene(8, 9, 2, 2, 1)
    each = {"scales": (0.1, 0.2), "offsets": (1.0, 2.0), "wavelength": (450, 550), "filter": ("a", "b"), "bbl": (1, 0)}
    low = raster(ms, 20.0, "ms", STATISTICS_MEAN=(1, 2), wavelength_units=("nm", "nm"), **each)
    high = raster(guide, 10.0, "pan", AREA_OR_POINT="Area", filter=("pan",), other=("c",))
    got = fuse(Copy(), low.transpose("band", "y", "x"), high.transpose("band", "y", "x"))
    assert got.dims == ("band", "y", "x")
    assert got.attrs == {"AREA_OR_POINT": "Area", "wavelength_units": ("nm", "nm"), **each}
    got.rio.to_raster(tmp_path / "a.tif")
    with rasterio.open(tmp_path / "a.tif") as file:
        assert (file.scales, file.offsets) == ((0.1, 0.2), (1.0, 2.0)) and file.transform == high.rio.transform()
        np.testing.assert_array_equal(file.read(), got.values)


@pytest.mark.parametrize("dtype", [">i2", ">u2", ">f4", ">f8"])
def test_big_endian_images_give_what_native_ones_give(dtype, tmp_path):
    rng = np.random.default_rng(0)
    ms, guide = (rng.integers(1, 2000, shape).astype(dtype) for shape in ((8, 9, 2), (16, 18, 1)))
    ms.tofile(tmp_path / "ms.raw")
    mapped = np.memmap(tmp_path / "ms.raw", dtype, "r", shape=ms.shape)
    native = [x.astype(x.dtype.newbyteorder("=")) for x in (ms, guide)]
    want = fuse(Copy(), *native, maximum=2047)
    got = fuse(Copy(), mapped, guide, maximum=2047)
    np.testing.assert_array_equal(got, want)
    assert got.dtype == want.dtype and got.dtype.isnative
    placed = fuse(Copy(), raster(ms, 20.0, "ms"), raster(guide, 10.0, "pan"), maximum=2047)
    np.testing.assert_array_equal(placed.values, want)


def test_other_ground_and_other_crs_are_refused():
    ms, guide = scene(8, 9, 2, 2, 1)
    high = raster(guide, 10.0, "pan")
    with pytest.raises(SceneError, match=r"0\.00 \(rows\) and 1\.50 \(columns\)"):
        fuse(Copy(), raster(ms, 20.0, "ms", corner=(500030.0, 4800000.0)), high)
    with pytest.raises(SceneError, match="reproject ms"):
        fuse(Copy(), raster(ms, 20.0, "ms", crs="EPSG:32632"), high)
    fuse(Copy(), raster(ms, 20.0, "ms", corner=(500008.0, 4800000.0)), high)


def test_invalid_pixels_are_refused_or_masked_and_spoil_no_neighbour():
    ms, guide = (np.full(shape, 0.5) for shape in ((16, 20, 2), (32, 40, 1)))
    ms[3, 4, 1] = np.nan
    ms[9:, 15:] = np.nan
    guide[20, 0] = np.inf
    with pytest.raises(SceneError, match=r"36 of 320 pixels of ms.*row 3, column 4.*mask"):
        fuse(Copy(), ms, guide)
    with pytest.raises(SceneError, match=r"1 of 1280 pixels of guide.*row 20, column 0"):
        fuse(Copy(), np.nan_to_num(ms), guide)
    for tile in (5, 64):
        for model in (Copy(), Copy(margin=1), Copy(margin=None)):
            got = fuse(model, ms, guide, nan="mask", tile=tile)
            wrong = np.isnan(ms).any(2).repeat(2, 0).repeat(2, 1) | ~np.isfinite(guide[..., 0])
            np.testing.assert_array_equal(np.isnan(got), wrong[..., None].repeat(2, 2))
            inner = ~wrong
            inner[[0, -1]] = inner[:, [0, -1]] = False  # the toy's mean counts zeros beyond the border
            np.testing.assert_allclose(got[inner], 0.5, atol=1e-5)


def test_a_scene_without_any_valid_pixel_is_all_masked():
    ms, guide = np.full((16, 16, 2), np.nan), np.ones((32, 32))
    assert np.isnan(fuse(Copy(), ms, guide, nan="mask")).all()


def test_a_mask_of_numpy_is_no_data():
    ms, guide = np.ma.MaskedArray(np.full((16, 16, 2), 0.5), False), np.full((32, 32), 0.5)
    ms[3, 4, 1] = np.ma.masked
    with pytest.raises(SceneError, match=r"1 of 256 pixels of ms hold NaN or infinity .* or are masked"):
        fuse(Copy(), ms, guide)
    got = fuse(Copy(), ms, guide, nan="mask")
    assert np.argwhere(np.isnan(got[..., 0])).tolist() == [[6, 8], [6, 9], [7, 8], [7, 9]]


def test_no_data_values_of_integers():
    ms, guide = np.full((16, 16, 2), 100, np.uint16), np.full((32, 32, 1), 50, np.uint16)
    ms[5, 6] = 65535
    guide[0, 0] = 0
    low, high = raster(ms, 20.0, "ms", _FillValue=65535), raster(guide, 10.0, "pan", _FillValue=0)
    with pytest.raises(SceneError, match="no-data value 65535"):
        fuse(Copy(), low, high, maximum=200)
    got = fuse(Copy(), low, high, maximum=200, nan="mask")
    assert got.attrs["_FillValue"] == 65535 and got.dtype == np.uint16
    wrong = np.zeros((32, 32), bool)
    wrong[10:12, 12:14] = wrong[0, 0] = True
    np.testing.assert_array_equal(got.values[..., 0] == 65535, wrong)
    assert np.unique(got.values[~wrong]).tolist() == [100]
    plain = fuse(Copy(), ms.clip(0, 100), high, maximum=200, nan="mask")
    assert plain.attrs["_FillValue"] == 0 and (plain.values[0, 0] == 0).all() and (plain.values[0, 1] == 100).all()


def test_a_valid_pixel_never_takes_the_no_data_value():
    ms, guide = np.zeros((16, 16, 2), np.uint16), np.full((32, 32, 1), 50, np.uint16)
    ms[::2] = 7
    ms[0, 0] = 9
    low = raster(np.where(ms == 0, 1, ms), 20.0, "ms", _FillValue=9)
    got = fuse(Copy(), low, raster(guide, 10.0, "pan"), maximum=200, nan="mask").values
    assert (got[:2, :2] == 9).all()
    assert not (got[2:, 2:] == 9).any()


def test_grids_that_do_not_fit_are_named_with_the_ratio():
    ms, guide = scene(10, 12, 4, 2, 1)
    with pytest.raises(
        SceneError, match=r"ms is 10 x 12 x 2 and the guide 40 x 48 x 1.*4 and 4 times.*ratio 2.*20 x 24"
    ):
        fuse(Copy(2), ms, guide)
    with pytest.raises(SceneError, match=r"ms_up is 39 x 48 x 2.*40 x 48 x 1.*ratio 4"):
        fuse(Copy(4), ms, guide, ms_up=np.zeros((39, 48, 2)))


def test_another_number_of_bands_names_those_of_the_weight():
    model = network("rsanet")
    model.record = {"data": {"sensor": "QB"}, "wavelengths": (485.0, 560.0, 660.0, 830.0)}
    ms, guide = scene(8, 8, 4, 4, 2)
    with pytest.raises(
        SceneError, match=r"ms has 4 bands.*takes 3 \(QB: blue, green, red, NIR: 485, 560, 660, 830 nm\)"
    ):
        fuse(model, ms, guide)
    with pytest.raises(SceneError, match=r"guide has 1 band,.*takes 2.*guide_chans=1"):
        fuse(model, ms[..., :3], guide[..., 0])


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"nan": "drop"}, ValueError, "mask"),
        ({"tile": 0}, ValueError, "tile is 0"),
        ({"batch_size": 0}, ValueError, "batch_size is 0"),
        ({"model": nn.Identity()}, TypeError, "in_chans, guide_chans, scale"),
        ({"overlap": 1}, ValueError, "Copy needs no overlapping windows"),
        ({"model": Copy(margin=None), "overlap": -1}, ValueError, "overlap is -1; of windows of 16 .* 0 to 8"),
        ({"model": Copy(margin=None), "tile": 8, "overlap": 5}, ValueError, "three quarters .* pass overlap=1"),
        ({"ms": None}, SceneError, "neither ms nor ms_up"),
        ({"guide": None}, SceneError, "no guide"),
        ({"ms": [[1.0]]}, SceneError, "numpy array or an xarray"),
        ({"ms": np.zeros((4, 4, 2), complex)}, SceneError, "real numbers"),
        ({"ms": np.zeros((0, 4, 2))}, SceneError, "expected numbers in it"),
    ],
)
def test_bad_arguments(change, error, text):
    ms, guide = scene(4, 4, 2, 2, 1)
    with pytest.raises(error, match=text):
        fuse(**{"model": Copy(), "ms": ms, "guide": guide} | change)


@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.2, -0.3), (1.5, 0.0), (-2.0, 0.75)])
@pytest.mark.parametrize("invalid", [False, True])
def test_a_shift_of_more_than_half_a_pixel_is_measured_and_told(shift, invalid):
    from scipy import ndimage

    image = ground(480)
    image = (image - image.min()) / np.ptp(image)
    ms = np.stack([image, 1 - image], -1).reshape(120, 4, 120, 4, 2).mean((1, 3))
    guide = ndimage.shift(image, [4 * s for s in shift], order=1, mode="nearest")
    if invalid:
        ms[30:50, 40:70] = np.nan
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        fuse(Copy(4), ms, guide, nan="mask")
    if np.hypot(*shift) < 0.5:
        assert not told
        return
    (message,) = told
    assert issubclass(message.category, HsmambaWarning) and message.filename == __file__
    found = re.search(
        r"([\d.]+) pixels of ms further (up|down) and ([\d.]+) further (left|right)", str(message.message)
    )
    rows = float(found[1]) * (1 if found[2] == "down" else -1)
    columns = float(found[3]) * (1 if found[4] == "right" else -1)
    assert (rows, columns) == pytest.approx(shift, abs=0.15)


def test_images_that_have_nothing_in_common_are_not_called_misregistered():
    rng = np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fuse(Copy(2), rng.random((60, 60, 2)), rng.random((120, 120)))
        fuse(Copy(2), np.ones((60, 60, 2)), np.ones((120, 120)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [("rsanet", {"tile": 5}), ("le_mamba", {"tile": 8, "batch_size": 3}), ("le_mamba", {"tile": 8, "overlap": 6})],
)
def test_a_job_goes_on_at_a_row_that_was_written_bit_for_bit(name, options, monkeypatch):
    monkeypatch.setattr(jobs, "_FINISHED", 7 * 80 * 4)
    rng = np.random.default_rng(0)
    ms, guide = rng.random((27, 20, 4)), rng.random((108, 80, 1))
    torch.manual_seed(0)
    network = hsmamba.create_model(name, **{"in_chans": 4, "guide_chans": 1, "dim": 8, "scale": 4})
    job = prepare_fusion(network, ms, guide, maximum=1.0, progress=False, **options)
    whole, rest = {}, {}
    job.run(lambda top, rows: whole.update({top: rows}))
    assert len(whole) > 4
    for done in (list(whole)[1], list(whole)[-1]):
        rest.clear()
        job.run(lambda top, rows: rest.update({top: rows}), start=done)
        np.testing.assert_array_equal(
            np.concatenate(list(rest.values())), np.concatenate([rows for top, rows in whole.items() if top >= done])
        )
        assert min(rest) == done


@pytest.mark.parametrize(("margin", "rows"), [(1, 5), (6, 2)])
def test_tiles_are_no_smaller_than_three_margins(margin, rows, monkeypatch):
    monkeypatch.setattr(tiles, "TILE", 16)
    rng = np.random.default_rng(0)
    ms, guide = rng.random((36, 36, 2)), rng.random((72, 72))
    found = []
    job = prepare_fusion(Copy(margin=margin), ms, guide, maximum=1.0, progress=False)
    job.run(lambda top, part: found.append(part))
    assert len(found) == rows
    assert np.concatenate(found).shape == (72, 72, 2)


def test_wide_images_have_less_tall_tiles(monkeypatch):
    rng = np.random.default_rng(0)
    ms, guide = rng.random((16, 24, 2)), rng.random((32, 48))
    job = prepare_fusion(Copy(margin=1), ms, guide, maximum=1.0, tile=16, progress=False)
    tall, flat = [], []
    job.run(lambda top, rows: tall.append(rows))
    monkeypatch.setattr(tiles, "_BAND", 4 * 48 * 2 * 2 * 4)
    job.run(lambda top, rows: flat.append(rows))
    assert len(tall) == 1 and len(flat) == 4
    np.testing.assert_allclose(np.concatenate(flat), tall[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "options"), [("rsanet", {"tile": 5}), ("le_mamba", {"tile": 8}), ("le_mamba", {"tile": 8, "overlap": 6})]
)
def test_pixels_that_are_wanted_are_those_of_the_whole_and_the_others_invalid(name, options):
    rng = np.random.default_rng(0)
    ms, guide = rng.random((27, 20, 4)).astype(np.float32), rng.random((108, 80, 1))
    torch.manual_seed(0)
    network = hsmamba.create_model(name, **{"in_chans": 4, "guide_chans": 1, "dim": 8, "scale": 4})
    inside = np.zeros((108, 80), bool)
    inside[70:90, 50:71] = True
    read = []

    def wanted(rows, columns):
        read.append((rows, columns))
        return inside[rows, columns]

    whole, part = (
        prepare_fusion(network, ms, guide, maximum=1.0, progress=False, **options, **more)
        for more in ({}, {"wanted": wanted})
    )
    want, got = np.empty(whole.shape), np.empty(whole.shape)
    for job, result in ((whole, want), (part, got)):
        job.run(lambda top, rows, result=result: result.__setitem__(slice(top, top + len(rows)), rows))
    np.testing.assert_allclose(got[inside], want[inside], atol=1e-6)
    assert np.isnan(got[~inside]).all() and np.isnan(part.fill_value) and read
