"""ENVI: maps and lazy rasters, headers as other software writes them, place, scale, pixels without data."""

import copy
import sys
import tracemalloc

import numpy as np
import pytest

from hsmamba.data import open_image, open_scene, valid_mask
from hsmamba.errors import HsmambaWarning, SceneError
from tests.conftest import DATA
from tests.data.files.samples import cube, truth, write_envi

BASE = {"samples": 5, "lines": 6, "bands": 4, "header offset": 0, "file type": "ENVI Standard", "data type": 2}
BASE |= {"interleave": "bsq", "byte order": 0}
IGNORED = {"data ignore value": 0}
UTM = "{UTM, 1, 1, 400000, 5800000, 30, 30, 33, North, WGS-84}"


def write(folder, extra="", *, values=None, encoding="utf-8", name="a.img", **fields):
    """Write a header by hand beside numbers in BSQ order."""
    values = cube(np.int16) if values is None else values
    header = folder / "a.hdr"
    values.transpose(2, 0, 1).tofile(folder / name)
    lines = [f"{key} = {value}" for key, value in (BASE | fields).items()]
    header.write_bytes("\n".join(["ENVI", *lines, extra, ""]).encode(encoding))
    return header


@pytest.mark.parametrize("interleave", ["bsq", "bil", "bip"])
def test_envi_images_are_mapped_with_their_bands(tmp_path, interleave):
    centres = [0.4, 0.55, 1.2, 2.4]
    write_envi(
        tmp_path / "a.hdr", cube(), interleave, wavelength=centres, wavelength_units="Micrometers", bbl=[1, 1, 0, 1]
    )
    scene = open_scene(tmp_path / "a.hdr")
    assert isinstance(scene.hsi, np.memmap) and np.array_equal(scene.hsi, cube())
    assert np.allclose(scene.wavelengths, [400, 550, 1200, 2400])
    assert scene.bad_bands.tolist() == [False, False, True, False]


def test_envi_classifications_bring_their_class_names(tmp_path):
    write_envi(tmp_path / "cube.hdr", cube())
    names = ["Unclassified", "corn", "oats", "woods"]
    write_envi(tmp_path / "map.hdr", truth()[..., None], file_type="ENVI Classification", classes=4, class_names=names)
    scene = open_scene(tmp_path / "cube.hdr", labels=tmp_path / "map.hdr")
    assert scene.class_names == ("corn", "oats", "woods") and np.array_equal(scene.labels, truth())


def test_envi_values_without_data_become_nan_when_they_are_read(tmp_path):
    pytest.importorskip("rioxarray", reason="needs the geo extra")
    values = cube(np.int16)
    values[2, 3] = -9999
    write_envi(tmp_path / "a.hdr", values, data_ignore_value=-9999)
    scene, image = open_scene(tmp_path / "a.hdr"), open_image(tmp_path / "a.hdr")
    assert scene.hsi.dtype == np.float32 and np.argwhere(~valid_mask(scene.hsi, "mask")).tolist() == [[2, 3]]
    assert np.array_equal(scene.hsi[1:3, 2:].values[0], values[1, 2:])
    assert image.dtype == np.int16 and np.array_equal(image, values)
    assert image.attrs["_FillValue"] == -9999 and image.attrs["_FillValue"].dtype == np.int16


def test_a_large_envi_image_is_not_read_on_opening(tmp_path):
    pytest.importorskip("rioxarray", reason="needs the geo extra")
    path = write(tmp_path, values=np.zeros((400, 300, 40), np.int16), lines=400, samples=300, bands=40, **IGNORED)
    tracemalloc.start()
    hsi = open_scene(path).hsi
    opened = tracemalloc.get_traced_memory()[1]
    rows = np.asarray(hsi[50:60])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows.shape == (10, 300, 40) and np.isnan(rows).all()
    assert opened < 2**21 and peak < opened + 4 * rows.nbytes < 400 * 300 * 40 * 2


def test_a_missing_envi_data_file_is_named(tmp_path):
    write_envi(tmp_path / "a.hdr", cube())
    (tmp_path / "a.img").unlink()
    with pytest.raises(SceneError, match=r"a\.hdr.*data file"):
        open_scene(tmp_path / "a.hdr")


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not here")
def test_the_real_envi_cube_opens():
    pytest.importorskip("xarray", reason="needs the geo extra")
    folder = DATA / "envi_samples" / "EnMAP-Box"
    scene = open_scene(folder / "cubus_gamsberg_subset.hdr")
    assert scene.hsi.shape == (25, 10, 189) and scene.wavelengths[0] == pytest.approx(426.82)
    with pytest.raises(SceneError, match="spectral library"):
        open_scene(folder / "gamsberg_field_library.hdr")


def test_map_info_gives_place_as_gdal_reads_it(tmp_path):
    rasterio = pytest.importorskip("rasterio", reason="needs the geo extra")
    path = write(tmp_path, **{"map info": UTM})
    scene = open_scene(path)
    assert scene.hsi.dims == ("y", "x", "band") and scene.hsi.dtype == np.int16 and np.array_equal(scene.hsi, cube())
    assert scene.hsi.rio.crs.to_epsg() == 32633 and scene.hsi.x[0] == 400015 and scene.hsi.y[-1] == 5800000 - 165
    with rasterio.open(tmp_path / "a.img") as file:
        assert scene.hsi.rio.transform() == file.transform and scene.hsi.rio.crs == file.crs
    assert np.array_equal(copy.deepcopy(scene.hsi), cube())


def test_a_coordinate_system_string_goes_before_the_name_of_the_projection(tmp_path):
    rasterio = pytest.importorskip("rasterio", reason="needs the geo extra")
    wkt = rasterio.crs.CRS.from_epsg(3035).to_wkt(version="WKT1_ESRI")
    text = f"map info = {{Arbitrary, 1.5, 1.5, 4000015, 3000015, 30, 30}}\ncoordinate system string = {{{wkt}}}"
    hsi = open_scene(write(tmp_path, text)).hsi
    assert hsi.x[0] == 4000015 and hsi.y[0] == 3000015 and hsi.rio.crs.to_epsg(20) == 3035


def test_rotated_map_info_has_a_transform_and_coordinates_that_count(tmp_path):
    pytest.importorskip("rioxarray", reason="needs the geo extra")
    hsi = open_scene(write(tmp_path, **{"map info": UTM[:-1] + ", units=Meters, rotation=30}"})).hsi
    affine = hsi.rio.transform()
    assert hsi.x.values[0] == hsi.y.values[0] == 0.5 and hsi.rio.crs.to_epsg() == 32633
    assert np.allclose(affine[:6], (30 * 3**0.5 / 2, 15, 400000, 15, -30 * 3**0.5 / 2, 5800000))


def test_geo_points_are_control_points(tmp_path):
    pytest.importorskip("rioxarray", reason="needs the geo extra")
    points = "{1, 1, 50, 10, 5, 1, 50, 11, 1, 6, 49, 10, 5, 6, 49, 11}"
    hsi = open_scene(write(tmp_path, **{"geo points": points})).hsi
    found = hsi.rio.get_gcps()
    assert hsi.rio.crs.to_epsg() == 4326
    assert [(p.col, p.row, p.x, p.y) for p in found] == [(0, 0, 10, 50), (4, 0, 11, 50), (0, 5, 10, 49), (4, 5, 11, 49)]


@pytest.mark.parametrize("info", ["{Arbitrary, 1, 1, 0, 0, 1, 1, 0, North}", "{Pseudo, 1, 1, 0, 0, 1, 1}"])
def test_arbitrary_map_info_is_no_place(tmp_path, info):
    assert isinstance(open_scene(write(tmp_path, **{"map info": info})).hsi, np.memmap)


@pytest.mark.parametrize("info", ["{UTM, 1, 1}", "{UTM, 1, 1, east, north, 30, 30, 33, North, WGS-84}"])
def test_map_info_that_tells_no_place_is_left_out_with_a_word(tmp_path, info):
    with pytest.warns(HsmambaWarning, match=r"'map info' of .*a\.hdr.*left out"):
        assert isinstance(open_scene(write(tmp_path, **{"map info": info})).hsi, np.memmap)


@pytest.mark.parametrize("package", ["rasterio.io", "rioxarray", "xarray"])
def test_without_the_extra_an_image_opens_without_its_place(tmp_path, monkeypatch, package):
    path = write(tmp_path, **{"map info": UTM})
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.warns(HsmambaWarning, match=r"without its place: .*hsmamba\[geo\]"):
        hsi = open_scene(path).hsi
    assert isinstance(hsi, np.memmap) and np.array_equal(hsi, cube())


def test_what_is_known_of_the_bands_is_on_the_raster(tmp_path):
    pytest.importorskip("rioxarray", reason="needs the geo extra")
    lists = {"wavelength": "{0.4, 0.5,\n0.6, 0.7}", "fwhm": "{0.01, 0.01, 0.02, 0.02}", "band names": "{a, b, c, d e}"}
    path = write(tmp_path, **lists, **{"map info": UTM, "wavelength units": "Micrometers"})
    scene = open_scene(path)
    assert np.allclose(scene.hsi.wavelength, [400, 500, 600, 700]) and np.allclose(scene.hsi.fwhm, [10, 10, 20, 20])
    assert np.allclose(scene.fwhm, [10, 10, 20, 20])
    assert scene.band_names == scene.hsi.attrs["long_name"] == ("a", "b", "c", "d e")


def test_scales_of_a_header_are_attributes(tmp_path):
    pytest.importorskip("rioxarray", reason="needs the geo extra")
    hsi = open_scene(write(tmp_path, **{"reflectance scale factor": 10000})).hsi
    assert hsi.attrs["scale_factor"] == 1e-4 and hsi.attrs["add_offset"] == 0 and np.array_equal(hsi, cube())
    gains = {"data gain values": "{1, 2, 3, 4}", "data offset values": "{5, 5, 5, 5}"}
    attrs = open_scene(write(tmp_path, **gains)).hsi.attrs
    assert attrs["scale_factor"] == attrs["scales"] == (1, 2, 3, 4) and attrs["add_offset"] == 5


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8", "utf-8-sig", "utf-16"])
def test_headers_are_read_in_any_encoding(tmp_path, encoding):
    text = "sensor type = Caméra 25 °C\nwavelength units = µm\nwavelength = {0.4, 0.5, 0.6, 0.7}"
    scene = open_scene(write(tmp_path, text, encoding=encoding))
    assert np.array_equal(scene.hsi, cube()) and np.allclose(scene.wavelengths, [400, 500, 600, 700])


@pytest.mark.parametrize(
    ("text", "centres"),
    [
        ("wavelength units = \u03bcm\nwavelength = {0.4, 0.5, 0.6, 0.7}", [400, 500, 600, 700]),
        ("wavelength = {}", None),
        ("wavelength = { }\nbbl = {}\nfwhm = {}", None),
        ("wavelength = {400, 500, 600, 700,}", [400, 500, 600, 700]),
        ("Wavelength  = {\n 400 ,500,\n; a word\n600, 700\n}", [400, 500, 600, 700]),
        ("data ignore value = none", None),
        ("DATA IGNORE VALUE = NaN", None),
    ],
)
def test_odd_headers_open_without_a_word(tmp_path, recwarn, text, centres):
    scene = open_scene(write(tmp_path, text))
    assert np.array_equal(scene.hsi, cube()) and not [one for one in recwarn if one.category is HsmambaWarning]
    assert (scene.wavelengths is None) == (centres is None) and (
        centres is None or np.allclose(scene.wavelengths, centres)
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("bbl = {1, 1, 0}", "'bbl' of .* 3 entries for 4 bands"),
        ("wavelength = {400, 500}", "'wavelength' of .* 2 entries for 4 bands"),
        ("wavelength = {400, 500, 600, 700, 800,}", "'wavelength' of .* 5 entries for 4 bands"),
        ("wavelength = {400, 500, x, 700}", "'wavelength' of .*'x'"),
        ("wavelength = {400, 500, nan, 700}", "'wavelength' of .* not finite"),
        ("wavelength = {1, 2, 3, 4}\nwavelength units = Wavenumber", "'wavelength' of .*'Wavenumber' is no length"),
        ("wavelength = {400, 500, 600, 700}\nfwhm = {1}", "'fwhm' of .* 1 entries for 4 bands"),
        ("band names = {a, b, c, d, e}", "'band names' of .* 5 entries for 4 bands"),
        ("data ignore value = minus one", "'data ignore value' of .*'minus one' is no number"),
    ],
)
def test_what_cannot_be_used_is_left_out_with_a_word(tmp_path, text, words):
    with pytest.warns(HsmambaWarning, match=words):
        scene = open_scene(write(tmp_path, text))
    assert np.array_equal(scene.hsi, cube()) and scene.bad_bands is None and scene.band_names == ()


def test_values_without_data_are_known_to_six_digits(tmp_path):
    pytest.importorskip("rioxarray", reason="needs the geo extra")
    values = cube(np.float32)
    values[0, 0] = np.finfo(np.float32).min
    scene = open_scene(write(tmp_path, values=values, **{"data ignore value": "-3.40282e+38", "data type": 4}))
    assert np.argwhere(~valid_mask(scene.hsi, "mask")).tolist() == [[0, 0]]
    assert np.array_equal(scene.hsi.values[1:], values[1:])


def test_big_endian_numbers_behind_an_offset_are_read(tmp_path):
    pytest.importorskip("rioxarray", reason="needs the geo extra")
    path = write(tmp_path, values=cube(">i2"), **{"byte order": 1, "header offset": 7})
    data = tmp_path / "a.img"
    data.write_bytes(b"padding" + data.read_bytes())
    assert np.array_equal(open_scene(path).hsi, cube())
    path.write_text(path.read_text() + "map info = " + UTM + "\ndata ignore value = 7\n")
    assert np.array_equal(open_scene(path).hsi[::2, 1], cube()[::2, 1])


@pytest.mark.parametrize("name", ["a", "a.dat", "a.raw", "a.bsq", "a.IMG", "A.Img"])
def test_data_lie_beside_the_header_under_their_usual_names(tmp_path, name):
    assert np.array_equal(open_scene(write(tmp_path, name=name)).hsi, cube())


def test_a_header_may_be_named_after_the_data_or_in_capitals(tmp_path):
    path = write(tmp_path)
    for name in ("a.img.hdr", "A.HDR", "a.HDR"):
        path = path.rename(tmp_path / name)
        assert np.array_equal(open_scene(path).hsi, cube())


def test_spectral_reads_the_same_numbers(tmp_path):
    envi = pytest.importorskip("spectral.io.envi", reason="needs the test extra")
    for order in ("<", ">"):
        for interleave in ("bsq", "bil", "bip"):
            for dtype in ("u1", "i2", "i4", "f4", "f8", "u2", "u4", "i8", "u8"):
                values = cube(np.dtype(order + dtype))
                envi.save_image(
                    str(tmp_path / "a.hdr"), values, dtype=values.dtype, interleave=interleave, force=True,
                    byteorder=int(order == ">"),
                )  # fmt: skip
                read = open_scene(tmp_path / "a.hdr").hsi
                assert np.array_equal(read, envi.open(str(tmp_path / "a.hdr")).open_memmap(interleave="bip"))
                assert np.array_equal(read, values) and read.dtype.newbyteorder("=") == np.dtype(dtype)
