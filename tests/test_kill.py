"""Nothing is lost, whenever a process is killed: a few rounds of `tools/kill.py`, and Ctrl-C while a command starts."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import ROOT

if not hasattr(os, "fork"):
    pytest.skip("kills processes by signals and forks them", allow_module_level=True)


def python(*args):
    return subprocess.Popen(
        [sys.executable, *map(str, args)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), *sys.path]))},
    )  # fmt: skip


def test_nothing_is_lost_in_a_few_kills_of_each_command():
    for extra in ("rasterio", "rioxarray", "xarray"):
        pytest.importorskip(extra)
    process = python("tools/kill.py", "--rounds", 3)
    out, err = process.communicate()
    assert process.returncode == 0, out + err
    rows = {row[0]: row[1:] for row in map(str.split, out.splitlines()[1:])}
    assert list(rows) == ["training", "saving", "classify", "fuse", "resume", "download"]
    assert all(int(row[1]) >= 3 for row in rows.values())


def test_the_kills_notice_what_is_lost(tmp_path):
    """With a writer that moves its files one by one, as no writer of the library does."""
    code = f"""
import random, sys
sys.path[:0] = [{str(ROOT / "tools")!r}]
import kill, kill_cases
from pathlib import Path

class Careless(kill_cases._Output):
    outputs = ("a.txt",)

    def __init__(self, folder):
        super().__init__(folder)
        self.states()

    def command(self, place, which, name):
        return lambda: [(place / f"{{i}}.txt").write_text(str(which)) for i in range(9)]

print(len(kill.besiege(Careless(Path({str(tmp_path / "case")!r})), 10, random.Random(0)).losses))
"""
    process = python("-c", code)
    out, err = process.communicate()
    assert process.returncode == 0 and int(out) > 0, out + err


START = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a process of the background does not have
from hsmamba.cli import main
print("started", flush=True)
main()
"""


def test_ctrl_c_while_python_ends_is_quiet():
    late = """
import os, threading
end = threading._shutdown
def interrupted():
    os.kill(os.getpid(), signal.SIGINT)
    end()
threading._shutdown = interrupted
main()
"""
    process = python("-c", START.replace("main()\n", late), "--version")
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert out.startswith("started\n")


@pytest.mark.parametrize(
    ("command", "instants"), [(["--version"], 8), (["list"], 3), (["info", "md2f_mamba"], 3)], ids=str
)
def test_ctrl_c_while_a_command_starts_ends_quietly(command, instants):
    def start():
        process = python("-c", START, *command)
        assert process.stdout.readline() == "started\n"
        return process

    process, begin = start(), time.perf_counter()
    whole, _ = process.communicate()
    seconds = time.perf_counter() - begin
    rng, codes = random.Random(str(command)), set()
    for _ in range(instants):
        process = start()
        time.sleep(rng.uniform(0, seconds))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
        assert err == "" and (process.returncode, out) in [(0, whole), (130, ""), (130, whole)]
        codes.add(process.returncode)
    assert 130 in codes
