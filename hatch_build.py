"""Compile the CPU kernels of the selective scan while the package is built or installed.

One wheel carries the kernel of every platform: the source needs no C library, so that the cross compiler of the
`ziglang` package builds all of them anywhere in seconds (half a MB together), and the wheel fits every machine. An
editable install gets the kernel of this machine, in the source tree. Where a kernel cannot be built, the package
installs without it: the scan then runs in torch operations, and `hsmamba.ops.available_backends()` says why.

`python hatch_build.py` compiles this machine's kernel into the source tree, after a change of its source.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent
SOURCE = ROOT / "hsmamba" / "ops" / "csrc" / "scan.c"
LIBRARIES = Path("hsmamba") / "ops" / "lib"
FLAGS = [
    "-O3",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fvisibility=hidden",
    "-ffreestanding",
    "-nostdlib",
    "-shared",
    "-s",
]
TARGETS = {  # file name, as hsmamba.ops.cpu.library_name() gives it: the compiler's name of the platform
    "scan-linux-x86_64.so": "x86_64-linux-gnu",
    "scan-linux-arm64.so": "aarch64-linux-gnu",
    "scan-macos-x86_64.dylib": "x86_64-macos.11.0",
    "scan-macos-arm64.dylib": "aarch64-macos.11.0",
    "scan-windows-x86_64.dll": "x86_64-windows-gnu",
    "scan-windows-arm64.dll": "aarch64-windows-gnu",
}


def host_library() -> str | None:
    """Name of this machine's library, or None where no target fits it."""
    system = {"win32": "windows", "darwin": "macos"}.get(sys.platform, sys.platform)
    machine = {"amd64": "x86_64", "aarch64": "arm64"}.get(platform.machine().lower(), platform.machine().lower())
    return next((name for name in TARGETS if name.startswith(f"scan-{system}-{machine}.")), None)


def compile_kernel(name: str, folder: Path) -> str | None:
    """Compile one library into a folder.

    Args:
        name: Key of `TARGETS`.
        folder: Where the library goes; made if need be. The file is complete or not there.

    Returns:
        None, or why it could not be built.
    """
    with tempfile.TemporaryDirectory() as work:
        # a cache of the caller's own, by the compiler's variables, lets a second build of the same source take no time
        cache = {"ZIG_LOCAL_CACHE_DIR": f"{work}/local", "ZIG_GLOBAL_CACHE_DIR": f"{work}/global"}
        command = [sys.executable, "-m", "ziglang", "cc", "-target", TARGETS[name], *FLAGS, "-o", name, str(SOURCE)]
        # started in the work folder: macOS libraries record the name under which they were written
        run = subprocess.run(command, cwd=work, env=cache | os.environ, capture_output=True, text=True, check=False)
        if run.returncode:
            return f"{name} was not built ({' '.join(run.stderr.split())[-500:]})"
        folder.mkdir(parents=True, exist_ok=True)
        beside = folder / f".{name}.{os.getpid()}"
        shutil.move(f"{work}/{name}", beside)
        os.replace(beside, folder / name)
    return None


class KernelHook(BuildHookInterface[Any]):
    """Puts the compiled kernels into the wheel, or into the source tree of an editable install."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before the files of the wheel are collected.

        Args:
            version: "editable" or "standard".
            build_data: Of hatchling; gets the libraries as files to include.
        """
        if self.target_name != "wheel":
            return
        editable = version == "editable"
        host = host_library()
        names = ([host] if host else []) if editable else list(TARGETS)
        self.folder = ROOT / LIBRARIES if editable else Path(tempfile.mkdtemp(prefix="hsmamba-kernels-"))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            failures = [
                failure for failure in pool.map(lambda name: compile_kernel(name, self.folder), names) if failure
            ]
        for failure in failures:
            self.app.display_warning(
                f"hsmamba: {failure}; without it the selective scan runs in torch operations, slower"
            )
        if not editable:
            build_data["force_include"].update(
                {str(path): str(LIBRARIES / path.name) for path in self.folder.iterdir()}
            )

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was compiled for the wheel, now that it is inside."""
        if self.target_name == "wheel" and version != "editable":
            shutil.rmtree(self.folder, ignore_errors=True)


if __name__ == "__main__":
    library = host_library()
    if library is None:
        sys.exit(f"no kernel for {sys.platform} on {platform.machine()}; there are: {', '.join(TARGETS)}")
    sys.exit(compile_kernel(library, ROOT / LIBRARIES))
