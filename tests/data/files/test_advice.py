"""What the errors of files say to do, done: each time the file opens, with the right values."""

import gzip
import io
import os
import re
import shutil
import warnings
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from hsmamba.data import Scene, open_scene
from tests.advice import alternatives, told
from tests.data.files.samples import cube, write_mat, write_npz, write_tif
from tests.data.files.test_envi import UTM, write
from tests.data.files.test_hostile import GRID
from tests.data.files.vector_samples import WRITERS, box, write_geojson, write_geopackage

VALUES = cube(np.int16)


def header(*extra, **fields):
    """A maker of an ENVI image; underscores are blanks of the fields' names."""
    return lambda folder, text="": write(folder, *extra, **{key.replace("_", " "): at for key, at in fields.items()})


def put(name, content=b""):
    """A maker of a file."""

    def make(folder, text=""):
        (folder / name).write_bytes(content)
        return folder / name

    return make


def saved(name, values=VALUES, writer=np.save):
    """A maker of a file with an array."""

    def make(folder, text=""):
        path = folder / name
        if path.suffix == ".tif":
            path.unlink(missing_ok=True)  # GDAL would open it first
            return write_tif(path, values)
        writer(path, values)
        return path

    return make


def cut(make, size):
    """A maker of a file that ends early."""

    def shorten(folder):
        path = make(folder)
        os.truncate(path, size)
        return path

    return shorten


def beside(name, act):
    """A maker of a GeoTIFF beside which something is done with a file."""

    def make(folder, text=""):
        path = saved("a.tif")(folder)
        act(path.with_name(name))
        return path

    return make


def linked(path):
    path.parent.with_name("elsewhere").write_text("30\n0\n0\n-30\n366015\n5809985\n")
    path.symlink_to(path.parent.with_name("elsewhere"))


def png(folder, name="a.tif"):
    from PIL import Image

    Image.fromarray(VALUES[..., :3].astype(np.uint8)).save(folder / name, format="png")
    return folder / name


def read_png(folder, text=""):
    """Read a picture by a package of its own."""
    from PIL import Image

    return np.asarray(Image.open(next(folder.glob("a.*"))))


def pages(folder):
    from PIL import Image

    pytest.importorskip("rioxarray", reason="needs the geo extra")
    one, *others = (Image.fromarray(VALUES[..., band].astype(np.uint16)) for band in range(VALUES.shape[2]))
    one.save(folder / "a.tif", save_all=True, append_images=others)
    return folder / "a.tif"


def joined(folder, text):
    """Write the pages, opened by the names that are told, as the bands of one image."""
    import rasterio

    count, name = int(re.search(r"has (\d+) images", text)[1]), re.search(r"opens as '(GTIFF_DIR:)1(:.*?)'", text)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        bands = [rasterio.open(f"{name[1]}{page}{name[2]}").read(1) for page in range(1, count + 1)]
    return saved("b.tif", np.stack(bands, axis=-1))(folder)


def mask(shape, value):
    def make(path):
        import rasterio

        path.unlink(missing_ok=True)
        with rasterio.open(write_tif(path, np.full((*shape, 1), value, np.uint8)), "r+") as file:
            file.update_tags(INTERNAL_MASK_FLAGS_1="2")

    return make


def pipe(folder):
    os.mkfifo(folder / "a.npy")
    return folder / "a.npy"


def named_by(pattern, make):
    """What an error names, beside what `make` made."""
    return lambda folder, text: folder / Path(re.search(pattern, text)[1]).name


def renamed(old, pattern):
    def mend(folder, text):
        (folder / old).rename(folder / re.search(pattern, text)[1])
        return folder / "a.hdr"

    return mend


def without(*names):
    def make(folder, text=""):
        for name in names:
            (folder / name).unlink()
        return next(folder.glob("a.*"))

    return make


def packed(folder):
    path = header(file_compression=1)(folder)
    (folder / "a.img").write_bytes(gzip.compress((folder / "a.img").read_bytes()))
    return path


def unpacked(folder, text):
    values = np.frombuffer(gzip.decompress((folder / "a.img").read_bytes()), np.int16)
    return write(folder, values=values.reshape(4, 6, 5).transpose(1, 2, 0), **{"file compression": 0})


def tiff_with_header(folder):
    path = header(file_type="TIFF")(folder)
    saved("a.tif")(folder).rename(folder / "a.img")
    return path


def with_grid(folder):
    path = saved("a.tif")(folder)
    (folder / "a.tif.aux.xml").write_text(f"<PAMDataset><SRS>{GRID.format('/a/b.gsb')}</SRS></PAMDataset>")
    return path


def with_plain_crs(folder, text):
    import rasterio

    (folder / "a.tif.aux.xml").unlink()
    with rasterio.open(folder / "a.tif", "r+") as file:
        file.crs = re.search(r"such as (EPSG:\d+)", text)[1]
    return folder / "a.tif"


def write_version(path, values, version=(3, 0)):
    with path.open("wb") as file:
        np.lib.format.write_array(file, values, version)


def save_again(folder, text):
    np.save(folder / "a.npy", np.load(folder / "a.npy"))
    return folder / "a.npy"


def mat(folder, text=""):
    write_mat(folder / "a.mat", cube=VALUES)
    return folder / "a.mat"


def damaged_mat(folder):
    path = mat(folder)
    data = bytearray(path.read_bytes())
    data[156:160] = (77777).to_bytes(4, "little")  # bytes of the array's sizes
    path.write_bytes(data)
    return path


def short_npz(folder):
    """An archive that declares more bytes of an array than it has packed."""
    whole = io.BytesIO()
    np.save(whole, VALUES)
    short = whole.getvalue()[:-9]
    with zipfile.ZipFile(folder / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("cube.npy", short)
    declared = (folder / "a.npz").read_bytes()
    sizes = (len(short).to_bytes(4, "little"), (len(short) + 9).to_bytes(4, "little"))
    (folder / "a.npz").write_bytes(declared.replace(*sizes))
    return folder / "a.npz"


FILES = {
    "expected an integer: mend the header": (header(samples="five"), header()),
    "expected bsq, bil or bip: mend the header": (
        header(interleave="bsp"),
        lambda folder, text: write(folder, interleave=re.search(r"expected (\w+)", text)[1]),
    ),
    "expected 0 or more: mend the header": (header(header_offset=-1), header()),
    "has no closing brace; complete the header": (header("fwhm = {1, 2,"), header("fwhm = {1, 2, 3, 4}")),
    "give the header of an ENVI image": (put("b.hdr", b"samples = 5"), header()),
    "no image; give the header of an image": (header(file_type="ENVI Spectral Library"), header()),
    "too many for a header; give the text header": (cut(header(), 2**26 + 1), header()),
    "open that file itself, under a name that ends in .tif": (
        tiff_with_header,
        lambda folder, text: (folder / "a.img").rename(folder / f"a{re.search(r'ends in (.*)', text)[1]}"),
    ),
    "convert that file to GeoTIFF": (header(file_type="JP2"), saved("a.tif")),
    "unpack that file and set 'file compression' to 0": (packed, unpacked),
    "write the image without them": (header(major_frame_offsets="{1, 1}"), header()),
    "put it there under one of these names": (
        lambda folder: write(folder, name="a.numbers"),
        renamed("a.numbers", r"one of (?:[\w.]+, )*(a\.\w+):"),
    ),
    "and so on, as the bands of one image": (pages, joined),
    "make the mask anew, or move it away": (
        beside("a.tif.msk", mask((12, 10), 0)),
        (beside("a.tif.msk", mask((6, 5), 255)), without("a.tif.msk")),
    ),
    "give the file with the data": (pipe, saved("b.npy")),
    "as its extension says: give one": (
        lambda folder: saved("b.tif")(folder).rename(folder / "a.npy"),
        (saved("a.npy"), lambda folder, text: (folder / "a.npy").rename(folder / "a.tif")),
    ),
    "read this file by a package of its own and give the array": (png, read_png),
    "its header is false; fetch or write it again": (cut(saved("a.npy"), 200), saved("a.npy")),
    "its extension says: fetch or write it again": (cut(saved("a.tif"), 200), saved("a.tif")),
    "it is damaged: fetch or write it again": (damaged_mat, mat),
    "ends early; it is truncated, fetch or write it again": (
        short_npz,
        saved("a.npz", writer=lambda path, values: write_npz(path, cube=values)),
    ),
    "is too large for metadata; move it away": (
        beside("a.tfw", lambda path: (path.touch(), os.truncate(path, 2**26 + 1))),
        without("a.tfw"),
    ),
    "put the file itself there": (
        beside("a.tfw", linked),
        lambda folder, text: (
            (folder / "a.tfw").unlink(),
            shutil.copy(re.search(r"out of its folder to '(.*?)'", text)[1], folder / "a.tfw"),
            folder / "a.tif",
        )[-1],
    ),
    "give the image a plain one, such as EPSG:32633": (with_grid, with_plain_crs),
    "expected 1.0 or 2.0: save it again": (saved("a.npy", writer=write_version), save_again),
    "since they could run a program; save an array of numbers": (saved("a.npy", VALUES.astype(object)), saved("a.npy")),
    "save an array of numbers": (saved("a.npy", VALUES.astype(str)), saved("a.npy")),
    "give the ENVI header": (
        lambda folder: header()(folder).with_suffix(".img"),
        named_by(r"give the ENVI header '(.*?)'", header()),
    ),
    "convert the file to one of them": (
        partial(png, name="a.png"),
        lambda folder, text: saved(f"a{re.search(r'(.npy)', text)[1]}", read_png(folder))(folder),
    ),
}


@pytest.mark.parametrize(("words", "broken", "mend"), alternatives(FILES))
def test_a_file_opens_once_it_is_mended(words, broken, mend, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    path = broken(folder)
    found = mend(folder, told(lambda: np.asarray(open_scene(path).hsi), words))
    hsi = Scene(found).hsi if isinstance(found, np.ndarray) else open_scene(found).hsi
    np.testing.assert_array_equal(np.asarray(hsi).astype(np.uint8), VALUES[..., : hsi.shape[2]].astype(np.uint8))


TWO = [(box(0, 0, 2, 2), {"crop": "corn", "code": 1}), (box(3, 0, 1, 2), {"crop": "oats", "code": 2})]
LINE = ({"type": "LineString", "coordinates": [[366000, 5810000], [366100, 5810000]]}, {"crop": "corn", "code": 1})
NAMELESS = [(shape, fields | {"none": None}) for shape, fields in TWO]
CROP = {"labels_field": "crop"}


def drawn(suffix=".geojson", features=TWO, act=lambda path: None, options=CROP, **changes):
    """A maker of polygons on a GeoTIFF: (scene, labels, options)."""

    def make(folder, text=""):
        path = folder / f"fields{suffix}"
        path.unlink(missing_ok=True)
        WRITERS[suffix](path, features, **changes)
        act(path)
        return saved("a.tif")(folder), path, options

    return make


def on(name, **fields):
    """A maker of polygons on a scene of another kind."""

    def make(folder, text=""):
        write_geojson(folder / "fields.geojson", TWO)
        scene = write(folder, **fields) if name == "a.hdr" else saved(name)(folder)
        return scene, folder / "fields.geojson", CROP

    return make


def chosen(argument, pattern):
    """What the error asks for, with the value that it lists."""
    return lambda folder, text: (
        folder / "a.tif", next(folder.glob("fields.[gs]*")), CROP | {argument: re.search(pattern, text)[1]}
    )  # fmt: skip


def two_layers(path):
    write_geopackage(path, TWO[:1], "other")


def no_prj(path):
    path.with_suffix(".prj").unlink()


def crs_text():
    from rasterio.crs import CRS

    return "{" + CRS.from_epsg(32633).to_wkt() + "}"


def array(folder, text=""):
    labels = np.zeros(VALUES.shape[:2], np.uint8)
    labels[:2, :2], labels[3, :2] = 1, 2
    return saved("a.npy")(folder), labels, {"class_names": ("corn", "oats")}


LABELS = {
    "expected polygons or points: leave the others out": (drawn(features=[*TWO, LINE]), drawn()),
    "has a CRS that is not known": (drawn(crs="urn:ogc:def:crs:EPSG::999999"), drawn()),
    "write it anew with its CRS (a shapefile has it in its .prj)": (drawn(".shp", act=no_prj), drawn(".shp")),
    "give labels_field=... (--labels-field) by name": (
        drawn(options={}),
        chosen("labels_field", r"fields '(\w+)'"),
    ),
    "which lies beside it; fetch that, too": (
        drawn(".shp", act=lambda path: path.with_suffix(".dbf").unlink()),
        drawn(".shp"),
    ),
    "give one by labels_variable=... (--labels-variable)": (
        drawn(".gpkg", act=two_layers),
        chosen("labels_variable", r"layers '(\w+)'"),
    ),
    "cannot be drawn on it; give a GeoTIFF, or an ENVI file with map info": (
        on("a.npy"),
        (
            on("a.tif"),
            lambda folder, text: on(
                "a.hdr",
                **{
                    "map info": UTM.replace("400000, 5800000", "366000, 5810000"),
                    "coordinate system string": crs_text(),
                },
            )(folder),
            array,
        ),
    ),
    "has no feature with a value in this field; give another labels_field=": (
        drawn(features=NAMELESS, options={"labels_field": "none"}),
        drawn(features=NAMELESS),
    ),
    "choose and order them with class_names=": (
        drawn(options=CROP | {"classes": [1, 2]}),
        lambda folder, text: drawn(
            options=CROP | {"class_names": re.search(r"holds texts \((.*?)\)", text)[1].split(", ")}
        )(folder),
    ),
    "unless it names another CRS: write it anew with its CRS": (drawn(crs=None), drawn()),
}


@pytest.mark.parametrize(("words", "broken", "mend"), alternatives(LABELS))
def test_polygons_are_drawn_once_they_are_mended(words, broken, mend, tmp_path):
    pytest.importorskip("rasterio", reason="needs the geo extra")
    scene, path, options = broken(tmp_path)
    scene, path, options = mend(tmp_path, told(lambda: open_scene(scene, labels=path, **options), words))
    found = open_scene(scene, labels=path, **options)
    np.testing.assert_array_equal(found.labels, array(tmp_path)[1])
    assert found.class_names == ("corn", "oats")
