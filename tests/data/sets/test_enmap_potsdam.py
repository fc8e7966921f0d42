"""The tiles of Potsdam: bands with their wavelengths, labels stored as floats, which tiles train."""

import numpy as np
import pytest

from hsmamba.data import load_scenes, load_split
from hsmamba.data.sets.enmap_potsdam import enmap_parts
from hsmamba.errors import DataNotFoundError, SceneError
from tests.conftest import DATA


def write(path, bands, **tags):
    rasterio = pytest.importorskip("rasterio")
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "GTiff", "width": 4, "height": 4, "count": len(bands), "dtype": "float32", "crs": "EPSG:32633"}
    transform = rasterio.transform.from_origin(366975, 5805165, 30, 30)
    with rasterio.open(path, "w", transform=transform, nodata=-32768, **profile) as file:
        file.write(bands.astype(np.float32))
        for index in range(len(bands) if tags else 0):
            file.update_tags(index + 1, **{key: str(values[index]) for key, values in tags.items()})


def make_set(folder, labels):
    rng = np.random.default_rng(0)
    for name in labels:
        cube = rng.uniform(1, 5000, (3, 4, 4))
        cube[1] = -32768
        tags = {"wavelength": (418.2, 600, 900), "wavelength_units": ("Nanometers",) * 3, "bbl": (1, 0, 1)}
        write(folder / "enmap_potsdam" / "images" / name, cube, **tags)
        write(folder / "enmap_potsdam" / "labels" / name, labels[name][None])
    rows = [f"{name},{'validation' if i == 0 else 'train'}" for i, name in enumerate(labels)]
    (folder / "enmap_potsdam" / "split.csv").write_text("\n".join(["tile,split", *reversed(rows)]))


def test_tiles_come_in_order_with_labels_and_bad_bands(tmp_path):
    pytest.importorskip("rioxarray")
    maps = {name: np.full((4, 4), value) for name, value in (("a.tif", 2), ("b.tif", 6))}
    make_set(tmp_path, maps)
    one, two = load_scenes("enmap_potsdam", tmp_path)
    assert (one.name, two.name) == ("a", "b") and one.class_names[1] == "pavement"
    assert (one.labels == 2).all() and (two.labels == 6).all()
    assert one.good_bands.tolist() == [0, 2] and one.wavelengths.tolist() == [418.2, 600, 900]
    assert np.isfinite(np.asarray(one.hsi)[..., one.good_bands]).all()
    assert enmap_parts(tmp_path) == {"a.tif": "validation", "b.tif": "train"}


def test_what_is_no_such_set_is_named(tmp_path):
    pytest.importorskip("rioxarray")
    make_set(tmp_path, {"a.tif": np.full((4, 4), 2.5)})
    with pytest.raises(SceneError, match=r"a\.tif' is no map of the classes 0 to 6"):
        load_scenes("enmap_potsdam", tmp_path)
    (tmp_path / "enmap_potsdam" / "images" / "a.tif").unlink()
    with pytest.raises(DataNotFoundError, match=r"no '.*images.a\.tif'; fetch"):
        load_scenes("enmap_potsdam", tmp_path)
    (tmp_path / "enmap_potsdam" / "split.csv").write_text("name,part\na.tif,train\n")
    with pytest.raises(SceneError, match="no columns tile and split"):
        load_scenes("enmap_potsdam", tmp_path)
    (tmp_path / "enmap_potsdam" / "split.csv").unlink()
    with pytest.raises(DataNotFoundError, match=r"split\.csv', the table of the tiles"):
        load_scenes("enmap_potsdam", tmp_path)


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not here")
def test_the_real_tiles_have_the_labels_of_their_split():
    pytest.importorskip("rioxarray")
    tiles = load_scenes("enmap_potsdam", DATA)
    labels = np.concatenate([tile.labels.ravel() for tile in tiles])
    assert len(tiles) == 16 and all(tile.good_bands.size == 218 for tile in tiles)
    load_split("enmap_potsdam").check(labels.reshape(1, -1))
