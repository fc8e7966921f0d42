"""GeoTIFF: lazy rasters, every spelling of validity and of place, what is known of the bands."""

import copy
import json
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from hsmamba.data import gather_pixels, iter_strips, like, open_image, open_scene, valid_mask
from hsmamba.errors import HsmambaWarning, MissingExtraError, SceneError
from tests.conftest import DATA
from tests.data.files.samples import cube, truth, write_tif

rasterio = pytest.importorskip("rasterio", reason="needs the geo extra")
pytest.importorskip("rioxarray", reason="needs the geo extra")


def save(path, values, *, mask=None, colours=None, internal=True, **profile):
    """Write (H, W, B) with a mask (H, W), True = valid, inside the file or beside it."""
    height, width, bands = values.shape
    profile = {"height": height, "width": width, "count": bands, "dtype": values.dtype, "nodata": None} | profile
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal), rasterio.open(path, "w", driver="GTiff", **profile) as file:
        if colours:
            file.colorinterp = [rasterio.enums.ColorInterp[colour] for colour in colours]
        file.write(values.transpose(2, 0, 1))
        if mask is not None:
            file.write_mask(mask)
    return path


def test_geotiffs_are_lazy_rasters_on_their_grid(tmp_path):
    write_tif(tmp_path / "a.tif", cube())
    scene = open_scene(tmp_path / "a.tif")
    assert scene.hsi.dims == ("y", "x", "band") and scene.hsi.dtype == np.uint16
    assert not isinstance(scene.hsi.variable._data, np.ndarray)
    assert np.array_equal(scene.hsi, cube())
    assert np.array_equal(np.concatenate([strip for _, strip in iter_strips(scene.hsi, 100)]), cube())
    assert np.array_equal(gather_pixels(scene.hsi, [29, 0, 7]), cube().reshape(-1, 4)[[29, 0, 7]])
    assert np.array_equal(scene.hsi[2:4, 1, [0, 3]], cube()[2:4, 1][:, [0, 3]])
    labels = like(scene.hsi, truth(), name="labels")
    assert labels.rio.crs.to_epsg() == 32633 and labels.rio.transform() == scene.hsi.rio.transform()
    labels.rio.to_raster(tmp_path / "labels.tif")
    again = open_scene(tmp_path / "a.tif", labels=tmp_path / "labels.tif")
    assert again.labels.dims == ("y", "x") and np.array_equal(again.labels, truth())


def test_a_strip_of_a_geotiff_costs_little_more_than_its_size(tmp_path):
    import tracemalloc

    write_tif(tmp_path / "a.tif", np.zeros((200, 300, 40), np.uint16), nodata=7)
    scene = open_scene(tmp_path / "a.tif")
    tracemalloc.start()
    strip = np.asarray(scene.hsi[50:60])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert strip.nbytes == 10 * 300 * 40 * 4 and peak < 5 * strip.nbytes


def test_pixels_without_data_are_nan_in_cubes_and_unlabelled_in_maps(tmp_path):
    values = cube(np.int16)
    values[1, 2] = -1
    write_tif(tmp_path / "a.tif", values, nodata=-1)
    labels = truth()
    labels[0, 0] = 255
    write_tif(tmp_path / "labels.tif", labels[..., None], nodata=255)
    scene = open_scene(tmp_path / "a.tif", labels=tmp_path / "labels.tif")
    assert scene.hsi.dtype == np.float32 and np.argwhere(~valid_mask(scene.hsi, "mask")).tolist() == [[1, 2]]
    assert scene.labels[0, 0] == 0 and scene.num_classes == 3


@pytest.mark.parametrize(
    "how",
    [
        {"tags": [{"wavelength": str(w), "wavelength_units": "Nanometers"} for w in (400, 500, 600, 700)]},
        {"tags": [{"Wavelength": str(w), "wavelength_units": "um"} for w in (0.4, 0.5, 0.6, 0.7)]},
        {"imagery": [{"CENTRAL_WAVELENGTH_UM": str(w)} for w in (0.4, 0.5, 0.6, 0.7)]},
        {"texts": [f"band {i} ({w} Nanometers)" for i, w in enumerate((400.0, 500, 600, 700))]},
        {"texts": [f"{w} \u00b5m" for w in (0.4, 0.5, 0.6, 0.7)]},
    ],
)
def test_wavelengths_are_found_where_geotiffs_have_them(tmp_path, how):
    write_tif(tmp_path / "a.tif", cube(), **how)
    assert np.allclose(open_scene(tmp_path / "a.tif").wavelengths, [400, 500, 600, 700])


def test_geotiffs_without_wavelengths_have_none_and_bad_bands_come_from_tags(tmp_path):
    write_tif(tmp_path / "a.tif", cube(), texts=["red", "450 nm"], tags=[{"bbl": flag} for flag in "1101"])
    scene = open_scene(tmp_path / "a.tif")
    assert scene.wavelengths is None and scene.bad_bands.tolist() == [False, False, True, False]


def test_a_missing_package_names_its_extra(tmp_path, monkeypatch):
    write_tif(tmp_path / "a.tif", cube())
    monkeypatch.setitem(sys.modules, "rioxarray", None)
    with pytest.raises(MissingExtraError, match=r"hsmamba\[geo\]"):
        open_scene(tmp_path / "a.tif")


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not here")
def test_enmap_tiles_open_with_their_bands():
    pytest.importorskip("rioxarray", reason="needs the geo extra")
    tile = "enmap_potsdam_tile_128_0.tif"
    folder = DATA / "enmap_potsdam"
    scene = open_scene(folder / "images" / tile, labels=folder / "labels" / tile)
    assert scene.hsi.shape == (32, 32, 224) and scene.bad_bands.sum() == 6 and scene.labels.shape == (32, 32)
    assert scene.wavelengths[0] == pytest.approx(418.24) and (np.diff(scene.wavelengths) > 0).sum() > 200
    assert scene.hsi.rio.crs.to_epsg() == 32633
    assert valid_mask(scene.hsi, bands=scene.good_bands).all()
    with pytest.raises(SceneError, match="1024 of 1024"):
        valid_mask(scene.hsi)


@pytest.mark.parametrize("internal", [True, False])
def test_a_mask_makes_pixels_invalid(tmp_path, internal):
    mask = truth() > 0
    path = save(tmp_path / "a.tif", cube(np.int16), mask=mask, internal=internal)
    assert internal or (tmp_path / "a.tif.msk").is_file()
    scene = open_scene(path)
    assert scene.hsi.dtype == np.float32 and np.array_equal(valid_mask(scene.hsi, "mask"), mask)
    assert np.isnan(scene.hsi.values[~mask]).all() and np.array_equal(scene.hsi.values[mask], cube()[mask])
    with rasterio.open(path) as file:
        assert np.array_equal(np.isfinite(scene.hsi[..., 0]), file.dataset_mask() > 0)
    image = open_image(path)
    assert image.dtype == np.int16 and np.array_equal(image, cube()) and np.array_equal(image.valid, mask)
    assert image.valid.dims == ("y", "x") and "_FillValue" not in image.attrs


def test_a_mask_may_differ_between_bands(tmp_path):
    path = save(tmp_path / "a.tif", cube())
    mask = np.full((6, 5, 4), 255, np.uint8)
    mask[0, 0, 0] = mask[1, 2, 3] = 0
    beside = save(tmp_path / "a.tif.msk", mask)
    with rasterio.open(beside, "r+") as file:
        file.update_tags(**{f"INTERNAL_MASK_FLAGS_{band}": "0" for band in (1, 2, 3, 4)})
    hsi = open_scene(path).hsi
    assert np.argwhere(np.isnan(hsi.values)).tolist() == [[0, 0, 0], [1, 2, 3]]
    assert np.isnan(hsi[1, 2, [3, 0]].values).tolist() == [True, False]
    assert np.argwhere(~open_image(path).valid.values).tolist() == [[0, 0], [1, 2]]


@pytest.mark.parametrize("size", [(12, 10), (3, 5)])
def test_a_mask_of_another_size_is_refused(tmp_path, size):
    path = save(tmp_path / "a.tif", cube())
    beside = save(tmp_path / "a.tif.msk", np.zeros((*size, 1), np.uint8))
    with rasterio.open(beside, "r+") as file:
        file.update_tags(INTERNAL_MASK_FLAGS_1="2")
    with pytest.raises(SceneError, match=rf"a\.tif\.msk.* {size[0]} x {size[1]} pixels, its image 6 x 5"):
        open_scene(path)


def test_a_mask_of_valid_pixels_alone_adds_nothing(tmp_path):
    path = save(tmp_path / "a.tif", cube(), mask=np.ones((6, 5), bool))
    assert open_scene(path).hsi.dtype == np.uint16 and "valid" not in open_image(path).coords


def test_a_mask_and_a_value_without_data_count_both(tmp_path):
    values = cube(np.int16)
    values[5, 4, 2] = -1
    mask = truth() > 0
    scene = open_scene(save(tmp_path / "a.tif", values, mask=mask, nodata=-1))
    expected = np.repeat(~mask[..., None], 4, axis=2)
    expected[5, 4, 2] = True
    assert np.array_equal(np.isnan(scene.hsi), expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_alpha_band_is_validity_and_no_band_of_the_cube(tmp_path, dtype):
    values = cube(dtype)
    values[..., 3] = np.where(truth() > 1, np.iinfo(dtype).max, 0)
    path = save(tmp_path / "a.tif", values, colours=["red", "green", "blue", "alpha"], photometric="RGB", alpha="YES")
    scene, image = open_scene(path), open_image(path)
    assert scene.hsi.shape == (6, 5, 3) and np.array_equal(valid_mask(scene.hsi, "mask"), truth() > 1)
    assert np.array_equal(image, values[..., :3]) and image.dtype == dtype
    assert np.array_equal(image.valid, truth() > 1) and image.band.values.tolist() == [1, 2, 3]


def test_an_alpha_band_between_the_others_is_left_out(tmp_path):
    values = cube()
    values[..., 1] = np.where(truth() > 1, 65535, 0)
    path = save(tmp_path / "a.tif", values, colours=["gray", "alpha", "undefined", "undefined"])
    hsi = open_scene(path).hsi
    assert hsi.band.values.tolist() == [1, 3, 4]
    assert np.array_equal(hsi.values[truth() > 1], values[truth() > 1][:, [0, 2, 3]])
    assert np.array_equal(hsi[..., 1:][truth().argmax() // 5], hsi.values[truth().argmax() // 5, :, 1:], equal_nan=True)


def test_a_fourth_band_that_a_writer_called_alpha_stays_a_band(tmp_path):
    values = cube(np.uint8)
    path = save(tmp_path / "a.tif", values)
    with rasterio.open(path) as file:
        assert file.colorinterp[3].name == "alpha"  # GDAL's own doing, for four bands of 8 bits
    with pytest.warns(HsmambaWarning, match="band 4 .* marked as alpha"):
        scene = open_scene(path)
    assert scene.hsi.dtype == np.uint8 and np.array_equal(scene.hsi, values)


@pytest.mark.parametrize(
    ("dtype", "nodata", "stored", "wide"),
    [
        (np.float32, -3.40282e38, np.finfo(np.float32).min, np.float32),
        (np.float32, -9999, -9999, np.float32),
        (np.float64, -1.79769e308, np.finfo(np.float64).min, np.float64),
        (np.int32, -(2**31), -(2**31), np.float64),
        (np.uint8, 255, 255, np.float32),
    ],
)
def test_values_without_data_are_known_by_their_size(tmp_path, dtype, nodata, stored, wide):
    values = cube().astype(dtype) % 100
    values[1, 2] = stored
    path = save(tmp_path / "a.tif", values[..., :3], nodata=nodata)
    scene, image = open_scene(path), open_image(path)
    assert scene.hsi.dtype == wide and np.argwhere(np.isnan(scene.hsi[..., 0].values)).tolist() == [[1, 2]]
    assert np.isclose(image.attrs["_FillValue"], stored, rtol=1e-5) and image.dtype == dtype
    assert image.attrs["_FillValue"].dtype == dtype and np.array_equal(image, values[..., :3])


def test_numbers_near_an_integer_without_data_stay(tmp_path):
    values = np.full((6, 5, 3), 2**30, np.int32)
    values[0, 0] += 1
    assert np.isnan(open_scene(save(tmp_path / "a.tif", values, nodata=2**30)).hsi).sum() == 29 * 3


def test_a_value_that_cannot_occur_masks_nothing(tmp_path):
    path = save(tmp_path / "a.tif", cube(np.int16))
    path.with_name("a.tif.aux.xml").write_text("<PAMDataset>" + _nodata_of_bands([0.5] * 4) + "</PAMDataset>")
    with rasterio.open(path) as file:
        assert file.nodata == 0.5
    scene, image = open_scene(path), open_image(path)
    assert scene.hsi.dtype == np.int16 and "_FillValue" not in image.attrs and "valid" not in image.coords


def _nodata_of_bands(values):
    band = '<PAMRasterBand band="{}"><NoDataValue>{}</NoDataValue></PAMRasterBand>'
    return "".join(band.format(i, value) for i, value in enumerate(values, 1))


def test_values_without_data_may_differ_between_bands(tmp_path):
    values = cube(np.int16)
    values[0, 0, 0], values[1, 1, 1], values[2, 2, 0] = -1, -2, -2
    path = save(tmp_path / "a.tif", values)
    path.with_name("a.tif.aux.xml").write_text("<PAMDataset>" + _nodata_of_bands([-1, -2, -3, -4]) + "</PAMDataset>")
    scene, image = open_scene(path), open_image(path)
    assert np.argwhere(np.isnan(scene.hsi.values)).tolist() == [[0, 0, 0], [1, 1, 1]]
    assert np.isnan(scene.hsi[1, 1, [1, 0]].values).tolist() == [True, False]
    assert np.argwhere(~image.valid.values).tolist() == [[0, 0], [1, 1]] and "_FillValue" not in image.attrs


@pytest.mark.parametrize(
    "transform", [(30, 0, 366000, 0, -30, 5810000), (30, 0, 366000, 0, 30, 5810000), (1e-4, 0, 10, 0, -2e-4, 50)]
)
def test_unrotated_grids_have_coordinates_of_their_pixels_centres(tmp_path, transform):
    affine = rasterio.Affine(*transform)
    path = save(tmp_path / "a.tif", cube(), transform=affine, crs="EPSG:32633")
    hsi = open_scene(path).hsi
    with rasterio.open(path) as file:
        for row, column in ((0, 0), (5, 4)):
            assert np.allclose((hsi.x[column], hsi.y[row]), file.xy(row, column), rtol=1e-12)
    assert hsi.rio.transform().almost_equals(affine, 1e-9) and hsi.rio.crs.to_epsg() == 32633
    assert [float(number) for number in hsi.spatial_ref.attrs["GeoTransform"].split()] == list(affine.to_gdal())


def test_rotated_grids_have_a_transform_and_coordinates_that_count(tmp_path):
    affine = rasterio.Affine(20, 5, 366000, 5, -20, 5810000)
    hsi = open_scene(save(tmp_path / "a.tif", cube(), transform=affine, crs="EPSG:32633")).hsi
    assert hsi.x.values.tolist() == [0.5, 1.5, 2.5, 3.5, 4.5] and hsi.rio.transform() == affine
    assert hsi.rio.crs.to_epsg() == 32633


def test_control_points_are_kept(tmp_path):
    points = [
        rasterio.control.GroundControlPoint(row=r, col=c, x=10 + c / 100, y=50 - r / 100, z=3)
        for r, c in ((0, 0), (0, 5), (6, 0), (6, 5))
    ]
    hsi = open_scene(save(tmp_path / "a.tif", cube(), gcps=points, crs="EPSG:4326")).hsi
    assert [(p.row, p.col, p.x, p.y, p.z) for p in hsi.rio.get_gcps()] == [
        (p.row, p.col, p.x, p.y, p.z) for p in points
    ]
    assert hsi.rio.crs.to_epsg() == 4326 and hsi.y.values.tolist() == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5]
    features = hsi.spatial_ref.attrs["gcps"]  # a text in newer versions of rioxarray
    assert (json.loads(features) if isinstance(features, str) else features)["type"] == "FeatureCollection"


def test_rational_polynomials_are_kept(tmp_path):
    numbers = [0.5, *([0.25] * 19)]
    rpcs = rasterio.rpc.RPC(100, 50, 50, 1, numbers, numbers, 2, 3, 10, 2, numbers, numbers, 2, 3)
    hsi = open_scene(save(tmp_path / "a.tif", cube(), rpcs=rpcs)).hsi
    kept = rasterio.rpc.RPC(**json.loads(hsi.spatial_ref.attrs["rpcs"]))
    assert kept.line_num_coeff == numbers and kept.height_off == 100 and hsi.x.values[0] == 0.5


def test_images_without_a_place_have_none(tmp_path, recwarn):
    hsi = open_scene(save(tmp_path / "a.tif", cube())).hsi
    assert not {"x", "y", "spatial_ref"} & set(hsi.coords)
    assert not [warning for warning in recwarn if "georeferenc" in str(warning.message).lower()]


def test_scales_names_units_and_tags_are_kept_one_a_band(tmp_path):
    tags = [{"wavelength": str(w), "wavelength_units": "nm", "fwhm": "10.5"} for w in (400, 500, 600, 700)]
    path = write_tif(tmp_path / "a.tif", cube(), tags=tags, texts=["blue", "", "red", "NIR"])
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets, file.units = (0.1, 0.2, 0.3, 0.4), (1, 1, 1, 1), ("m",) * 4
        file.update_tags(SENSOR="A", YEAR="2020", _FillValue="0", scale_factor="7")
    scene = open_scene(path)
    attrs = scene.hsi.attrs
    assert attrs["scale_factor"] == attrs["scales"] == (0.1, 0.2, 0.3, 0.4) and attrs["add_offset"] == 1
    assert attrs["long_name"] == ("blue", "", "red", "NIR") == scene.band_names and attrs["units"] == ("m",) * 4
    assert attrs["wavelength"] == (400, 500, 600, 700) and attrs["wavelength_units"] == ("nm",) * 4
    assert attrs["SENSOR"] == "A" and attrs["YEAR"] == 2020 and "_FillValue" not in attrs
    assert scene.hsi.wavelength.dims == ("band",) and scene.hsi.wavelength.values.tolist() == [400, 500, 600, 700]
    assert scene.hsi.fwhm.values.tolist() == [10.5] * 4 == scene.fwhm.tolist()
    assert scene.hsi.isel(band=[2]).wavelength.values.tolist() == [600]
    scene.hsi.transpose("band", "y", "x").rio.to_raster(tmp_path / "b.tif")
    with rasterio.open(tmp_path / "b.tif") as file:
        assert file.scales == (0.1, 0.2, 0.3, 0.4) and file.offsets == (1, 1, 1, 1)


def test_words_in_another_encoding_are_left_out_with_a_word(tmp_path):
    path = write_tif(tmp_path / "a.TIF", cube(), texts=["CamX"])
    with rasterio.open(path, "r+") as file:
        file.update_tags(PLACE="CamX", DAY="2020_01")
    assert open_scene(path).hsi.attrs["DAY"] == "2020_01"
    path.write_bytes(path.read_bytes().replace(b"CamX", b"Cam\xe9"))
    with pytest.warns(HsmambaWarning, match=r"'(tags|descriptions)' of .*a\.TIF.*UTF-8"):
        assert np.array_equal(open_scene(path).hsi, cube())


def test_widths_have_the_unit_of_the_wavelengths(tmp_path):
    tags = [{"wavelength": str(w), "fwhm": "10"} for w in (400, 500, 600, 700)]
    assert open_scene(write_tif(tmp_path / "a.tif", cube(), tags=tags)).fwhm.tolist() == [10] * 4
    tags = [{"wavelength": str(w), "wavelength_units": "um", "fwhm": "0.01"} for w in (0.4, 0.5, 0.6, 0.7)]
    assert np.allclose(open_scene(write_tif(tmp_path / "a.tif", cube(), tags=tags)).fwhm, 10)


def test_tags_that_are_no_numbers_are_left_out_with_a_word(tmp_path):
    tags = [{"wavelength": w, "bbl": "1"} for w in ("400", "500", "none", "700")]
    with pytest.warns(HsmambaWarning, match=r"'wavelength' of .*a\.tif.*left out.*none"):
        scene = open_scene(write_tif(tmp_path / "a.tif", cube(), tags=tags))
    assert scene.wavelengths is None and not scene.bad_bands.any()


def test_windows_read_what_they_name_and_no_more(tmp_path, monkeypatch):
    path = save(tmp_path / "a.tif", cube(height=40), mask=(np.arange(200) % 7 > 0).reshape(40, 5), nodata=7)
    whole = open_scene(path).hsi.values
    asked = []
    from hsmamba.data.files import geotiff

    original = geotiff._Tiff.window
    monkeypatch.setattr(
        geotiff._Tiff, "window", lambda *args: asked.append(args[1].stop - args[1].start) or original(*args)
    )
    hsi = open_scene(path).hsi
    assert asked == []
    keys = [3, slice(2, 9, 3), [30, 1, 1], slice(None, None, -13), (-1, -2, -3), (slice(5, 5),), (2, [0, 3], [3, 0])]
    for key in keys:
        assert np.array_equal(
            hsi[key], whole[np.ix_(*_spelled(key, whole.shape))].reshape(hsi[key].shape), equal_nan=True
        )
    assert asked and max(asked) <= 3


def _spelled(key, shape):
    parts = key if isinstance(key, tuple) else (key,)
    parts = (*parts, *([slice(None)] * (3 - len(parts))))
    return [np.atleast_1d(np.arange(size)[part]) for part, size in zip(parts, shape, strict=True)]


def test_lazy_rasters_can_be_copied_and_read_by_threads(tmp_path):
    path = save(tmp_path / "a.tif", cube(height=64), crs="EPSG:32633", transform=rasterio.Affine(1, 0, 5, 0, -1, 5))
    hsi = open_scene(path).hsi
    assert np.array_equal(copy.deepcopy(hsi), cube(height=64))
    assert np.array_equal(hsi.rio.write_crs("EPSG:32632"), cube(height=64))
    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(lambda row: np.asarray(hsi[row]), list(range(64)) * 4))
    assert np.array_equal(np.stack(rows[:64]), cube(height=64)) and np.array_equal(np.stack(rows[192:]), hsi)
