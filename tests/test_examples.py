"""The examples run to their end."""

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

EXAMPLES = ROOT / "examples"
ARGUMENTS = {
    "classify_on_slurm.py": ["--local", "2", "--block", "73", "--out", "map.zarr"],
    "classify_scene.py": ["--out", "map.png"],
    "fuse_scene.py": ["--out", "fused.npy"],
    "finetune_few_labels.py": ["--epochs", "1", "--count", "3", "--out", "model"],
}


def test_every_example_is_known_here():
    assert {path.name for path in EXAMPLES.glob("*.py")} == ARGUMENTS.keys()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if "slurm" in name else []) for name in ARGUMENTS]
)
def test_example(name, tmp_path):
    for package in ("zarr", "distributed") if "slurm" in name else ("matplotlib",):
        pytest.importorskip(package)
    command = [sys.executable, str(EXAMPLES / name), *ARGUMENTS[name]]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="shell scripts")
def test_shell_scripts_can_be_parsed():
    for path in EXAMPLES.glob("*.sh"):
        subprocess.run(["bash", "-n", path], check=True)
