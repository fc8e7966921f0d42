"""The verbs of a session, without a page."""

import io
import json
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from hsmamba.app.learning import Request, models
from hsmamba.app.session import EXPORTS, Session
from hsmamba.errors import SceneError
from tests.app.samples import NAMES, images, write_scene

pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    pytest.importorskip("rioxarray")
    return write_scene(tmp_path_factory.mktemp("files"))


@pytest.fixture
def session(files):
    session = Session()
    session.open(str(files[0]))
    return session


def label(session, per_class=6):
    """Click pixels of each class, each a place of its own."""
    _, kinds = images()
    rng = np.random.default_rng(1)
    for k, name in enumerate(NAMES, start=1):
        session.change_labels(lambda sheet, name=name: sheet.add_class(name))
        for row, column in rng.permutation(np.argwhere(kinds == k))[:per_class]:
            session.change_labels(lambda sheet, at=(row, column), k=k: sheet.paint([at], k))


@pytest.fixture(scope="module")
def learnt(files):
    session = Session()
    session.open(str(files[0]))
    label(session)
    session.train(Request("lda"))
    status = session.work.wait()
    assert status["state"] == "done", status
    return session


def decoded(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))


def test_a_scene_is_opened_and_looked_at(session):
    state = session.state()["scene"]
    assert (state["rows"], state["columns"], state["bands"], state["place"]) == (24, 24, 12, True)
    assert decoded(session.composite()).shape == (24, 24, 4)
    assert (decoded(session.composite((0, 1, 2), 0)) != decoded(session.composite((0, 1, 2), 10))).any()
    found = session.spectrum(3, 5)
    assert found["values"] == pytest.approx(images()[0][3, 5].tolist(), rel=1e-6)
    with pytest.raises(ValueError, match="no pixel at row 24"):
        session.spectrum(24, 0)
    with pytest.raises(ValueError, match="three indices from 0 to 11"):
        session.composite((0, 1, 12))
    json.dumps(session.state())


def test_a_large_scene_is_shown_by_every_nth_pixel_and_read_once(files, monkeypatch):
    monkeypatch.setattr("hsmamba.app.pictures.MOST", 10)
    monkeypatch.setattr("hsmamba.app.session._HELD", 10_000)  # bytes: the scene has 27648, every third pixel 3072
    session = Session()
    session.open(str(files[0]))
    assert decoded(session.composite()).shape == (8, 8, 4)
    assert isinstance(session._overview, np.ndarray) and not isinstance(session.scene.hsi.variable._data, np.ndarray)
    session.change_labels(lambda sheet: sheet.add_class("one"))
    session.change_labels(lambda sheet: sheet.paint([(4, 7)], 1))
    shown = decoded(session.labels_picture())
    assert shown.shape == (8, 8, 4) and np.argwhere(shown[..., 3]).tolist() == [[1, 2]]  # a single pixel is not lost
    assert session.spectrum(23, 23)["values"] == pytest.approx(images()[0][23, 23].tolist(), rel=1e-6)


def test_bundled_scenes_are_opened_by_name():
    session = Session()
    session.open("muufl_crop")
    state = session.state()["scene"]
    assert state["own_labels"] == 6970 and len(state["wavelengths"]) == 64
    assert session.scene.labels is None


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("text.tif", b"this is no image\n" * 20, "TIFF"),
        ("cut.npy", b"\x93NUMPY", "cut.npy"),
        ("notes.txt", b"hello", "notes.txt"),
    ],
)
def test_bad_files_are_said_clearly_and_change_nothing(session, tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SceneError, match=words):
        session.open(str(tmp_path / name))
    with pytest.raises(SceneError, match="nowhere"):
        session.open(str(tmp_path / "nowhere.tif"))
    with pytest.raises(ValueError, match="there is no path"):
        session.open(" ")
    assert session.state()["scene"]["rows"] == 24


def test_labels_are_loaded_from_a_raster(session, files):
    assert session.load_labels(str(files[1])) == images()[1].size
    assert (session.sheet.labels == images()[1]).all() and session.sheet.names == ["class 1", "class 2", "class 3"]


def test_polygons_that_were_exported_are_the_same_labels(session, files, tmp_path):
    pytest.importorskip("pyogrio")
    label(session)
    session.change_labels(lambda sheet: sheet.paint([(2, 2), (9, 17)], 2, 1))
    again = Session()
    again.open(str(files[0]))
    for name in NAMES:
        again.change_labels(lambda sheet, name=name: sheet.add_class(name))
    again.load_labels(str(session.export("labels.gpkg", tmp_path)))
    assert (again.sheet.labels == session.sheet.labels).all() and again.sheet.names == list(NAMES)


def test_labels_of_a_scene_without_a_place_are_exported_in_pixels(tmp_path):
    pyogrio = pytest.importorskip("pyogrio")
    session = Session()
    session.open("muufl_crop")
    session.change_labels(lambda sheet: sheet.add_class("roof"))
    session.change_labels(lambda sheet: sheet.paint([(10, 20)], 1, 1))
    path = session.export("labels.gpkg", tmp_path)
    assert pyogrio.read_info(path)["crs"] is None
    assert pyogrio.read_bounds(path)[1].ravel().tolist() == [19, -12, 22, -9]
    again = Session()
    again.open("muufl_crop")
    again.load_labels(str(session.export("labels.tif", tmp_path)))
    assert (again.sheet.labels == session.sheet.labels).all()


def test_labels_of_another_size_are_refused(session, tmp_path):
    np.save(tmp_path / "small.npy", np.ones((5, 7), np.uint8))
    with pytest.raises(SceneError, match="24 x 24"):
        session.load_labels(str(tmp_path / "small.npy"))
    with pytest.raises(ValueError, match="came without labels"):
        session.load_labels(None)


def test_a_named_scene_takes_labels_of_a_file(tmp_path):
    session = Session()
    session.open("muufl_crop")
    np.save(tmp_path / "labels.npy", np.pad(np.ones((2, 3), np.uint8), ((0, 88), (0, 87))))
    assert session.load_labels(str(tmp_path / "labels.npy")) == 6
    np.save(tmp_path / "small.npy", np.ones((5, 7), np.uint8))
    with pytest.raises(SceneError, match=r"labels has the grid \(5, 7\)"):
        session.load_labels(str(tmp_path / "small.npy"))


def test_a_map_comes_with_the_accuracy_of_labels_that_were_held_out(learnt):
    figures = learnt.state()["result"]
    accuracy = figures["accuracy"]
    assert figures["labels"] == 18 and sum(figures["pixels"]) == 576
    assert accuracy["kind"] == "in turn" and accuracy["total"] == [6, 6, 6] and accuracy["places"] == 18
    assert accuracy["low"] < accuracy["share"] <= accuracy["high"]
    assert accuracy["share"] == pytest.approx(sum(accuracy["right"]) / 18)
    assert (learnt.result.labels == images()[1]).mean() > 0.9
    assert decoded(learnt.map_picture())[..., 3].min() == 255
    assert decoded(learnt.confidence_picture()).shape == (24, 24, 4)
    found = learnt.spectrum(0, 0)
    assert found["found"] == learnt.result.labels[0, 0] and 0 < found["confidence"] <= 1
    for kind in ("unsure", "different"):
        assert all(0 <= row < 24 and 0 <= column < 24 for row, column in learnt.suggest(kind))


def test_pixels_of_one_stroke_are_held_out_together(session):
    label(session, per_class=0)
    for k in (1, 2, 3):
        row, column = np.argwhere(images()[1] == k)[0]
        session.change_labels(lambda sheet, k=k, at=(row, column): sheet.paint([at, (at[0], at[1] + 4)], k))
    session.train(Request("lda"))
    assert session.work.wait()["state"] == "done"
    assert session.state()["result"]["accuracy"] is None  # of each class there is one place
    row, column = np.argwhere(images()[1] == 2)[-1]
    session.change_labels(lambda sheet: sheet.paint([(row, column)], 2))
    session.train(Request("lda"))
    assert session.work.wait()["state"] == "done"
    accuracy = session.state()["result"]["accuracy"]
    assert accuracy["places"] == 2 and accuracy["total"] == [0, 6, 0]


def test_labels_beyond_the_count_are_kept_aside_to_check(session, files):
    assert session.load_labels(str(files[1]), count=5) == 15
    session.train(Request("lda"))
    assert session.work.wait()["state"] == "done"
    accuracy, kinds = session.state()["result"]["accuracy"], images()[1]
    assert accuracy["kind"] == "kept aside" and sum(accuracy["total"]) == kinds.size - 15
    outside = session.sheet.labels == 0
    assert accuracy["share"] == pytest.approx((session.result.labels == kinds)[outside].mean())


def test_what_cannot_be_trained_is_said(session):
    with pytest.raises(ValueError, match="nothing is labelled"):
        session.train(Request("lda"))
    session.change_labels(lambda sheet: sheet.add_class("one"))
    session.change_labels(lambda sheet: sheet.paint([(1, 1)], 1))
    session.train(Request("lda"))
    status = session.work.wait()
    assert status["state"] == "failed" and "fewer than two classes" in status["error"]
    session.change_labels(lambda sheet: sheet.add_class("two"))
    session.change_labels(lambda sheet: sheet.paint([(8, 8)], 2))
    session.train(Request("no_such_model"))
    assert "no_such_model" in session.work.wait()["error"]
    for call in (session.map_picture, lambda: session.suggest("unsure")):
        with pytest.raises(ValueError, match="there is no map yet"):
            call()


def test_a_network_says_its_epochs_and_stops_when_it_is_cancelled(session):
    label(session)
    session.train(Request("md2f_mamba", epochs=200))
    while "epoch" not in session.work.status()["text"]:
        assert session.work.status()["state"] == "running", session.work.status()
    assert "of 200" in session.work.status()["text"]
    session.work.cancel()
    assert session.work.wait()["state"] == "cancelled"
    assert session.result is None


def test_every_export_is_there_and_opens(learnt, tmp_path):
    pytest.importorskip("pyogrio")
    rasterio = pytest.importorskip("rasterio")
    paths = {what: learnt.export(what, tmp_path) for what in EXPORTS}
    assert all(path.stat().st_size for path in paths.values())
    with rasterio.open(paths["map.tif"]) as file:
        assert (file.read(1) == learnt.result.labels).all() and file.crs.to_epsg() == 32633
        assert file.tags()["class_1"] == "water" and file.colormap(1)[1] == (230, 159, 0, 255)
    with rasterio.open(paths["confidence.tif"]) as file:
        assert file.read(1) == pytest.approx(learnt.result.confidence)
    with zipfile.ZipFile(paths["all.zip"]) as archive:
        held = set(archive.namelist())
    assert {"map.tif", "map_confidence.tif", "map.qml", "labels.gpkg", "labels.tif", "make_map.py"} <= held
    assert "model/config.json" in held
    with zipfile.ZipFile(paths["model.zip"]) as archive:
        archive.extractall(tmp_path / "folder")
    import hsmamba

    again = hsmamba.create_model(f"local-dir:{tmp_path / 'folder'}")
    assert (np.asarray(hsmamba.classify(again, learnt.scene, progress=False).labels) == learnt.result.labels).all()


@pytest.mark.slow
def test_the_program_makes_the_same_map(learnt, tmp_path):
    rasterio = pytest.importorskip("rasterio")
    program = learnt.export("make_map.py", tmp_path)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run([sys.executable, program], cwd=tmp_path, env=environment, check=True, capture_output=True)
    with rasterio.open(tmp_path / "map.tif") as file, rasterio.open(tmp_path / "map_confidence.tif") as sure:
        assert (file.read(1) == learnt.result.labels).all()
        assert (sure.read(1) == learnt.result.confidence).all()


def test_every_classifier_can_be_chosen_and_the_default_comes_first():
    names = [name for name, _ in models()]
    assert names[0] == "graph_trees" and {"lda", "mim_v3", "md2f_mamba.indian_pines"} <= set(names)


def test_nothing_is_done_without_a_scene():
    session = Session()
    for call in (session.composite, lambda: session.train(Request()), lambda: session.export("map.tif", ".")):
        with pytest.raises(ValueError, match="no scene is open"):
            call()
