"""The catalogue: names, kinds, the folder of data, the stored splits."""

import subprocess
import sys

import pytest

from hsmamba.data import leakage, list_splits, load_pairs, load_scene, load_scenes, load_split
from hsmamba.data.sets.catalog import CATALOG, list_data
from hsmamba.errors import DataNotFoundError, SceneError, SplitError
from tests.conftest import DATA, ROOT
from tests.refusals import refused


def test_stored_splits_are_whole_and_named():
    assert list_splits() == ["dfc2018_houston_crop", "enmap_potsdam", "idtrees2020", "indian_pines_fixed"]
    fixed = load_split("indian_pines_fixed")  # loading verifies the hash
    assert (fixed.train.size, fixed.test.size, fixed.shape) == (695, 9671, (145, 145))
    plots = load_split("idtrees2020")
    sides = [set(part // 400) for part in (plots.train, plots.val, plots.test)]
    assert [len(side) for side in sides] == [35, 10, 20] and len(set().union(*sides)) == 65
    assert leakage(load_split("dfc2018_houston_crop"), 11).inside_train == 0
    with pytest.raises(SplitError, match=r"there is no split 'salinas'.*idtrees2020"):
        load_split("salinas")


@pytest.mark.parametrize("name", [name for name in list_data() if CATALOG[name].path])
def test_data_that_are_not_there_give_one_error_whatever_the_set(name, tmp_path, monkeypatch):
    load = load_pairs if CATALOG[name].kind == "pairs" else load_scenes
    options = {"ratio": 4} if name == "cave" else {}
    monkeypatch.delenv("HSMAMBA_DATA", raising=False)
    with pytest.raises(DataNotFoundError, match=rf"'{name}' .* comes with no package; give the folder .*HSMAMBA_DATA"):
        load(name, **options)
    monkeypatch.setenv("HSMAMBA_DATA", str(tmp_path))
    for root in (None, tmp_path):
        with pytest.raises(FileNotFoundError, match=rf"no {CATALOG[name].path} in .*{tmp_path.name}"):
            load(name, root, **options)


test_unknown_names_and_other_kinds_are_told_what_there_is = refused(
    (lambda: load_scene("moon"), SceneError, "'moon'; there is 'indian_pines'"),
    (lambda: load_pairs("moon"), SceneError, "'moon'; there is 'cave', 'worldview2', 'ikonos', 'quickbird'"),
    (lambda: load_scene("idtrees2020"), SceneError, r"set of plots; call load_scenes\('idtrees2020'"),
    (lambda: load_scenes("cave"), SceneError, r"pairs for fusion; call load_pairs\('cave'"),
    (lambda: load_pairs("indian_pines"), SceneError, r"one scene; call load_scene\('indian_pines'"),
)


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not here")
def test_real_data_give_the_stored_splits(tmp_path):
    pytest.importorskip("tensorly")
    script = [sys.executable, "tools/make_splits.py", str(DATA), "--out", str(tmp_path)]
    subprocess.run(script, cwd=ROOT, check=True, capture_output=True)
    made = sorted(tmp_path.iterdir())
    assert len(made) == 5
    for path in made:
        assert path.read_bytes() == (ROOT / "hsmamba" / "splits" / path.name).read_bytes()
