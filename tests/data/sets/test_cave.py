"""CAVE: packed scenes, scenes as they are distributed, what is missing."""

import lzma
import shutil

import numpy as np
import pytest
from PIL import Image

from hsmamba.data import load_cave
from hsmamba.data.sets.cave import read_cave
from hsmamba.errors import DataNotFoundError, SceneError


def pack(path, cube):
    """Write a scene as `read_cave` reads it."""
    steps = np.diff(cube.astype(np.int32), axis=0, prepend=0).astype("<i2").view(np.uint16)
    planes = np.stack([steps & 255, steps >> 8]).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lzma.compress(planes.tobytes()))


def test_cave_is_read_and_split_by_scene(tmp_path):
    rng = np.random.default_rng(0)
    cubes = {name: rng.integers(0, 4096, (31, 32, 32)).astype(np.uint16) for name in ("a", "b", "c")}
    for name, cube in cubes.items():
        pack(tmp_path / "cave" / f"{name}.{'test' if name == 'c' else 'train'}.xz", cube)
        found = read_cave(next((tmp_path / "cave").glob(f"{name}.*")))
        np.testing.assert_allclose(found, cube / 4095, atol=1e-7)
    pairs = load_cave(tmp_path, ratio=8, val=("b",), val_size=16)
    assert [x.name for x in (*pairs.train, *pairs.val, *pairs.test)] == ["a", "b", "c"]
    assert pairs.val[0].gt.shape == (31, 16, 16)
    assert pairs.test[0].ms.shape == (31, 4, 4)
    np.testing.assert_allclose(pairs.test[0].gt.numpy(), cubes["c"] / 4095, atol=1e-6)
    with pytest.raises(SceneError, match=r"no training scene x in .*; there are a, b"):
        load_cave(tmp_path, ratio=8, val=("x",))
    (tmp_path / "elsewhere" / "cave").mkdir(parents=True)
    with pytest.raises(DataNotFoundError, match=r"no scene in .*cave', neither \*_ms folders"):
        load_cave(tmp_path / "elsewhere", ratio=8)
    (tmp_path / "cave" / "d.train.xz").write_bytes(b"something else")
    with pytest.raises(SceneError, match="no packed CAVE scene"):
        load_cave(tmp_path, ratio=8, val=())


def test_cave_is_read_as_it_is_distributed(tmp_path):
    rng = np.random.default_rng(0)
    cubes = {name: rng.integers(0, 65536, (31, 16, 24)).astype(np.uint16) for name in ("beads", "cd", "watercolors")}
    for name, cube in cubes.items():
        folder = tmp_path / "cave" / f"{name}_ms" / f"{name}_ms"
        folder.mkdir(parents=True)
        for i, band in enumerate(cube):
            Image.fromarray(band).save(folder / f"{name}_ms_{i + 1:02}.png")
        Image.new("RGB", (24, 16)).save(folder / f"{name}_RGB.bmp")
    pairs = load_cave(tmp_path, ratio=4, val=())
    assert [[x.name for x in part] for part in (pairs.train, pairs.val, pairs.test)] == [["beads"], [], ["cd"]]
    np.testing.assert_allclose(pairs.test[0].gt, cubes["cd"] / 65535, atol=1e-7)
    shutil.rmtree(tmp_path / "cave" / "beads_ms")
    assert [x.name for x in load_cave(tmp_path, ratio=4).test] == ["cd"]
    Image.new("L", (24, 16)).save(folder.parents[1] / "cd_ms" / "cd_ms" / "cd_ms_31.png")
    with pytest.raises(SceneError, match=r"cd_ms_31\.png has L pixels, expected grey values of 16 bits"):
        load_cave(tmp_path, ratio=4)
    (folder.parents[1] / "cd_ms" / "cd_ms" / "cd_ms_31.png").unlink()
    with pytest.raises(SceneError, match=r"cd_ms is no CAVE scene: it has 30 files"):
        load_cave(tmp_path, ratio=4)
