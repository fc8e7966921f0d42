"""Published scenes in the layouts in which they are distributed, and what is said of others."""

import numpy as np
import pytest
from scipy.io import savemat

from hsmamba.data import load_scene, load_split
from hsmamba.data.sets.scene_files import SCENES
from hsmamba.errors import DataNotFoundError, HsmambaWarning, SceneError, SplitError
from tests.conftest import DATA
from tests.data.sets import layouts

CASES = [(name, make) for name, makers in layouts.SCENES.items() for make in makers]
AUX = {"houston2013": 1, "houston2018": 1, "augsburg": 4, "berlin": 4, "muufl_gulfport": 2, "trento": 2}
MAPS = {"houston2013_maps": 1, "augsburg_s2fl": 5, "trento_maps": 1}


def small(name, root):
    """Load a scene that says that it is smaller than the published one."""
    with pytest.warns(HsmambaWarning, match=r"24 x 20 pixels, .* its figures are not comparable"):
        return load_scene(name, root)


def test_every_scene_has_a_layout_here():
    assert {*SCENES} == {*layouts.SCENES}


@pytest.mark.parametrize(("name", "make"), CASES, ids=[make.__name__ for _, make in CASES])
def test_a_scene_is_read_in_its_layout(name, make, tmp_path):
    facts = SCENES[name].facts
    scene = small(name, make(tmp_path))
    assert scene.hsi.shape == (*layouts.GRID, facts.shape[2])
    assert scene.class_names == tuple(facts.classes) and scene.num_classes == len(facts.classes)
    expected = layouts.labels(len(facts.classes))
    np.testing.assert_array_equal(scene.labels, expected)
    channels = MAPS.get(make.__name__, AUX.get(name, 0))
    assert (0 if scene.aux is None else scene.aux.shape[2]) == channels
    if channels:
        assert scene.aux.shape[:2] == layouts.GRID and np.isfinite(scene.aux).all()
    dtype = {"muufl_gulfport": np.float64, "berlin": np.float64}.get(name, np.uint16)
    if "envi" in make.__name__ or "s2fl" in make.__name__:
        dtype = scene.hsi.dtype
    values = layouts.cube(facts.shape[2]) / (4000 if name == "muufl_gulfport" else 1)
    np.testing.assert_array_equal(scene.hsi, values.astype(dtype))
    assert scene.license == facts.license and facts.title in scene.source


@pytest.mark.parametrize(
    ("name", "make", "options"),
    [
        ("houston2013", layouts.houston2013, {}),
        ("houston2013", layouts.houston2013_maps, {}),
        ("houston2013_fixed", layouts.houston2013_fixed, {}),
        ("houston2018", layouts.houston2018, {}),
        ("augsburg", layouts.augsburg, {}),
        ("augsburg", layouts.augsburg_s2fl, {}),
        ("berlin", layouts.berlin, {}),
        ("pavia_university_fixed", layouts.pavia_university_fixed, {}),
        ("whu_hi_honghu", layouts.whu_hi_honghu, {"samples": 100}),
    ],
)
def test_the_split_of_a_scene_comes_with_its_data(name, make, options, tmp_path):
    root = make(tmp_path)
    split = load_split(name, root, **options)
    train, test = layouts.halves(layouts.labels(len(SCENES[name].facts.classes)))
    assert split.train.tolist() == np.flatnonzero(train).tolist()
    assert split.test.tolist() == np.flatnonzero(test).tolist()
    split.check(small(name, root).labels)
    assert split.id == f"{name}-distributed" + ("-100" if options else "")


def test_what_a_folder_lacks_is_said(tmp_path, monkeypatch):
    monkeypatch.delenv("HSMAMBA_DATA", raising=False)
    layouts.augsburg(tmp_path)
    (tmp_path / "augsburg" / "augsburg_sar.mat").unlink()
    with pytest.raises(DataNotFoundError, match=r"lacks augsburg_sar\.mat \(augsburg_sar\); fetch it from https"):
        load_scene("augsburg", tmp_path)
    (tmp_path / "augsburg" / "augsburg_index.mat").unlink()
    layouts.augsburg(tmp_path / "b")
    (tmp_path / "b" / "augsburg" / "augsburg_index.mat").unlink()
    small("augsburg", tmp_path / "b")  # the split alone needs it
    with pytest.raises(DataNotFoundError, match=r"lacks augsburg_index\.mat"):
        load_split("augsburg", tmp_path / "b")
    layouts.pavia_university(tmp_path)
    with pytest.raises(DataNotFoundError, match=r"lacks splits/PU/TRAIN_GT\.mat \(TR\), splits/PU/TEST_GT\.mat"):
        load_scene("pavia_university_fixed", tmp_path)


def test_other_bands_arrays_and_places_are_refused(tmp_path):
    root = layouts.ksc(tmp_path)
    savemat(root / "ksc" / "KSC.mat", {"KSC": layouts.cube(100)})
    with pytest.raises(SceneError, match=r"cube of \(24, 20, 100\); expected \(512, 614, 176\)"):
        load_scene("ksc", root)
    savemat(root / "ksc" / "KSC.mat", {"a": layouts.cube(176), "b": layouts.cube(176)})
    with pytest.raises(SceneError, match=r"has no array KSC; it has 'a' \(24, 20, 176\)"):
        load_scene("ksc", root)
    savemat(root / "ksc" / "KSC.mat", {"a": layouts.cube(176)})  # alone, whatever its name
    assert small("ksc", root).num_bands == 176
    root = layouts.berlin(tmp_path)
    places = {"berlin_train": np.array([[0, 20]]), "berlin_test": np.array([[0, 1]])}
    savemat(root / "berlin" / "berlin_index.mat", places)
    with pytest.raises(SceneError, match=r"'berlin_train' in .* holds no rows and columns of 24 x 20 pixels"):
        load_split("berlin", root)


def test_splits_that_are_not_there_or_of_another_number(tmp_path):
    root = layouts.whu_hi_longkou(tmp_path)
    with pytest.raises(SceneError, match=r"several numbers of pixels; give samples="):
        load_split("whu_hi_longkou", root)
    with pytest.raises(DataNotFoundError, match=r"lacks Train25\.mat"):
        load_split("whu_hi_longkou", root, samples=25)
    with pytest.raises(SceneError, match="has one split; leave samples= out"):
        load_split("houston2013", layouts.houston2013_maps(tmp_path), samples=25)
    with pytest.raises(SceneError, match=r"this copy of trento has no split; fetch the one with TRLabel\.mat"):
        load_split("trento", layouts.trento(tmp_path))
    with pytest.raises(SplitError, match="there is no split 'salinas'"):
        load_split("salinas", tmp_path)


def test_indian_pines_is_read_from_its_files_where_there_are_any(tmp_path):
    scene = small("indian_pines", layouts.indian_pines(tmp_path))
    assert len(scene.wavelengths) == 200
    np.testing.assert_array_equal(scene.hsi, layouts.cube(200))


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not here")
def test_the_real_scene_has_its_six_classes():
    scene = load_scene("salinas_a", DATA)
    assert np.bincount(scene.labels.ravel()).tolist() == [1790, 391, 1343, 616, 1525, 674, 799]
    assert scene.hsi.shape == (83, 86, 204) and scene.class_names[1] == "Corn_senesced_green_weeds"


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not here")
@pytest.mark.parametrize(
    ("name", "folder", "file", "variable"),
    [
        ("pavia_university_fixed", "pavia_university", "PaviaU", "paviaU"),
        ("houston2013_fixed", "houston2013", "Houston", "Houston"),
    ],
)
def test_the_real_maps_have_the_pixels_that_are_on_record(name, folder, file, variable, tmp_path):
    facts = SCENES[name].facts
    (tmp_path / "splits").symlink_to(DATA / "splits")
    layouts.put(tmp_path / folder / f"{file}.mat", **{variable: np.zeros(facts.shape, np.uint8)})
    split, labels = load_split(name, tmp_path), load_scene(name, tmp_path).labels
    for part, expected in ((split.train, facts.train), (split.test, facts.test)):
        assert tuple(np.bincount(labels.ravel()[part])[1:]) == expected
    assert tuple(np.bincount(labels.ravel())[1:]) == tuple(facts.classes.values())


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not here")
def test_the_real_labels_of_muufl_have_the_pixels_that_are_on_record(tmp_path):
    where = tmp_path / "muufl_gulfport"
    where.mkdir()
    for name in ("gt.mat", "LiDAR.mat"):
        (where / name).symlink_to(DATA / "muufl_crop" / name)
    layouts.put(where / "HSI.mat", HSI=np.zeros((325, 220, 64), np.uint8))
    scene = load_scene("muufl_gulfport", tmp_path)
    assert tuple(np.bincount(scene.labels.ravel())[1:]) == tuple(SCENES["muufl_gulfport"].facts.classes.values())
    assert scene.aux.shape == (325, 220, 2)
