"""Files that are whole or not there, and on the disk before they stand under their name."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from hsmamba._files import atomic_path, write_text
from tests.conftest import ROOT

WRITE = """
import sys
from hsmamba._files import atomic_path
with atomic_path(sys.argv[1]) as temporary:
    temporary.write_text("half")
    print("written", flush=True)
    sys.stdin.read()
    temporary.write_text("whole")
"""


def test_data_are_on_the_disk_before_the_name_is(tmp_path, monkeypatch):
    path, seen, fsync = tmp_path / "file.txt", [], os.fsync
    write_text(path, "old")

    def watched(handle):
        seen.append((os.fstat(handle).st_size, path.read_text()))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", watched)
    write_text(path, "the new")
    assert seen[0] == (len("the new"), "old")
    assert [content for _, content in seen[1:]] == ["the new"] * len(seen[1:])


@pytest.mark.parametrize("fails", ["write", "fsync"])
def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch, fails):
    path = tmp_path / "file.txt"
    write_text(path, "old")

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    if fails == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"), atomic_path(path) as temporary:
        temporary.write_text("new")
        if fails == "write":
            full()
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("file.txt", "old")]


def test_a_file_system_that_flushes_nothing_is_no_error(tmp_path, monkeypatch):
    def unable(handle):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", unable)
    write_text(tmp_path / "file.txt", "text")
    assert (tmp_path / "file.txt").read_text() == "text"


@pytest.mark.skipif(sys.platform == "win32", reason="folders cannot be locked there")
def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    def start():
        command = [sys.executable, "-c", WRITE, tmp_path / "file.txt"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
        assert process.stdout.readline().strip() == b"written"
        return process

    def left():
        return {entry.name for entry in tmp_path.iterdir() if ".part-" in entry.name}

    (tmp_path / ".file.txt.part-notes").mkdir()  # none of ours
    killed = start()
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert len(left()) == 2
    living = start()
    assert len(left()) == 2
    write_text(tmp_path / "file.txt", "mine")
    assert len(left()) == 2
    living.communicate()
    assert (tmp_path / "file.txt").read_text() == "whole"
    assert left() == {".file.txt.part-notes"}


def test_where_there_are_no_locks_what_is_a_day_old_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("hsmamba._files._locked", lambda handle: None)
    for name, mtime in {"abcdefgh": 1, "ijklmnop": None}.items():
        (tmp_path / f".file.txt.part-{name}").mkdir()
        if mtime:
            os.utime(tmp_path / f".file.txt.part-{name}", (mtime, mtime))
    write_text(tmp_path / "file.txt", "text")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".file.txt.part-ijklmnop", "file.txt"]
