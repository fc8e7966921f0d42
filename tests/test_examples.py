"""The examples run to their end."""

import importlib.util
import os
import subprocess
import sys

import pytest
import torch

import hsmamba
from tests.conftest import ROOT

EXAMPLES = ROOT / "examples"
ARGUMENTS = {
    "classify_on_slurm.py": ["--local", "2", "--block", "73", "--out", "map.zarr"],
    "own_training_loop.py": ["--epochs", "1", "--count", "3", "--out", "model"],
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


@pytest.fixture(scope="module")
def own_loop():
    spec = importlib.util.spec_from_file_location("own_training_loop", EXAMPLES / "own_training_loop.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("loop", ["pytorch", "accelerate", "lightning"])
def test_every_loop_trains_the_same_and_leaves_what_is_frozen(loop, own_loop, tmp_path, monkeypatch):
    if loop != "pytorch":
        pytest.importorskip(loop)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model = hsmamba.create_model("md2f_mamba", num_classes=11, in_chans=6, patch_size=5)
    own_loop.freeze(model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert any("running_mean" in name for name in before)
    *_, train = own_loop.make_data(2, 6, 5)
    own_loop.LOOPS[loop](model, train, 1)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"head.weight", "head.bias"}


def test_rates_fall_from_the_head_to_the_input(own_loop):
    groups = own_loop.make_optimizer(hsmamba.create_model("md2f_mamba")).param_groups
    scales = [group["lr_scale"] for group in groups]
    assert max(scales) == 1 and min(scales) < 0.7
