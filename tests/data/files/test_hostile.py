"""Files that claim what they have not, name other files, or are no files: each is refused with its true cause."""

import os
import socket
import struct
import warnings
import zipfile

import numpy as np
import pytest
import scipy.io

from hsmamba.data import open_image, open_scene
from hsmamba.data.files import guard
from hsmamba.errors import SceneError
from tests.data.files.samples import cube, truth, write_mat73, write_tif
from tests.data.files.test_envi import UTM, write

VRT = (
    '<VRTDataset rasterXSize="5" rasterYSize="6"><VRTRasterBand dataType="UInt16" band="1"><SimpleSource>'
    "<SourceFilename>{}</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
)
GRID = 'DATUM["d",SPHEROID["s",6378137,298],EXTENSION["PROJ4_GRIDS","{}"]],PRIMEM["g",0]'


def refuse(path, words, **chosen):
    """Both doors refuse a file at once, or when its values are read."""
    for door in (open_scene, open_image):
        with pytest.raises(SceneError, match=words) as error:
            found = door(path, **chosen)
            np.asarray(getattr(found, "hsi", found))
        assert path.name in str(error.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (VRT.format("/etc/hostname").encode(), "a virtual raster"),
        (b"\xef\xbb\xbf  <VRTDataset/>", "a virtual raster"),
        (b"<GDAL_WMS><Service/></GDAL_WMS>", "a description of a web service"),
        (b"/vsicurl/http://localhost/a.tif", "a text that names another file"),
        (b"<html></html>", "XML or HTML text"),
        (b"\xff\xd8\xff\xe0 JFIF", "a JPEG image"),
        (b"\x89PNG\r\n\x1a\n", "a PNG image"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "pointer of Git LFS"),
        (b"", "empty"),
    ],
)
def test_what_a_file_is_decides_and_not_its_name(tmp_path, content, words):
    for name in ("a.tif", "b.TIFF", "c.npy", "d.npz", "e.mat"):
        (tmp_path / name).write_bytes(content)
        refuse(tmp_path / name, f"is {words}" if words == "empty" else words)


@pytest.mark.parametrize("suffix", [".tif", ".npy", ".npz", ".mat", ".hdr"])
def test_what_is_no_plain_file_is_refused_before_it_is_opened(tmp_path, suffix):
    fifo, folder, link, end = (tmp_path / f"{name}{suffix}" for name in ("fifo", "folder", "link", "socket"))
    os.mkfifo(fifo)
    folder.mkdir()
    link.symlink_to("/dev/zero")
    refuse(fifo, "a named pipe")
    refuse(folder, "a folder")
    refuse(link, "a device")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(end))
        refuse(end, "a socket")


def test_a_file_that_is_given_as_a_link_is_read(tmp_path):
    np.save(tmp_path / "a.npy", cube())
    (tmp_path / "folder").mkdir()
    link = tmp_path / "folder" / "link.npy"
    link.symlink_to(tmp_path / "a.npy")
    assert np.array_equal(open_scene(link).hsi, cube())


# GeoTIFF


@pytest.mark.parametrize("suffix", [".msk", ".ovr"])
def test_masks_and_overviews_beside_a_tiff_are_tiffs(tmp_path, suffix):
    path = write_tif(tmp_path / "a.tif", cube())
    (tmp_path / f"a.tif{suffix}").write_text(VRT.format(path))
    with pytest.raises(SceneError, match=rf"a\.tif\{suffix}.*a virtual raster.*expected a TIFF"):
        open_scene(path)


@pytest.mark.parametrize("suffix", [".tif.msk", ".tif.aux.xml", ".tfw", "_RPC.TXT"])
def test_what_lies_beside_a_tiff_is_a_plain_file_of_its_folder(tmp_path, suffix):
    (tmp_path / "folder").mkdir()
    path = write_tif(tmp_path / "folder" / "a.tif", cube())
    beside = path.with_name(f"a{suffix}")
    os.mkfifo(beside)
    with pytest.raises(SceneError, match="a named pipe"):
        open_scene(path)
    beside.unlink()
    (tmp_path / "secret").write_text("1\n0\n0\n1\n5\n5\n")
    beside.symlink_to(tmp_path / "secret")
    with pytest.raises(SceneError, match="a link out of its folder"):
        open_scene(path)
    beside.unlink()
    beside.symlink_to("gone")
    (tmp_path / "folder" / "a.other").symlink_to(tmp_path / "secret")  # nothing that belongs to a TIFF
    assert np.array_equal(open_scene(path).hsi, cube())


def test_a_coordinate_system_names_no_files(tmp_path):
    rasterio = pytest.importorskip("rasterio", reason="needs the geo extra")
    os.mkfifo(tmp_path / "grid.gsb")  # PROJ would wait at it for ever
    elsewhere = str(tmp_path / "grid.gsb")
    geographic = f'GEOGCS["x",{GRID.format("x.gsb")},UNIT["degree",0.0174532925199433]]'
    header = write(tmp_path, **{"map info": UTM, "coordinate system string": "{" + geographic + "}"})
    assert np.array_equal(open_scene(header).hsi, cube())  # one of PROJ's own grids is no file of anybody's
    geographic = geographic.replace("x.gsb", elsewhere)
    refuse(write(tmp_path, **{"map info": UTM, "coordinate system string": "{" + geographic + "}"}), r"grid\.gsb")
    tif = write_tif(tmp_path / "a.tif", cube())
    text = geographic.replace('"', "&quot;").replace("4", "&#52;")
    (tmp_path / "a.tif.aux.xml").write_text(f"<PAMDataset><SRS>{text}</SRS></PAMDataset>")
    refuse(tif, r"names a file.*grid\.gsb")
    projected = f'PROJCS["p",{geographic},PROJECTION["Mollweide"],PARAMETER["central_meridian",0],UNIT["metre",1]]'
    projected = projected.replace(elsewhere, "a" * len(elsewhere))
    profile = {"width": 5, "height": 6, "count": 4, "dtype": "uint16", "GEOTIFF_KEYS_FLAVOR": "ESRI_PE"}
    place = {"crs": projected, "transform": rasterio.Affine(1, 0, 5, 0, -1, 5)}
    with rasterio.open(tmp_path / "b.tif", "w", driver="GTiff", **profile, **place):
        pass
    data = (tmp_path / "b.tif").read_bytes()
    assert b"PROJ4_GRIDS" in data
    (tmp_path / "b.tif").write_bytes(data.replace(b"a" * len(elsewhere), elsewhere.encode()))
    refuse(tmp_path / "b.tif", r"names a file.*grid\.gsb")


def test_a_tiff_that_declares_more_than_it_can_hold_is_refused(tmp_path):
    rasterio = pytest.importorskip("rasterio", reason="needs the geo extra")
    profile = {"width": 10**6, "height": 10**6, "count": 1, "dtype": "uint8", "SPARSE_OK": True, "BIGTIFF": "YES"}
    profile |= {"tiled": True, "blockxsize": 2**15, "blockysize": 2**15, "compress": "deflate"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", **profile):
            pass
        profile |= {"width": 10, "height": 10}
        with rasterio.open(tmp_path / "b.tif", "w", driver="GTiff", **profile):
            pass
    refuse(tmp_path / "a.tif", "1000000 x 1000000 x 1 values")
    refuse(tmp_path / "b.tif", "32768 x 32768 x 1 values")


def test_a_tiff_of_several_pages_is_refused(tmp_path):
    from PIL import Image

    pages = [Image.fromarray(cube()[..., band]) for band in range(3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    pytest.importorskip("rioxarray", reason="needs the geo extra")
    refuse(tmp_path / "a.tif", r"3 images \(pages\)")


def test_a_tiff_of_complex_numbers_is_refused(tmp_path):
    refuse(write_tif(tmp_path / "a.tif", cube(np.complex64)), "complex64; expected real numbers")


def test_damage_inside_a_tiff_is_met_when_it_is_read(tmp_path):
    rasterio = pytest.importorskip("rasterio", reason="needs the geo extra")
    profile = {"width": 64, "height": 64, "count": 2, "dtype": "uint16", "compress": "deflate"}
    values = np.random.default_rng(0).integers(0, 9, (2, 64, 64)).astype(np.uint16)
    with rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", **profile, crs="EPSG:4326") as file:
        file.write(values)
    data = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(data[:700] + bytes(len(data) - 700))
    hsi = open_scene(tmp_path / "a.tif").hsi
    with pytest.raises(SceneError, match=r"a\.tif.*could not be read"):
        np.asarray(hsi)


# ENVI


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"samples": 0}, "every size must be positive"),
        ({"lines": -6}, "every size must be positive"),
        ({"samples": 10**12}, f"6 x {10**12} x 4 values"),
        ({"bands": 5}, "6 x 5 x 5 values of 2 bytes, 300 bytes in all, but has 240"),
        ({"header offset": 1}, "but has 239"),
        ({"header offset": 10**12}, "but has 0 bytes"),
        ({"header offset": -1}, "offset -1; expected 0 or more"),
        ({"samples": "five"}, "samples = 'five'; expected an integer"),
        ({"data type": 6}, "data type 6 .*expected a type of real numbers"),
        ({"byte order": 2}, "byte order 2"),
        ({"interleave": "bsp"}, "'bsp'; expected bsq, bil or bip"),
        ({"file type": "TIFF"}, "open that file itself"),
        ({"file compression": 1}, "is compressed"),
        ({"major frame offsets": "{8, 8}"}, "major frame offsets"),
        ({"data file": "../b.img"}, r"'\.\./b\.img'; expected the name of a file beside"),
        ({"data file": "/etc/hostname"}, "'/etc/hostname'; expected the name of a file beside"),
        ({"data file": "gone.img"}, "no data file beside it; expected one of gone.img"),
        ({"description": "{ a text"}, "no closing brace"),
    ],
)
def test_false_envi_headers_are_refused(tmp_path, fields, words):
    refuse(write(tmp_path, **fields), words)


def test_texts_that_are_no_envi_headers_are_refused(tmp_path):
    for text in ("ncols 5\nnrows 6\n", "", "\0" * 100):
        (tmp_path / "a.hdr").write_text(text)
        refuse(tmp_path / "a.hdr", "no ENVI header")


def test_envi_data_are_followed_within_their_folder_alone(tmp_path):
    folder = tmp_path / "scene"
    (folder / "store").mkdir(parents=True)
    header = write(folder)
    (folder / "a.img").rename(folder / "store" / "numbers")
    (folder / "a.img").symlink_to("store/numbers")
    assert np.array_equal(open_scene(header).hsi, cube())
    (folder / "store" / "numbers").rename(tmp_path / "numbers")
    (folder / "a.img").unlink()
    (folder / "a.img").symlink_to(tmp_path / "numbers")
    with pytest.raises(SceneError, match=r"a\.img.*a link out of its folder"):
        open_scene(header)
    (folder / "a.img").unlink()
    os.mkfifo(folder / "a.img")
    with pytest.raises(SceneError, match=r"a\.img.*a named pipe"):
        open_scene(header)


def test_a_linked_envi_header_has_its_data_beside_the_file_itself(tmp_path):
    (tmp_path / "scene").mkdir()
    header = write(tmp_path / "scene")
    (tmp_path / "b.hdr").symlink_to(header)
    with pytest.raises(SceneError, match="no data file"):
        open_scene(tmp_path / "b.hdr")
    (tmp_path / "a.hdr").symlink_to(header)
    assert np.array_equal(open_scene(tmp_path / "a.hdr").hsi, cube())


# numpy


def npy(shape, dtype="<i2", data=b""):
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header.encode() + data


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (npy((10**6, 10**6, 4)), "1000000 x 1000000 x 4 values"),
        (npy((6, 5, 4), data=bytes(239)), "6 x 5 x 4 values of 2 bytes, 240 bytes in all, but has 239"),
        (npy((-6, 5, 4), data=bytes(240)), "every size must be positive"),
        (npy((6, 0, 4)), "every size must be positive"),
        (npy((6, 5, 4), "|O", bytes(960)), "dtype object; .*Python objects are not read"),
        (npy((6, 5, 4), "<c8", bytes(960)), "dtype complex64; expected real numbers"),
        (npy((6, 5, 4), "|S3", bytes(960)), "expected real numbers"),
        (b"\x93NUMPY\2\0\xff\xff\xff\xff{", "could not be read"),
        (b"\x93NUMPY\7\0", r"format \(7, 0\); expected 1.0 or 2.0"),
    ],
)
def test_false_numpy_headers_are_refused(tmp_path, content, words):
    (tmp_path / "a.npy").write_bytes(content)
    refuse(tmp_path / "a.npy", words)
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("cube.npy", content)
    refuse(tmp_path / "a.npz", words, variable="cube")


def test_numpy_arrays_of_either_byte_and_axis_order_are_read(tmp_path):
    for values in (cube(">i2"), np.asfortranarray(cube(">f4")), cube(np.uint16)[::-1, :, ::2]):
        np.save(tmp_path / "a.npy", values)
        np.savez_compressed(tmp_path / "a.npz", values)
        for name in ("a.npy", "a.npz"):
            assert np.array_equal(open_scene(tmp_path / name).hsi, values)


def test_an_archive_that_unpacks_to_far_more_than_it_is_is_refused(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "a.npz", cube=np.zeros((2**9, 2**9, 5), np.uint8))
    assert not open_scene(tmp_path / "a.npz").hsi.any()  # a collar packs as well: small ones are read
    monkeypatch.setattr(guard, "FLOOR", 2**20)
    refuse(tmp_path / "a.npz", "512 x 512 x 5 values")


def test_a_member_whose_length_is_false_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", cube=np.zeros((6, 5, 4)))
    data = (tmp_path / "a.npz").read_bytes()
    size = struct.pack("<I", 128 + 960)
    (tmp_path / "a.npz").write_bytes(data.replace(size, struct.pack("<I", 128 + 500)))
    refuse(tmp_path / "a.npz", r"960 bytes in all, but has 500|could not be read")


# MATLAB


def test_variables_that_are_no_real_numbers_are_listed_and_not_chosen(tmp_path):
    others = {
        "waves": np.ones((6, 5, 4), complex),
        "text": "word",
        "record": {"a": 1},
        "cell": np.array([1, "a"], object),
    }
    for packed in (False, True):
        scipy.io.savemat(tmp_path / "a.mat", {"cube": cube(), **others}, do_compression=packed)
        assert np.array_equal(open_scene(tmp_path / "a.mat").hsi, cube())
        for name, kind in (("waves", "complex"), ("text", "char"), ("record", "struct"), ("cell", "cell")):
            refuse(tmp_path / "a.mat", rf"'{name}' in .* {kind}; expected real numbers", variable=name)
        scipy.io.savemat(tmp_path / "b.mat", others, do_compression=packed)
        refuse(tmp_path / "b.mat", r"it has .*'waves' \(6, 5, 4\) complex; 'text' \(1,\) char")


def test_matlab_elements_are_held_against_the_file(tmp_path):
    write_tag, sizes = struct.Struct("<II").pack, struct.Struct("<iii").pack
    scipy.io.savemat(tmp_path / "a.mat", {"cube": cube(np.float64)})
    whole = (tmp_path / "a.mat").read_bytes()
    length = len(whole) - 136
    for old, new, words in (
        (write_tag(14, length), write_tag(14, 2**32 - 8), "more than the file"),
        (write_tag(9, 960), write_tag(9, 2**32 - 8), "4294967288 values of 1 bytes"),
        (
            struct.pack("<iii", 6, 5, 4),
            struct.pack("<iii", 2**30, 2**30, 4),
            "could not be read|1073741824 x 1073741824",
        ),
        (sizes(6, 5, 4), sizes(2**30, 2**30, 4), "1073741824 x 1073741824"),
        (sizes(6, 5, 4), sizes(6, -5, 4), "must be positive"),
    ):
        assert whole.count(old) == 1
        (tmp_path / "b.mat").write_bytes(whole.replace(old, new))
        refuse(tmp_path / "b.mat", words, variable="cube")


def test_a_matlab_array_that_unpacks_to_far_more_than_the_file_is_refused(tmp_path, monkeypatch):
    scipy.io.savemat(tmp_path / "a.mat", {"cube": np.zeros((2**9, 2**9, 5), np.uint8)}, do_compression=True)
    assert not open_scene(tmp_path / "a.mat").hsi.any()
    monkeypatch.setattr(guard, "FLOOR", 2**20)
    refuse(tmp_path / "a.mat", "values of 1 bytes")


def test_matlab_7_3_reads_no_other_file(tmp_path):
    h5py = pytest.importorskip("h5py", reason="needs the geo extra")
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["cube"] = cube()
    cube().tofile(tmp_path / "secret.raw")
    layout = h5py.VirtualLayout((6, 5, 4), np.uint16)
    layout[:] = h5py.VirtualSource(tmp_path / "secret.h5", "cube", (6, 5, 4))
    for what, words in (
        (lambda file: file.__setitem__("cube", h5py.ExternalLink(str(tmp_path / "secret.h5"), "cube")), "is a link to"),
        (lambda file: file.__setitem__("cube", h5py.SoftLink("/elsewhere")), "is a link to '/elsewhere'"),
        (lambda file: file.create_virtual_dataset("cube", layout), "lie in other files"),
        (
            lambda file: file.create_dataset(
                "cube", (6, 5, 4), np.uint16, external=[(str(tmp_path / "secret.raw"), 0, 240)]
            ),
            "lie in other files",
        ),
    ):
        write_mat73(tmp_path / "a.mat")
        with h5py.File(tmp_path / "a.mat", "r+") as file:
            what(file)
        refuse(tmp_path / "a.mat", words, variable="cube")


def test_matlab_7_3_sizes_are_held_against_what_is_stored(tmp_path, monkeypatch):
    monkeypatch.setattr(guard, "FLOOR", 2**20)
    h5py = pytest.importorskip("h5py", reason="needs the geo extra")
    for keywords, words in (
        ({"shape": (10**5, 10**5, 10**3), "chunks": (10, 10, 10)}, "none was ever written"),
        ({"data": np.zeros((2**10, 2**10, 5), np.uint8), "compression": "gzip", "chunks": (2**10, 2**9, 5)}, "values"),
    ):
        write_mat73(tmp_path / "a.mat")
        with h5py.File(tmp_path / "a.mat", "r+") as file:
            file.create_dataset("cube", **keywords)
        refuse(tmp_path / "a.mat", words)
    write_mat73(tmp_path / "a.mat", cube=cube(), gt=truth())
    with h5py.File(tmp_path / "a.mat", "r+") as file:
        file["waves"] = np.ones((4, 5, 6), complex)
        file["empty"] = np.zeros(2, np.uint64)
        file["empty"].attrs["MATLAB_empty"] = np.uint8(1)
    assert np.array_equal(open_scene(tmp_path / "a.mat").hsi, cube())
    refuse(tmp_path / "a.mat", "'waves' .*complex128; expected real numbers", variable="waves")
    refuse(tmp_path / "a.mat", "no variable 'empty'", variable="empty")
