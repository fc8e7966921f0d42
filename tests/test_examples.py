"""The examples run to their end."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT

EXAMPLES = ROOT / "examples"
ARGUMENTS = {
    "classify_scene.py": ["--out", "map.png"],
    "fuse_scene.py": ["--out", "fused.npy"],
    "finetune_few_labels.py": ["--epochs", "1", "--count", "3", "--out", "model"],
}


def test_every_example_is_known_here():
    assert {path.name for path in EXAMPLES.glob("*.py")} == ARGUMENTS.keys()


@pytest.mark.parametrize("name", ARGUMENTS)
def test_example(name, tmp_path):
    pytest.importorskip("matplotlib")
    command = [sys.executable, str(EXAMPLES / name), *ARGUMENTS[name]]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert list(tmp_path.iterdir())
