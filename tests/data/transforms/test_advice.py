"""What the errors of transforms say to do, done: each time it works."""

import json
import re

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from hsmamba.data import MNF, PCA, AddShape, Compose, Diffuse, Scene, SelectBands, Standardise
from tests.advice import alternatives, told
from tests.data.transforms.samples import BANDS, pixels

PIXELS = pixels()
FLAT = np.repeat(PIXELS[:, :2], 3, axis=1)  # of two directions
SCENE = Scene(PIXELS[:30].reshape(6, 5, BANDS).astype(np.float32))

SHAPED = Compose([SelectBands(range(5)), AddShape(), MNF(3, shapes=1)])


def fitted(*steps, on=PIXELS, **options):
    return Compose(list(steps)).fit(on, **options)


def holed(*where):
    cube = np.array(SCENE.hsi)
    cube.reshape(-1, BANDS)[list(where)] = np.nan
    return Scene(cube)


def changed(folder, drop="", **arguments):
    """A saved transform whose first step has other arguments, or that lacks an array."""
    path = folder / "a.safetensors"
    fitted(PCA(3)).save(path)
    with safe_open(path, "numpy") as file:
        header = json.loads(file.metadata()["hsmamba"])
        arrays = {name: file.get_tensor(name) for name in file.keys() if name != drop}  # noqa: SIM118
    header["config"]["steps"][0] |= arguments
    save_file(arrays, path, {"hsmamba": json.dumps(header)})
    return path


def saved_again(folder):
    fitted(PCA(3)).save(folder / "a.safetensors")
    return np.array_equal(Compose.load(folder / "a.safetensors")(PIXELS), fitted(PCA(3))(PIXELS))


def number(text, pattern):
    return int(re.search(pattern, text)[1])


def white(count):
    return fitted(PCA(count, whiten=True), on=FLAT)(FLAT)


def masked(**options):
    return Compose([Standardise()]).fit_scene(holed(0), np.arange(30), **options)(PIXELS)


CASES = {
    "expected at most {}: give more pixels (unlabelled ones serve too) or lower n_components": (
        lambda at: fitted(PCA(8), on=PIXELS[:5]),
        (
            lambda at, text: fitted(PCA(8)).out_channels() == 8,
            lambda at, text: fitted(PCA(number(text, r"at most (\d+)")), on=PIXELS[:5]).out_channels() == 4,
        ),
    ),
    "give n_components={} or less, or whiten=False": (
        lambda at: fitted(PCA(4, whiten=True), on=FLAT),
        (
            lambda at, text: np.allclose(white(number(text, r"n_components=(\d+)")).var(axis=0, ddof=1), 1, rtol=1e-4),
            lambda at, text: fitted(PCA(4, whiten=False), on=FLAT).out_channels() == 4,
        ),
    ),
    "compares neighbouring pixels; fit it with Compose.fit_scene": (
        lambda at: fitted(Diffuse()),
        lambda at, text: Compose([Diffuse()]).fit_scene(SCENE, np.arange(30)).out_channels() == 4 * BANDS,
    ),
    "from neighbouring pixels; fit it with Compose.fit_scene": (
        lambda at: fitted(MNF(3)),
        lambda at, text: Compose([MNF(3)]).fit_scene(SCENE, np.arange(30)).out_channels() == 3,
    ),
    "put AddShape before it, or leave shapes out": (
        lambda at: Compose([SelectBands(range(5)), MNF(3, shapes=1)]).fit_scene(SCENE, np.arange(30)),
        (
            lambda at, text: SHAPED.fit_scene(SCENE, np.arange(30)).out_channels() == 3,
            lambda at, text: Compose([SelectBands(range(5)), MNF(3)]).fit_scene(SCENE, np.arange(30)).num_features == 3,
        ),
    ),
    "of the transform has {}, where {} is meant; save it again": (
        lambda at: Compose.load(changed(at, n_components=3.0)),
        lambda at, text: saved_again(at),
    ),
    "holds no readable transform ({}); save it again": (
        lambda at: Compose.load(changed(at, n_components=None)),
        lambda at, text: saved_again(at),
    ),
    'the transform has steps on "aux"; give aux_pixels too': (
        lambda at: fitted(Standardise(on="aux")),
        lambda at, text: fitted(Standardise(on="aux"), aux_pixels=PIXELS[:, :2]).in_channels("aux") == 2,
    ),
    'was not fitted on "{}"; call fit, or give in_channels': (
        lambda at: Compose([SelectBands([0])]).out_channels(),
        (
            lambda at, text: fitted(SelectBands([0])).out_channels() == 1,
            lambda at, text: Compose([SelectBands([0])]).out_channels(in_channels=5) == 1,
        ),
    ),
    "give the bands that it was fitted on": (
        lambda at: fitted(SelectBands([0])).out_channels(BANDS - 1),
        lambda at, text: fitted(SelectBands([0])).out_channels(number(text, r"expects (\d+) bands")) == 1,
    ),
    ': pass nan="mask" (--nan mask) to leave them out': (
        lambda at: masked(),
        lambda at, text: np.array_equal(
            masked(**dict(re.findall(r'(nan)="(\w+)"', text))),
            Compose([Standardise()]).fit_scene(SCENE, np.arange(1, 30))(PIXELS),
        ),
    ),
    "; fit on pixels with data": (
        lambda at: Compose([Standardise()]).fit_scene(holed(0, 1), [0, 1], nan="mask"),
        lambda at, text: Compose([Standardise()]).fit_scene(holed(0, 1), [2, 3]).in_channels() == BANDS,
    ),
    "hold NaN or infinity; leave them out before fitting": (
        lambda at: Standardise().fit(np.array(holed(0).hsi).reshape(-1, BANDS)),
        lambda at, text: Standardise().fit(np.array(holed(0).hsi).reshape(-1, BANDS)[1:]).out_channels(BANDS) == BANDS,
    ),
    "got {}; give the same bands": (
        lambda at: Standardise().fit(PIXELS)(PIXELS[:, :5]),
        lambda at, text: Standardise().fit(PIXELS)(PIXELS).shape == PIXELS.shape,
    ),
    "is not fitted; call fit(pixels) first, or load a saved transform": (
        lambda at: Standardise()(PIXELS),
        (
            lambda at, text: Standardise().fit(PIXELS)(PIXELS).shape == PIXELS.shape,
            lambda at, text: saved_again(at),
        ),
    ),
    "give the bands that the transform was made for": (
        lambda at: SelectBands([9])(PIXELS[:, :5]),
        lambda at, text: np.array_equal(SelectBands([9])(PIXELS)[:, 0], PIXELS[:, 9]),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("words", "call", "mended"), alternatives(CASES))
def test_what_an_error_says_works(words, call, mended, tmp_path):
    assert mended(tmp_path, told(lambda: call(tmp_path), words))
