"""Readers of polygons: what they find, and what they neither open nor believe."""

import json
import os
import sqlite3
from functools import partial
from importlib.util import find_spec

import pytest

from hsmamba.data.files.vectors import as_crs, is_vector, read_features
from hsmamba.errors import SceneError
from tests.data.files.vector_samples import WRITERS, box, point, write_geojson, write_geopackage, write_shapefile
from tests.refusals import refused

TWO = [(box(0, 0, 2, 2), {"crop": "corn", "code": 10}), (box(3, 0, 1, 2), {"crop": "\u00f6ats", "code": 20})]


needs_geo = pytest.mark.skipif(find_spec("rasterio") is None, reason="needs the geo extra")


@pytest.fixture(params=WRITERS)
def path(request, tmp_path):
    WRITERS[request.param](tmp_path / f"fields{request.param}", TWO)
    return tmp_path / f"fields{request.param}"


def test_every_format_gives_the_same(path):
    pytest.importorskip("rasterio", reason="needs the geo extra")
    found = read_features(path, "crop")
    assert found.values == ["corn", "\u00f6ats"] and read_features(path, "code").values == [10, 20]
    rings = [{tuple(at) for at in one["coordinates"][0]} for one in found.geometries]
    assert rings == [{tuple(at) for at in one["coordinates"][0]} for one, _ in TWO]
    assert as_crs(path, found.crs).to_epsg() == 32633
    assert is_vector(path) and is_vector("A.SHP") and not is_vector("a.tif")


def test_fields_are_listed_with_the_argument_to_give(path):
    with pytest.raises(SceneError, match=r"fields 'crop', 'code', and which .* labels_field=\.\.\. \(--labels-field\)"):
        read_features(path, None)
    with pytest.raises(SceneError, match=r"there is no 'class'"):
        read_features(path, "class")


def test_an_only_field_is_taken_and_empty_geometries_are_left_out(tmp_path):
    write_geojson(tmp_path / "a.json", [(box(0, 0, 1, 1), {"crop": "corn"}), (None, {"crop": "rye"})])
    assert read_features(tmp_path / "a.json", None).values == ["corn"]


def test_a_layer_is_chosen_by_name(tmp_path):
    for layer in ("a", 'the "b"'):
        write_geopackage(tmp_path / "a.gpkg", TWO[: 1 + (layer == "a")], layer)
    with pytest.raises(SceneError, match=r"layers 'a', 'the \"b\"'; give one by labels_variable="):
        read_features(tmp_path / "a.gpkg", "crop")
    assert read_features(tmp_path / "a.gpkg", "crop", 'the "b"').values == ["corn"]


def test_a_geopackage_is_read_where_nothing_can_be_written(tmp_path):
    path = tmp_path / "closed" / "a.gpkg"
    path.parent.mkdir()
    write_geopackage(path, TWO)
    with sqlite3.connect(path) as base:
        base.execute("PRAGMA journal_mode = WAL")  # as desktop programs leave it
    base.close()
    before = sorted(os.listdir(path.parent))
    path.parent.chmod(0o500)
    try:
        assert read_features(path, "crop").values == ["corn", "\u00f6ats"]
    finally:
        path.parent.chmod(0o700)
    assert sorted(os.listdir(path.parent)) == before


def test_encodings_are_those_that_the_cpg_names(tmp_path):
    write_shapefile(tmp_path / "a.shp", TWO)
    table = tmp_path / "a.dbf"
    table.write_bytes(table.read_bytes().replace("\u00f6ats ".encode(), b"\xf6ats  "))
    for name in ("1252", "ISO 8859-1", None):
        cpg = tmp_path / "a.cpg"
        cpg.write_text(name) if name else cpg.unlink()
        assert read_features(tmp_path / "a.shp", "crop").values == ["corn", "\u00f6ats"]


def test_what_is_damaged_or_not_drawn_is_refused(path):
    content = path.read_bytes()
    for damaged in (content[:30], b"", b"\0" * len(content), content[: len(content) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(SceneError):
            read_features(path, "crop")
    path.unlink()
    with pytest.raises(SceneError, match="no file"):
        read_features(path, "crop")
    os.mkfifo(path)
    with pytest.raises(SceneError, match="FIFO"):
        read_features(path, "crop")


def test_lines_are_refused(tmp_path):
    line = {"type": "LineString", "coordinates": [[0, 0], [1, 1]]}
    write_geojson(tmp_path / "a.geojson", [(line, {"crop": "corn"}), (point(0, 0), {"crop": "rye"})])
    with pytest.raises(SceneError, match="LineString; expected polygons or points"):
        read_features(tmp_path / "a.geojson", "crop")


def test_parts_of_a_shapefile_lie_beside_it(tmp_path):
    write_shapefile(tmp_path / "a.shp", TWO)
    (tmp_path / "a.shx").unlink()
    assert len(read_features(tmp_path / "a.shp", "crop").values) == 2
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "a.dbf").rename(tmp_path / "elsewhere" / "a.dbf")
    with pytest.raises(SceneError, match=r"lacks its table a\.dbf"):
        read_features(tmp_path / "a.shp", "crop")
    os.mkdir(tmp_path / "b")
    (tmp_path / "a.shp").rename(tmp_path / "b" / "a.shp")
    (tmp_path / "b" / "a.dbf").symlink_to(tmp_path / "elsewhere" / "a.dbf")
    with pytest.raises(SceneError, match="link out of its folder"):
        read_features(tmp_path / "b" / "a.shp", "crop")


test_a_crs_names_no_file_and_no_address = needs_geo(
    refused(
        *(
            (partial(as_crs, "a.geojson", text), SceneError, ["coordinate reference system", "CRS"])
            for text in (None, "", "http://127.0.0.1:9/crs", "/etc/passwd", "+init=/etc/passwd", "ESRI::/etc/passwd")
        ),
        (partial(as_crs, "a.geojson", "EPSG:999999"), SceneError, ["EPSG:999999", "not known"]),
        (partial(as_crs, "a.shp", 'PROJCS["broken'), SceneError, ["not known"]),
    )
)


def test_a_crs_by_a_link_is_not_followed(tmp_path):
    write_geojson(tmp_path / "a.geojson", TWO)
    content = json.loads((tmp_path / "a.geojson").read_text(encoding="utf-8"))
    content["crs"] = {"type": "link", "properties": {"href": "http://127.0.0.1:9/crs", "type": "proj4"}}
    (tmp_path / "a.geojson").write_text(json.dumps(content), encoding="utf-8")
    assert read_features(tmp_path / "a.geojson", "crop").crs is None
