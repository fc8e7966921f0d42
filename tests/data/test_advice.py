"""What the errors of scenes, labels, pairs and sensors say to do, done: each time it works, with the right values."""

import re
import warnings

import numpy as np
import pytest
import torch

from hsmamba.data import (
    Compose,
    PatchDataset,
    Patches,
    Scene,
    Sensor,
    open_image,
    open_scene,
    simulate_bands,
    wald_pairs,
)
from hsmamba.data.area import open_area
from hsmamba.data.bands import match_bands
from hsmamba.data.class_maps import map_rows
from hsmamba.data.degrade import check_grids, decimate, filter_bands, mtf_filter, mtf_kernels
from hsmamba.data.outputs import image_rows
from hsmamba.data.pairs import crops
from hsmamba.data.sensors import band_gains, get_sensor
from hsmamba.data.spool import spooled
from hsmamba.data.srf import read_response, response_matrix
from hsmamba.data.units import maxima
from hsmamba.data.validity import valid_mask
from hsmamba.errors import HsmambaWarning
from tests.advice import alternatives, told, warned
from tests.data.files.samples import cube, truth, write_npz, write_tif, write_tile, write_vrt
from tests.data.files.vector_samples import box, point, write_geojson
from tests.data.test_wald import BROKEN, COLLAR, MS, PAN, make, same

CUBE, TRUTH = cube(np.float32), truth()
LEGEND = np.array([0, 1000, 2000, 3000])[TRUTH]
NAMES = ("corn", "oats", "woods")
NM = np.array([450.0, 550.0, 650.0, 850.0])
CURVES = {"G": np.array([[500.0, 1], [600, 1]]), "X": np.array([[900.0, 1], [1000, 1]])}
IMAGE = torch.from_numpy(CUBE).permute(2, 0, 1)[None]


def numbers(text, pattern):
    """Numbers of a list in a text."""
    return [float(one) for one in re.search(pattern, text)[1].split(", ")]


def labelled(labels=TRUTH, **options):
    return Scene(CUBE, labels, **options)


def is_truth(scene, names=None):
    return np.array_equal(scene.labels, TRUTH) and names in (None, scene.class_names)


def place(folder, name="a.tif", values=CUBE, **options):
    return open_scene(write_tif(folder / name, values, **options)).hsi


def moved(folder, rows=0, epsg=32633):
    """The cube some rows further north, or in another CRS."""
    hsi = place(folder)
    shifted = hsi.assign_coords(y=hsi.y + 30 * rows) if rows else hsi.rio.write_crs(epsg)
    return shifted.rio.write_transform(shifted.rio.transform(recalc=True))


def reprojected(folder, text, **options):
    """Reproject what the text names to what it names."""
    images = {"hsi": place(folder), "aux": moved(folder, **options)}
    one, other = re.search(r"reproject (\w+) to the CRS of (\w+)", text).groups()
    images[one] = matched(images[one], images[other])
    return Scene(images["hsi"], aux=images["aux"]).aux.shape == CUBE.shape


def matched(one, other):
    """Reproject an image onto the grid of another."""
    return one.transpose("band", "y", "x").rio.reproject_match(other.transpose("band", "y", "x"))


def several(folder):
    write_npz(folder / "a.npz", one=CUBE, two=CUBE + 1)
    return folder / "a.npz"


def named(folder, text):
    found = {name: open_scene(folder / "a.npz", variable=name) for name in re.findall(r"'(\w+)' \(", text)}
    return np.array_equal(found["one"].hsi, CUBE) and np.array_equal(found["two"].hsi, CUBE + 1)


def files(folder, *fields):
    """An image, polygons, and labels as an ENVI file."""
    np.save(folder / "a.npy", CUBE)
    np.save(folder / "flat.npy", CUBE[..., 0])
    np.save(folder / "labels.npy", TRUTH)
    return folder / "a.npy"


def srf(folder, *lines):
    (folder / "a.txt").write_text("\n".join(["# Band G", *lines]))
    return read_response(folder / "a.txt")["G"]


def mapped(path):
    """Write a map of classes."""
    pytest.importorskip("rasterio", reason="needs the geo extra")
    if path.suffix == ".zarr":
        pytest.importorskip("zarr", reason="needs the zarr extra")
    grid = np.zeros((2, 2, 1))
    with map_rows(path, (2, 2), np.dtype(np.uint8), grid=grid, class_names=("a",)) as write:
        write(0, np.ones((2, 2), np.uint8), np.ones((2, 2), np.float32))
    return path.exists()


def cut(size):
    generator = torch.Generator().manual_seed(0)
    return crops(make().unturned(), 1, size, 4, generator, augment=False)


def fitting(text):
    """Sizes of crops: multiples of the ratio up to the smaller side."""
    ratio, side = (int(one) for one in re.search(r"the ratio (\d+) and fit into images of (\d+)", text).groups())
    return all(cut(size).gt.shape[-1] == size for size in (ratio, side // ratio * ratio))


def holed(value=np.nan):
    values = CUBE.copy()
    values[0, 0] = value
    return values


def without_holes(values):
    return torch.nan_to_num(torch.from_numpy(values).permute(2, 0, 1)[None])


def cropped(text):
    rows, columns = (int(side) for side in re.search(r"crop it to (\d+) x (\d+)", text).groups())
    return IMAGE[..., :rows, :columns]


def dataset(*scenes):
    return PatchDataset(scenes, Compose([]), 3)


def gains(sensor, bands=4):
    return band_gains(get_sensor(sensor), bands)


def by_sensor(text):
    """A sensor made by the call that the text shows."""
    arguments = re.search(r"hsmamba\.data\.sensors\.Sensor\((.*?)\)", text)[1].split(", ")
    sensor = Sensor(**dict(zip(arguments, ("mine", (0.3,) * 4, 0.15), strict=True)))
    return gains(sensor) == (0.3,) * 4


def parts(text):
    """Shares of the parts, with the change that is said to work."""
    return {"val": 0.5, "test": 0.5} | {key: 0 for key in re.findall(r"(\w+)=0\b", text.partition("It works with")[2])}


def unit(text):
    """The pair of maxima that the text proposes."""
    return tuple(numbers(text, r"of ms, of guide\): ([\d., ]+)\?"))


CASES = {
    "correct its list of bad bands": (
        lambda at: match_bands(NM, NM, bad=np.ones(4, bool)),
        lambda at, text: match_bands(NM, NM, bad=np.zeros(4, bool)).indices.tolist() == [0, 1, 2, 3],
    ),
    "take a scene of the same sensor": (
        lambda at: match_bands(NM, NM + 1000),
        lambda at, text: match_bands(NM + 1000, NM + 1000).indices.tolist() == [0, 1, 2, 3],
    ),
    "cannot write {}; choose {}": (
        lambda at: mapped(at / "a.png"),
        lambda at, text: all(mapped(at / f"a{end}") for end in re.search(r"choose (.*)", text)[1].split(", ")),
    ),
    "has no labels; open it with labels=": (
        lambda at: dataset(labelled(None)),
        lambda at, text: len(dataset(open_scene(files(at), labels=at / "labels.npy"))) == 30,
    ),
    "give scenes of one kind": (
        lambda at: dataset(labelled(), labelled(class_names=NAMES)),
        lambda at, text: len(dataset(labelled(class_names=NAMES), labelled(class_names=NAMES))) == 60,
    ),
    "convert it with .float()": (
        lambda at: mtf_filter(IMAGE.int(), sensor="generic"),
        lambda at, text: mtf_filter(IMAGE.int().float(), sensor="generic").shape == IMAGE.shape,
    ),
    "crop the images to the same ground or correct the ratio": (
        lambda at: check_grids(IMAGE, IMAGE.repeat(1, 1, 3, 3), 2),
        (
            lambda at, text: check_grids(IMAGE[..., :4, :4], IMAGE.repeat(1, 1, 3, 3)[..., :8, :8], 2) is None,
            lambda at, text: check_grids(IMAGE, IMAGE.repeat(1, 1, 3, 3), 3) is None,
        ),
    ),
    "a filter would spread them: fill them first": (
        lambda at: filter_bands(torch.from_numpy(holed()).permute(2, 0, 1)[None], mtf_kernels("generic", 4)),
        lambda at, text: bool(filter_bands(without_holes(holed()), mtf_kernels("generic", 4)).isfinite().all()),
    ),
    "sides must be multiples of the ratio; crop it to {} x {}": (
        lambda at: decimate(IMAGE, 4),
        lambda at, text: decimate(cropped(text), 4).shape[-2:] == (1, 1),
    ),
    "have other coordinate reference systems ({} and {}); reproject {} to the CRS of {}": (
        lambda at: Scene(place(at), aux=moved(at, epsg=32632)),
        lambda at, text: reprojected(at, text, epsg=32632),
    ),
    "crop or reproject both to the same ground": (
        lambda at: Scene(place(at), aux=moved(at, rows=1)),
        (
            lambda at, text: Scene(place(at), aux=matched(moved(at, rows=1), place(at))).shape == (6, 5),
            lambda at, text: Scene(place(at)[:-1], aux=moved(at, rows=1)[1:]).shape == (5, 5),
        ),
    ),
    "take it out (labels=array[..., 0])": (
        lambda at: labelled(np.stack([TRUTH, TRUTH], axis=-1)),
        lambda at, text: is_truth(labelled(np.stack([TRUTH, TRUTH], axis=-1)[..., 0])),
    ),
    "codes of classes=; name every class": (
        lambda at: labelled(LEGEND, classes=[1000, 2000, 3000], class_names=NAMES[:2]),
        lambda at, text: is_truth(labelled(LEGEND, classes=[1000, 2000, 3000], class_names=NAMES), NAMES),
    ),
    "name every class, or give the codes of the named ones with classes=": (
        lambda at: labelled(class_names=NAMES[:2]),
        (
            lambda at, text: is_truth(labelled(class_names=NAMES), NAMES),
            lambda at, text: np.array_equal(
                labelled(np.where(TRUTH == 2, 0, TRUTH), class_names=NAMES[:2], classes=[1, 3]).labels == 2, TRUTH == 3
            ),
        ),
    ),
    "expected classes 1..K: give the legend with classes=[{}]": (
        lambda at: labelled(LEGEND),
        (
            lambda at, text: is_truth(labelled(LEGEND, classes=lists(text)[0])),
            lambda at, text: is_truth(labelled(LEGEND, classes=dict(zip(lists(text)[0], NAMES, strict=True))), NAMES),
        ),
    ),
    "it must be a multiple of the ratio {} and fit into images of {} pixels": (
        lambda at: cut(6), lambda at, text: fitting(text)
    ),
    "take a larger scene or a model with a smaller patch_size": (
        lambda at: Patches(CUBE, 7),
        (
            lambda at, text: Patches(np.repeat(CUBE, 2, axis=1).repeat(2, axis=0), 7)([0]).shape == (1, 4, 7, 7),
            lambda at, text: Patches(CUBE, 5)([0]).shape == (1, 4, 5, 5),
        ),
    ),
    "resample {} to the grid of hsi": (
        lambda at: Scene(CUBE, aux=CUBE.repeat(2, axis=0).repeat(2, axis=1)),
        lambda at, text: np.array_equal(Scene(CUBE, aux=CUBE.repeat(2, axis=0)[::2]).aux, CUBE),
    ),
    "it has {}: give a file that has one": (
        lambda at: (files(at), open_scene(at / "flat.npy")),
        lambda at, text: np.array_equal(open_scene(at / "a.npy").hsi, CUBE),
    ),
    "has more than one {}; it has {}: give {}=... by name": (lambda at: open_scene(several(at)), named),
    "classes= is the legend of labels, and {} has none; give labels=": (
        lambda at: open_scene(files(at), classes=[1, 2, 3]),
        lambda at, text: is_truth(open_scene(at / "a.npy", classes=[1, 2, 3], labels=at / "labels.npy")),
    ),
    "band names for {} bands; name every band": (
        lambda at: labelled(band_names=("a",)),
        lambda at, text: labelled(band_names=("a", "b", "c", "d")).band_names == ("a", "b", "c", "d"),
    ),
    "is for labels in a shapefile, GeoJSON or GeoPackage; leave it out": (
        lambda at: open_scene(files(at), labels=at / "labels.npy", labels_field="crop"),
        lambda at, text: is_truth(open_scene(at / "a.npy", labels=at / "labels.npy")),
    ),
    "use 'generic' for the default gains {}, or pass hsmamba.data.sensors.Sensor(": (
        lambda at: get_sensor("my own"),
        (lambda at, text: gains(re.search(r"use '(\w+)'", text)[1]) == (0.3,) * 4, lambda at, text: by_sensor(text)),
    ),
    "select the sensor's bands in this order, or use sensor='generic'": (
        lambda at: gains("QB", 6),
        (
            lambda at, text: len(gains("QB", int(re.search(r"QB has (\d+)", text)[1]))) == 4,
            lambda at, text: gains(re.search(r"sensor='(\w+)'", text)[1], 6) == (0.3,) * 6,
        ),
    ),
    "do not increase; sort the rows, each wavelength once": (
        lambda at: srf(at, "600 1", "500 2", "500 2"),
        lambda at, text: srf(at, "500 2", "600 1").tolist() == [[500, 2], [600, 1]],
    ),
    "the image cannot simulate this band; leave it out (bands=...)": (
        lambda at: response_matrix(CURVES, NM),
        lambda at, text: response_matrix(
            CURVES, NM, bands=[band for band in CURVES if band != re.search(r"response of '(\w+)'", text)[1]]
        ).shape
        == (1, 4),
    ),
    "make them with response_matrix for the image's own wavelengths": (
        lambda at: simulate_bands(IMAGE, response_matrix(CURVES, NM[:3], bands=["G"])),
        lambda at, text: simulate_bands(IMAGE, response_matrix(CURVES, NM, bands=["G"])).shape == (1, 1, 6, 5),
    ),
    "is not known; give maximum= as a number": (
        lambda at: maxima("generic"),
        lambda at, text: make(sensor="generic", maximum=2047).maxima == (2047, 2047),
    ),
    'hold {}, the first at row {}, column {}; pass nan="mask" (--nan mask) to leave them out': (
        lambda at: valid_mask(holed()),
        lambda at, text: valid_mask(holed(), **dict(re.findall(r'(nan)="(\w+)"', text))).sum() == 29,
    ),
    "leave out bands that hold no data, or correct its value for": (
        lambda at: make(BROKEN, nan="mask"),
        lambda at, text: make(BROKEN[..., [0, 2, 3]], sensor="generic", maximum=2047).in_chans == 3,
    ),
    "choose other shares (val=, test=) or the other axis, or fill single invalid pixels": (
        lambda at: make(COLLAR, nan="mask"),
        (
            lambda at, text: len(make(COLLAR, nan="mask", val=0, test=0.5).test) == 1,
            lambda at, text: len(make(COLLAR, nan="mask", axis="columns", guard=0).test) == 1,
            lambda at, text: same(make(np.where(np.isnan(COLLAR), MS, COLLAR)), make()),
        ),
    ),
    "{}. Take a larger scene, or the other axis": (
        lambda at: make(MS[:4], PAN[:16], test=0.5),
        (
            lambda at, text: len(make(MS[:32], PAN[:128], val=0, test=0.5).train) == 1,
            lambda at, text: len(make(MS[:4], PAN[:16], val=0, test=0.5, axis="columns").train) == 1,
        ),
    ),
    "Other units, it seems; give maximum=, what is 1 in yours": (
        lambda at: make(MS * 1e-3, PAN * 1e-3),
        lambda at, text: make(MS * 1e-3, PAN * 1e-3, maximum=unit(text)).maxima == (1, 1),
    ),
    "largest number of the training part of ms is {}; give maximum=, what is 1": (
        lambda at: make(MS * 0, sensor="generic"),
        lambda at, text: make(MS * 0, sensor="generic", maximum=5).maximum == 5,
    ),
    "come to {}; at ratio {} there must be {}": (
        lambda at: make(val=0.5, test=0.5),
        lambda at, text: make(test=0.5, val=float(re.search(r"val=(0)$", text)[1])).test[0].gt.shape[1] == 48,
    ),
}  # fmt: skip
WARNED = {
    "1 % of the training pixels of ms reach {}. Give maximum= to be sure": (
        lambda at: make(np.where(np.arange(MS.size).reshape(MS.shape) == 0, 65535, MS), sensor="generic"),
        lambda at, text: make(sensor="generic", maximum=900).maximum == 900,
    ),
    "ms and guide look like images of two units; {}. Give maximum=, a pair (of ms, of guide), to be sure": (
        lambda at: make(MS / 1000, sensor="generic"),
        lambda at, text: make(MS / 1000, sensor="generic", maximum=(0.9, 900)).maxima == (0.9, 900),
    ),
    "Say so for every map of the data set with classes=[{}]; where 0 is unlabelled, too, give classes=[{}]": (
        lambda at: labelled(TRUTH.astype(int) - 1),
        (
            lambda at, text: is_truth(labelled(TRUTH.astype(int) - 1, classes=lists(text)[0])),
            lambda at, text: np.array_equal(
                labelled(TRUTH.astype(int) - 1, classes=lists(text)[1]).labels, np.maximum(TRUTH, 1) - 1
            ),
        ),
    ),
    ", and 0, too; where 0 is a class, give classes=[{}]": (
        lambda at: labelled(np.where(TRUTH == 3, 255, TRUTH)),
        lambda at, text: np.array_equal(
            labelled(np.where(TRUTH == 3, 255, TRUTH), classes=lists(text)[0]).labels, (TRUTH + 1) % 4
        ),
    ),
}


def lists(text):
    """The legends that a text proposes."""
    return [[int(code) for code in found.split(", ")] for found in re.findall(r"classes=\[([\d, ]+)\]", text)]


@pytest.mark.parametrize(("words", "call", "mended"), alternatives(CASES))
def test_what_an_error_says_works(words, call, mended, tmp_path):
    assert mended(tmp_path, told(lambda: call(tmp_path), words))


@pytest.mark.parametrize(("words", "call", "mended"), alternatives(WARNED))
def test_what_a_warning_says_silences_it(words, call, mended, tmp_path):
    text = warned(lambda: call(tmp_path), words)
    with warnings.catch_warnings():
        warnings.simplefilter("error", HsmambaWarning)
        assert mended(tmp_path, text)


def test_a_larger_scene_or_the_other_axis_is_cut():
    ms, pan = np.full((4, 40, 2), 0.5), np.full((16, 160), 0.5)
    options = {"sensor": "generic", "maximum": 1, "val": 0, "test": 0}
    told(lambda: wald_pairs(ms, pan, **options), "Take a larger scene, or the other axis")
    assert wald_pairs(ms.repeat(4, 0), pan.repeat(4, 0), **options).train
    assert wald_pairs(ms.repeat(2, 0), pan.repeat(2, 0), axis="columns", **options).train


def test_rows_of_an_interrupted_job_are_mended_as_the_errors_say(tmp_path):
    rows, path = [((3,), np.dtype(np.uint8))], tmp_path / "map.npy"

    def keep(path, fact="a", *, top=0, resume=True):
        with spooled(path, {"model": fact}, rows, resume=resume) as spool:
            spool.write(top, np.zeros((2, 3), np.uint8))
            return spool.done

    told(lambda: keep(path, top=2), "write from top to bottom")
    assert keep(path) == 2
    with spooled(path, {"model": "a"}, rows, resume=True):
        told(lambda: keep(path), "wait for its end, or name another output")
        assert keep(tmp_path / "other.npy") == 2
    assert keep(path) == 2
    with pytest.raises(KeyboardInterrupt), spooled(path, {"model": "a"}, rows, resume=True) as spool:
        spool.write(0, np.zeros((2, 3), np.uint8))
        raise KeyboardInterrupt
    told(lambda: keep(path, "b", top=2), "leave --resume out to begin anew")
    warned(lambda: keep(path, "b", resume=False), "begins anew")


def test_a_zarr_group_is_written_where_there_is_none(tmp_path):
    pytest.importorskip("zarr")
    path = tmp_path / "map.zarr"

    def write(path):
        with image_rows(path, (2, 3, 1), np.dtype(np.uint8), grid=np.ones((2, 3, 1))) as rows:
            rows(0, np.ones((2, 3, 1), np.uint8))

    write(path)
    told(lambda: write(path), "move it away, or name another")
    write(tmp_path / "other.zarr")
    path.rename(tmp_path / "old.zarr")
    write(path)
    assert (path / ".zmetadata").is_file()


def test_an_area_is_taken_where_the_errors_say_so(tmp_path):
    pytest.importorskip("rioxarray")
    numbers = np.ones((40, 60, 2), np.uint16)
    image, path = open_image(write_tif(tmp_path / "scene.tif", numbers)), tmp_path / "a.geojson"
    fields = {"k": 1}
    write_geojson(path, [(box(5, 5, 9, 9), fields)])
    told(
        lambda: open_area(path, numbers),
        "give a GeoTIFF, or an ENVI file with map info and coordinate system, or leave the area out",
    )
    assert open_area(path, image).meets((40, 60))
    write_geojson(path, [(box(5, 5, 9, 9), fields), (point(3, 3), fields)])
    told(lambda: open_area(path, image), "give polygons alone for an area")
    write_geojson(path, [(box(5, 5, 9, 9), fields)], crs="urn:ogc:def:crs:EPSG::32601")
    told(lambda: open_area(path, image), "give those of its ground, or write them anew with the CRS that they are in")
    write_geojson(path, [(box(5, 5, 9, 9), fields)])
    assert open_area(path, image).meets((40, 60))


def test_tiles_become_one_image_as_the_errors_say(tmp_path):
    pytest.importorskip("rioxarray")
    rasterio = pytest.importorskip("rasterio")
    whole = np.random.default_rng(0).integers(1, 99, (20, 12, 2)).astype(np.uint16)
    one = write_tile(tmp_path / "a.tif", whole[:10])

    def tile(row=10, array=whole[10:], **more):
        return write_tile(tmp_path / "b.tif", array, row, **more)

    def is_whole(found):
        return np.array_equal(found, whole)

    told(lambda: open_image([]), "give the paths of one raster or more")
    told(lambda: open_image([one, tile(15)]), "write them with one (nodata), or give tiles without gaps")
    assert is_whole(open_image([one, tile()]))
    with_nodata = [write_tile(tmp_path / "a.tif", whole[:10], nodata=0), tile(15, nodata=0)]
    assert open_image(with_nodata).shape == (25, 12, 2)
    told(lambda: open_image([with_nodata[0], tile(nodata=100)]), "write them with one")
    assert is_whole(open_image([with_nodata[0], tile(nodata=0)]))
    told(lambda: open_image([one, tile(10.4)]), "reproject it to that grid")
    told(lambda: open_image([one, tile(pixel=20)]), "give tiles of one grid, or reproject {} to that of the other")
    np.save(tmp_path / "b.npy", whole)
    told(lambda: open_image([one, tmp_path / "b.npy"]), "give as tiles GeoTIFFs, or ENVI files with map info")
    turned = tile()
    with rasterio.open(turned, "r+") as file:
        file.transform = file.transform @ rasterio.Affine.rotation(9)
    told(lambda: open_image([one, turned]), "reproject it to the grid of the others")
    covered = tile()
    with rasterio.open(covered, "r+") as file:
        file.write_mask(np.eye(10, 12) == 0)
    told(lambda: open_image([one, covered]), 'write it with a value that stands for "no data" instead')
    for beside in tmp_path.glob("b.tif*"):
        beside.unlink()
    assert is_whole(open_image([one, tile()]))


def test_a_virtual_raster_is_read_by_its_tiles_where_the_errors_say_so(tmp_path):
    pytest.importorskip("rioxarray")
    whole = np.random.default_rng(0).integers(1, 99, (20, 12, 2)).astype(np.uint16)
    paths = [write_tile(tmp_path / f"{row}.tif", whole[row : row + 10], row) for row in (0, 10)]
    path = write_vrt(tmp_path / "all.vrt", paths, whole.shape, inner="<LUT>1:2</LUT>")
    told(lambda: open_image(path), "write it as a GeoTIFF (gdal_translate), or give the tiles themselves")
    assert np.array_equal(open_image(paths), whole)
    told(lambda: open_image(write_vrt(path, paths, whole.shape, size=(9, 9))), "give the tiles themselves")


def test_what_is_no_geotiff_is_fetched_before_it_is_opened(tmp_path):
    pytest.importorskip("rioxarray")
    told(lambda: open_image("https://127.0.0.1/a.npy"), "fetch the file, and open it here")
    np.save(tmp_path / "a.npy", np.ones((3, 3, 1)))
    assert open_image(tmp_path / "a.npy").shape == (3, 3, 1)
