"""Runs: only what is missing, one table, failures told, nothing lost by a kill."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from hsmamba.engine.benchmark import load_suite, rows_of, run, run_suite
from hsmamba.engine.results import read_results, write_results
from hsmamba.errors import HsmambaError
from tests.conftest import ROOT
from tests.engine.benchmark.suites import CLASSIFICATION, write


@pytest.fixture
def here(monkeypatch):
    """Run cells in a thread of this process: one of its own would take seconds to begin."""
    monkeypatch.setattr(run, "_workers", lambda jobs: ThreadPoolExecutor(1))


SLOWER = ("epochs = 1, batch_size = 512, lr", "epochs = 2, batch_size = 512, lr")


def test_cells_run_once_and_again_where_their_settings_change(tmp_path, here):
    table, told = tmp_path / "trial.csv", []
    rows = run_suite(load_suite(write(tmp_path)), table, jobs=2, tell=told.append)
    assert len(rows) == len(told) == 4 and told[-1].startswith("4/4 muufl_crop, random, ") and "oa " in told[0]
    assert [(row["seed"], row["method"]) for row in rows] == [(0, "small"), (0, "other"), (1, "small"), (1, "other")]
    assert read_results(table) == rows
    written = table.read_bytes()
    assert run_suite(load_suite(write(tmp_path)), table, tell=told.append) == rows and len(told) == 4
    assert table.read_bytes() == written

    changed = load_suite(write(tmp_path, CLASSIFICATION, SLOWER))
    assert rows_of(changed, read_results(table)) == rows[::2]
    again = run_suite(changed, table, methods=["other"], tell=told.append)
    assert len(told) == 6 and again[::2] == rows[::2] and again[1]["cell"] != rows[1]["cell"]
    assert len(read_results(table)) == 4  # the older rows of the same names have gone


def test_cells_that_fail_are_told_after_all_others_have_run(tmp_path, here):
    broken = ("epochs = 1, batch_size = 512, lr = 1e-2", "epochs = 0, batch_size = 512, lr = 1e-2")
    table = tmp_path / "trial.csv"
    expected = (
        r"2 of 4 cells failed; the others are in .*trial\.csv.*\. The first: muufl_crop, random, \d, other: "
        "ValueError: epochs is 0; it must be at least 1"
    )
    with pytest.raises(HsmambaError, match=expected):
        run_suite(load_suite(write(tmp_path, CLASSIFICATION, broken)), table)
    assert [row["method"] for row in read_results(table)] == ["small", "small"]


def test_what_cannot_be_run_is_refused(tmp_path):
    suite = load_suite(write(tmp_path))
    with pytest.raises(ValueError, match="jobs is 0; expected 1 or more"):
        run_suite(suite, tmp_path / "trial.csv", jobs=0)
    with pytest.raises(ValueError, match="the suite has no method svm; it has small, other"):
        run_suite(suite, tmp_path / "trial.csv", methods=["svm"])


def children(process):
    return [int(pid) for pid in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def alive(pids):
    """Those that have not ended; a zombie has, and waits for a parent that may never ask."""
    states = {}
    for pid in pids:
        with suppress(OSError):
            states[pid] = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return [pid for pid, state in states.items() if state != "Z"]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds processes in /proc")
def test_a_killed_run_loses_the_running_cells_alone(tmp_path, here):
    suite = write(tmp_path, CLASSIFICATION, ("[0, 1]", "[0, 1, 2]"))
    table = tmp_path / "out" / "trial.csv"
    code = "from hsmamba.cli import main; main()"
    command = [sys.executable, "-c", code, "benchmark", str(suite), "-o", str(table.parent)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    said = process.stdout.readline()
    with pytest.raises(HsmambaError, match=rf"is that of a run that goes on \(process {process.pid}\)"):
        run_suite(load_suite(suite), table)
    workers = children(process.pid)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL and said.startswith("1/6 ")
    rows = read_results(table)
    assert 1 <= len(rows) < 6 and all(row["units"] and row["oa"] > 0 for row in rows)
    end = time.monotonic() + 30
    while alive(workers) and time.monotonic() < end:
        time.sleep(0.1)
    assert workers and not alive(workers)

    told = []
    whole = run_suite(load_suite(suite), table, tell=told.append)
    assert len(told) == 6 - len(rows) and len(whole) == 6
    kept = {row["cell"]: row for row in rows}
    assert [row for row in whole if row["cell"] in kept] == rows
    assert not [path.name for path in table.parent.iterdir() if "part" in path.name]


def test_rows_of_methods_that_the_suite_has_no_more_stay_in_the_table(tmp_path, here):
    table = tmp_path / "trial.csv"
    suite = load_suite(write(tmp_path, CLASSIFICATION, ("[0, 1]", "[0]")))
    rows = run_suite(suite, table, methods=["small"])
    other = {**rows[0], "method": "gone", "cell": "another"}
    write_results(table, [*rows, other])
    run_suite(suite, table, methods=["other"])
    assert [row["method"] for row in read_results(table)] == ["small", "other", "gone"]
