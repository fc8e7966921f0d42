"""Writers of polygons in every format that is read, on the grid of `write_tif`, in pixels of 30 m."""

import json
import sqlite3
import struct

import pytest

LEFT, TOP = 366000, 5810000


def box(row, column, rows, columns):
    """A polygon over whole pixels."""
    left, top = LEFT + 30 * column, TOP - 30 * row
    right, bottom = left + 30 * columns, top - 30 * rows
    return {
        "type": "Polygon",
        "coordinates": [[[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]],
    }


def point(row, column):
    return {"type": "Point", "coordinates": [LEFT + 30 * column + 15, TOP - 30 * row - 15]}


def write_geojson(path, features, crs="urn:ogc:def:crs:EPSG::32633"):
    records = [{"type": "Feature", "geometry": shape, "properties": fields} for shape, fields in features]
    content = {"type": "FeatureCollection", "features": records}
    if crs:
        content["crs"] = {"type": "name", "properties": {"name": crs}}
    path.write_text(json.dumps(content), encoding="utf-8")


def write_shapefile(path, features):
    shapefile = pytest.importorskip("shapefile", reason="needs the geo extra")
    crs = pytest.importorskip("rasterio.crs", reason="needs the geo extra").CRS
    with shapefile.Writer(str(path), encoding="utf-8") as writer:
        for name, value in features[0][1].items():
            writer.field(name, "C" if isinstance(value, str) else "N")
        for shape, fields in features:
            writer.shape(shape)
            writer.record(**fields)
    path.with_suffix(".prj").write_text(crs.from_epsg(32633).to_wkt("WKT1_ESRI"), encoding="utf-8")
    path.with_suffix(".cpg").write_text("UTF-8", encoding="utf-8")


def write_geopackage(path, features, layer="fields", epsg=32633):
    shapely = pytest.importorskip("shapely", reason="needs the geo extra")
    fields = list(features[0][1])
    with sqlite3.connect(path) as base:
        base.execute("PRAGMA application_id = 1196444487")
        base.execute(
            "CREATE TABLE IF NOT EXISTS gpkg_spatial_ref_sys "
            "(srs_name, srs_id INTEGER PRIMARY KEY, organization, organization_coordsys_id, definition)"
        )
        base.execute("INSERT OR IGNORE INTO gpkg_spatial_ref_sys VALUES ('x', ?, 'EPSG', ?, 'undefined')", (epsg, epsg))
        base.execute(
            "CREATE TABLE IF NOT EXISTS gpkg_geometry_columns (table_name, column_name, geometry_type, srs_id, z, m)"
        )
        base.execute("INSERT INTO gpkg_geometry_columns VALUES (?, 'geom', 'GEOMETRY', ?, 0, 0)", (layer, epsg))
        names = ", ".join(f'"{name}"' for name in fields)
        table = '"' + layer.replace('"', '""') + '"'
        base.execute(f"CREATE TABLE {table} (fid INTEGER PRIMARY KEY, geom BLOB, {names})")
        for shape, values in features:
            geometry = shapely.geometry.shape(shape)
            header = b"GP" + bytes([0, 0b011]) + struct.pack("<i4d", epsg, *geometry.bounds)  # with an envelope
            marks = ", ".join("?" * (1 + len(fields)))
            row = (header + geometry.wkb, *(values[name] for name in fields))
            base.execute(f"INSERT INTO {table} (geom, {names}) VALUES ({marks})", row)
    base.close()


WRITERS = {".shp": write_shapefile, ".geojson": write_geojson, ".gpkg": write_geopackage}
