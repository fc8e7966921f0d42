"""Files of weights: their hash, and that nothing but whole safetensors is read."""

from __future__ import annotations

import hashlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hsmamba.errors import WeightsError
from hsmamba.zoo import files


@given(st.binary(max_size=4096))
def test_sha256_of_a_file_is_that_of_its_bytes(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "content"
    path.write_bytes(content)
    assert files.sha256_file(path) == hashlib.sha256(content).hexdigest()


def test_only_safetensors_are_read(tmp_path, saved, tiny):
    whole = (saved / "model.safetensors").read_bytes()
    for name, content in (("cut", whole[:-1]), ("header", whole[:20]), ("empty", b""), ("text", b"some other text")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError, match=rf"{name} \({len(content)} bytes\) is no whole safetensors file"):
            files.load_tensors(tmp_path / name)
    for name, options in (("zip", {}), ("old", {"_use_new_zipfile_serialization": False})):
        torch.save(tiny().state_dict(), tmp_path / name, **options)
        with pytest.raises(WeightsError, match=rf"PyTorch pickle.*hsmamba convert .*{name}"):
            files.load_tensors(tmp_path / name)
    with pytest.raises(WeightsError, match="there is no weight file"):
        files.load_tensors(tmp_path / "nothing")
