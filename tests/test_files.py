"""Files that are whole or not there, and on the disk before they stand under their name."""

import errno
import os

import pytest

from hsmamba._files import atomic_path, write_text


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
