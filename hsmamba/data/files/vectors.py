"""Polygons and points with the values of a field: shapefiles by pyshp, GeoJSON, GeoPackages by SQLite and shapely.

None of these opens a file that is not part of the format, or asks a server, as GDAL's drivers may.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from hsmamba._optional import optional_import
from hsmamba.data.files.content import reading
from hsmamba.data.files.guard import check_file, check_inside
from hsmamba.errors import SceneError

if TYPE_CHECKING:
    import sqlite3

Geometry: TypeAlias = "dict[str, Any]"  # as GeoJSON has it

Choose: TypeAlias = "Callable[[Sequence[str]], str | None]"  # of the fields one, or none

_DRAWN = ("Polygon", "MultiPolygon", "Point", "MultiPoint")
_MAGIC = (9994).to_bytes(4, "big")  # of a shapefile
_AUTHORITY = re.compile(r"(?:urn:ogc:def:crs:(\w+):[^:]*:(\w+)|(\w+):(\w+))", re.IGNORECASE)


class Features(NamedTuple):
    """Geometries, the value of each, and where their coordinates count."""

    geometries: list[Geometry]
    values: list[Any]
    crs: str | None  # well-known text, or authority and code; None where the file does not say


def is_vector(path: Any) -> bool:
    """Tell whether a file has one of the formats, by its extension."""
    return Path(path).suffix.lower() in _READERS


def read_features(path: Path, field: str | None, layer: str | None = None, *, valued: bool = True) -> Features:
    """Read geometries and the values of a field.

    Args:
        path: A `.shp`, `.geojson`, `.json` or `.gpkg`.
        field: Name of the field; not needed where there is just one.
        layer: Name of the layer of a GeoPackage; not needed where there is just one.
        valued: False for geometries alone: no field is chosen, and all values are None.

    Raises:
        SceneError: No such file, field or layer, lines or curves, or a damaged file.
        MissingExtraError: A package is not installed.
    """
    check_file(path)
    with reading(path):
        choose = partial(_field, path, chosen=field) if valued else _no_field
        found = _READERS[path.suffix.lower()](path, choose, layer)
        if kinds := {str(geometry["type"]) for geometry in found.geometries} - set(_DRAWN):
            raise SceneError(
                f"{str(path)!r} has features of the kind {', '.join(sorted(kinds))}; expected polygons or points: "
                "leave the others out"
            )
    return found


def as_crs(path: Path, text: str | None) -> Any:
    """Make rasterio's CRS of what a file says, and of nothing that names a file or an address.

    Raises:
        SceneError: The file says nothing that is known.
    """
    crs = optional_import("rasterio.crs", "to tell where polygons lie").CRS
    found = _AUTHORITY.fullmatch(text or "")
    try:
        if found:
            return crs.from_authority(*(part for part in found.groups() if part))
        if re.match(r"\w+\s*\[", text or ""):
            return crs.from_wkt(text)
    except Exception as error:  # GDAL's are of many kinds
        raise SceneError(f"{str(path)!r} has a CRS that is not known ({text!r}: {error}); write it anew") from error
    raise SceneError(
        f"{str(path)!r} does not say in which coordinate reference system it is; write it anew with its CRS (a "
        "shapefile has it in its .prj)"
    )


def _field(path: Path, fields: Sequence[str], chosen: str | None) -> str:
    """Return the chosen field, or the only one."""
    if chosen is None and len(fields) == 1:
        return fields[0]
    if chosen is None or chosen not in fields:
        asked = "which of them is the class is not said" if chosen is None else f"there is no {chosen!r}"
        raise SceneError(
            f"{str(path)!r} has the fields {', '.join(map(repr, fields)) or 'none'}, and {asked}; give "
            "labels_field=... (--labels-field) by name"
        )
    return chosen


def _no_field(fields: Sequence[str]) -> None:
    """Choose none."""


def _read_shapefile(path: Path, choose: Choose, layer: str | None) -> Features:
    shapefile = optional_import("shapefile", "to read shapefiles")
    table = _beside(path, ".dbf")
    if table is None:
        raise SceneError(f"{str(path)!r} lacks its table {path.stem}.dbf, which lies beside it; fetch that, too")
    parts = {"shp": path, "dbf": table, "shx": _beside(path, ".shx")}
    with ExitStack() as stack:
        # Opened files, for a path may be taken for an archive or an address.
        opened = {name: stack.enter_context(part.open("rb")) for name, part in parts.items() if part is not None}
        reader = stack.enter_context(shapefile.Reader(**opened, encoding=_codec(_text_beside(path, ".cpg"))))
        name = choose([str(one[0]) for one in reader.fields if one[0] != "DeletionFlag"])
        every = list(reader.iterShapeRecords())
        if opened["shp"].seek(0) or opened["shp"].read(4) != _MAGIC or len(every) != reader.numRecords:
            raise ValueError(f"it has {len(every)} shapes for the {reader.numRecords} rows of its table")
        records = [one for one in every if one.shape.shapeType != shapefile.NULL]
        geometries = [one.shape.__geo_interface__ for one in records]
        return Features(
            geometries, [None if name is None else one.record[name] for one in records], _text_beside(path, ".prj")
        )


def _beside(path: Path, suffix: str) -> Path | None:
    """Find the file of this suffix that belongs to a shapefile."""
    for beside in (path.with_suffix(suffix), path.with_suffix(suffix.upper())):
        if beside.exists():
            check_file(beside)
            check_inside(beside, path)
            return beside
    return None


def _text_beside(path: Path, suffix: str) -> str | None:
    beside = _beside(path, suffix)
    return None if beside is None else beside.read_text(encoding="utf-8", errors="replace").strip() or None


def _codec(named: str | None) -> str:
    """The encoding that a .cpg names: "UTF-8", "1252", "ISO 8859-1"; Latin-1, which reads anything, without one."""
    for spelled in (f"{named}".replace(" ", "-"), f"cp{named}"):
        try:
            return codecs.lookup(spelled).name
        except LookupError:
            continue
    return "latin-1"


def _read_geojson(path: Path, choose: Choose, layer: str | None) -> Features:
    content = json.loads(path.read_text(encoding="utf-8-sig"))
    records = [one for one in content["features"] if one.get("geometry")]
    properties = [one.get("properties") or {} for one in records]
    name = choose(list(dict.fromkeys(key for one in properties for key in one)))
    crs = content.get("crs")  # of files before RFC 7946, which has longitude and latitude alone
    where = crs["properties"].get("name") if crs else "OGC:CRS84"
    return Features(
        [one["geometry"] for one in records], [None if name is None else one.get(name) for one in properties], where
    )


def _read_geopackage(path: Path, choose: Choose, layer: str | None) -> Features:
    """Read a layer by the tables of OGC 12-128, clauses 1.1.2 and 2.1."""
    wkb = optional_import("shapely.wkb", "to read GeoPackages")
    geometry = optional_import("shapely.geometry", "to read GeoPackages")
    with closing(_connect(path)) as base:
        tables = dict(base.execute("SELECT table_name, column_name FROM gpkg_geometry_columns").fetchall())
        if (layer is None and len(tables) != 1) or (layer is not None and layer not in tables):
            raise SceneError(
                f"{str(path)!r} has the layers {', '.join(map(repr, tables)) or 'none'}; give one by "
                "labels_variable=... (--labels-variable)"
            )
        table = layer or next(iter(tables))
        shape = _quoted(tables[table])
        columns = base.execute(f"PRAGMA table_info({_quoted(table)})").fetchall()  # number, name, type, ..., key
        name = choose([column[1] for column in columns if column[1] != tables[table] and not column[5]])
        value = "NULL" if name is None else _quoted(name)
        query = f"SELECT {shape}, {value} FROM {_quoted(table)} WHERE {shape} IS NOT NULL"
        rows = [(_without_header(blob), found) for blob, found in base.execute(query)]
        crs = base.execute(
            "SELECT s.organization, s.organization_coordsys_id, s.definition FROM gpkg_spatial_ref_sys s "
            "JOIN gpkg_geometry_columns g ON g.srs_id = s.srs_id WHERE g.table_name = ?",
            (table,),
        ).fetchone()
    kept = [(blob, value) for blob, value in rows if blob]
    return Features([geometry.mapping(wkb.loads(blob)) for blob, _ in kept], [value for _, value in kept], _crs_of(crs))


def _connect(path: Path) -> sqlite3.Connection:
    """Open a database to read. One that is closed takes no lock, so that its folder need not be writable."""
    import sqlite3  # which some builds of Python lack

    written = Path(f"{path}-wal")
    closed = not (written.exists() and written.stat().st_size)
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro{'&immutable=1' if closed else ''}", uri=True)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _without_header(blob: bytes) -> bytes:
    """Take a geometry out of its header: "GP", version, flags, number of the CRS, envelope; nothing of an empty one."""
    if len(blob) < 8 or blob[:2] != b"GP":
        raise ValueError("a geometry does not begin with GP")
    flags = blob[3]
    envelope = (0, 32, 48, 48, 64)[flags >> 1 & 7]
    return b"" if flags & 0x10 else blob[8 + envelope :]


def _crs_of(row: tuple[str, int, str] | None) -> str | None:
    """The CRS of a row of gpkg_spatial_ref_sys; its two rows of the undefined say NONE."""
    if row is None or row[0].upper() == "NONE":
        return None
    return f"EPSG:{row[1]}" if row[0].upper() == "EPSG" else str(row[2])


_READERS = {".shp": _read_shapefile, ".geojson": _read_geojson, ".json": _read_geojson, ".gpkg": _read_geopackage}
