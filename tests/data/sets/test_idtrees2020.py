"""The plots of IDTReeS: crowns drawn onto pixels, missing files."""

import csv

import numpy as np
import pytest

from hsmamba.data import load_idtrees, load_scenes, load_split
from hsmamba.errors import DataNotFoundError
from tests.conftest import DATA


def square(left, top, side):
    right, bottom = left + side, top - side
    return [[[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]]


def make_contest(folder, crowns, taxa):
    """Write a plot of 8 x 8 pixels of 1 m whose upper left corner is (100, 200), with crowns (tree, polygon)."""
    rasterio = pytest.importorskip("rasterio")
    shapefile = pytest.importorskip("shapefile")
    for name in ("hsi", "chm", "crowns", "field"):
        (folder / name).mkdir(parents=True)
    generator = np.random.default_rng(0)
    for name, bands, dtype in (("hsi", 5, "int16"), ("chm", 1, "float32")):
        profile = {"driver": "GTiff", "width": 8, "height": 8, "count": bands, "dtype": dtype, "crs": "EPSG:32617"}
        transform = rasterio.transform.from_origin(100, 200, 1, 1)
        with rasterio.open(folder / name / "MLBS_1.tif", "w", transform=transform, **profile) as file:
            file.write(generator.integers(1, 99, (bands, 8, 8)).astype(dtype))
    with shapefile.Writer(str(folder / "crowns" / "train_MLBS")) as writer:
        writer.field("indvdID", "C")
        for tree, polygon in crowns:
            writer.poly(polygon)
            writer.record(tree)
    with (folder / "field" / "train_data.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerows([("indvdID", "taxonID"), *taxa.items()])


def test_crowns_become_labels_and_overlaps_are_left_out(tmp_path):
    crowns = [
        ("a", square(100, 200, 3)),
        ("b", square(102, 198, 3)),
        ("c", square(106, 194, 2)),
        ("d", square(100, 194, 1)),
    ]
    make_contest(tmp_path / "set", crowns, {"a": "OAK", "b": "PINE", "c": "BIRCH", "d": "OAK"})
    (plot,) = load_idtrees(tmp_path / "set", classes=("OAK", "PINE"))
    expected = np.zeros((8, 8), int)
    expected[:3, :3] = 1
    expected[2:5, 2:5] = 2
    expected[2, 2] = 0  # in two crowns
    expected[6, 0] = 1
    assert plot.labels.tolist() == expected.tolist()  # the birch is no class
    assert plot.hsi.shape == (8, 8, 5) and plot.aux.shape == (8, 8, 1) and plot.class_names == ("OAK", "PINE")
    assert plot.hsi.rio.crs.to_epsg() == 32617


def test_missing_parts_of_the_contest_are_named(tmp_path):
    with pytest.raises(DataNotFoundError, match=r"no hsi/\*\.tif"):
        load_idtrees(tmp_path)
    make_contest(tmp_path / "set", [("a", square(100, 200, 3))], {"a": "OAK"})
    (tmp_path / "set" / "crowns" / "train_MLBS.shp").unlink()
    with pytest.raises(DataNotFoundError, match=r"train_MLBS\.shp.*crowns"):
        load_idtrees(tmp_path / "set")


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not here")
def test_the_real_plots_have_the_labels_of_their_split():
    pytest.importorskip("shapefile")
    pytest.importorskip("rioxarray")
    plots = load_scenes("idtrees2020", DATA)
    labels = np.concatenate([plot.labels.ravel() for plot in plots])
    assert len(plots) == 70 and np.bincount(labels).tolist() == [15631, 3536, 2547, 2050, 1590, 804, 801, 574, 467]
    load_split("idtrees2020").check(labels.reshape(1, -1))
