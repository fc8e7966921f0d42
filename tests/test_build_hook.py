"""The build hook: names, a real compilation, and an installation that goes on without a compiler."""

import ctypes
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hsmamba.ops import cpu
from tests.conftest import ROOT

pytest.importorskip("hatchling")
specification = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
if specification is None or not (ROOT / "hatch_build.py").is_file():
    pytest.skip("the build hook comes with the source only", allow_module_level=True)
hatch_build = importlib.util.module_from_spec(specification)
specification.loader.exec_module(hatch_build)


class App:
    def __init__(self):
        self.warnings = []

    def display_warning(self, text):
        self.warnings.append(text)


def make_hook(app, target="wheel"):
    return hatch_build.KernelHook(str(ROOT), {}, None, None, str(ROOT), target, app)


PLATFORMS = {
    ("linux", "x86_64"): "scan-linux-x86_64.so",
    ("linux", "aarch64"): "scan-linux-arm64.so",
    ("darwin", "arm64"): "scan-macos-arm64.dylib",
    ("darwin", "x86_64"): "scan-macos-x86_64.dylib",
    ("win32", "AMD64"): "scan-windows-x86_64.dll",
    ("win32", "ARM64"): "scan-windows-arm64.dll",
}


@pytest.mark.parametrize("system, machine", PLATFORMS)
def test_hook_and_loader_agree_on_names(monkeypatch, system, machine):
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert hatch_build.host_library() == cpu.library_name() == PLATFORMS[system, machine]


def test_every_target_has_a_platform():
    assert set(hatch_build.TARGETS) == set(PLATFORMS.values())


def test_a_platform_without_target_builds_nothing(monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    assert hatch_build.host_library() is None


@pytest.mark.slow
@pytest.mark.parametrize("name", hatch_build.TARGETS)
def test_compiles_for_every_platform_and_loads_here(name, tmp_path):
    pytest.importorskip("ziglang")
    assert hatch_build.compile_kernel(name, tmp_path) is None
    assert [path.name for path in tmp_path.iterdir()] == [name]
    if name == hatch_build.host_library():
        library = ctypes.CDLL(str(tmp_path / name))
        assert library.hsmamba_scan_forward_baseline
        assert library.hsmamba_scan_backward_baseline


def test_without_a_compiler_the_build_warns_and_goes_on(monkeypatch):
    run = subprocess.run
    no_compiler = [sys.executable, "-c", "import sys; sys.exit('No module named ziglang')"]
    monkeypatch.setattr(hatch_build.subprocess, "run", lambda command, **k: run(no_compiler, **k))
    app, data = App(), {"force_include": {}}
    hook = make_hook(app)
    hook.initialize("standard", data)
    assert data == {"force_include": {}}
    assert len(app.warnings) == len(hatch_build.TARGETS)
    assert all("No module named ziglang" in warning and "slower" in warning for warning in app.warnings)
    hook.finalize("standard", data, "")


def test_wheel_carries_every_platform_and_the_source_tree_stays_clean(monkeypatch):
    def compile_kernel(name, folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"library")

    monkeypatch.setattr(hatch_build, "compile_kernel", compile_kernel)
    app, data = App(), {"force_include": {}}
    hook = make_hook(app)
    hook.initialize("standard", data)
    wanted = {str(Path("hsmamba/ops/lib") / name) for name in hatch_build.TARGETS}
    assert set(data["force_include"].values()) == wanted
    assert not any(Path(source).is_relative_to(ROOT) for source in data["force_include"])
    hook.finalize("standard", data, "")
    assert not any(os.path.exists(source) for source in data["force_include"])
    assert app.warnings == []


def test_source_distribution_compiles_nothing(monkeypatch):
    monkeypatch.setattr(hatch_build, "compile_kernel", lambda *a: pytest.fail("compiled"))
    make_hook(App(), "sdist").initialize("standard", {"force_include": {}})
