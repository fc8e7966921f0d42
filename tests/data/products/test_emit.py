"""EMIT L2A: the sensor's pixels on the map's grid, good and bad wavelengths, place; what is refused."""

import numpy as np
import pytest

from hsmamba.data import open_scene
from hsmamba.data.products import emit
from hsmamba.errors import SceneError
from tests.data.products.samples import EMIT, EMIT_BANDS, write_emit


@pytest.mark.parametrize("chunks", [None, (4, 5, 2)])
def test_pixels_lie_where_the_lookup_table_has_them(tmp_path, chunks):
    path, image = write_emit(tmp_path, chunks=chunks)
    scene = open_scene(path)
    expected = np.full((16, 22, 4), np.nan, np.float32)
    expected[1:15, 1:21] = image.transpose(1, 0, 2)
    expected[6, 4] = np.nan  # sample 5, line 3
    assert np.array_equal(scene.hsi, expected, equal_nan=True)
    assert np.array_equal(scene.hsi[5:9, 3:6, [3, 0]], expected[5:9, 3:6, [3, 0]], equal_nan=True)
    assert np.isnan(scene.hsi[0]).all()
    assert np.allclose(scene.wavelengths, [band[0] for band in EMIT_BANDS])
    assert np.allclose(scene.fwhm, [band[1] for band in EMIT_BANDS])
    assert scene.bad_bands.tolist() == [False, False, True, False]
    assert scene.hsi.attrs["scale_factor"] == 1 and scene.hsi.attrs["add_offset"] == 0
    assert scene.name == EMIT[:-3] and scene.source == EMIT


def test_one_pixel_of_the_sensor_may_lie_at_several_of_the_map(tmp_path):
    lookup = np.array([[7, 7, 0]], np.int32), np.array([[2, 2, 5]], np.int32)
    path, image = write_emit(tmp_path, lookup=lookup)
    hsi = open_scene(path).hsi
    assert np.array_equal(hsi[0, :2], np.stack([image[1, 6]] * 2)) and np.isnan(hsi[0, 2]).all()


def test_the_place_is_that_of_the_map(tmp_path):
    hsi = open_scene(write_emit(tmp_path)[0]).hsi
    assert hsi.rio.crs.to_epsg() == 4326
    assert np.allclose(hsi.rio.transform().to_gdal(), (11.25, 0.000542, 0, 48.5, 0, -0.000542))
    assert hsi.x[0] == pytest.approx(11.25 + 0.000271) and hsi.y[0] == pytest.approx(48.5 - 0.000271)


def test_every_block_of_the_file_is_read_once():
    line, sample = np.divmod(np.random.default_rng(0).permutation(40 * 30), 30)
    groups = list(emit._by_block(line, sample, (16, 8)))
    blocks = [set(zip(line[group] // 16, sample[group] // 8, strict=True)) for group in groups]
    assert all(len(block) == 1 for block in blocks) and len(set.union(*blocks)) == len(blocks) == 3 * 4
    assert sorted(np.concatenate(groups)) == list(range(1200))


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"geotransform": np.zeros(5)}, "expected six finite numbers"),
        ({"geotransform": np.array([0, 1, 0.5, 0, 0.5, -1])}, "expected one along its axes"),
        ({"spatial_ref": "nowhere"}, "could not be read"),
        ({"lookup": (np.ones((2, 2), np.int32), np.ones((2, 3), np.int32))}, r"shapes \(2, 2\) and \(2, 3\)"),
    ],
)
def test_places_that_do_not_fit_are_refused(tmp_path, changes, cause):
    path, _ = write_emit(tmp_path, **changes)
    with pytest.raises(SceneError, match=cause):
        open_scene(path)


def test_a_lookup_table_beyond_the_image_is_refused(tmp_path):
    path, _ = write_emit(tmp_path, lookup=(np.full((2, 2), 15, np.int32), np.ones((2, 2), np.int32)))
    with pytest.raises(SceneError, match="up to line 1 and sample 15; its image has 20 lines of 14 samples"):
        np.asarray(open_scene(path).hsi)


@pytest.mark.parametrize("name", ["reflectance", "location"])
def test_sizes_are_compared_before_they_are_believed(tmp_path, name):
    h5py = pytest.importorskip("h5py")
    path, _ = write_emit(tmp_path)
    with h5py.File(path, "a") as file:
        if name == "reflectance":
            del file[name], file["sensor_band_parameters"]
            file.create_dataset(name, (20, 14, 10**11), np.float32, chunks=(1, 1, 100))
            for each in ("wavelengths", "fwhm", "good_wavelengths"):
                file.create_dataset(f"sensor_band_parameters/{each}", (10**11,), np.float32, chunks=(100,))
        else:
            del file["location/glt_x"], file["location/glt_y"]
            for each in ("glt_x", "glt_y"):
                file.create_dataset(f"location/{each}", (10**11, 3), np.int32, chunks=(100, 1))
    with pytest.raises(SceneError, match=r"declares a cube of .*100000000000.*expected at least one and at most"):
        open_scene(path)


def test_files_that_lack_something_are_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    path, _ = write_emit(tmp_path)
    with h5py.File(path, "a") as file:
        del file["sensor_band_parameters/fwhm"]
        file["sensor_band_parameters/fwhm"] = np.ones(3)
    with pytest.raises(SceneError, match="4 wavelengths, 3 widths and 4 flags for 4 bands"):
        open_scene(path)
    with h5py.File(path, "a") as file:
        del file["location/glt_x"]
    with pytest.raises(SceneError, match="has no array 'location/glt_x'"):
        open_scene(path)
    path.rename(tmp_path / "renamed.nc")
    with pytest.raises(SceneError, match="is a folder, and holds no product"):
        open_scene(tmp_path)
    with h5py.File(tmp_path / "ocean.nc", "w") as file:
        file["chlorophyll"] = np.zeros(3)
    with pytest.raises(SceneError, match="holds no EMIT L2A reflectance"):
        open_scene(tmp_path / "ocean.nc")
