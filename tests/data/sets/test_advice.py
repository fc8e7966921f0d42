"""What the errors of data sets say to do, done: each time they load."""

import re

import numpy as np
import pytest

from hsmamba.data import load_cave, load_idtrees, load_pairs
from hsmamba.data.sets.cave import read_cave
from tests.advice import alternatives, told
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


CASES = {
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
