"""Suites: those of the package, what decides a cell, what is refused."""

import pytest

from hsmamba.engine.benchmark import list_suites, load_suite
from hsmamba.errors import ManifestError
from tests.engine.benchmark.suites import CLASSIFICATION, FUSION, write


@pytest.mark.parametrize("name", list_suites())
def test_the_suites_of_the_package_are_whole(name):
    suite = load_suite(name)
    cells = suite.cells()
    assert cells and len({cell.sha256 for cell in cells}) == len({cell.place for cell in cells}) == len(cells)


def test_the_suites_that_the_docs_name_are_there():
    named = {
        "cave",
        "defaults",
        "demo",
        "disjoint",
        "draws",
        "few_labels",
        "other_ground",
        "pansharpening",
        "two_sources",
        "whole_image",
    }
    assert named <= set(list_suites())


def test_cells_are_every_method_on_every_split_and_seed(tmp_path):
    suite = load_suite(write(tmp_path))
    assert [cell.place for cell in suite.cells()] == [
        ("muufl_crop", "random", seed, method) for seed in (0, 1) for method in ("small", "other")
    ]


def test_what_no_seed_changes_runs_once_and_an_image_is_not_trained_on_for_itself(tmp_path):
    cells = load_suite(write(tmp_path, FUSION)).cells()
    assert [cell.seed for cell in cells if cell.method.name == "GSA"] == [0, 0, 0]
    assert [cell.seed for cell in cells if cell.method.name == "rsanet"] == [0, 1] * 3
    of_ikonos = next(cell for cell in cells if cell.data.name == "ikonos" and cell.split == "others")
    assert of_ikonos.split_spec["train"] == [["worldview2", {"bands": [1, 2, 4, 6]}]]


def test_settings_decide_the_hash_of_a_cell_and_names_do_not(tmp_path):
    def hashes(*changes):
        return [cell.sha256 for cell in load_suite(write(tmp_path, CLASSIFICATION, *changes)).cells()]

    before = hashes()
    assert hashes(("methods.other", "methods.another"), ("Trial", "Title"), ("splits.random", "splits.five")) == before
    after = hashes(("lr = 1e-2", "lr = 2e-2"))
    assert [one == two for one, two in zip(before, after, strict=True)] == [True, False, True, False]
    for change in (("count = 5", "count = 6"), ("block = 30", "block = 15"), ("[0, 1]", "[2, 3]")):
        assert not set(hashes(change)) & set(before)


@pytest.mark.parametrize(
    ("text", "old", "new", "told"),
    [
        (CLASSIFICATION, "seeds", "seed", "the suite lacks seeds"),
        (CLASSIFICATION, 'title = "Trial"', 'title = "Trial"\nnote = ""', "the suite has the unknown note; known are"),
        (CLASSIFICATION, '"classification"', '"detection"', "no task 'detection'; there are classification, fusion"),
        (CLASSIFICATION, "[0, 1]", "[-1]", r"seeds is \[-1\]; expected whole numbers"),
        (CLASSIFICATION, '"oa", "aa"', '"psnr"', r"metrics is \['psnr'\]; expected some of oa, aa"),
        (
            CLASSIFICATION,
            'reference = "small"',
            'reference = "svm"',
            "reference is 'svm'; expected one of small, other",
        ),
        (CLASSIFICATION, "args =", "arguments =", "Method 'small' has the unknown arguments; known are"),
        (
            CLASSIFICATION,
            'model = "md2f_mamba"',
            'model = "md3f"',
            "'small' is the model 'md3f'; of classification there",
        ),
        (CLASSIFICATION, 'model = "md2f_mamba"', 'model = "lda-mnf"', "'small' is classical and takes no args"),
        (
            CLASSIFICATION,
            "[methods.other]",
            '[methods.other]\ndata = ["pavia"]',
            "'other' has no data pavia; there are",
        ),
        (CLASSIFICATION, "muufl_crop", "pavia", "data 'pavia' is the set 'pavia'; of classification there are"),
        (CLASSIFICATION, "block = 30", "block = -1", "block of data 'muufl_crop' is -1"),
        (CLASSIFICATION, "block = 30", 'splits = ["b"]', "data 'muufl_crop' has no split b; there are random"),
        (
            CLASSIFICATION,
            "muufl_crop",
            "idtrees2020",
            "split 'random' of kind 'random' is of one scene, and data 'idtrees",
        ),
        (
            CLASSIFICATION,
            '"random"\ncount',
            '"chance"\ncount',
            "split 'random' is of kind 'chance'; the kinds of classif",
        ),
        (CLASSIFICATION, "count = 5", "number = 5", "split 'random' has the unknown number; 'random' takes cap, count"),
        (
            CLASSIFICATION,
            '"random"\ncount = 5',
            '"block"\nfraction = 0.1\npatch_size = 1',
            "'small' looks at patches of 3 x 3, and split 'random' keeps only those of 1 apart; raise its patch_size",
        ),
        (FUSION, '"ikonos", "bgrn"', '"quickbird"', "split 'others' trains on quickbird; the data of the suite are"),
        (FUSION, 'model = "GSA"', 'model = "GSA"\naux = true', "'GSA' fuses, and takes no aux, classify or transform"),
        (FUSION, 'model = "GSA"', 'model = "GSA"\nadapt = 60', "'GSA' is no fusion network, and takes no adapt"),
    ],
)
def test_what_is_no_suite_is_told(tmp_path, text, old, new, told):
    with pytest.raises(ManifestError, match=rf"trial\.toml: .*{told}"):
        load_suite(write(tmp_path, text, (old, new)))


def test_files_that_are_none_are_told(tmp_path):
    known = "cave, defaults, demo, .*"
    with pytest.raises(ManifestError, match=rf"no suite 'fewlabels'; there are: {known}, or give a \.toml file"):
        load_suite("fewlabels")
    (tmp_path / "a.toml").write_text("task = ")
    with pytest.raises(ManifestError, match=r"a\.toml is not TOML"):
        load_suite(tmp_path / "a.toml")
