"""Readers: every format written and opened again, choices among arrays, damaged files, real files where they are."""

import sys

import numpy as np
import pytest
import scipy.io

from hsmamba.data import Scene, gather_pixels, iter_strips, like, load_scene, open_scene, valid_mask
from hsmamba.data._formats import nanometres
from hsmamba.errors import MissingExtraError, SceneError
from tests.conftest import DATA


def cube(dtype=np.uint16, height=6, width=5, bands=4):
    return np.random.default_rng(0).integers(0, 4000, (height, width, bands)).astype(dtype)


def truth(dtype=np.uint8):
    return (np.arange(30).reshape(6, 5) % 4).astype(dtype)


def write_mat(path, **arrays):
    scipy.io.savemat(path, arrays)


def write_mat73(path, **arrays):
    h5py = pytest.importorskip("h5py", reason="needs the geo extra")
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in arrays.items():
            file[name] = array.T
            file[name].attrs["MATLAB_class"] = np.bytes_(str(array.dtype))
        file["note"] = np.frombuffer("text".encode("utf-16-le"), np.uint16)[:, None]
        file["note"].attrs["MATLAB_class"] = np.bytes_("char")
        file.create_group("#refs#")
    with path.open("r+b") as file:  # the block before the HDF5 data that makes it a MATLAB file
        file.write(b"MATLAB 7.3 MAT-file".ljust(116) + bytes(8) + b"\x00\x02IM")


def write_npz(path, **arrays):
    np.savez(path, **arrays)


NAMED = {".mat": write_mat, "73.mat": write_mat73, ".npz": write_npz}


@pytest.fixture(params=sorted(NAMED))
def write(request, tmp_path):
    def save(**arrays):
        path = tmp_path / f"scene{request.param}"
        NAMED[request.param](path, **arrays)
        return path

    return save


def test_the_only_cube_and_the_only_map_are_found(write):
    scene = open_scene(write(data=cube(), gt=truth(), other=np.ones((3, 4)), list=np.arange(5)), class_names="abc")
    assert np.array_equal(scene.hsi, cube()) and scene.hsi.dtype == np.uint16
    assert np.array_equal(scene.labels, truth()) and scene.class_names == ("a", "b", "c")
    assert scene.aux is None and scene.wavelengths is None and scene.name.startswith("scene")


def test_several_cubes_are_listed_with_the_argument_to_give(write):
    path = write(one=cube(), two=cube(np.float64, 7), gt=truth())
    with pytest.raises(SceneError) as error:
        open_scene(path)
    for word in ("'one' (6, 5, 4) uint16", "'two' (7, 5, 4) float64", "'gt' (6, 5) uint8", "variable="):
        assert word in str(error.value)
    assert open_scene(path, variable="two").hsi.shape == (7, 5, 4)
    assert open_scene(path, variable="two").labels is None
    with pytest.raises(SceneError, match="no variable 'three'"):
        open_scene(path, variable="three")


def test_several_maps_are_listed_with_the_argument_to_give(write):
    path = write(data=cube(), train=truth(), test=3 - truth())
    with pytest.raises(SceneError, match=r"'train'.*labels_variable="):
        open_scene(path)
    assert np.array_equal(open_scene(path, labels_variable="test").labels, 3 - truth())


def test_a_file_without_a_cube_says_what_it_has(write):
    with pytest.raises(SceneError, match=r"no array with three dimensions.*'gt' \(6, 5\) uint8"):
        open_scene(write(gt=truth()))


def test_auxiliary_bands_come_from_the_same_file(write):
    path = write(data=cube(), lidar=cube(np.float32, bands=2), height=np.ones((6, 5)))
    assert open_scene(path, variable="data", aux_variable="lidar").aux.shape == (6, 5, 2)
    assert open_scene(path, variable="data", aux_variable="height").aux.shape == (6, 5, 1)


def test_labels_and_auxiliary_bands_come_from_other_files(tmp_path, write):
    np.save(tmp_path / "cube.npy", cube())
    path = write(lidar=cube(np.float32, bands=2), gt=truth(np.float64))
    scene = open_scene(tmp_path / "cube.npy", labels=path, aux=path, aux_variable="lidar")
    assert np.array_equal(scene.labels, truth()) and scene.labels.dtype == np.int64
    assert np.array_equal(scene.aux, cube(np.float32, bands=2))
    with pytest.raises(SceneError, match=r"more than one array on the grid.*aux_variable="):
        open_scene(tmp_path / "cube.npy", aux=path)


def test_label_files_that_do_not_fit_are_refused(tmp_path, write):
    np.save(tmp_path / "cube.npy", cube())
    with pytest.raises(SceneError, match=r"no label map of 6 x 5 pixels.*'gt' \(5, 6\)"):
        open_scene(tmp_path / "cube.npy", labels=write(gt=truth().T))
    for bad in (truth() + 0.5, np.full((6, 5), np.nan)):
        with pytest.raises(SceneError, match="no integers"):
            open_scene(tmp_path / "cube.npy", labels=write(gt=bad))


def test_arrays_serve_as_labels_and_auxiliary_bands(tmp_path):
    np.save(tmp_path / "cube.npy", cube())
    scene = open_scene(str(tmp_path / "cube.npy"), labels=truth(), aux=cube(bands=1))
    assert isinstance(scene.hsi, np.memmap) and not scene.hsi.flags.writeable
    assert scene.labels is not None and scene.aux.shape == (6, 5, 1)


def test_pickled_arrays_are_refused(tmp_path):
    for name, save in (("a.npy", np.save), ("a.npz", np.savez)):
        save(tmp_path / name, np.array([{"a": 1}], dtype=object), allow_pickle=True)
        with pytest.raises(SceneError):
            open_scene(tmp_path / name)


@pytest.mark.parametrize("name", ["scene.mat", "scene73.mat", "scene.npz", "scene.npy", "scene.hdr", "scene.tif"])
def test_truncated_and_false_files_are_refused_by_name(tmp_path, name):
    path = tmp_path / name
    data = path
    if name == "scene.npy":
        np.save(path, cube())
    elif name == "scene.tif":
        write_tif(path, cube())
    elif name == "scene.hdr":
        write_envi(path, cube())
        data = path.with_suffix(".img")
    else:
        NAMED[name.removeprefix("scene")](path, data=np.random.default_rng(0).random((20, 20, 20)))
    whole = data.read_bytes()
    for damaged in (whole[: len(whole) * 2 // 3], b""):
        data.write_bytes(damaged)
        with pytest.raises(SceneError, match=name):
            np.asarray(open_scene(path).hsi)
    if data is path:
        path.write_bytes(b"no such format, whatever the extension says " * 20)
        with pytest.raises(SceneError, match=name):
            open_scene(path)


def test_missing_files_and_unknown_extensions_are_refused(tmp_path):
    with pytest.raises(SceneError, match=r"no file .*gone\.mat"):
        open_scene(tmp_path / "gone.mat")
    (tmp_path / "scene.xyz").write_bytes(b"x")
    with pytest.raises(SceneError, match=r"'\.xyz'; expected one of \.mat"):
        open_scene(tmp_path / "scene.xyz")
    write_envi(tmp_path / "cube.hdr", cube())
    with pytest.raises(SceneError, match=r"give the ENVI header .*cube\.hdr"):
        open_scene(tmp_path / "cube.img")


def write_envi(path, array, interleave="bsq", **metadata):
    envi = pytest.importorskip("spectral.io.envi", reason="needs the geo extra")
    metadata = {key.replace("_", " "): value for key, value in metadata.items()}
    envi.save_image(str(path), array, interleave=interleave, metadata=metadata, force=True, dtype=array.dtype)


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


def write_tif(path, array, *, nodata=None, tags=(), texts=(), imagery=()):
    rasterio = pytest.importorskip("rasterio", reason="needs the geo extra")
    pytest.importorskip("rioxarray", reason="needs the geo extra")
    transform = rasterio.transform.from_origin(366000, 5810000, 30, 30)
    height, width, bands = array.shape
    profile = {"count": bands, "height": height, "width": width, "dtype": array.dtype, "nodata": nodata}
    with rasterio.open(path, "w", driver="GTiff", crs="EPSG:32633", transform=transform, **profile) as file:
        file.write(array.transpose(2, 0, 1))
        for band, tag in enumerate(tags, start=1):
            file.update_tags(band, **tag)
        for band, tag in enumerate(imagery, start=1):
            file.update_tags(band, ns="IMAGERY", **tag)
        for band, text in enumerate(texts, start=1):
            file.set_band_description(band, text)


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


@pytest.mark.parametrize(
    ("unit", "factor"),
    [("Nanometers", 1), ("nm", 1), ("micrometres", 1e3), ("Microns", 1e3), ("mm", 1e6), ("Angstroms", 0.1), ("m", 1e9)],
)
def test_units_are_brought_to_nanometres(unit, factor):
    assert np.allclose(nanometres([2, 3], unit), [2 * factor, 3 * factor])


def test_units_that_are_unknown_are_told_by_their_size_and_other_kinds_left_out():
    assert nanometres([0.4, 2.5], "Unknown").tolist() == [400, 2500]
    assert nanometres([400, 2500], "").tolist() == [400, 2500]
    assert nanometres([1, 2], "Wavenumber") is None and nanometres([1, 2], "GHz") is None


def test_a_missing_package_names_its_extra(tmp_path, monkeypatch):
    write_tif(tmp_path / "a.tif", cube())
    monkeypatch.setitem(sys.modules, "rioxarray", None)
    with pytest.raises(MissingExtraError, match=r"hsmamba\[geo\]"):
        open_scene(tmp_path / "a.tif")


def test_indian_pines_is_the_scene_that_everybody_knows():
    pytest.importorskip("tensorly", reason="needs the demo extra")
    scene = load_scene("indian_pines")
    assert isinstance(scene, Scene) and scene.hsi.shape == (145, 145, 200) and scene.hsi.dtype == np.uint16
    assert (int(scene.hsi.min()), int(scene.hsi.max())) == (955, 9604)
    sizes = np.bincount(scene.labels.ravel())[1:].tolist()
    assert sizes == [46, 1428, 830, 237, 483, 730, 28, 478, 20, 972, 2455, 593, 205, 1265, 386, 93]
    assert scene.class_names[8] == "Oats" and scene.num_classes == 16
    assert "CC0" in scene.license and scene.wavelengths is None


def test_unknown_scenes_name_the_known_ones():
    with pytest.raises(SceneError, match="'salinas'; there is 'indian_pines'"):
        load_scene("salinas")


needs_shared = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not here")


@needs_shared
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


@needs_shared
def test_the_real_envi_cube_opens():
    pytest.importorskip("spectral", reason="needs the geo extra")
    folder = DATA / "envi_samples" / "EnMAP-Box"
    scene = open_scene(folder / "cubus_gamsberg_subset.hdr")
    assert scene.hsi.shape == (25, 10, 189) and scene.wavelengths[0] == pytest.approx(426.82)
    with pytest.raises(SceneError, match="spectral library"):
        open_scene(folder / "gamsberg_field_library.hdr")


@needs_shared
def test_real_matlab_files_open():
    with pytest.raises(SceneError, match=r"'hyprImg' \(128, 128, 48\) uint16.*'rgbImg'.*variable="):
        open_scene(DATA / "dfc2018_houston_crop" / "houston_dataset.mat")
    scene = open_scene(DATA / "eo1_paris" / "paris_data_hs_ms.mat", variable="HSim", aux_variable="MSim")
    assert scene.hsi.shape == (72, 72, 128) and scene.aux.shape == (72, 72, 9)
