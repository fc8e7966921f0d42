"""Runs a kernel on arrays that lie beside protected pages, in a process of its own."""

import subprocess
import sys

from tests.ops.scan_cases import ROOT

_SETUP = """
import ctypes, sys
import torch
sys.path.insert(0, "tools")
from guard_kernel import Guarded
from hsmamba.ops import cpu
levels = ["baseline", "avx2", "avx512"]
levels = levels[: levels.index(cpu.level()) + 1]
kept = []
def guarded(shape, behind):
    count = torch.Size(shape).numel()
    kept.append(Guarded(4 * count, behind))
    floats = (ctypes.c_float * count).from_address(kept[-1].address)
    return torch.frombuffer(floats, dtype=torch.float32).view(shape).zero_()
"""


def run_guarded(script):
    """Run a script that has `levels` and `guarded(shape, behind)`, zeros flush with the page behind them or before."""
    run = subprocess.run(
        [sys.executable, "-c", _SETUP + script], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    how = f"ended by signal {-run.returncode}\n" if run.returncode < 0 else ""
    assert run.returncode == 0, how + run.stdout + run.stderr
