"""What holds for every test, and the one place that knows where files outside the package lie."""

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from hsmamba import cli

ROOT = Path(__file__).resolve().parents[1]
# Official goldens and real scenes, whose terms keep them out of the repository; tests that want them skip without.
SHARED = Path(os.environ.get("HSMAMBA_SHARED") or ROOT.parent / "shared")
DATA = Path(os.environ.get("HSMAMBA_DATA") or SHARED / "data")

# The tensors of the tests are small: a second thread costs more than it brings, much more on a busy machine.
torch.set_num_threads(1)
# How long an example takes says more of the machine than of the code.
settings.register_profile("hsmamba", deadline=None)
settings.load_profile("hsmamba")


def pytest_collection_modifyitems(items):
    """Begin with the weights: a long test that is left to the end keeps one process busy while the others wait."""
    items.sort(key=lambda item: not item.nodeid.startswith("tests/weights"))


def golden_files(pattern):
    """The project's own small goldens, and the official ones where they are at hand."""
    return [
        path for folder in (ROOT / "tests" / "goldens", SHARED / "goldens") for path in sorted(folder.glob(pattern))
    ]


def run_python(code):
    """Run code in a process of its own, with this one's packages; return what it prints."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return done.stdout


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command line; exit code, standard output, standard error."""

    def call(*args):
        monkeypatch.setattr(sys, "argv", ["hsmamba", *map(str, args)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out = capsys.readouterr()
        return ended.value.code or 0, out.out, out.err

    return call


@contextmanager
def full_disk():
    """Give a function that lets no file grow beyond a size; in the block alone, for the runner writes files, too."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
