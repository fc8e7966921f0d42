"""The CUDA kernels: compiled by NVRTC, run on the CPU by an emulator, and run on a GPU where there is one."""

import ctypes
import functools
import hashlib
import itertools
import shutil
import subprocess
import sys

import pytest
import torch

from hsmamba.ops import available_backends, cuda_scan, nvrtc, scan_backend, selective_scan, triton_scan
from hsmamba.ops.inputs import check_inputs
from hsmamba.ops.reference import scan_reference
from tests.conftest import ROOT, run_python
from tests.ops.scan_cases import arguments
from tests.ops.test_triton import SHAPES, one_case

HEADER = ROOT / "tests" / "ops" / "cuda_on_cpu.h"
LAUNCH = """
static const Scan *argument;
extern "C" __attribute__((visibility("default")))
int launch(const char *name, int blocks, int threads, const Scan *of_kernel, int falling) {
    argument = of_kernel;
    void (*kernel)() = nullptr;
    if (!strcmp(name, "scan")) kernel = [] { scan(*argument); };
    if (!strcmp(name, "scan_chunks")) kernel = [] { scan_chunks(*argument); };
    if (!strcmp(name, "combine_chunks")) kernel = [] { combine_chunks(*argument); };
    return kernel && run_grid(kernel, blocks, threads, falling);
}
"""


class OnCpu:
    """Launches the kernels of one form of the arguments in the emulator."""

    def __init__(self, library, falling):
        self.library, self.falling = ctypes.CDLL(str(library)), falling

    def launch(self, kernel, blocks, threads, argument):
        address = ctypes.c_void_p(argument.buffer_info()[0])
        assert self.library.launch(kernel.encode(), blocks, threads, address, self.falling), f"{kernel} hangs"


def compiled(folder, options):
    """The kernels, compiled for this machine's CPU."""
    name = hashlib.sha256(" ".join(options).encode()).hexdigest()[:16]
    source, library = folder / f"{name}.cpp", folder / f"{name}.so"
    if not library.exists():
        source.write_text(f'#include "{HEADER}"\n#include "{cuda_scan.SOURCE}"\n{LAUNCH}')
        gcc = shutil.which("g++")
        compiler = [gcc] if gcc else [sys.executable, "-m", "ziglang", "c++", "-nostdlib++"]
        flags = ["-std=c++17", "-O1", "-w", "-fvisibility=hidden", "-shared", "-fPIC", "-fno-strict-aliasing"]
        command = [*compiler, *flags, *options, "-o", str(library), str(source), "-lm"]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
    return library


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture(params=[False, True], ids=["rising", "falling"])
def emulator(request, monkeypatch, libraries):
    """Have `cuda_scan` run on CPU tensors."""
    if sys.platform != "linux":
        pytest.skip("the emulator's fibers are those of Linux")
    if not shutil.which("g++"):
        pytest.importorskip("ziglang", reason="neither g++ nor ziglang is here")

    @functools.cache
    def program(options, device):
        return OnCpu(compiled(libraries, options), request.param)

    monkeypatch.setattr(cuda_scan, "_program", program)


def short_chunks(monkeypatch):
    monkeypatch.setattr(cuda_scan, "SHORTEST_CHUNK", 32)
    monkeypatch.setattr(cuda_scan, "CHUNKED_WARPS", 1 << 20)


def compare(shapes, device="cpu"):
    torch.manual_seed(0)
    for shape in shapes:
        for constant, everything in itertools.product((False, True), repeat=2):
            one_case(cuda_scan, scan_reference, shape, constant, everything, device)


@pytest.mark.slow
def test_in_the_emulator(emulator):
    compare(SHAPES)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 12, 41, 40, 1), (1, 140, 9, 2, 2), (1, 36, 35, 7, 1), (1, 72, 37, 16, 1)])
def test_all_sizes_of_tiles_in_the_emulator(emulator, shape):
    one_case(cuda_scan, scan_reference, shape, False, True, "cpu")


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(2, 6, 300, 5, 2), (1, 4, 97, 16, 1)])
def test_chunks_of_time_in_the_emulator(emulator, monkeypatch, shape):
    short_chunks(monkeypatch)
    compare([shape])


@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize("dtypes", [(torch.float16, torch.bfloat16), (torch.bfloat16, torch.float16)])
def test_half_precision_in_the_emulator(emulator, dtypes, back):
    half_precision("cpu", dtypes, back)


def half_precision(device, dtypes, back):
    """Hold numbers of 16 bits against the reference on the same numbers: only results are rounded."""
    case = arguments(length=35)
    case |= {"z": torch.randn(case["u"].shape), "delta_bias": torch.randn(6)}
    first, second = dtypes
    kinds = {"u": first, "delta": second, "B": first, "C": second, "z": second, "D": first}
    case |= {name: case[name].to(dtype) for name, dtype in kinds.items()}
    case = {name: x.to(device) if isinstance(x, torch.Tensor) else x for name, x in case.items()}
    inputs = check_inputs(**{"initial_state": None} | case)
    y, last, checkpoints = cuda_scan.forward(inputs, True)
    assert y.dtype == first
    assert last.dtype == torch.float32
    exact = inputs.to(torch.float64)
    leaves = [x.requires_grad_() for x in exact if isinstance(x, torch.Tensor)]
    truth, true_last = scan_reference(exact)
    rounding = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}
    if not back:
        assert (y.double() - truth).abs().max() <= rounding[first] * truth.abs().max()
        assert (last.double() - true_last).abs().max() <= 2e-6 * true_last.abs().max()
        return
    dy = torch.randn_like(y)
    true = torch.autograd.grad(truth, leaves, dy.double())
    found = [x for x in cuda_scan.backward(inputs, checkpoints, dy, None) if x is not None]
    for expected, got in zip(true, found, strict=True):
        assert (got.double() - expected).abs().max() <= rounding[got.dtype] * expected.abs().max()


def test_views_and_time_steps_without_softplus_in_the_emulator(emulator):
    case = arguments(b=2, d=6, length=70, n=4, g=2) | {"delta_softplus": False}
    case["delta"] = case["delta"].abs()
    case["u"] = case["u"].repeat_interleave(3, dim=2)[:, :, ::3]
    case["B"] = torch.cat([case["B"], case["C"]], dim=2).transpose(2, 3).contiguous().transpose(2, 3)[:, :, :4]
    case["z"] = torch.randn(2, 70, 6).transpose(1, 2)  # along channels, unlike u
    inputs = check_inputs(**{"delta_bias": None, "initial_state": None} | case)
    y, last, checkpoints = cuda_scan.forward(inputs, True)
    exact = inputs.to(torch.float64)
    leaves = [x.requires_grad_() for x in exact if isinstance(x, torch.Tensor)]
    truth, true_last = scan_reference(exact)
    torch.testing.assert_close(y, truth.float(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(last, true_last.float(), rtol=1e-5, atol=1e-5)
    grads = cuda_scan.backward(inputs, checkpoints, torch.ones(()).expand_as(y), None)
    true = torch.autograd.grad(truth.sum(), leaves)
    for expected, got in zip(true, [x for x in grads if x is not None], strict=True):
        assert (got - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert grads.B.stride() == torch.empty_like(inputs.B).stride()  # no copy on the way out


def test_gradients_of_a_scan_without_steps():
    inputs = check_inputs(**{"z": None, "delta_bias": None, "initial_state": torch.ones(2, 6, 4)} | arguments(length=0))
    _, last, checkpoints = cuda_scan.forward(inputs, True)
    assert (last == 1).all()
    grads = cuda_scan.backward(inputs, checkpoints, torch.empty(2, 6, 0), torch.full((2, 6, 4), 2.0))
    assert (grads.initial_state == 2).all()
    assert not grads.A.any()


def test_more_states_than_fit_go_to_another_backend(monkeypatch):
    monkeypatch.setattr(triton_scan, "unavailable", lambda: "gone")
    inputs = check_inputs(**{"z": None, "delta_bias": None, "initial_state": None} | arguments(n=65))
    y, last, checkpoints = cuda_scan.forward(inputs, True)
    truth, true_last = scan_reference(inputs)
    torch.testing.assert_close(y, truth)
    torch.testing.assert_close(last, true_last)
    assert cuda_scan.backward(inputs, checkpoints, y, None).u.shape == y.shape


def test_long_sequences_of_few_channels_are_cut():
    for length, warps in ((4096, 32), (16384, 24), (97, 1), (1, 1), (100000, 1023)):
        chunk, chunks = cuda_scan._chunks(length, warps)
        assert chunk % 32 == 0
        assert (chunks - 1) * chunk < length <= chunks * chunk
        assert chunks == 1 or chunk >= cuda_scan.SHORTEST_CHUNK
    assert cuda_scan._chunks(4096, 32) == (64, 64)
    assert cuda_scan._chunks(4096, 4096)[1] == 1
    assert cuda_scan._chunks(100, 1)[1] == 1


FORMS = [  # architecture, dtype, b, d, n, g
    (90, torch.float32, 2, 132, 16, 2),
    (80, torch.bfloat16, 2, 64, 64, 1),
    (80, torch.float16, 1, 48, 30, 1),
    (90, torch.float32, 1, 6, 8, 2),
    (80, torch.float32, 1, 8, 1, 8),
    (90, torch.float32, 2, 10, 3, 1),
]


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_compiles_for_devices(monkeypatch, form):
    if nvrtc.no_compiler():
        pytest.skip(nvrtc.no_compiler())
    architecture, dtype, b, d, n, g = form
    source, images = cuda_scan.SOURCE.read_text(encoding="utf-8"), []

    class Compiled:
        def launch(self, kernel, blocks, threads, argument):
            assert kernel.encode() in images[-1]
            assert threads <= 256
            assert len(argument) == 81

    def program(options, device):
        images.append(nvrtc.compile_source(source, options, architecture))
        return Compiled()

    monkeypatch.setattr(cuda_scan, "_program", program)
    case = arguments(b=b, d=d, n=n, g=g)
    case |= {name: case[name].to(dtype) for name in ("u", "delta", "B", "C")}
    case["z"] = None if dtype == torch.float32 else case["u"]
    inputs = check_inputs(**{"delta_bias": None, "initial_state": None} | case)
    y, _, checkpoints = cuda_scan.forward(inputs, True)
    cuda_scan.backward(inputs, checkpoints, y, None)
    assert all(image.startswith(b"\x7fELF") for image in images)
    if dtype == torch.float32:
        assert not any(map(copies_of_halves, images))


def copies_of_halves(image):
    """How many instructions of a cubin copy the lower 16 bits of a register: PRMT x, y, 0x7610, x.

    ptxas copies 32-bit numbers so where it finds the maximum of two in a choice between them, and what is above the
    lower 16 bits is left over from something else.
    """
    words = torch.frombuffer(bytearray(image[: len(image) // 16 * 16]), dtype=torch.int64)[::2]
    return int(((words & 0xFFF == 0x816) & (words >> 32 == 0x7610)).sum())


def test_a_program_that_does_not_compile_says_why():
    if nvrtc.no_compiler():
        pytest.skip(nvrtc.no_compiler())
    with pytest.raises(RuntimeError, match=r"(?s)cannot compile .*missing"):
        nvrtc.compile_source("__global__ void f() { missing(); }", (), 90)
    image = nvrtc.compile_source('extern "C" __global__ void f() {}', (), 999)
    assert b".target sm_" in image  # PTX, which the driver of a newer device compiles


def test_the_reason_for_which_it_is_missing(monkeypatch):
    if not torch.cuda.is_available():
        assert "needs a CUDA device" in available_backends()["cuda"].reason
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(nvrtc, "_nvrtc", lambda: "pip install nvidia-cuda-nvrtc")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert available_backends()["cuda"].reason == "pip install nvidia-cuda-nvrtc"
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "another maker" in available_backends()["cuda"].reason


def test_a_device_that_nvrtc_has_left_behind_is_named(monkeypatch):
    if nvrtc.no_compiler():
        pytest.skip(nvrtc.no_compiler())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(nvrtc, "_driver", object)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (2, 0))
    assert "and newer, the device is sm_20" in available_backends()["cuda"].reason
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert available_backends()["cuda"].available


def test_nvrtc_that_is_nowhere_is_named_with_its_package(monkeypatch):
    def missing(name):
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    for version, package in (("13.0", "nvidia-cuda-nvrtc"), ("12.8", "nvidia-cuda-nvrtc-cu12")):
        monkeypatch.setattr(torch.version, "cuda", version)
        assert nvrtc._nvrtc.__wrapped__().endswith(f"pip install {package}")
    assert "driver" in nvrtc._driver.__wrapped__()


def test_gradients_share_no_memory(emulator):
    case = arguments(length=40)
    inputs = check_inputs(**{"z": None, "delta_bias": None, "initial_state": None} | case)
    y, _, checkpoints = cuda_scan.forward(inputs, True)
    grads = [x for x in cuda_scan.backward(inputs, checkpoints, y, None) if x is not None]
    assert len({x.untyped_storage().data_ptr() for x in grads}) == len(grads)


@pytest.fixture
def gpu():
    status = available_backends()["cuda"]
    if not status.available:
        pytest.skip(str(status))


@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize(
    "shape", [*SHAPES, (1, 140, 9, 2, 2), (2, 72, 37, 16, 1), (1, 36, 35, 64, 1), (1, 8, 5000, 16, 2)]
)
def test_on_a_gpu(gpu, shape, constant, everything):
    alone(f"one_case(cuda_scan, scan_reference, {shape}, {constant}, {everything}, 'cuda')")


@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize("dtypes", [("float16", "bfloat16"), ("bfloat16", "float16")])
def test_half_precision_on_a_gpu(gpu, dtypes, back):
    first, second = dtypes
    alone(f"half_precision('cuda', (torch.{first}, torch.{second}), {back})")


def alone(call):
    """Run a call in a process of its own: after the error of one kernel, a process can do no more on its device."""
    assert (
        run_python(f"from tests.ops.test_cuda import *; torch.manual_seed(0); {call}; print('agrees')").strip()
        == "agrees"
    )


def test_a_graph_of_a_training_step_on_a_gpu(gpu):
    case = {name: x.cuda() if isinstance(x, torch.Tensor) else x for name, x in arguments(length=200).items()}
    leaves = [x.requires_grad_() for x in case.values() if isinstance(x, torch.Tensor)]

    def step():
        with scan_backend("cuda"):
            return torch.autograd.grad(selective_scan(**case).sum(), leaves)

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        expected = step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = step()
    graph.replay()
    for a, b in zip(expected, found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
