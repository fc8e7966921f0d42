"""Arguments of scans, and processes of their own, for the tests of the operator."""

import os
import subprocess
import sys

import torch

from hsmamba.ops import available_backends
from tests.conftest import ROOT

STATUS = available_backends()
FUSED_HERE = [name for name in ("cpu", "lean") if STATUS[name].available]


def arguments(b=2, d=6, length=40, n=4, g=2, dtype=torch.float32):
    rng = torch.Generator().manual_seed(0)
    shapes = {
        "u": (b, d, length),
        "delta": (b, d, length),
        "A": (d, n),
        "B": (b, g, n, length),
        "C": (b, g, n, length),
        "D": (d,),
    }
    case = {name: torch.randn(*shape, generator=rng, dtype=dtype) for name, shape in shapes.items()}
    return case | {"A": -case["A"].abs(), "delta_softplus": True}


_CAPTURED = {"capture_output": True, "text": True, "check": False, "timeout": 300}


def in_new_process(code, cwd=None, **environment):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run([sys.executable, "-c", code], env=env, cwd=cwd, **_CAPTURED)
