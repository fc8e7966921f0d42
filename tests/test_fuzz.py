"""Damaged and forged files of all kinds: each is read rightly or refused, in time."""

import os
import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT

for package in ("h5py", "rasterio", "rioxarray"):
    pytest.importorskip(package, reason="the scene formats")
pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes, and limits of memory")


def fuzz(*options):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, ROOT / "tools" / "fuzz.py", *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    return done.returncode, done.stdout + done.stderr


def test_no_damaged_file_is_read_wrongly_or_waited_for():
    code, out = fuzz("--seed", 7, "--cases", 480)
    assert code == 0, out
    assert re.search(r"480 cases, 0 bad", out)
    rows = {line[:12].strip(): [int(n) for n in line[12:].split()[:5]] for line in out.splitlines()[1:-1]}
    assert len(rows) == 12
    for kind, (right, refused, *bad) in rows.items():
        assert right and refused and right + refused == 40 and not any(bad), kind


def test_one_case_can_be_run_again():
    code, out = fuzz("--seed", 7, "--only", 4)
    assert code == 0
    assert out.startswith(("right: ", "refused: "))
    code, out = fuzz("--seed", 7, "--cases", 1, "--kind", "nothing")
    assert code == 1
    assert "expected one of weights, transforms, splits" in out
