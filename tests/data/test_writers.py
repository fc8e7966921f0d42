"""Written rasters: read back with rasterio and by the library, they tell what their inputs told."""

import json
import warnings

import numpy as np
import pytest

from hsmamba.data import open_image, open_scene
from hsmamba.data.georeference import Georeference
from hsmamba.data.writers import raster_rows, write_raster
from tests.conftest import full_disk
from tests.data.files.samples import cube, write_tif

rasterio = pytest.importorskip("rasterio", reason="needs the geo extra")
rioxarray = pytest.importorskip("rioxarray", reason="needs the geo extra")
xr = pytest.importorskip("xarray", reason="needs the geo extra")

TAGS = [
    {"wavelength": str(w), "wavelength_units": "Nanometers", "fwhm": "9.5", "bbl": "1"} for w in (450, 550, 650, 2e3)
]


def save(path, array, *, nodata=None, **place):
    height, width, bands = array.shape
    size = {"height": height, "width": width, "count": bands, "dtype": array.dtype, "nodata": nodata}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver="GTiff", **size, **place) as file:
            file.write(array.transpose(2, 0, 1))
    return path


def opened(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        return rasterio.open(path)


def points(file):
    found, crs = file.gcps
    return [(p.row, p.col, p.x, p.y, p.z) for p in found], crs


def test_a_raster_keeps_what_its_bands_are(tmp_path):
    path = write_tif(tmp_path / "a.tif", cube(np.int16), nodata=-1, tags=TAGS, texts=["blue", "green", "", "SWIR"])
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets, file.units = (0.1, 0.2, 0.3, 0.4), (1, 2, 3, 4), ("m",) * 4
        file.update_tags(SENSOR="A", STATISTICS_MAXIMUM="9")
        file.update_tags(1, STATISTICS_MAXIMUM="9")
    out = tmp_path / "out.tif"
    write_raster(out, open_image(path))
    with rasterio.open(path) as before, rasterio.open(out) as after:
        for what in ("crs", "transform", "nodata", "dtypes", "scales", "offsets", "units", "descriptions"):
            assert getattr(after, what) == getattr(before, what), what
        assert [after.tags(i) for i in (2, 3)] == [before.tags(i) for i in (2, 3)]
        assert after.tags(4, ns="IMAGERY") == {"CENTRAL_WAVELENGTH_UM": "2", "FWHM_UM": "0.0095"}
        assert after.tags()["SENSOR"] == "A" and "STATISTICS_MAXIMUM" not in after.tags() | after.tags(1)
        np.testing.assert_array_equal(after.read(), before.read())
    scene = open_scene(out)
    assert scene.wavelengths.tolist() == [450, 550, 650, 2000] and scene.fwhm.tolist() == [9.5] * 4
    assert scene.band_names == ("blue", "green", "", "SWIR") and not scene.bad_bands.any()


def test_wavelengths_in_coordinates_and_micrometres_become_tags(tmp_path):
    told = cube()[..., :2]
    array = xr.DataArray(told, dims=("y", "x", "band"), attrs={"wavelength": (0.45, 2.2), "wavelength_units": "um"})
    write_raster(tmp_path / "a.tif", array)
    write_raster(tmp_path / "b.tif", array.assign_coords(wavelength=("band", [451.5, 2200.0])))
    assert open_scene(tmp_path / "a.tif").wavelengths.tolist() == [450, 2200]
    assert open_scene(tmp_path / "b.tif").wavelengths.tolist() == [451.5, 2200]


def test_one_scale_for_all_and_one_a_band(tmp_path):
    array = xr.DataArray(
        cube(), dims=("y", "x", "band"), attrs={"scale_factor": np.float64(0.5), "offsets": (1, 2, 3, 4)}
    )
    write_raster(tmp_path / "a.tif", array)
    with opened(tmp_path / "a.tif") as file:
        assert file.scales == (0.5,) * 4 and file.offsets == (1, 2, 3, 4)


def test_bands_first_and_two_axes(tmp_path):
    path = write_tif(tmp_path / "a.tif", cube())
    write_raster(tmp_path / "b.tif", rioxarray.open_rasterio(path))
    write_raster(tmp_path / "c.tif", cube()[..., 1])
    with rasterio.open(path) as one, rasterio.open(tmp_path / "b.tif") as other, opened(tmp_path / "c.tif") as flat:
        np.testing.assert_array_equal(one.read(), other.read())
        assert one.transform == other.transform and one.crs == other.crs
        np.testing.assert_array_equal(flat.read(), cube()[None, ..., 1])
        assert flat.crs is None and flat.transform.is_identity


@pytest.mark.parametrize(
    "dtype", ["uint8", "<i2", ">i2", ">f4", "float16", "float64", "int64", "uint64", "bool", "int8"]
)
def test_numbers_of_every_type(tmp_path, dtype):
    values = cube().astype(dtype)
    write_raster(tmp_path / "a.tif", values)
    got = np.asarray(open_image(tmp_path / "a.tif"))
    np.testing.assert_array_equal(got.astype(np.float64), values.astype(np.float64))
    assert got.dtype.itemsize >= values.dtype.itemsize and got.dtype.isnative


def test_a_fourth_band_of_eight_bits_is_no_alpha_band(tmp_path):
    write_raster(tmp_path / "a.tif", np.where(cube() > 2000, 255, 0).astype(np.uint8))
    with opened(tmp_path / "a.tif") as file:
        assert "alpha" not in {one.name for one in file.colorinterp}
    assert open_scene(tmp_path / "a.tif").num_bands == 4


@pytest.mark.parametrize("six", [(20, 5, 366000, 5, -20, 5810000), (30, 0, 366000, 0, 30, 5810000)])
def test_rotated_and_south_up_grids_and_crops_of_them(tmp_path, six):
    affine = rasterio.Affine(*six)
    hsi = open_scene(save(tmp_path / "a.tif", cube(), transform=affine, crs="EPSG:32633")).hsi
    write_raster(tmp_path / "whole.tif", hsi)
    write_raster(tmp_path / "cut.tif", hsi[2:, 1:4])
    with rasterio.open(tmp_path / "whole.tif") as whole, rasterio.open(tmp_path / "cut.tif") as cut:
        assert whole.transform == affine and whole.crs.to_epsg() == cut.crs.to_epsg() == 32633
        assert cut.transform == affine @ rasterio.Affine.translation(1, 2) and cut.shape == (4, 3)


def test_control_points_and_crops_of_them(tmp_path):
    given = [
        rasterio.control.GroundControlPoint(row=r, col=c, x=10 + c / 100, y=50 - r / 100, z=3)
        for r, c in ((0, 0), (0, 5), (6, 0), (6, 5))
    ]
    hsi = open_scene(save(tmp_path / "a.tif", cube(), gcps=given, crs="EPSG:4326")).hsi
    write_raster(tmp_path / "whole.tif", hsi)
    write_raster(tmp_path / "cut.tif", hsi[2:, 1:4])
    with opened(tmp_path / "a.tif") as source, opened(tmp_path / "whole.tif") as whole:
        assert points(whole) == points(source) and points(whole)[1].to_epsg() == 4326
    with opened(tmp_path / "cut.tif") as cut:
        assert points(cut)[0] == [(r - 2, c - 1, x, y, z) for r, c, x, y, z in points(whole)[0]]
    assert Georeference.of(open_image(tmp_path / "cut.tif")) == Georeference.of(hsi[2:, 1:4])


def test_polynomials_and_crops_of_them(tmp_path):
    numbers = [0.5, *([0.25] * 19)]
    rpcs = rasterio.rpc.RPC(100, 50, 50, 1, numbers, numbers, 2, 3, 10, 2, numbers, numbers, 4, 5)
    hsi = open_scene(save(tmp_path / "a.tif", cube(), rpcs=rpcs)).hsi
    write_raster(tmp_path / "whole.tif", hsi)
    write_raster(tmp_path / "cut.tif", hsi[2:, 1:4])
    with opened(tmp_path / "whole.tif") as whole, opened(tmp_path / "cut.tif") as cut:
        assert whole.rpcs.to_dict() == rpcs.to_dict() | {
            "err_bias": whole.rpcs.err_bias,
            "err_rand": whole.rpcs.err_rand,
        }
        assert (cut.rpcs.line_off, cut.rpcs.samp_off) == (rpcs.line_off - 2, rpcs.samp_off - 1)
        assert cut.rpcs.line_num_coeff == numbers
    assert json.loads(Georeference.of(open_image(tmp_path / "cut.tif")).rpcs)["line_off"] == rpcs.line_off - 2


def test_a_system_without_coordinates_is_kept(tmp_path):
    array = xr.DataArray(cube(), dims=("y", "x", "band")).rio.write_crs("EPSG:32633")
    write_raster(tmp_path / "a.tif", array)
    with opened(tmp_path / "a.tif") as file:
        assert file.crs.to_epsg() == 32633 and file.transform.is_identity


def test_an_array_without_place_makes_no_noise(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_raster(tmp_path / "a.tif", cube())
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


def test_what_lay_beside_an_older_file_goes_with_it(tmp_path):
    for name in ("a.tif.aux.xml", "a.tif.ovr", "a.tif.msk", "a.tif.txt"):
        (tmp_path / name).write_text("old")
    write_raster(tmp_path / "a.tif", cube())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "a.tif.txt"]


def test_a_full_disk_is_told_and_leaves_the_older_file(tmp_path):
    out = tmp_path / "a.tif"
    write_raster(out, cube())
    before = out.read_bytes()
    noise = np.random.default_rng(0).integers(0, 255, (300, 300, 4)).astype(np.uint8)
    with full_disk() as limit, pytest.raises(OSError, match=r"a\.tif"):
        limit(100_000)
        write_raster(out, noise)
    assert out.read_bytes() == before and [path.name for path in tmp_path.iterdir()] == ["a.tif"]


def test_rows_may_come_in_any_number(tmp_path):
    values = cube()
    with raster_rows(tmp_path / "a.tif", values.shape, values.dtype, grid=values, values=values) as write:
        for top, stop in ((0, 1), (1, 4), (4, 6)):
            write(top, values[top:stop])
    np.testing.assert_array_equal(np.asarray(open_image(tmp_path / "a.tif")), values)
