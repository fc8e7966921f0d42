"""A checkpoint belongs to one run at a time."""

import os
import signal
import subprocess
import sys

import pytest

import hsmamba
from hsmamba.engine.lock import only_run
from hsmamba.errors import TrainingError
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

HOLD = """
import pathlib, sys
from hsmamba.engine.lock import only_run
with only_run(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path / "run.pt"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    assert process.stdout.readline().strip() == b"held"
    yield process
    process.kill()
    process.communicate()


def test_a_second_run_is_refused_until_the_first_ends(make_model, scene, split, holder, tmp_path):
    path = tmp_path / "run.pt"
    with pytest.raises(TrainingError, match=rf"run\.pt' is that of a run that goes on \(process {holder.pid}\)"):
        hsmamba.finetune(make_model(), scene, split, epochs=1, checkpoint=path, progress=False)
    assert not path.exists()
    holder.communicate()
    hsmamba.finetune(make_model(), scene, split, epochs=1, checkpoint=path, progress=False)
    assert os.listdir(tmp_path) == ["run.pt"]


def test_the_lock_of_a_killed_run_is_taken_over(holder, tmp_path):
    os.kill(holder.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
    holder.wait()
    assert (tmp_path / "run.pt.lock").exists()
    with only_run(tmp_path / "run.pt"):
        assert (tmp_path / "run.pt.lock").read_text() == str(os.getpid())
    assert os.listdir(tmp_path) == []


def test_two_runs_of_one_process_exclude_each_other_too(tmp_path):
    with only_run(tmp_path / "run.pt"), only_run(tmp_path / "other.pt"):
        with pytest.raises(TrainingError, match="goes on"), only_run(tmp_path / "run.pt"):
            pass
        assert (tmp_path / "run.pt.lock").exists()
    assert os.listdir(tmp_path) == []
