"""What holds for every product: it is recognised, read window by window, and refused with the true cause."""

import copy
import os

import numpy as np
import pytest

from hsmamba.data import gather_pixels, iter_strips, like, open_image, open_scene
from hsmamba.data.products import PRODUCTS, find_product
from hsmamba.data.products.cubes import take_window
from hsmamba.data.products.metadata import parse_xml, product_file
from hsmamba.data.products.rasters import Raster
from hsmamba.errors import SceneError
from tests.data.products import samples

WRITERS = {
    "EnMAP L2A": samples.write_enmap,
    "PRISMA L2D": samples.write_prisma,
    "EMIT L2A reflectance": samples.write_emit,
    "Sentinel-2 L2A": samples.write_sentinel2,
    "Landsat Collection 2": samples.write_landsat,
    "DESIS L2A": samples.write_desis,
}


def test_every_product_is_written_here():
    assert [product.title for product in PRODUCTS] == list(WRITERS)


@pytest.fixture(params=WRITERS)
def product(request, tmp_path):
    return WRITERS[request.param](tmp_path)[0]


def test_opening_reads_no_scene_and_reading_reads_windows(product, monkeypatch):
    hsi = open_scene(product).hsi
    assert not isinstance(hsi.variable._data, np.ndarray) and hsi.dims == ("y", "x", "band")
    whole = np.asarray(copy.deepcopy(hsi))
    assert not isinstance(hsi.variable._data, np.ndarray) and whole.dtype == np.float32
    strips = np.concatenate([strip for _, strip in iter_strips(hsi, 600)])
    assert np.array_equal(strips, whole, equal_nan=True)
    pixels = [whole.shape[0] * whole.shape[1] - 1, 0, 7]
    assert np.array_equal(gather_pixels(hsi, pixels), whole.reshape(-1, whole.shape[2])[pixels], equal_nan=True)
    last = whole.shape[2] - 1
    for key in ((2, 3, 1), (slice(4, 1, -1), 2), (slice(None), slice(1, 9, 3), [last, 0]), (slice(3, 3),), ([5, 1], 0)):
        assert np.array_equal(hsi[key], whole[key], equal_nan=True)


def test_a_window_takes_no_more_than_it_needs():
    asked = []

    def read(rows, columns, bands):
        asked.append((rows, columns, bands.tolist()))
        return np.zeros((rows.stop - rows.start, columns.stop - columns.start, len(bands)), np.float32)

    assert take_window(read, (1000, 900, 200), (slice(500, 502), slice(None), np.array([7, 3]))).shape == (2, 900, 2)
    assert asked == [(slice(500, 502), slice(0, 900), [7, 3])]


def test_a_product_keeps_its_place_when_it_is_written(product, tmp_path):
    hsi = open_scene(product).hsi
    values = np.asarray(hsi[..., 0])
    like(hsi, values).rio.to_raster(tmp_path / "band.tif")
    again = open_scene(tmp_path / "band.tif").hsi
    assert again.rio.crs == hsi.rio.crs and again.rio.transform().almost_equals(hsi.rio.transform(), 1e-9)
    assert np.allclose(again[..., 0], values, equal_nan=True)


def test_a_product_is_an_image_of_a_pair_and_the_other_sensor_of_a_scene_too(product):
    hsi = open_scene(product).hsi
    assert open_image(product).identical(hsi)
    assert open_scene(product, aux=product).aux.identical(hsi)


def test_other_folders_are_refused_with_the_products_that_are_known(tmp_path):
    with pytest.raises(SceneError, match=r"is a folder, and holds no product .* EnMAP L2A \(ENMAP\*-METADATA\.XML\)"):
        open_scene(tmp_path)
    assert find_product(tmp_path / "scene.tif") is None


def test_a_folder_of_two_products_is_refused_with_their_names(tmp_path):
    for name in ("ENMAP_a-METADATA.XML", "ENMAP_b-METADATA.XML"):
        (tmp_path / name).write_text("<level_X/>")
    with pytest.raises(SceneError, match="several products: give the path of one of ENMAP_a"):
        open_scene(tmp_path)


def test_names_of_metadata_stay_in_the_folder(tmp_path):
    folder = tmp_path / "product"
    folder.mkdir()
    (tmp_path / "outside.tif").write_bytes(b"")
    (folder / "inside.tif").write_bytes(b"")
    (folder / "link.tif").symlink_to(tmp_path / "outside.tif")
    (folder / "kept.tif").symlink_to(folder / "inside.tif")
    assert product_file(folder, "inside.tif") == folder / "inside.tif"
    assert product_file(folder, "kept.tif") == folder / "kept.tif"
    for name in ("../outside.tif", str(tmp_path / "outside.tif"), "", "a/../../outside.tif", "c:\\x.tif", "a\0"):
        with pytest.raises(SceneError, match="leads out of the product's folder"):
            product_file(folder, name)
    with pytest.raises(SceneError, match="is a link out of the product's folder"):
        product_file(folder, "link.tif")
    os.mkfifo(folder / "fifo.tif")
    for name in ("fifo.tif", "gone.tif", "."):
        with pytest.raises(SceneError, match=r"lacks its file|leads out"):
            product_file(folder, name)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_declarations_are_refused_in_any_encoding(tmp_path, encoding):
    bomb = '<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;&b;">]><a>&c;</a>'
    (tmp_path / "a.xml").write_bytes(f'<?xml version="1.0" encoding="{encoding}"?>{bomb}'.encode(encoding))
    with pytest.raises(SceneError, match="document type declaration"):
        parse_xml(tmp_path / "a.xml")


def test_prefixes_of_namespaces_fall_away(tmp_path):
    (tmp_path / "a.xml").write_text('<n1:a xmlns:n1="urn:x"><n1:b>1</n1:b></n1:a>')
    assert parse_xml(tmp_path / "a.xml").findtext("b") == "1"


def test_metadata_larger_than_any_are_refused(tmp_path):
    with (tmp_path / "a.xml").open("wb") as file:
        file.truncate(2**27)
    with pytest.raises(SceneError, match="134217728 bytes"):
        parse_xml(tmp_path / "a.xml")


def test_nothing_beside_a_raster_is_read(tmp_path):
    samples.write_raster(tmp_path / "a.tif", np.ones((4, 5), np.uint8))
    (tmp_path / "a.tif.aux.xml").write_text("<PAMDataset><SRS>EPSG:32701</SRS></PAMDataset>")
    assert Raster(tmp_path / "a.tif").place().crs.to_epsg() == 32633


def test_a_raster_without_a_place_or_cut_off_is_refused(tmp_path):
    samples.write_raster(tmp_path / "a.tif", samples.stored(3))
    data = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "b.tif").write_bytes(data[: len(data) // 2])
    with pytest.raises(SceneError, match=r"'.*b\.tif' could not be read"):
        Raster(tmp_path / "b.tif").read(slice(0, 12), slice(0, 10), [0, 1, 2])
    samples.write_raster(tmp_path / "c.tif", samples.stored(3), crs=None)
    with pytest.raises(SceneError, match="has no map projection"):
        Raster(tmp_path / "c.tif").place()


def test_a_raster_that_declares_more_than_any_product_is_refused(tmp_path):
    wide = {"height": 2, "width": 200_000, "sparse_ok": True}
    samples.write_raster(tmp_path / "a.tif", np.zeros((2, 200_000), np.uint8), **wide)
    with pytest.raises(SceneError, match=r"declares a cube of \(2, 200000, 1\)"):
        Raster(tmp_path / "a.tif")


def test_a_raster_whose_driver_is_missing_says_so(tmp_path):
    pytest.importorskip("rasterio", reason="needs the geo extra")
    (tmp_path / "a.jp2").write_bytes(b"")
    with pytest.raises(SceneError, match="needs GDAL's driver JP3"):
        Raster(tmp_path / "a.jp2", "JP3")
