"""CUDA C++ without a compiler on the machine: NVRTC, which comes with torch, compiles; the CUDA driver launches.

Both are called through ctypes. A program is compiled for the device's own architecture and loaded into the context
that torch works in, so that its launches go onto torch's streams, and into CUDA graphs once they have run before.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

_SUCCESS = 0


def unavailable() -> str | None:
    """Why no program can be compiled and run here; None where it can."""
    if not torch.cuda.is_available():
        return "it needs a CUDA device, and torch sees none"
    if torch.version.cuda is None:
        return "it needs an NVIDIA device, and torch is built for another maker's"
    for library in (_nvrtc(), _driver()):
        if isinstance(library, str):
            return library
    # a question about backends is no reason to take memory of the device
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return None
    own, oldest = _architecture(torch.cuda.current_device()), min(_architectures())
    return f"NVRTC compiles for sm_{oldest} and newer, the device is sm_{own}" if own < oldest else None


def no_compiler() -> str | None:
    """Why nothing can be compiled here; None where it can. Compiling needs no device."""
    library = _nvrtc()
    return library if isinstance(library, str) else None


def _architecture(device: int) -> int:
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


class Program:
    """The kernels of one source, compiled and loaded for one device."""

    def __init__(self, source: str, options: tuple[str, ...], device: int) -> None:
        image = compile_source(source, options, _architecture(device))
        self._device = device
        self._context = _primary_context(device)
        self._module = ctypes.c_void_p()
        self._functions: dict[str, ctypes.c_void_p] = {}
        with self._current() as driver:
            _check(driver.cuModuleLoadData(ctypes.byref(self._module), image), "load the compiled kernels")

    def launch(self, kernel: str, blocks: int, threads: int, argument: array[int]) -> None:
        """Launch a kernel, whose only argument is a structure of these numbers, on torch's current stream there.

        Raises:
            RuntimeError: The driver refuses it; with its reason.
        """
        stream = ctypes.c_void_p(torch.cuda.current_stream(self._device).cuda_stream)
        arguments = (ctypes.c_void_p * 1)(argument.buffer_info()[0])
        with self._current() as driver:
            function = self._functions.get(kernel)
            if function is None:
                function = ctypes.c_void_p()
                code = driver.cuModuleGetFunction(ctypes.byref(function), self._module, kernel.encode())
                _check(code, f"find the kernel {kernel}")
                self._functions[kernel] = function
            code = driver.cuLaunchKernel(function, blocks, 1, 1, threads, 1, 1, 0, stream, arguments, None)
        _check(code, f"launch {kernel}")

    @contextlib.contextmanager
    def _current(self) -> Iterator[ctypes.CDLL]:
        """Make torch's context of the device current in this thread, and the one before it afterwards."""
        driver = _loaded(_driver())
        _check(driver.cuCtxPushCurrent_v2(self._context), "enter the device's context")
        try:
            yield driver
        finally:
            driver.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))


def compile_source(source: str, options: tuple[str, ...], architecture: int) -> bytes:
    """Compile CUDA C++ to what the driver loads.

    Args:
        source: The program.
        options: Options of NVRTC, such as "-DNAME=1".
        architecture: Ten times the device's compute capability, 90 for 9.0.

    Returns:
        A cubin for the architecture; PTX of the newest known one where NVRTC does not know it.

    Raises:
        RuntimeError: The source does not compile; with the compiler's messages.
    """
    nvrtc = _loaded(_nvrtc())
    known = architecture in _architectures()
    target = f"-arch=sm_{architecture}" if known else f"-arch=compute_{max(_architectures())}"
    all_options = [option.encode() for option in (target, "-std=c++17", *options)]
    program = ctypes.c_void_p()
    code = nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"scan_kernel.cu", 0, None, None)
    _check_nvrtc(code, "take the source")
    try:
        code = nvrtc.nvrtcCompileProgram(program, len(all_options), (ctypes.c_char_p * len(all_options))(*all_options))
        if code != _SUCCESS:
            log = _read(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog, program).rstrip(b"\0")
            raise RuntimeError(
                f"NVRTC cannot compile the kernels ({' '.join(options)}): {log.decode(errors='replace')}"
            )
        if known:
            return _read(nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN, program)
        return _read(nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX, program)
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def _read(size_of: Any, read: Any, program: ctypes.c_void_p) -> bytes:
    size = ctypes.c_size_t()
    _check_nvrtc(size_of(program, ctypes.byref(size)), "tell the size of its output")
    buffer = ctypes.create_string_buffer(size.value)
    _check_nvrtc(read(program, buffer), "hand over its output")
    return buffer.raw


@functools.cache
def _architectures() -> tuple[int, ...]:
    nvrtc, count = _loaded(_nvrtc()), ctypes.c_int()
    _check_nvrtc(nvrtc.nvrtcGetNumSupportedArchs(ctypes.byref(count)), "count architectures")
    found = (ctypes.c_int * count.value)()
    _check_nvrtc(nvrtc.nvrtcGetSupportedArchs(found), "list architectures")
    return tuple(found)


@functools.cache
def _primary_context(device: int) -> ctypes.c_void_p:
    """The context that the CUDA runtime, and so torch, uses on a device; kept for the life of the process."""
    driver, context, handle = _loaded(_driver()), ctypes.c_void_p(), ctypes.c_int()
    _check(driver.cuInit(0), "start")
    _check(driver.cuDeviceGet(ctypes.byref(handle), device), "find the device")
    _check(driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), handle), "take the device's context")
    return context


@functools.cache
def _nvrtc() -> ctypes.CDLL | str:
    """NVRTC, or why there is none."""
    major = (torch.version.cuda or "").split(".")[0]
    windows = sys.platform == "win32"
    names = [] if windows else [f"libnvrtc.so.{major}"] if major else []  # torch may have loaded it already
    files = [str(path) for folder in _folders() for path in sorted(folder.rglob("*nvrtc*")) if _is_library(path.name)]
    files.sort(key=lambda path: f"nvrtc64_{major}" not in path and f".so.{major}" not in path)
    for name in [*names, *files, *([] if windows else ["libnvrtc.so"])]:
        with contextlib.suppress(OSError):
            library = ctypes.CDLL(name)
            if hasattr(library, "nvrtcGetCUBIN") and hasattr(library, "nvrtcGetSupportedArchs"):
                return library
    package = "nvidia-cuda-nvrtc" if major and int(major) >= 13 else f"nvidia-cuda-nvrtc-cu{major or 12}"
    return f"NVRTC cannot be found; it comes with torch's CUDA builds, or: pip install {package}"


def _folders() -> list[Path]:
    """Where wheels keep NVRTC: beside torch's own libraries, or in the packages of NVIDIA."""
    found = [Path(torch.__file__).parent / "lib"]
    spec = importlib.util.find_spec("nvidia")
    for root in (spec.submodule_search_locations or []) if spec else []:
        found += [Path(root) / "cuda_nvrtc", *sorted(Path(root).glob("cu[0-9]*"))]
    return [folder for folder in found if folder.is_dir()]


def _is_library(name: str) -> bool:
    linux = name.startswith(("libnvrtc.so", "libnvrtc-")) and ".so" in name
    windows = name.startswith("nvrtc64_") and name.endswith(".dll")
    return (linux or windows) and "builtins" not in name and "alt" not in name


@functools.cache
def _driver() -> ctypes.CDLL | str:
    """The CUDA driver, or why there is none."""
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(name)
    except OSError as error:
        return f"the CUDA driver cannot be loaded ({error}): install NVIDIA's driver"
    pointer, number = ctypes.c_void_p, ctypes.c_uint
    driver.cuLaunchKernel.argtypes = [pointer, *[number] * 7, pointer, pointer, pointer]
    return driver


def _loaded(library: ctypes.CDLL | str) -> ctypes.CDLL:
    if isinstance(library, str):
        raise RuntimeError(library)  # callers have asked `unavailable` before
    return library


def _check_nvrtc(code: int, what: str) -> None:
    if code != _SUCCESS:
        get = _loaded(_nvrtc()).nvrtcGetErrorString
        get.restype = ctypes.c_char_p
        raise RuntimeError(f"NVRTC cannot {what}: {get(code).decode()}")


def _check(code: int, what: str) -> None:
    if code != _SUCCESS:
        text = ctypes.c_char_p()
        _loaded(_driver()).cuGetErrorString(code, ctypes.byref(text))
        raise RuntimeError(f"the CUDA driver cannot {what}: {(text.value or b'error').decode()} ({code})")
