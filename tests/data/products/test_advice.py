"""What the errors of products say to do, done: each time the product opens, with the right values."""

import os
import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

from hsmamba.data import open_scene
from hsmamba.errors import HsmambaWarning
from tests.advice import alternatives, told, warned
from tests.data.files.samples import cube, write_tif
from tests.data.products import samples


def enmap(folder, name="", **options):
    """An EnMAP product, in a folder of its own."""
    (folder / name).mkdir(exist_ok=True)
    return samples.write_enmap(folder / name, **options)[0]


def image(path, end="SPECTRAL_IMAGE.TIF"):
    return next(path.glob(f"*{end}"))


def is_whole(path):
    """Whether the product has its values, and lacks what its mask marks."""
    hsi, stored = np.asarray(open_scene(path).hsi), samples.stored(len(samples.ENMAP_BANDS))
    return np.array_equal(hsi[5, :, 1], stored[5, :, 1]) and bool(np.isnan(hsi[2, 3, 1]))


def two(folder):
    """Two products in one folder."""
    path = enmap(folder)
    shutil.copy(image(path, "METADATA.XML"), path / "ENMAP_copy-METADATA.XML")
    return path


def linked(folder):
    path = enmap(folder)
    inside = image(path)
    shutil.move(inside, folder / "image.tif")
    inside.symlink_to(folder / "image.tif")
    return path


def unlinked(folder, text):
    link, into = (Path(one) for one in re.search(r"'(.*?)' is a link .* into '(.*?)'", text).groups())
    target = link.resolve()
    link.unlink()
    shutil.copy(target, into / link.name)
    return is_whole(into)


def incomplete(folder):
    path = enmap(folder)
    image(path).unlink()
    return path


def large(folder):
    path = enmap(folder)
    os.truncate(image(path, "METADATA.XML"), 2**30)
    return path


def fetched(folder, **options):
    """Put a whole product in the place of what is there."""
    shutil.rmtree(folder / samples.ENMAP)
    return enmap(folder, **options)


def other_netcdf(folder):
    h5py = pytest.importorskip("h5py", reason="needs the geo extra")
    with h5py.File(folder / samples.EMIT, "w") as file:
        file["radiance"] = cube()
    return folder / samples.EMIT


CASES = {
    "give the path of a file, or of a product's own folder": (
        lambda at: enmap(at).parent,
        (
            lambda at, text: is_whole(at / samples.ENMAP),
            lambda at, text: is_whole(image(at / samples.ENMAP)),
        ),
    ),
    "holds several products: give the path of one of {}": (
        two,
        lambda at, text: is_whole(at / samples.ENMAP / re.search(r"one of ([^,]*)", text)[1]),
    ),
    "unpack or fetch the whole product, or give the path of a whole one": (
        incomplete,
        (lambda at, text: is_whole(fetched(at)), lambda at, text: is_whole(enmap(at, "other"))),
    ),
    "is a link out of the product's folder; put the file itself into {}": (linked, unlinked),
    "more than metadata ever have; give a product's own file": (large, lambda at, text: is_whole(fetched(at))),
    "fetch EMIT_L2A_RFL_*.nc, or convert the file to GeoTIFF": (
        other_netcdf,
        (
            lambda at, text: open_scene(samples.write_emit(at)[0]).num_bands == len(samples.EMIT_BANDS),
            lambda at, text: np.array_equal(open_scene(write_tif(at / "a.tif", cube())).hsi, cube()),
        ),
    ),
}


@pytest.mark.parametrize(("words", "broken", "mended"), alternatives(CASES))
def test_a_product_opens_once_it_is_as_the_error_says(words, broken, mended, tmp_path):
    path = broken(tmp_path)
    assert mended(tmp_path, told(lambda: open_scene(path), words))


def test_a_whole_product_has_its_mask(tmp_path):
    path = enmap(tmp_path, mask=False)
    warned(lambda: open_scene(path), "lacks its quality mask {}; fetch the whole product to have them left out")
    with warnings.catch_warnings():
        warnings.simplefilter("error", HsmambaWarning)
        assert is_whole(fetched(tmp_path))
