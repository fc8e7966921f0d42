"""Maps of classes in files: colours, names, confidence, and what a kill leaves."""

import os
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from hsmamba.data import open_image
from hsmamba.data.class_maps import confidence_path, map_rows
from hsmamba.data.colours import class_colours
from tests.data.files.samples import cube, write_tif

LABELS = np.arange(30, dtype=np.uint8).reshape(6, 5) % 4
SURE = np.where(LABELS == 0, np.nan, LABELS / 4).astype(np.float32)
NAMES = ("corn", "oats & <rye>", "Wälder")


def write_map(path, labels=LABELS, names=NAMES, grid=None, dtype=np.uint8):
    with map_rows(
        path, labels.shape, np.dtype(dtype), grid=cube() if grid is None else grid, class_names=names
    ) as write:
        write(0, labels[:2].astype(dtype), SURE[:2])
        write(2, labels[2:].astype(dtype), SURE[2:])


@pytest.mark.parametrize("suffix", [".tif", ".TIF", ".tiff"])
def test_a_raster_has_colours_names_and_its_confidence_beside(tmp_path, suffix):
    rasterio = pytest.importorskip("rasterio", reason="needs the geo extra")
    grid = open_image(write_tif(tmp_path / "scene.tif", cube(), nodata=7, texts=["a", "b", "c", "d"]))
    path = tmp_path / f"map{suffix}"
    write_map(path, grid=grid)
    with rasterio.open(path) as labels, rasterio.open(confidence_path(path)) as sure:
        for file in (labels, sure):
            assert (file.crs, file.transform) == (grid.rio.crs, grid.rio.transform()) and file.descriptions == (None,)
        assert (labels.dtypes, labels.nodata, sure.dtypes) == (("uint8",), 0, ("float32",)) and np.isnan(sure.nodata)
        np.testing.assert_array_equal(labels.read(1), LABELS)
        np.testing.assert_array_equal(sure.read(1), SURE)
        table = [labels.colormap(1)[k] for k in range(4)]
        np.testing.assert_array_equal(np.array(table)[:, :3], np.rint(class_colours(3) * 255))
        tags = labels.tags()
        assert [tags[f"class_{k}"] for k in (1, 2, 3)] == list(NAMES)
        assert tags["run"] == sure.tags()["run"] and "class_4" not in tags
    names = ElementTree.parse(f"{path}.aux.xml").findall("PAMRasterBand[@band='1']/CategoryNames/Category")
    assert [name.text for name in names] == ["unclassified", *NAMES]


def test_a_style_for_qgis_lies_beside_and_a_users_own_one_stays(tmp_path):
    pytest.importorskip("rasterio", reason="needs the geo extra")
    path = tmp_path / "map.tif"
    write_map(path)
    entries = ElementTree.parse(tmp_path / "map.qml").findall("pipe/rasterrenderer[@type='paletted']//paletteEntry")
    assert [entry.get("label") for entry in entries] == ["unclassified", *NAMES]
    assert [entry.get("value") for entry in entries] == list("0123")
    tones = [[int(entry.get("color")[k : k + 2], 16) for k in (1, 3, 5)] for entry in entries]
    np.testing.assert_array_equal(tones, np.rint(class_colours(3) * 255))
    assert [entry.get("alpha") for entry in entries] == ["0", "255", "255", "255"]
    write_map(path, names=("a", "b", "c"))
    assert 'label="a"' in (tmp_path / "map.qml").read_text(encoding="utf-8")
    (tmp_path / "map.qml").write_text("<qgis>mine</qgis>", encoding="utf-8")
    write_map(path)
    assert (tmp_path / "map.qml").read_text(encoding="utf-8") == "<qgis>mine</qgis>"


def test_a_map_of_a_scene_with_control_points_has_them(tmp_path):
    rasterio = pytest.importorskip("rasterio", reason="needs the geo extra")
    path, corners = write_tif(tmp_path / "scene.tif", cube()), ((0, 0), (0, 5), (6, 0), (6, 5))
    with rasterio.open(path, "r+") as file:
        point = rasterio.control.GroundControlPoint
        file.gcps = [point(r, c, 10 + c / 100, 50 - r / 100, 0) for r, c in corners], rasterio.crs.CRS.from_epsg(4326)
    write_map(tmp_path / "map.tif", grid=open_image(path))
    for name in ("map.tif", "map_confidence.tif"):
        with rasterio.open(tmp_path / name) as file:
            found, crs = file.gcps
            assert crs.to_epsg() == 4326
            assert [(p.row, p.col, p.x, p.y) for p in found] == [(r, c, 10 + c / 100, 50 - r / 100) for r, c in corners]


def test_gdal_knows_the_names(tmp_path):
    shutil = pytest.importorskip("rasterio.shutil", reason="needs the geo extra")
    write_map(tmp_path / "map.tif")
    shutil.copy(tmp_path / "map.tif", tmp_path / "map.vrt", driver="VRT")  # which is text
    names = ElementTree.parse(tmp_path / "map.vrt").findall("VRTRasterBand/CategoryNames/Category")
    assert [name.text for name in names] == ["unclassified", *NAMES]


def test_more_classes_than_bytes(tmp_path):
    rasterio = pytest.importorskip("rasterio", reason="needs the geo extra")
    names = [str(k) for k in range(1, 301)]
    write_map(tmp_path / "map.tif", labels=LABELS.astype(int) * 100, names=names, dtype=np.uint16)
    with rasterio.open(tmp_path / "map.tif") as file:
        np.testing.assert_array_equal(file.read(1), LABELS.astype(int) * 100)
        assert file.dtypes == ("uint16",) and file.tags()["class_300"]
        kept = 300 if rasterio.__version__ >= "1.4" else 255  # older ones write no more colours
        assert file.colormap(1)[kept][:3] == tuple(np.rint(class_colours(300)[kept] * 255))


def test_arrays(tmp_path):
    write_map(tmp_path / "map.NPY")
    write_map(tmp_path / "map.NPZ")
    np.testing.assert_array_equal(np.load(tmp_path / "map.NPY"), LABELS)
    with np.load(tmp_path / "map.NPZ") as both:
        assert sorted(both) == ["confidence", "labels"]
        np.testing.assert_array_equal(both["labels"], LABELS)
        np.testing.assert_array_equal(both["confidence"], SURE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.NPY", "map.NPZ"]
    with pytest.raises(ValueError, match=r"cannot write \.doc; choose \.tif"):
        write_map(tmp_path / "map.doc")


def runs(folder):
    rasterio = pytest.importorskip("rasterio", reason="needs the geo extra")
    found = {}
    for path in sorted(folder.glob("*.tif")):
        with rasterio.open(path) as file:
            found[path.name] = file.tags()["run"]
    return found


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_a_kill_never_leaves_the_confidence_or_names_of_another_run(tmp_path, monkeypatch, renames):
    pytest.importorskip("rasterio", reason="needs the geo extra")
    write_map(tmp_path / "map.tif")
    before, left = runs(tmp_path), []

    rename = Path.replace

    def replace(self, target):
        if len(left) == renames:  # as a process that is gone at this point leaves it
            raise KeyboardInterrupt
        left.append(target)
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        write_map(tmp_path / "map.tif", names=("a", "b", "c"))
    after = runs(tmp_path)
    assert len(set(after.values())) == 1 and "map.tif" in after
    assert (after["map.tif"] == before["map.tif"]) == (renames == 0)
    assert not os.path.exists(tmp_path / "map.tif.aux.xml")


def test_an_error_of_the_run_leaves_everything_as_it_was(tmp_path):
    pytest.importorskip("rasterio", reason="needs the geo extra")
    write_map(tmp_path / "map.tif")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with (
        pytest.raises(IndexError),
        map_rows(tmp_path / "map.tif", LABELS.shape, LABELS.dtype, grid=cube(), class_names=NAMES) as write,
    ):
        write(0, LABELS[:2], SURE[:2])
        raise IndexError
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
