"""How a backend is chosen, forced, refused and reported."""

import logging
import sys

import pytest
import torch

from hsmamba.ops import (
    BackendUnavailableError,
    available_backends,
    backends,
    cpu,
    scan_backend,
    selective_scan,
    triton_scan,
)
from hsmamba.ops import mamba_ssm as kernel_of_mamba_ssm
from hsmamba.ops.inputs import check_inputs
from tests.ops.scan_cases import STATUS, arguments, in_new_process


def used_backend(monkeypatch, **case):
    """Name of the backend that a scan without orders runs on."""
    names = []
    real = backends.choose_backend
    monkeypatch.setattr("hsmamba.ops.scan.choose_backend", lambda *a: names.append(real(*a)) or names[-1])
    selective_scan(**case)
    return names[0]


def test_every_backend_is_listed_with_a_reason_where_it_is_missing():
    assert set(STATUS) == {"cpu", "cuda", "triton", "mamba_ssm", "lean", "torch", "reference"}
    for status in STATUS.values():
        assert status.summary
        assert status.available == (status.reason is None)
        assert str(status) == (status.summary if status.available else f"unavailable: {status.reason}")
    assert STATUS["reference"].available


def test_the_rule(monkeypatch):
    assert used_backend(monkeypatch, **arguments()) == ("cpu" if STATUS["cpu"].available else "lean")
    assert used_backend(monkeypatch, **arguments(dtype=torch.float64)) == "lean"
    assert backends.choose_backend(None, "mps", False, False, None) == "torch"
    assert backends.choose_backend(None, "cpu", False, False, "ONNX export") == "torch"


def test_argument_goes_before_context_goes_before_rule(monkeypatch):
    case = arguments()
    with scan_backend("reference"):
        assert used_backend(monkeypatch, **case) == "reference"
        assert used_backend(monkeypatch, **case, backend="torch") == "torch"
        with scan_backend(None):
            assert used_backend(monkeypatch, **case) != "reference"
        assert used_backend(monkeypatch, **case) == "reference"
    assert used_backend(monkeypatch, **case) != "reference"


def test_environment_variable_forces_a_backend():
    code = """
from hsmamba.ops import backends
print(backends.choose_backend(backends.forced_backend(), "cpu", False, False, None))
"""
    assert in_new_process(code, HSMAMBA_SCAN="reference").stdout.strip() == "reference"


def test_a_wrong_environment_variable_is_named_at_the_first_scan(monkeypatch):
    monkeypatch.setattr(backends, "_forced", "fastest")
    with pytest.raises(ValueError, match=r"HSMAMBA_SCAN got 'fastest', .* there are: cpu, .*reference"):
        selective_scan(**arguments())


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
    if not STATUS["triton"].available:
        with pytest.raises(BackendUnavailableError, match="nor is it available here: it needs"):
            selective_scan(**arguments(), backend="triton")
    if not STATUS["mamba_ssm"].available:
        with pytest.raises(BackendUnavailableError, match=r"hsmamba\[cuda\]|MAMBA_FORCE_BUILD"):
            backends.choose_backend("mamba_ssm", "cuda", False, False, None)
    with pytest.raises(BackendUnavailableError, match=r"no initial state .* take one of .*torch"):
        backends.choose_backend("mamba_ssm", "cuda", False, True, None)
    with pytest.raises(BackendUnavailableError, match=r"ONNX export needs plain .*; take one of torch, ref"):
        backends.choose_backend("lean", "cpu", False, False, "ONNX export")


def test_triton_says_whether_hardware_or_package_is_missing(monkeypatch):
    if not torch.cuda.is_available():
        assert "needs a CUDA device" in STATUS["triton"].reason
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "hsmamba.ops.triton_kernels", raising=False)
    triton_scan._kernels.cache_clear()
    try:
        assert "pip install triton" in available_backends()["triton"].reason
        with pytest.raises(BackendUnavailableError, match="Triton cannot be imported"):
            backends.choose_backend("triton", "cuda", False, False, None)
    finally:
        triton_scan._kernels.cache_clear()


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


@pytest.mark.skipif(isinstance(cpu.load(), str), reason="needs the compiled kernel")
def test_a_library_of_other_sources_is_not_called(monkeypatch):
    monkeypatch.setattr(cpu, "INTERFACE", cpu.INTERFACE + 1)
    cpu.load.cache_clear()
    try:
        assert "install hsmamba anew" in available_backends()["cpu"].reason
    finally:
        cpu.load.cache_clear()


def test_choice_is_logged_once(caplog):
    backends._log_choice.cache_clear()
    with caplog.at_level(logging.INFO, logger="hsmamba.ops"):
        for _ in range(3):
            selective_scan(**arguments(dtype=torch.float64))
    assert [r.levelname for r in caplog.records] == ["INFO"]
    assert "cpu float64 tensors runs on 'lean'" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="hsmamba.ops"), scan_backend("reference"):
        for _ in range(3):
            selective_scan(**arguments())
    assert [r.getMessage() for r in caplog.records] == [
        "selective scan for cpu float32 tensors runs on 'reference' (it was asked for)"
    ]


INTERFACE = """
import torch
{kernel}
from hsmamba.ops import selective_scan

def selective_scan_fn(
    u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False, return_last_state=False
):
    assert u.numel() and A.shape[1] <= 256
    for x in (delta, z, *(x for x in (B, C) if x.ndim > 2)):
        assert x is None or (x.dtype == u.dtype and x.dtype != torch.float64)
    for x in (A, D, delta_bias, *(x for x in (B, C) if x.ndim == 2)):
        assert x is None or x.dtype == torch.float32
    return selective_scan(u, delta, A, B, C, D, z, delta_bias, delta_softplus, return_last_state, backend="reference")
"""


@pytest.fixture
def mamba_ssm(monkeypatch, tmp_path):
    """Install a package of mamba-ssm's structure, whose function asks what the CUDA kernel asks of its arguments."""

    def install(kernel):
        (tmp_path / "mamba_ssm" / "ops").mkdir(parents=True, exist_ok=True)
        (tmp_path / "mamba_ssm" / "__init__.py").write_text("from mamba_ssm.ops import selective_scan_interface")
        (tmp_path / "mamba_ssm" / "ops" / "selective_scan_interface.py").write_text(INTERFACE.format(kernel=kernel))
        forget()

    def forget():
        kernel_of_mamba_ssm._interface.cache_clear()
        for name in [name for name in sys.modules if name.partition(".")[0] == "mamba_ssm"]:
            del sys.modules[name]

    monkeypatch.syspath_prepend(tmp_path)
    yield install
    forget()


def test_mamba_ssm_is_probed_by_its_kernel(mamba_ssm, monkeypatch):
    for without in ("import selective_scan_cuda", "selective_scan_cuda = None"):
        mamba_ssm(without)
        reason = available_backends()["mamba_ssm"].reason
        assert "installed without its Mamba-1 kernel; reinstall it with MAMBA_FORCE_BUILD=TRUE" in reason
    mamba_ssm("import another_package_that_is_missing")
    reason = available_backends()["mamba_ssm"].reason
    assert "another_package_that_is_missing" in reason
    assert "hsmamba[cuda]" in reason
    mamba_ssm("selective_scan_cuda = object()")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "needs a CUDA device" in available_backends()["mamba_ssm"].reason
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert available_backends()["mamba_ssm"].available
    for name in ("cuda", "triton"):
        monkeypatch.setitem(backends.BACKENDS, name, backends.BACKENDS[name]._replace(unavailable=lambda: "gone"))
    assert backends.choose_backend(None, "cuda", False, False, None) == "mamba_ssm"
    assert backends.choose_backend(None, "cuda", False, True, None) == "torch"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_mamba_ssm_is_called_as_its_kernel_wants_it(mamba_ssm, dtype):
    mamba_ssm("selective_scan_cuda = object()")
    case = arguments()
    half = case | {name: case[name].to(dtype) for name in ("u", "B")}
    cases = [case, half, case | {"B": case["A"], "C": case["A"]}, half | {"C": case["A"]}, arguments(b=0)]
    for x in [*cases, arguments(length=0)]:
        tensors = {"z": None, "delta_bias": None, "initial_state": None} | x
        y, last = kernel_of_mamba_ssm.scan_mamba_ssm(check_inputs(**tensors))
        truth = selective_scan(**x, return_last_state=True, backend="reference")
        torch.testing.assert_close(y, truth[0])
        torch.testing.assert_close(last, truth[1])
    with pytest.raises(ValueError, match=r"at most 256 states and A is \(6, 300\)"):
        kernel_of_mamba_ssm.scan_mamba_ssm(check_inputs(**tensors | arguments(n=300)))


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
