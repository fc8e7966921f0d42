"""GeoTIFF and ENVI: lazy rasters and maps, pixels without data, wavelengths and bad bands, class names."""

import sys

import numpy as np
import pytest

from hsmamba.data import gather_pixels, iter_strips, like, open_scene, valid_mask
from hsmamba.errors import MissingExtraError, SceneError
from tests.conftest import DATA
from tests.data.files.samples import cube, truth, write_envi, write_tif


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


def test_envi_values_without_data_become_nan(tmp_path):
    values = cube(np.int16)
    values[2, 3] = -9999
    write_envi(tmp_path / "a.hdr", values, data_ignore_value=-9999)
    scene = open_scene(tmp_path / "a.hdr")
    assert scene.hsi.dtype == np.float32 and np.argwhere(~valid_mask(scene.hsi, "mask")).tolist() == [[2, 3]]
    write_envi(tmp_path / "b.hdr", cube(np.int16), data_ignore_value=-9999)
    assert isinstance(open_scene(tmp_path / "b.hdr").hsi, np.memmap)


def test_a_missing_envi_data_file_is_named(tmp_path):
    write_envi(tmp_path / "a.hdr", cube())
    (tmp_path / "a.img").unlink()
    with pytest.raises(SceneError, match=r"a\.hdr.*data file"):
        open_scene(tmp_path / "a.hdr")


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not here")
def test_the_real_envi_cube_opens():
    pytest.importorskip("spectral", reason="needs the geo extra")
    folder = DATA / "envi_samples" / "EnMAP-Box"
    scene = open_scene(folder / "cubus_gamsberg_subset.hdr")
    assert scene.hsi.shape == (25, 10, 189) and scene.wavelengths[0] == pytest.approx(426.82)
    with pytest.raises(SceneError, match="spectral library"):
        open_scene(folder / "gamsberg_field_library.hdr")
