"""What the errors of benchmarks say to do, done: each time it works."""

from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

import pytest

from hsmamba._files import acquire, release
from hsmamba.engine.benchmark import load_suite, rows_of, run, run_cell, run_suite
from hsmamba.engine.results import read_results, write_results
from tests.advice import told
from tests.engine.benchmark.suites import CLASSIFICATION, FUSION, write

ARGS = "args = { in_chans = 4, patch_size = 3, dim = 4, d_state = 1, filters = 1, expand = 1.0 }"
TRAINED = f"{ARGS}\nfinetune = {{ epochs = 1, batch_size = 512, val_fraction = 0.0 }}\n"


def cell(folder, place, text, *changes):
    cells = load_suite(write(folder, text, *changes)).cells()
    return next(one for one in cells if one.place[: len(place)] == place)


def test_a_weight_is_tested_on_what_it_was_not_trained_on(tmp_path, weight):
    as_it_is = (f'[methods.small]\nmodel = "md2f_mamba"\n{TRAINED}', f'[methods.small]\nmodel = "{weight}"\n')
    told(
        lambda: run_cell(cell(tmp_path, ("muufl_crop",), CLASSIFICATION, as_it_is), None),
        "give it data of another scene, or the split that it came with",
    )
    row = run_cell(cell(tmp_path, ("muufl_crop",), CLASSIFICATION, as_it_is, ("[0, 1]", "[7]")), None)
    assert row["split_id"] == "random-5px-seed7" and row["oa"] > 0


def test_a_weight_of_an_image_is_tested_on_its_own_rows_or_on_other_images(tmp_path, images):
    as_it_is = (
        'model = "rsanet"\nfinetune = { epochs = 1, steps = 1, batch_size = 1, crop = 32 }',
        'model = "rsanet.ikonos"',
    )
    told(
        lambda: run_cell(cell(tmp_path, ("ikonos", "others", 0, "rsanet"), FUSION, as_it_is), images),
        "was trained on the image of the test pair {} ({}); give it other data",
    )
    for place in (("bgrn", "others", 0, "rsanet"), ("ikonos", "own", 0, "rsanet")):
        assert run_cell(cell(tmp_path, place, FUSION, as_it_is), images)["Q2n"] > 0


def test_images_are_trained_on_for_others_that_agree(tmp_path, images):
    place = ("ikonos", "others", 0, "rsanet")
    told(
        lambda: run_cell(cell(tmp_path, place, FUSION, ("options = { bands = [1, 2, 4, 6] }\n", "")), images),
        "has {} bands, {} of the guide and ratio {}, {} {}, {} and {}; train on images that agree",
    )
    told(
        lambda: run_cell(cell(tmp_path, place, FUSION, ('["ikonos", "bgrn"]', '["ikonos"]')), images),
        "names no other data to train on; give train = [...], or leave out methods that are trained",
    )
    assert run_cell(cell(tmp_path, place, FUSION), images)["train"] > 0
    untrained = cell(tmp_path, ("ikonos", "others", 0, "GSA"), FUSION, ('["ikonos", "bgrn"]', '["ikonos"]'))
    assert run_cell(untrained, images)["train"] == 0


def test_blocks_fit_into_the_images(tmp_path, images):
    place, large = ("ikonos", "own", 0, "GSA"), ("block = 8", "block = 200")
    told(lambda: run_cell(cell(tmp_path, place, FUSION, large), images), "fits into the test images of {}; lower block")
    assert run_cell(cell(tmp_path, place, FUSION), images)["units"]


def test_splits_of_one_scene_are_listed_for_one_scene(tmp_path):
    plots = ("[data.muufl_crop]\nblock = 30", "[data.muufl_crop]\n\n[data.idtrees2020]")
    told(
        lambda: load_suite(write(tmp_path, CLASSIFICATION, plots)),
        "has several; give 'plots' or 'stored', or list the splits of {} without it",
    )
    by_plot = ("count = 5", 'count = 5\n\n[splits.plots]\nkind = "plots"\ntest = 0.3')
    listed = (plots[0], '[data.muufl_crop]\nsplits = ["random"]\n\n[data.idtrees2020]\nsplits = ["plots"]')
    assert len(load_suite(write(tmp_path, CLASSIFICATION, by_plot, listed)).cells()) == 8
    stored = ('"random"\ncount = 5', '"stored"\nname = "idtrees2020"')
    assert load_suite(write(tmp_path, CLASSIFICATION, ("muufl_crop", "idtrees2020"), stored)).cells()


@pytest.fixture
def here(monkeypatch):
    monkeypatch.setattr(run, "_workers", lambda jobs: ThreadPoolExecutor(1))


def test_rows_of_other_pixels_are_removed_and_run_again(tmp_path, here):
    suite, table = load_suite(write(tmp_path, CLASSIFICATION, ("[0, 1]", "[0]"))), tmp_path / "trial.csv"
    rows = run_suite(suite, table)
    write_results(table, [{**rows[0], "split_sha256": "of before"}, *rows[1:]])
    told(
        lambda: run_suite(suite, table),
        "saw other pixels of {}, split {}, seed {}: the data or the split have changed since; remove these rows",
    )
    write_results(table, rows[1:])
    again = run_suite(suite, table)
    assert rows_of(suite, read_results(table)) == again and again[0]["oa"] == rows[0]["oa"]


class _Broken:
    def submit(self, *arguments):
        future = Future()
        future.set_exception(BrokenProcessPool("killed"))
        return future


def test_a_process_that_was_killed_runs_again_with_fewer_beside_it(tmp_path, monkeypatch):
    suite, table = load_suite(write(tmp_path, CLASSIFICATION, ("[0, 1]", "[0]"))), tmp_path / "trial.csv"

    @contextmanager
    def workers(jobs):
        yield _Broken() if jobs > 1 else pool

    monkeypatch.setattr(run, "_workers", workers)
    with ThreadPoolExecutor(1) as pool:
        told(
            lambda: run_suite(suite, table, jobs=2),
            "maybe for want of memory; lower jobs ({}) and run again: the finished cells are in",
        )
        assert len(run_suite(suite, table, jobs=1)) == 2


def test_a_table_is_that_of_one_run(tmp_path, here):
    suite, table = load_suite(write(tmp_path, CLASSIFICATION, ("[0, 1]", "[0]"))), tmp_path / "trial.csv"
    lock = tmp_path / "trial.csv.lock"
    handle = acquire(lock)
    told(lambda: run_suite(suite, table), "goes on (process {}); wait for its end, or name another file")
    assert run_suite(suite, tmp_path / "other.csv")
    release(lock, handle)
    assert run_suite(suite, table)
