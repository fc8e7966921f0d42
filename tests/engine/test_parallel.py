"""A launch of several processes: the losses of one process, one writer, checkpoints that go on bit for bit."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from hsmamba.engine.benchmark import run
from hsmamba.engine.parallel import group
from hsmamba.engine.results import read_results
from tests.conftest import ROOT
from tests.engine import launched

pytest.importorskip("accelerate", reason="needs the accelerate extra")
pytestmark = pytest.mark.slow

PROCESSES = 2


def launch(*program, processes=PROCESSES):
    """Run a program in several processes that train on the CPU."""
    options = ["--multi_gpu", "--num_processes", processes, "--num_machines", 1, "--main_process_port", 0]
    options += ["--mixed_precision", "no", "--dynamo_backend", "no"]
    command = [sys.executable, "-m", "accelerate.commands.launch", *options, *program]
    path = os.pathsep.join(filter(None, [str(ROOT), *sys.path]))
    environment = os.environ | {"PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each process of a launch found, and their folder."""
    folder = tmp_path_factory.mktemp("launch")
    launch(ROOT / "tests" / "engine" / "launched.py", folder)
    return [json.loads((folder / f"process{rank}.json").read_text()) for rank in range(PROCESSES)], folder


def same_curve(got, want):
    assert len(got["history"]) == len(want["history"]) == launched.EPOCHS
    for here, there in zip(got["history"], want["history"], strict=True):
        assert here.keys() == there.keys()
        np.testing.assert_allclose([*here.values()], [*there.values()], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", launched.CLASSIFIERS)
def test_a_classifier_learns_as_in_one_process(found, name):
    want = launched.train(name)
    for process in found[0]:
        same_curve(process[name], want)


@pytest.mark.parametrize("name", launched.FUSION)
def test_a_fusion_network_learns_as_in_one_process(found, name):
    want = launched.sharpen(name)
    for process in found[0]:
        same_curve(process[name], want)


def test_all_processes_end_with_the_same_weights(found):
    first, second = found[0]
    assert first["size"] == PROCESSES
    for name in (*launched.CLASSIFIERS, *launched.FUSION, "resumed"):
        assert first[name]["weights"] == second[name]["weights"]


def test_a_resumed_launch_goes_on_bit_for_bit(found):
    resumed = found[0][0]["resumed"]
    assert resumed["weights"] == resumed["whole"]["weights"]
    assert resumed["history"] == resumed["whole"]["history"]


def test_the_first_process_alone_writes_and_tells(found):
    processes, folder = found
    assert [process["resumed"]["told"] for process in processes] == [[1, 2], []]
    assert [row["epoch"] for row in read_results(folder / "history.csv")] == [1, 2]
    written = {path.name for path in folder.iterdir() if not path.name.startswith("process")}
    assert written == {"run.pt", "history.csv", "recipe", "suite", "suite.csv"}


def test_a_recipe_is_trained_by_all_and_written_by_the_first(found, tmp_path):
    (want,) = launched.ran(tmp_path)
    processes, folder = found
    for process in processes:
        (row,) = process["recipe"]
        assert row.keys() == want.keys()
        for key, value in want.items():
            assert row[key] == pytest.approx(value, abs=0.6) if isinstance(value, float) else row[key] == value
    there = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if not path.is_dir()}
    assert there == {path.relative_to(folder) for path in (folder / "recipe").rglob("*") if not path.is_dir()}
    (row,) = read_results(folder / "recipe" / "results.csv")
    assert row["machine"].startswith("2 processes: ")


def test_the_cells_of_a_benchmark_are_shared_out_and_the_same(found, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "_workers", lambda jobs: ThreadPoolExecutor(1))
    want = launched.held(tmp_path)
    processes, folder = found
    assert [process["benchmark"] for process in processes] == [want, want]
    assert len(read_results(folder / "suite.csv")) == len(want) == 2


def test_processes_that_differ_are_refused_in_all_of_them(found):
    for process in found[0]:
        differ, device = process["refused"]
        assert "the processes of the launch have not the same settings, data and epoch" in differ
        assert "'seed': 1" in differ
        assert "leave device out" in device


def test_one_process_is_a_group_of_its_own(monkeypatch):
    for size in ("", "1"):
        monkeypatch.setenv("WORLD_SIZE", size)
        alone = group()
        assert (alone.rank, alone.size, alone.is_first) == (0, 1, True)
