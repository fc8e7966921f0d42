"""Files of torch.save: read as tensors and numbers alone, or refused, whatever is in them."""

import collections
import os
import pickle
import socket
import zipfile

import numpy as np
import pytest
import torch

from hsmamba.errors import WeightsError
from hsmamba.zoo.pickles import load_pickle

STATE = {"conv.weight": torch.arange(6.0).reshape(2, 3), "conv.bias": torch.zeros(2)}


def repacked(path, change=lambda name, content: content, **options):
    """Write an archive anew with other parts."""
    with zipfile.ZipFile(path) as archive:
        parts = {part.filename: archive.read(part) for part in archive.infolist()}
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in parts.items():
            archive.writestr(name, change(name, content))


def with_pickle(path, content):
    """Give an archive of torch.save another pickle."""
    torch.save(STATE, path)
    repacked(path, lambda name, old: content if name.endswith("/data.pkl") else old)
    return path


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_and_numbers_come_back_from_both_formats(zipped, tmp_path):
    held = {"state": STATE, "oa": np.float64(0.5), "epoch": np.int64(3), "best": np.bool_(True), "name": "x"}
    torch.save(held, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    back = load_pickle(tmp_path / "a.pth")
    assert torch.equal(back["state"]["conv.weight"], STATE["conv.weight"])
    assert {key: back[key] for key in ("oa", "epoch", "best", "name")} == {
        **{"oa": 0.5, "epoch": 3, "best": True, "name": "x"}
    }


def test_numbers_of_numpy_1_are_read_too(tmp_path):
    torch.save({"oa": np.float64(0.5)}, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    content = (tmp_path / "a.pth").read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    (tmp_path / "a.pth").write_bytes(content)
    assert load_pickle(tmp_path / "a.pth") == {"oa": 0.5}


@pytest.mark.parametrize("zipped", [True, False])
def test_no_code_is_run(zipped, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    torch.save({"state": STATE, "x": Evil()}, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match="cannot be read as a checkpoint of tensors alone"):
        load_pickle(tmp_path / "a.pth")
    assert not (tmp_path / "ran").exists()


def test_every_flipped_bit_of_a_tensor_is_seen(tmp_path):
    path = tmp_path / "a.pth"
    torch.save(STATE, path)
    whole = path.read_bytes()
    start = whole.index(STATE["conv.weight"].numpy().tobytes())
    for place in range(start, start + 24, 5):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(WeightsError, match="the checksum is another"):
            load_pickle(path)
    for length in (0, 3, 40, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(WeightsError, match="cannot be read as a checkpoint"):
            load_pickle(path)


def test_sizes_that_an_archive_declares_are_compared(tmp_path):
    path = tmp_path / "a.pth"
    torch.save({"zeros": torch.zeros(100_000)}, path)
    repacked(path, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(WeightsError, match=r"compressed, as torch\.save never does"):
        load_pickle(path)
    torch.save(STATE, path)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("a/data.pkl", b"other")
    with pytest.raises(WeightsError, match="two of its parts have one name"):
        load_pickle(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "no checkpoint")
    with pytest.raises(WeightsError, match=r"0 parts data\.pkl"):
        load_pickle(path)


def test_a_tensor_cannot_claim_more_numbers_than_the_file_has(tmp_path):
    torch.save({"w": torch.arange(4.0)}, tmp_path / "a.pth")

    def claim(name, content):
        four = b"K\x04"
        assert not name.endswith("data.pkl") or content.count(four) == 2
        return content.replace(four, b"J\xff\xff\xff\x7f") if name.endswith("data.pkl") else content

    repacked(tmp_path / "a.pth", claim)
    with pytest.raises(WeightsError, match="cannot be read as a checkpoint"):
        load_pickle(tmp_path / "a.pth")


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02}" + b")" + b"\x85" * 100_000 + b"K\x01s.",  # a key that takes the stack to hash
        b"\x80\x02})q\x000" + b"".join(b"h%ch%c\x86q%c0" % (k, k, k + 1) for k in range(60)) + b"h\x3cK\x01s.",
        b"\x80\x02" + b"]" * 5000 + b"a" * 4999 + b".",
    ],
    ids=["deep", "wide", "lists"],
)
def test_nesting_that_takes_the_stack_or_years_is_refused(content, tmp_path):
    with pytest.raises(WeightsError, match="nested"):
        load_pickle(with_pickle(tmp_path / "a.pth", content))


@pytest.mark.parametrize("content", [b"", b"\x80\x02", b"\x80\x02h\x00.", b"0.", b"\x80\x02X\xff\xff\xff\x7fabc."])
def test_malformed_pickles_are_refused(content, tmp_path):
    with pytest.raises(WeightsError, match="cannot be read as a checkpoint"):
        load_pickle(with_pickle(tmp_path / "a.pth", content))


def test_a_large_dictionary_is_not_taken_for_deep_nesting(tmp_path):
    held = collections.OrderedDict((f"tensor{i}", {"a": (i, [i])}) for i in range(20_000))
    torch.save(held, tmp_path / "a.pth")
    assert load_pickle(tmp_path / "a.pth") == held


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.pth")
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "s.pth"))
    for name, told in (("pipe.pth", "a pipe"), ("s.pth", "a socket"), (".", "a folder"), ("no.pth", "No such file")):
        with pytest.raises(WeightsError, match=rf"there is no checkpoint .*\({told}"):
            load_pickle(tmp_path / name)
    server.close()
    with pytest.raises(WeightsError, match="a device"):
        load_pickle(tmp_path.__class__("/dev/zero"))


def test_a_plain_pickle_is_told(tmp_path):
    (tmp_path / "a.pth").write_bytes(pickle.dumps({"a": 1}, protocol=2))
    with pytest.raises(WeightsError, match="cannot be read as a checkpoint"):
        load_pickle(tmp_path / "a.pth")
