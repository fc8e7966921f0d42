"""How a backend is chosen, forced, refused and reported, and that the operator works with torch's transforms."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.checkpoint import checkpoint

from hsmamba.ops import (
    BackendUnavailableError,
    available_backends,
    backends,
    cpu,
    official,
    scan_backend,
    selective_scan,
)
from hsmamba.ops.inputs import check_inputs
from hsmamba.ops.operator import scan_backward_op, scan_op

STATUS = available_backends()
FUSED_HERE = [name for name in ("cpu", "lean") if STATUS[name].available]
ROOT = Path(__file__).resolve().parents[2]


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


def used_backend(monkeypatch, **case):
    """Name of the backend that a scan without orders runs on."""
    names = []
    real = backends.choose_backend
    monkeypatch.setattr("hsmamba.ops.scan.choose_backend", lambda *a: names.append(real(*a)) or names[-1])
    selective_scan(**case)
    return names[0]


def test_every_backend_is_listed_with_a_reason_where_it_is_missing():
    assert set(STATUS) == {"cpu", "triton", "mamba_ssm", "lean", "torch", "reference"}
    for status in STATUS.values():
        assert status.summary
        assert status.available == (status.reason is None)
        assert str(status) == (status.summary if status.available else f"unavailable: {status.reason}")
    assert STATUS["reference"].available


def test_the_rule(monkeypatch):
    assert used_backend(monkeypatch, **arguments()) == ("cpu" if STATUS["cpu"].available else "lean")
    assert used_backend(monkeypatch, **arguments(dtype=torch.float64)) == "lean"
    assert backends.choose_backend(None, "mps", False, False, False) == "torch"
    assert backends.choose_backend(None, "cpu", False, False, True) == "torch"


def test_argument_goes_before_context_goes_before_rule(monkeypatch):
    case = arguments()
    with scan_backend("reference"):
        assert used_backend(monkeypatch, **case) == "reference"
        assert used_backend(monkeypatch, **case, backend="torch") == "torch"
        with scan_backend(None):
            assert used_backend(monkeypatch, **case) != "reference"
        assert used_backend(monkeypatch, **case) == "reference"
    assert used_backend(monkeypatch, **case) != "reference"


def in_new_process(code, **environment):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)


def test_environment_variable_forces_a_backend():
    code = """
from hsmamba.ops import backends
print(backends.choose_backend(backends.forced_backend(), "cpu", False, False, False))
"""
    assert in_new_process(code, HSMAMBA_SCAN="reference").stdout.strip() == "reference"
    wrong = in_new_process(code, HSMAMBA_SCAN="fastest")
    assert "HSMAMBA_SCAN got 'fastest'" in wrong.stderr
    assert "reference" in wrong.stderr


@pytest.mark.parametrize("name", ["fastest", "CPU", ""])
def test_unknown_names_are_refused_with_the_known_ones(name):
    with pytest.raises(ValueError, match=r"no scan backend; there are: cpu, .*reference"):
        selective_scan(**arguments(), backend=name)
    with pytest.raises(ValueError, match="no scan backend"), scan_backend(name):
        pass


def test_a_backend_that_cannot_run_says_why():
    with pytest.raises(
        BackendUnavailableError, match=r"'cpu' was asked for .* float32 and u is float64; take one of lean"
    ):
        selective_scan(**arguments(dtype=torch.float64), backend="cpu")
    with pytest.raises(BackendUnavailableError, match="it runs on cuda tensors, these are on cpu"):
        selective_scan(**arguments(), backend="mamba_ssm")
    if not STATUS["mamba_ssm"].available:
        with pytest.raises(BackendUnavailableError, match=r"hsmamba\[cuda\]|MAMBA_FORCE_BUILD"):
            backends.choose_backend("mamba_ssm", "cuda", False, False, False)
    with pytest.raises(BackendUnavailableError, match=r"no initial state .* take one of .*torch"):
        backends.choose_backend("mamba_ssm", "cuda", False, True, False)


def test_missing_kernel_falls_back_loudly_and_once(monkeypatch, caplog, tmp_path):
    monkeypatch.setattr(cpu, "LIBRARIES", tmp_path)
    cpu.load.cache_clear()
    backends._log_choice.cache_clear()
    try:
        with caplog.at_level(logging.INFO, logger="hsmamba.ops"):
            for _ in range(2):
                assert used_backend(monkeypatch, **arguments()) == "lean"
        assert [r.levelname for r in caplog.records] == ["WARNING"]
        assert "runs on 'lean', slower than it could be" in caplog.text
        assert "ziglang" in available_backends()["cpu"].reason
        assert str(tmp_path) in available_backends()["cpu"].reason
    finally:
        cpu.load.cache_clear()
        backends._log_choice.cache_clear()


def test_a_damaged_library_is_a_reason_not_a_crash(monkeypatch, tmp_path):
    (tmp_path / cpu.library_name()).write_bytes(b"not a library")
    monkeypatch.setattr(cpu, "LIBRARIES", tmp_path)
    cpu.load.cache_clear()
    try:
        assert "cannot be loaded" in available_backends()["cpu"].reason
    finally:
        cpu.load.cache_clear()


def test_choice_is_logged_once(caplog):
    backends._log_choice.cache_clear()
    with caplog.at_level(logging.INFO, logger="hsmamba.ops"):
        for _ in range(3):
            selective_scan(**arguments(dtype=torch.float64))
    assert [r.levelname for r in caplog.records] == ["INFO"]
    assert "cpu float64 tensors runs on 'lean'" in caplog.text


def test_mamba_ssm_is_probed_by_its_kernel_and_called_with_its_own_shapes(monkeypatch):
    import types

    def selective_scan_fn(
        u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False, return_last_state=False
    ):
        assert B.ndim == 2 or B.shape[0] == u.shape[0]
        return selective_scan(
            u, delta, A, B, C, D, z, delta_bias, delta_softplus, return_last_state, backend="reference"
        )

    interface = types.ModuleType("mamba_ssm.ops.selective_scan_interface")
    interface.selective_scan_fn, interface.selective_scan_cuda = selective_scan_fn, None
    package = types.ModuleType("mamba_ssm.ops")
    package.selective_scan_interface = interface
    monkeypatch.setitem(sys.modules, "mamba_ssm", types.ModuleType("mamba_ssm"))
    monkeypatch.setitem(sys.modules, "mamba_ssm.ops", package)
    monkeypatch.setitem(sys.modules, "mamba_ssm.ops.selective_scan_interface", interface)
    try:
        official._interface.cache_clear()
        assert "MAMBA_FORCE_BUILD=TRUE" in available_backends()["mamba_ssm"].reason
        official._interface.cache_clear()
        interface.selective_scan_cuda = object()
        assert available_backends()["mamba_ssm"].available
        case = arguments()
        constant = case | {"B": case["A"], "C": case["A"]}
        for x in (case, constant):
            tensors = {"D": None, "z": None, "delta_bias": None, "initial_state": None} | x
            y, last = official.scan_mamba_ssm(check_inputs(**tensors))
            truth = selective_scan(**x, return_last_state=True, backend="reference")
            assert torch.equal(y, truth[0])
            assert torch.equal(last, truth[1])
    finally:
        official._interface.cache_clear()


BAD = {
    "u is (b, d, l)": lambda c: c | {"u": c["u"][0]},
    "delta should be (2, 6, 40)": lambda c: c | {"delta": c["delta"][..., 1:]},
    "A should be (6, 4)": lambda c: c | {"A": c["A"][:5]},
    "C is (6, 4), (2, 4, 40) or (2, g, 4, 40) with a number of groups g that divides d = 6": lambda c: (
        c | {"C": c["C"].repeat(1, 2, 1, 1)}
    ),
    "B is (6, 4), (2, 4, 40) or (2, g, 4, 40)": lambda c: c | {"B": c["B"][:1, 0]},
    "D should be (6,)": lambda c: c | {"D": c["D"][:1]},
    "initial_state should be (2, 6, 4)": lambda c: c | {"initial_state": torch.zeros(2, 4, 6)},
}


@pytest.mark.parametrize("message", BAD)
def test_shapes_that_do_not_fit_are_all_named(message):
    with pytest.raises(ValueError) as caught:
        selective_scan(**BAD[message](arguments()))
    assert message in str(caught.value)
    assert "got u (" in str(caught.value)
    assert "D (" in str(caught.value)


def test_complex_integer_and_scattered_tensors_are_refused():
    case = arguments()
    with pytest.raises(TypeError, match=r"A is torch\.complex64"):
        selective_scan(**case | {"A": case["A"].to(torch.complex64)})
    with pytest.raises(TypeError, match=r"u is torch\.int64"):
        selective_scan(**case | {"u": case["u"].long()})
    with pytest.raises(ValueError, match="u on cpu and A on meta"):
        selective_scan(**case | {"A": case["A"].to("meta")})


@pytest.mark.parametrize("level", ["baseline", "avx2", "avx512"])
def test_every_instruction_set_of_this_processor(monkeypatch, level):
    levels = ["baseline", "avx2", "avx512"]
    if not STATUS["cpu"].available or levels.index(level) > levels.index(cpu.level()):
        pytest.skip(f"{level} does not run here")
    monkeypatch.setattr(cpu, "level", lambda: level)
    for d, n in ((6, 3), (74, 5)):
        case = arguments(d=d, n=n, length=70)
        leaves = {k: v.requires_grad_() for k, v in case.items() if isinstance(v, torch.Tensor)}
        grads = []
        for name in ("reference", "cpu"):
            y = selective_scan(**case, backend=name)
            grads.append([y, *torch.autograd.grad(y.square().sum(), list(leaves.values()))])
        for true, value in zip(*grads, strict=True):
            torch.testing.assert_close(value, true, rtol=2e-5, atol=2e-5 * true.abs().max().item())


def test_threads_of_our_own_where_torch_has_no_gnu_openmp(monkeypatch):
    if not STATUS["cpu"].available:
        pytest.skip(str(STATUS["cpu"]))
    case = arguments(b=8, d=64, length=64, n=16)
    y = selective_scan(**case, backend="cpu")
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert torch.equal(selective_scan(**case, backend="cpu"), y)
        monkeypatch.setattr(cpu, "_openmp_team", lambda: None)
        assert torch.equal(selective_scan(**case, backend="cpu"), y)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("backend", FUSED_HERE)
def test_operator_passes_torch_checks(backend):
    case = {"z": None, "delta_bias": None, "initial_state": None} | arguments()
    case = {k: v.requires_grad_() if isinstance(v, torch.Tensor) else v for k, v in case.items()}
    inputs = check_inputs(**case)
    torch.library.opcheck(scan_op, (*inputs, True, backend))
    y, last, checkpoints = scan_op(*inputs, True, backend)
    detached = [x.detach() if isinstance(x, torch.Tensor) else x for x in inputs]
    checks = ("test_schema", "test_faketensor")
    torch.library.opcheck(
        scan_backward_op, (*detached, backend, checkpoints.detach(), y.detach(), last.detach()), test_utils=checks
    )
    torch.library.opcheck(
        scan_backward_op, (*detached, backend, checkpoints[:0].detach(), None, last.detach()), test_utils=checks
    )


def test_compiles_without_graph_break_and_follows_the_forced_backend():
    case = arguments()
    scan = torch.compile(lambda **k: selective_scan(**k), fullgraph=True, backend="aot_eager")
    leaf = case["u"].requires_grad_()
    (true,) = torch.autograd.grad(selective_scan(**case).square().sum(), leaf)
    for name in (None, "reference", "torch", None):
        with scan_backend(name):
            y = scan(**case)
            torch.testing.assert_close(y, selective_scan(**case), rtol=1e-5, atol=1e-5)
        (grad,) = torch.autograd.grad(y.square().sum(), leaf)
        torch.testing.assert_close(grad, true, rtol=1e-4, atol=1e-4)


class Scan(torch.nn.Module):
    def __init__(self, d=6, n=4):
        super().__init__()
        self.A = torch.nn.Parameter(-torch.rand(d, n))

    def forward(self, u, delta, B, C):
        return selective_scan(u, delta, self.A, B, C, delta_softplus=True)


def export_arguments(batch=2, length=40):
    case = arguments(b=batch, length=length)
    return case["u"], case["delta"], case["B"], case["C"]


def test_exports_as_one_operator_with_dynamic_batch_and_length():
    model = Scan().eval()
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length", min=2)
    shapes = ({0: batch, 2: length}, {0: batch, 2: length}, {0: batch, 3: length}, {0: batch, 3: length})
    with torch.no_grad():
        program = torch.export.export(model, export_arguments(), dynamic_shapes=shapes)
    assert any(node.target == torch.ops.hsmamba.selective_scan.default for node in program.graph.nodes)
    for inputs in (export_arguments(), export_arguments(3, 71)):
        torch.testing.assert_close(program.module()(*inputs), model(*inputs))


def test_export_under_the_torch_backend_has_plain_operations_only():
    with torch.no_grad(), scan_backend("torch"):
        program = torch.export.export(Scan().eval(), export_arguments())
    targets = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert targets
    assert all(target.startswith("aten.") for target in targets)


def test_onnx_export_decomposes_and_runs_with_another_batch(tmp_path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    model = Scan().eval()
    batch = torch.export.Dim("batch")
    with torch.no_grad():
        program = torch.onnx.export(
            model, export_arguments(), dynamo=True, dynamic_shapes=({0: batch},) * 4, verbose=False
        )
    program.save(str(tmp_path / "scan.onnx"))
    session = runtime.InferenceSession(str(tmp_path / "scan.onnx"))
    inputs = export_arguments(5)
    names = [x.name for x in session.get_inputs()]
    (y,) = session.run(None, {name: x.numpy() for name, x in zip(names, inputs, strict=True)})
    np.testing.assert_allclose(y, model(*inputs).detach().numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backend", FUSED_HERE)
def test_torch_func(backend):
    case = arguments(b=1, length=35)
    case.pop("delta_softplus")

    def loss(u, delta, A, B, C, D):
        y, last = selective_scan(u, delta, A, B, C, D, delta_softplus=True, return_last_state=True, backend=backend)
        return y.square().sum() + last.sum()

    tensors = list(case.values())
    leaves = [x.clone().requires_grad_() for x in tensors]
    true = torch.autograd.grad(loss(*leaves), leaves)
    wanted = tuple(range(len(tensors)))
    for value, expected in zip(torch.func.grad(loss, argnums=wanted)(*tensors), true, strict=True):
        torch.testing.assert_close(value, expected)
    stacked = [torch.stack([x, 0.5 * x]) if i != 2 else x for i, x in enumerate(tensors)]
    in_dims = (0, 0, None, 0, 0, 0)
    per_sample = torch.func.vmap(torch.func.grad(loss, argnums=wanted), in_dims=in_dims)(*stacked)
    halves = [0.5 * x if i != 2 else x for i, x in enumerate(tensors)]
    for value, first, second in zip(per_sample, true, torch.func.grad(loss, argnums=wanted)(*halves), strict=True):
        torch.testing.assert_close(value, torch.stack([first, second]), rtol=1e-4, atol=1e-4)
    losses = torch.func.vmap(loss, in_dims=in_dims)(*stacked)
    torch.testing.assert_close(losses, torch.stack([loss(*tensors), loss(*halves)]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backend", FUSED_HERE)
def test_second_derivative_is_refused_and_points_to_the_backend_that_has_it(backend):
    case = arguments()
    u = case["u"].requires_grad_()
    (grad,) = torch.autograd.grad(selective_scan(**case, backend=backend).square().sum(), u, create_graph=True)
    with pytest.raises(NotImplementedError, match=r'backend="torch"'):
        grad.sum().backward()


@pytest.mark.parametrize("backend", FUSED_HERE)
@pytest.mark.parametrize("reentrant", [True, False])
def test_activation_checkpointing(backend, reentrant):
    case = arguments()
    u = case["u"].requires_grad_()

    def scan(u):
        return selective_scan(**case | {"u": u}, backend=backend).square().sum()

    (true,) = torch.autograd.grad(scan(u), u)
    checkpoint(scan, u, use_reentrant=reentrant).backward()
    assert torch.equal(u.grad, true)


def test_autocast_leaves_the_operator_alone():
    case = arguments()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = selective_scan(**case)
    assert y.dtype == torch.float32
    assert torch.equal(y, selective_scan(**case))


def test_inference_keeps_no_checkpoints():
    inputs = check_inputs(**{"z": None, "delta_bias": None, "initial_state": None} | arguments())
    assert scan_op(*inputs, False, "lean")[2].numel() == 0


def test_works_in_a_forked_process_and_from_a_read_only_folder():
    if not STATUS["cpu"].available or not hasattr(os, "fork"):
        pytest.skip("needs the compiled kernel and fork")
    code = """
import os, torch
from hsmamba.ops import selective_scan
torch.set_num_threads(2)
u = torch.ones(4, 64, 64); A = -torch.ones(64, 16); B = torch.ones(4, 16, 64)
y = selective_scan(u, u, A, B, B, backend="cpu")
pid = os.fork()
if pid == 0:
    os._exit(0 if torch.equal(selective_scan(u, u, A, B, B, backend="cpu"), y) else 1)
print(os.waitpid(pid, 0)[1])
"""
    assert in_new_process(code).stdout.strip() == "0"
