"""The Triton programs in Triton's interpreter on the CPU, and on a GPU where there is one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hsmamba.ops import available_backends
from hsmamba.ops.inputs import check_inputs
from tests.conftest import ROOT

SHAPES = [(3, 6, 70, 5, 2), (2, 4, 1, 3, 1), (1, 4, 33, 16, 4), (2, 10, 32, 4, 1), (0, 4, 33, 3, 4)]  # b, d, l, n, g
SHAPES += [(2, 4, 33, 0, 2), (2, 0, 33, 3, 1)]
# Whether B and C are constant, and whether all that is optional is given: of a shape, one without and one with it.
FORMS = [(False, False), (True, False), (True, True), (False, True)]


def compare(device):
    """Hold the launchers against autograd through the float64 reference, on every form of the arguments."""
    from hsmamba.ops import triton_scan
    from hsmamba.ops.reference import scan_reference

    torch.manual_seed(0)
    for i, shape in enumerate(SHAPES):
        for constant, everything in FORMS if i == 0 else FORMS[i % 2 :: 2]:
            one_case(triton_scan, scan_reference, shape, constant, everything, device)


def one_case(triton_scan, scan_reference, shape, constant, everything, device):
    b, d, length, n, g = shape

    def randn(*size):
        return torch.randn(*size, dtype=torch.float64, device=device)

    B, C = (randn(*((d, n) if constant and d else (b, g, n, length))) for _ in range(2))
    u = randn(b, d, length) if everything else randn(b, length, d).transpose(1, 2)
    optional = [randn(d), randn(b, d, length), randn(d), randn(b, d, n)] if everything else [None] * 4
    tensors = [u, randn(b, d, length), -randn(d, n).abs(), B, C, *optional]
    tensors = [x if x is None else x.float().double().requires_grad_() for x in tensors]
    leaves = [x for x in tensors if x is not None]
    inputs = check_inputs(*tensors, True)
    y, last = scan_reference(inputs)
    dy, dlast = torch.randn_like(y).float(), torch.randn_like(last).float()
    true = [y, last, *torch.autograd.grad((y, last), leaves, (dy.double(), dlast.double()))]
    with torch.no_grad():
        single = inputs.to(torch.float32)
        value, state, checkpoints = triton_scan.forward(single, True)
        grads = [x for x in triton_scan.backward(single, checkpoints, dy, dlast) if x is not None]
    for i, (expected, got) in enumerate(zip(true, [value, state, *grads], strict=True)):
        got = got.view_as(expected).double()
        tolerance = 2e-6 if i < 2 else 2e-5
        # what is zero by cancellation (of A, one step from a zero state) is rounding of numbers of about 1
        worst = (got - expected).abs().max() / expected.abs().max().clamp_min(0.1) if expected.numel() else 0.0
        assert worst <= tolerance, (shape, constant, everything, i, worst)


@pytest.mark.slow
def test_in_the_interpreter():
    pytest.importorskip("triton")
    env = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": f"{ROOT}{os.pathsep}{Path(__file__).parent}"}
    code = "import test_triton; test_triton.compare('cpu'); print('agrees')"
    run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert run.stdout.strip() == "agrees", run.stderr


def test_on_a_gpu():
    status = available_backends()["triton"]
    if not status.available:
        pytest.skip(str(status))
    compare("cuda")
