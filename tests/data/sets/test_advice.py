"""What the errors of data sets say to do, done: each time they load."""

import re

import numpy as np
import pytest

from hsmamba.data import load_cave, load_idtrees, load_pairs, load_scene, load_split
from hsmamba.data.sets.cave import read_cave
from hsmamba.data.sets.check import describe
from hsmamba.errors import HsmambaWarning
from tests.advice import alternatives, told
from tests.data.sets import layouts
from tests.data.sets.test_cave import pack
from tests.data.sets.test_idtrees2020 import make_contest, square

CUBE = np.random.default_rng(0).integers(0, 4096, (31, 32, 32)).astype(np.uint16)


@pytest.fixture(autouse=True)
def no_folder_of_data(monkeypatch):
    monkeypatch.delenv("HSMAMBA_DATA", raising=False)


def cave(folder, text):
    """Put the data set where the text wants it."""
    pack(folder / re.search(r"the folder that holds (\w+) as root=", text)[1] / "a.test.xz", CUBE)
    return folder


def load(root):
    pairs = load_pairs("cave", root, ratio=8)
    return [pair.name for pair in pairs.test] == ["a"]


def by_environment(folder, text):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(re.search(r"environment variable (\w+)", text)[1], str(cave(folder, text)))
        return load(None)


def empty(folder):
    (folder / "cave").mkdir()
    return load_cave(folder, ratio=8)


def unpacked(folder, text):
    pack(folder / re.search(r"no scene in '.*/(\w+)'", text)[1] / "a.test.xz", CUBE)
    return load(folder)


def something_else(folder):
    (folder / "a.test.xz").write_bytes(b"something else")
    return read_cave(folder / "a.test.xz")


def packed_as_told(folder, text):
    assert re.search(r"see (hsmamba[\w.]+)", text)[1] == f"{read_cave.__module__}.{read_cave.__name__}"
    pack(folder / "a.test.xz", CUBE)
    return np.allclose(read_cave(folder / "a.test.xz"), CUBE / 4095)


def contest(folder, text):
    make_contest(folder / "train", [("a", square(100, 200, 3))], {"a": "OAK"})
    return load_idtrees(folder / "train", classes=("OAK",))[0].labels.sum() == 9


def lacking(folder):
    """A folder with the cube of KSC alone."""
    layouts.put(folder / "ksc" / "KSC.mat", KSC=layouts.cube(176))
    return load_scene("ksc", folder)


def there(folder, text):
    """Put the file that is lacking into the folder that is named, by the array's name that is told."""
    name = re.search(r"hsmamba data info (\w+)", text)[1]
    (file, variable), where = re.findall(r"(\w+\.mat) \((\w+)\)", text)[0], re.match(r"'(.*?)'", text)[1]
    assert any(file in line for line in describe(name)["copies"][0])
    layouts.put(folder / where / file, **{variable: layouts.labels(13)})
    return scene_of("ksc", folder)


def scene_of(name, folder):
    with pytest.warns(HsmambaWarning, match="not comparable"):
        return load_scene(name, folder).shape == layouts.GRID


def two_arrays(folder):
    layouts.ksc(folder)
    layouts.put(folder / "ksc" / "KSC.mat", a=layouts.cube(176), b=layouts.cube(176))
    return load_scene("ksc", folder)


def renamed(folder, text):
    name = re.search(r"has no array (\w+);", text)[1]
    layouts.put(folder / "ksc" / "KSC.mat", **{name: layouts.cube(176), "b": layouts.cube(176)})
    return scene_of("ksc", folder)


def as_distributed(folder, text):
    layouts.ksc(folder)
    return scene_of("ksc", folder)


def empty_set(folder, name, sub):
    (folder / sub).mkdir(parents=True)
    return load_pairs(name, folder)


def with_split(folder, text):
    assert re.search(r"the one with (\w+)\.mat", text)[1] == "TRLabel"
    return load_split("trento", layouts.trento_maps(folder)).train.size > 0


CASES = {
    "fetch it from {} and put it there (hsmamba data info {} shows all files)": (lacking, there),
    "give the file as it is distributed, or rename the array": (two_arrays, (as_distributed, renamed)),
    "has no split; fetch the one with {}": (
        lambda at: load_split("trento", layouts.trento(at)),
        with_split,
    ),
    "give samples=, e.g. samples=100": (
        lambda at: load_split("whu_hi_longkou", layouts.whu_hi_longkou(at)),
        lambda at, text: load_split("whu_hi_longkou", at, samples=int(text[-3:])).train.size > 0,
    ),
    "has one split; leave samples= out": (
        lambda at: load_split("houston2013", layouts.houston2013_maps(at), samples=25),
        lambda at, text: load_split("houston2013", at).train.size > 0,
    ),
    "fetch {} from {} and put the files there": (
        lambda at: empty_set(at, "pancollection_qb", "pancollection/qb"),
        lambda at, text: len(load_pairs("pancollection_qb", layouts.pancollection(at, "qb", 4)).train) == 6,
    ),
    "fetch the images from {} and unpack them there": (
        lambda at: empty_set(at, "harvard", "harvard"),
        lambda at, text: len(load_pairs("harvard", layouts.harvard(at), ratio=4).test) == 2,
    ),
    "expected {}: unpack {} there": (
        lambda at: empty_set(at, "terramesh", "terramesh"),
        lambda at, text: len(load_pairs("terramesh", layouts.terramesh(at)).test) == 2,
    ),
    "leave none of {} images to train on; lower one of them": (
        lambda at: load_pairs("terramesh", layouts.terramesh(at), val=0.5, test=0.6),
        (
            lambda at, text: len(load_pairs("terramesh", at, val=0.2, test=0.6).train) == 1,
            lambda at, text: len(load_pairs("terramesh", at, val=0.5, test=0.2).train) > 0,
        ),
    ),
    "give the folder that holds {} as root= (--data on the command line) or in the environment variable {}": (
        lambda at: load(None),
        (lambda at, text: load(cave(at, text)), by_environment),
    ),
    "fetch the data set {} ({}) and {}": (lambda at: load(at), lambda at, text: load(cave(at, text))),
    "unpack the data set there": (empty, unpacked),
    "see hsmamba.data.sets.cave.read_cave": (something_else, packed_as_told),
    "give the folder of the contest's training data": (lambda at: load_idtrees(at), contest),
}


@pytest.mark.parametrize(("words", "call", "mended"), alternatives(CASES))
def test_what_an_error_says_works(words, call, mended, tmp_path):
    assert mended(tmp_path, told(lambda: call(tmp_path), words))
