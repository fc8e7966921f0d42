"""Files that are damaged, missing, or of no known format."""

import numpy as np
import pytest

from hsmamba.data import open_scene
from hsmamba.errors import SceneError
from tests.data.files.samples import NAMED, cube, write_envi, write_tif


def test_pickled_arrays_are_refused(tmp_path):
    for name, save in (("a.npy", np.save), ("a.npz", np.savez)):
        save(tmp_path / name, np.array([{"a": 1}], dtype=object), allow_pickle=True)
        with pytest.raises(SceneError):
            open_scene(tmp_path / name)


@pytest.mark.parametrize("name", ["scene.mat", "scene73.mat", "scene.npz", "scene.npy", "scene.hdr", "scene.tif"])
def test_truncated_and_false_files_are_refused_by_name(tmp_path, name):
    path = tmp_path / name
    data = path
    if name == "scene.npy":
        np.save(path, cube())
    elif name == "scene.tif":
        write_tif(path, cube())
    elif name == "scene.hdr":
        write_envi(path, cube())
        data = path.with_suffix(".img")
    else:
        NAMED[name.removeprefix("scene")](path, data=np.random.default_rng(0).random((20, 20, 20)))
    whole = data.read_bytes()
    for damaged in (whole[: len(whole) * 2 // 3], b""):
        data.write_bytes(damaged)
        with pytest.raises(SceneError, match=name):
            np.asarray(open_scene(path).hsi)
    if data is path:
        path.write_bytes(b"no such format, whatever the extension says " * 20)
        with pytest.raises(SceneError, match=name):
            open_scene(path)


@pytest.mark.parametrize("name", ["SCENE.MAT", "SCENE.NPY", "SCENE.TIF", "SCENE.TIFF"])
def test_extensions_in_capitals_are_the_same(tmp_path, name):
    if name.endswith("MAT"):
        NAMED[".mat"](tmp_path / name, data=cube())
    elif name.endswith("NPY"):
        with (tmp_path / name).open("wb") as file:
            np.save(file, cube())
    else:
        write_tif(tmp_path / name, cube())
    assert np.array_equal(open_scene(tmp_path / name).hsi, cube())


def test_missing_files_and_unknown_extensions_are_refused(tmp_path):
    with pytest.raises(SceneError, match=r"no file .*gone\.mat"):
        open_scene(tmp_path / "gone.mat")
    (tmp_path / "scene.xyz").write_bytes(b"x")
    with pytest.raises(SceneError, match=r"'\.xyz'; expected one of \.mat"):
        open_scene(tmp_path / "scene.xyz")
    write_envi(tmp_path / "cube.hdr", cube())
    with pytest.raises(SceneError, match=r"give the ENVI header .*cube\.hdr"):
        open_scene(tmp_path / "cube.img")
