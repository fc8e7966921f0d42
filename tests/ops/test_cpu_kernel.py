"""The compiled CPU kernel: every instruction set, threads, forks, interrupts, a folder that cannot be written to."""

import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from hsmamba.ops import cpu, selective_scan
from hsmamba.ops.inputs import check_inputs
from tests.ops.scan_cases import ROOT, STATUS, arguments, in_new_process

pytestmark = pytest.mark.skipif(not STATUS["cpu"].available, reason=str(STATUS["cpu"]))


@pytest.fixture(params=["baseline", "avx2", "avx512"])
def level(request, monkeypatch):
    """Each instruction set of this processor in turn."""
    levels = ["baseline", "avx2", "avx512"]
    if levels.index(request.param) > levels.index(cpu.level()):
        pytest.skip(f"{request.param} does not run here")
    monkeypatch.setattr(cpu, "level", lambda: request.param)
    return request.param


@pytest.mark.usefixtures("level")
def test_every_instruction_set_of_this_processor():
    for d, n in ((6, 3), (74, 5)):
        case = arguments(d=d, n=n, length=70)
        leaves = {k: v.requires_grad_() for k, v in case.items() if isinstance(v, torch.Tensor)}
        grads = []
        for name in ("reference", "cpu"):
            y = selective_scan(**case, backend=name)
            grads.append([y, *torch.autograd.grad(y.square().sum(), list(leaves.values()))])
        for true, value in zip(*grads, strict=True):
            torch.testing.assert_close(value, true, rtol=2e-5, atol=2e-5 * true.abs().max().item())


@pytest.mark.slow
def test_no_access_outside_an_array():
    run = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "guard_kernel.py"), "--cases", "20"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if run.returncode == 2:
        pytest.skip(run.stdout)
    assert run.returncode == 0, run.stdout + run.stderr


def outcome(backend, case):
    """Outputs and gradients by name."""
    leaves = {k: v.detach().requires_grad_() for k, v in case.items() if isinstance(v, torch.Tensor)}
    y, last = selective_scan(**case | leaves, return_last_state=True, backend=backend)
    grads = torch.autograd.grad(y.sum() + last.sum(), list(leaves.values()))
    return {"y": y, "last": last} | dict(zip(leaves, grads, strict=True))


def assert_like_the_reference(case):
    got, want = outcome("cpu", case), outcome("reference", case)
    for name, true in want.items():
        finite = true.isfinite()
        assert torch.equal(got[name].isfinite(), finite), name
        if finite.any():
            largest = true[finite].abs().max().item()
            torch.testing.assert_close(got[name][finite], true[finite], rtol=2e-5, atol=2e-5 * largest)


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("per_group", [1, 3, 8, 17])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("name", ["u", "delta", "A", "B", "C", "D", "z", "delta_bias", "initial_state"])
def test_what_is_not_finite_stays_with_its_group_and_sample(name, value, per_group):
    b, d, n, length = 2, 3 * per_group, 3, 40
    rng = torch.Generator().manual_seed(0)
    optional = {"z": (b, d, length), "delta_bias": (d,), "initial_state": (b, d, n)}
    optional = {key: torch.randn(*shape, generator=rng) for key, shape in optional.items()}
    case = arguments(b, d, length, n, 3) | optional
    for group in (0, 1):  # the axis of channels or groups comes first or second
        x = case[name].clone()
        place = x if name in ("A", "D", "delta_bias") else x[1]
        place[group * place.shape[0] // 3].view(-1)[-1] = value
        assert_like_the_reference(case | {name: x})


@pytest.mark.usefixtures("level")
def test_states_that_fade_away_become_zero_and_other_small_numbers_do_not():
    case = arguments(length=70)
    case["u"][..., 1:] = 0.0  # from here on the state decays alone, a step by e^-3
    case["A"], case["delta"] = torch.full_like(case["A"], -1.0), torch.full_like(case["delta"], 3.0)
    y = selective_scan(**case, backend="cpu")
    assert_like_the_reference(case)
    assert not torch.any((y != 0) & (y.abs() < torch.finfo(torch.float32).tiny))
    assert torch.tensor([1e-40]).mul(0.5).item() > 0  # the mode of the processor is as it was


@pytest.mark.usefixtures("level")
def test_dead_lanes_of_a_group_take_nothing_from_the_next():
    case = arguments(d=6, n=4, g=2)
    for changes in ({"A": 200.0, "delta": -60.0}, {"delta_bias": torch.inf}, {"A": torch.nan}, {"D": torch.inf}):
        changed = case | {"delta_bias": torch.zeros(6)}
        for name, value in changes.items():
            x = changed[name].clone()
            x.narrow(int(name == "delta"), 3, 3).fill_(value)
            changed[name] = x
        assert_like_the_reference(changed)


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("gated", [False, True])
def test_no_direct_path_makes_nothing_of_what_is_not_finite(gated):
    case = arguments(n=0)
    case["u"][0, 2, 5], case["u"][1, 3, 7] = torch.inf, torch.nan
    del case["D"]
    y = selective_scan(**case, z=torch.ones_like(case["u"]) if gated else None, backend="cpu")
    assert torch.equal(y, torch.zeros_like(y))


def test_threads_of_our_own_where_torch_has_no_gnu_openmp(monkeypatch):
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


@pytest.mark.parametrize("team", [True, False])
def test_several_python_threads_at_once(monkeypatch, team):
    if not team:
        monkeypatch.setattr(cpu, "_openmp_team", lambda: None)
    cases = [arguments(b=8, d=64, length=40 + i, n=16) for i in range(6)]

    def gradient(case):
        u = case["u"].detach().requires_grad_()
        return torch.autograd.grad(selective_scan(**case | {"u": u}, backend="cpu").square().sum(), u)[0]

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        alone = [gradient(case) for case in cases]
        with ThreadPoolExecutor(4) as pool:
            for _ in range(3):
                assert all(torch.equal(x, y) for x, y in zip(pool.map(gradient, cases), alone, strict=True))
    finally:
        torch.set_num_threads(threads)


FORK = """
import os, torch
from hsmamba.ops import cpu, selective_scan
print(cpu.LIBRARIES)
torch.set_num_threads(3)
# Small enough for torch's own operations to stay on one thread: torch itself hangs after a fork where they do not.
u = torch.ones(4, 64, 64, requires_grad=True); A = -torch.ones(64, 16); B = torch.ones(4, 16, 64)
def gradient():
    return torch.autograd.grad(selective_scan(u, u, A, B, B, backend="cpu").sum(), u)[0]
want = gradient()
if hasattr(os, "fork"):
    pid = os.fork()
    if pid == 0:
        os._exit(0 if torch.equal(gradient(), want) else 1)
    assert os.waitpid(pid, 0)[1] == 0
"""


@pytest.mark.slow
def test_a_read_only_folder_and_a_fork(tmp_path):
    package = tmp_path / "site" / "hsmamba"
    shutil.copytree(ROOT / "hsmamba" / "ops", package / "ops", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("__init__.py", "_version.py", "errors.py"):
        shutil.copy(ROOT / "hsmamba" / name, package)
    files = sorted(tmp_path.rglob("*"))
    for path in files:
        path.chmod(0o555 if path.is_dir() else 0o444)
    nowhere = {"HOME": str(tmp_path / "none"), "PYTHONDONTWRITEBYTECODE": "1"}
    run = in_new_process(FORK, cwd=tmp_path, PYTHONPATH=str(package.parent), **nowhere)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == str(package / "ops" / "lib")
    assert sorted(tmp_path.rglob("*")) == files


INTERRUPTS = """
import faulthandler, random, signal
from hsmamba.ops import cpu
faulthandler.dump_traceback_later(120, exit=True)
signal.signal(signal.SIGALRM, signal.default_int_handler)
interrupted = 0
for _ in range(10_000):
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(5e-6, 3e-4))
        for _ in range(20):
            cpu._on_threads(lambda thread: None, 3)
        signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        interrupted += 1
assert interrupted > 1000, interrupted
seen = []
cpu._on_threads(seen.append, 3)
assert sorted(seen) == [0, 1, 2]
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs POSIX timers")
@pytest.mark.slow
def test_interrupts_leave_the_helping_threads_free():
    run = in_new_process(INTERRUPTS)
    assert run.returncode == 0, run.stderr


def test_an_error_of_a_helping_thread_is_raised():
    def work(thread):
        if thread:
            raise ValueError(f"thread {thread}")

    with pytest.raises(ValueError, match=r"thread [12]"):
        cpu._on_threads(work, 3)
    cpu._on_threads(str, 3)


def test_tensors_of_another_device_are_refused_by_the_operator_too():
    case = {"z": None, "delta_bias": None, "initial_state": None} | arguments()
    inputs = check_inputs(**{k: x.to("meta") if isinstance(x, torch.Tensor) else x for k, x in case.items()})
    with pytest.raises(ValueError, match=r"CPU kernel got tensors on meta.*decompositions"):
        cpu.forward(inputs, False)
