"""`hsmamba show` and `hsmamba doctor`."""

import json

import numpy as np
import pytest

from hsmamba.data import write_samples
from tests.data.files.samples import write_tif


@pytest.fixture
def scene(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "scene.npz", cube=rng.normal(size=(12, 10, 6)), labels=rng.integers(0, 3, (12, 10)))
    return tmp_path / "scene.npz"


def test_what_a_file_holds(run, scene, tmp_path):
    code, out, err = run("show", scene, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert (found["rows"], found["columns"], found["bands"], found["invalid pixels"]) == (12, 10, 6, 0)
    assert set(found["labels"]) == {"class 1", "class 2"} and found["place"] is None
    text = run("show", scene)[1]
    assert "NaN or infinity" in text and "class 1" in text


def test_place_and_invalid_pixels(run, tmp_path):
    pytest.importorskip("rioxarray", reason="needs the geo extra")
    cube = np.random.default_rng(0).random((6, 5, 4))
    cube[2, 3] = -9999
    path = write_tif(tmp_path / "scene.tif", cube, nodata=-9999)
    found = json.loads(run("show", path, "--json")[1])
    assert found["invalid pixels"] == 1 and found["place"]["crs"] and found["place"]["pixel"] > 0


def test_one_band_is_shown_too(run, tmp_path):
    np.save(tmp_path / "pan.npy", np.arange(20.0).reshape(4, 5))
    assert json.loads(run("show", tmp_path / "pan.npy", "--json")[1])["bands"] == 1
    assert run("show", tmp_path / "none.npy")[0] == 2


def test_it_is_drawn_and_tried(run, tmp_path):
    pytest.importorskip("matplotlib", reason="needs the demo extra")
    paths = write_samples(tmp_path)
    code, _, err = run("show", paths[3], "-o", tmp_path / "ms.svg", "--bands", "3,2,1", "--json")
    assert code == 0, err
    assert (tmp_path / "ms.svg").read_text(encoding="utf-8").startswith("<?xml")
    text = run("show", paths[0], "-m", "md2f_mamba.indian_pines")[1]
    assert "does not take it: the scene's hsi has 64 bands" in text
    assert run("show", paths[3], "-o", tmp_path / "ms.doc")[0] == 2
    assert run("show", paths[3], "--bands", "99,2,1", "-o", tmp_path / "x.png")[0] == 2


def test_the_doctor_tells_what_is_there_and_what_is_missing(run, monkeypatch):
    monkeypatch.delenv("HSMAMBA_DATA", raising=False)
    code, out, err = run("doctor", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert set(found) == {"versions", "devices", "scan", "extras", "weights", "cache", "data"}
    assert found["versions"]["hsmamba"] and "worldview2" in found["data"]["missing"]
    assert "muufl_crop" in found["data"]["there"] and "reference" in found["scan"]
    monkeypatch.setattr("hsmamba._optional.is_there", lambda module: module != "rasterio")
    text = run("doctor")[1]
    assert 'without rasterio: pip install "hsmamba[geo]"' in text
