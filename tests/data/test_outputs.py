"""Images and maps in files of every format: the numbers, the place, what the bands are, and what a kill leaves."""

import numpy as np
import pytest

from hsmamba.data import open_image, open_scene
from hsmamba.data.class_maps import confidence_path, map_rows
from hsmamba.data.colours import class_colours
from hsmamba.data.georeference import Georeference
from hsmamba.data.outputs import image_rows
from tests.data.files.samples import cube, write_tif

pytest.importorskip("rioxarray", reason="needs the geo extra")

LABELS = np.arange(30, dtype=np.uint8).reshape(6, 5) % 4
SURE = np.where(LABELS == 0, np.nan, LABELS / 4).astype(np.float32)
NAMES = ("corn", "oats, {winter}", "Wälder")


def grid_of(folder, **more):
    tags = [{"wavelength": str(w), "wavelength_units": "Nanometers"} for w in (485, 560, 660, 830)]
    return open_image(write_tif(folder / "scene.tif", cube(), texts=["a", "b", "c", "d"], tags=tags, **more))


def write_image(path, values, grid, nodata=None, cog=False):
    with image_rows(path, values.shape, values.dtype, grid=grid, values=grid, nodata=nodata, cog=cog) as write:
        write(0, values[:1])
        write(1, values[1:])


def write_map(path, grid, labels=LABELS, cog=False):
    with map_rows(path, labels.shape, np.dtype(np.uint8), grid=grid, class_names=NAMES, cog=cog) as write:
        write(0, labels[:4], SURE[:4])
        write(4, labels[4:], SURE[4:])


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32", "float64", "float16", "uint32", ">i2"])
def test_an_envi_image_has_the_numbers_the_place_and_the_bands(tmp_path, dtype):
    grid = grid_of(tmp_path, nodata=7)
    values = cube().astype(dtype)
    write_image(tmp_path / "out.hdr", values, grid, nodata=7)
    scene, found = open_scene(tmp_path / "out.hdr"), open_image(tmp_path / "out.hdr")
    np.testing.assert_array_equal(found.values, values)
    assert Georeference.of(found).affine == pytest.approx(Georeference.of(grid).affine)
    assert found.rio.crs == grid.rio.crs and found.attrs["_FillValue"] == 7
    assert scene.wavelengths.tolist() == [485, 560, 660, 830] and scene.band_names == ("a", "b", "c", "d")
    assert {path.name for path in tmp_path.iterdir()} == {"scene.tif", "out.hdr", "out.img"}


def test_gdal_and_the_library_read_an_envi_map(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    grid = grid_of(tmp_path)
    write_map(tmp_path / "map.hdr", grid)
    with rasterio.open(tmp_path / "map.img") as file:
        np.testing.assert_array_equal(file.read(1), LABELS)
        assert file.crs == grid.rio.crs and file.transform.almost_equals(grid.rio.transform()) and file.nodata == 0
        np.testing.assert_array_equal(
            [file.colormap(1)[k][:3] for k in range(4)], np.rint(class_colours(3) * 255).astype(int)
        )
    scene = open_scene(tmp_path / "scene.tif", labels=tmp_path / "map.hdr")
    np.testing.assert_array_equal(scene.labels, LABELS)
    assert scene.class_names == ("corn", "oats   winter", "Wälder")
    np.testing.assert_array_equal(np.asarray(open_image(confidence_path(tmp_path / "map.hdr")))[..., 0], SURE)


def test_an_array_without_place_is_written_without(tmp_path):
    write_image(tmp_path / "out.hdr", cube(), cube())
    np.testing.assert_array_equal(open_image(tmp_path / "out.hdr"), cube())


def test_a_header_never_speaks_of_other_numbers(tmp_path, monkeypatch):
    grid = cube()
    write_map(tmp_path / "map.hdr", grid)

    usual = type(tmp_path).replace
    for renames in range(4):
        write_map(tmp_path / "map.hdr", grid)
        left = renames

        def replace(self, target):
            nonlocal left
            if not left:
                raise KeyboardInterrupt
            left -= 1
            return usual(self, target)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(type(tmp_path), "replace", replace)
            write_map(tmp_path / "map.hdr", grid, labels=3 - LABELS)
        headers = {path.name for path in tmp_path.glob("*.hdr")}
        assert headers == {0: set(), 1: set(), 2: {"map.hdr"}, 3: {"map.hdr"}}[renames]
        if headers:
            np.testing.assert_array_equal(np.asarray(open_image(tmp_path / "map.hdr"))[..., 0], 3 - LABELS)


@pytest.mark.parametrize("rows", [3, 700])
def test_xarray_opens_a_zarr_group_with_place_and_bands(tmp_path, rows):
    pytest.importorskip("zarr")
    xr = pytest.importorskip("xarray")
    grid = grid_of(tmp_path, nodata=7)
    if rows > 6:
        grid = grid.isel(y=np.arange(rows) % 6, drop=True).assign_coords(y=np.arange(rows) * -10.0)
    values = np.random.default_rng(0).integers(0, 99, (rows, 5, 4)).astype(np.int16)
    grid = grid[:rows]
    with image_rows(tmp_path / "out.zarr", values.shape, values.dtype, grid=grid, values=grid, nodata=7) as write:
        for top in range(0, rows, 100):
            write(top, values[top : top + 100])
    with xr.open_zarr(tmp_path / "out.zarr", mask_and_scale=False) as group:
        image = group["image"]
        np.testing.assert_array_equal(image.values, values)
        assert image.dims == ("y", "x", "band") and image.attrs["_FillValue"] == 7
        np.testing.assert_array_equal(image.wavelength, [485, 560, 660, 830])
        np.testing.assert_array_equal(image.y, grid.y)
        assert group.rio.crs == grid.rio.crs


def test_a_zarr_map_has_both_and_replaces_nothing(tmp_path):
    pytest.importorskip("zarr")
    xr = pytest.importorskip("xarray")
    grid = grid_of(tmp_path)
    write_map(tmp_path / "map.zarr", grid)
    with xr.open_zarr(tmp_path / "map.zarr") as group:
        np.testing.assert_array_equal(group["labels"].values, LABELS)
        np.testing.assert_array_equal(group["confidence"].values, SURE)
        assert group["labels"].attrs["class_names"] == ["unclassified", *NAMES]
    with pytest.raises(FileExistsError, match="no Zarr group replaces another"):
        write_map(tmp_path / "map.zarr", grid)
    assert {path.name for path in tmp_path.iterdir()} == {"scene.tif", "map.zarr"}


def test_a_cloud_optimised_map_has_tiles_overviews_and_the_classes(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    grid = grid_of(tmp_path).isel(y=np.arange(1500) % 6, x=np.arange(1200) % 5, drop=True)
    place = {"y": 5e6 - 10 * np.arange(1500), "x": 6e5 + 10 * np.arange(1200)}
    grid = grid.assign_coords(place)
    labels = np.kron(np.arange(4, dtype=np.uint8).reshape(2, 2), np.ones((750, 600), np.uint8))
    path = tmp_path / "map.tif"
    with map_rows(path, labels.shape, np.dtype(np.uint8), grid=grid, class_names=NAMES, cog=True) as write:
        for top in range(0, 1500, 250):
            write(top, labels[top : top + 250], labels[top : top + 250] / np.float32(4))
    for name in (path, confidence_path(path)):
        with rasterio.open(name) as file:
            assert file.block_shapes == [(512, 512)] and file.overviews(1) and file.crs == grid.rio.crs
            assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(file.read(1), labels)
        assert file.tags()["class_1"] == "corn" and file.nodata == 0
        np.testing.assert_array_equal(file.colormap(1)[1][:3], np.rint(class_colours(3)[1] * 255))
        assert set(np.unique(file.read(1, out_shape=(94, 75)))) <= {0, 1, 2, 3}


def test_a_cloud_optimised_image_tells_of_its_bands(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    grid = grid_of(tmp_path, nodata=7)
    write_image(tmp_path / "out.tif", cube().astype(np.float32), grid, nodata=7, cog=True)
    scene = open_scene(tmp_path / "out.tif")
    assert scene.wavelengths.tolist() == [485, 560, 660, 830] and scene.band_names == ("a", "b", "c", "d")
    with rasterio.open(tmp_path / "out.tif") as file:
        np.testing.assert_array_equal(np.moveaxis(file.read(), 0, 2), cube())
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"


def test_another_suffix_is_refused_with_those_that_there_are(tmp_path):
    with pytest.raises(ValueError, match=r"cannot write .jpg; choose .tif, .tiff, .hdr, .zarr, .npy"):
        write_image(tmp_path / "out.jpg", cube(), cube())
