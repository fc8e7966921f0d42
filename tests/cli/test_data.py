"""`hsmamba data`."""

import json

from hsmamba.data.sets.catalog import CATALOG
from tests.data.sets import layouts


def test_list_names_every_set(run):
    code, out, _ = run("data", "list")
    assert code == 0 and [line.split()[0] for line in out.splitlines()] == list(CATALOG)
    code, out, _ = run("data", "list", "--kind", "plots", "--json")
    assert json.loads(out) == ["enmap_potsdam", "idtrees2020"]
    code, _, err = run("data", "list", "--kind", "cubes")
    assert code == 2 and "it is one of pairs, plots, scene" in err


def test_info_tells_files_classes_and_terms(run):
    code, out, _ = run("data", "info", "augsburg")
    assert code == 0
    for word in ("332 x 485 x 180", "augsburg_hsi.mat (augsburg_hsi): cube", "form 2 of 2", "Low Plants", "26857"):
        assert word in out
    assert json.loads(run("data", "info", "pancollection_wv3", "--json")[1])["values"] == "0 to 2047"
    code, _, err = run("data", "info", "moon")
    assert code == 2 and "hsmamba data list shows them all" in err


def test_check_ends_with_one_where_something_is_wrong(run, tmp_path):
    root = layouts.pancollection(tmp_path, "qb", 4)
    code, out, _ = run("data", "check", "pancollection_qb", root)
    assert code == 0 and out.startswith("ok    train: ")
    code, out, _ = run("data", "check", "pancollection_wv3", root, "--json")
    assert code == 1 and any(one["ok"] is False for one in json.loads(out))
    code, _, err = run("data", "check", "cave", tmp_path / "nothing")
    assert code == 2 and "give the one that holds the data" in err
