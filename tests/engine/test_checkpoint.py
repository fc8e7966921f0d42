"""Checkpoints: files that torch reads, whose every bit is checked before a run goes on from them."""

import hashlib
import zipfile
from functools import partial

import numpy as np
import pytest
import torch

import hsmamba
from hsmamba.engine.checkpoint import read_checkpoint, write_checkpoint
from hsmamba.errors import HsmambaWarning, WeightsError


@pytest.fixture
def checkpoint(make_model, scene, split, transform, tmp_path):
    """The path of a checkpoint and what resumes it."""
    path = tmp_path / "run.pt"
    settings = {"epochs": 1, "batch_size": 16, "transform": transform, "progress": False}
    hsmamba.finetune(make_model(), scene, split, checkpoint=path, **settings)
    return path, lambda **more: hsmamba.finetune(make_model(), scene, split, resume=path, **settings, **more)


def test_a_checkpoint_stays_a_file_that_torch_and_readers_of_archives_take(checkpoint):
    path, resume = checkpoint
    state = torch.load(path, weights_only=True)
    assert torch.load(path, weights_only=True, mmap=True)["model"].keys() == state["model"].keys()
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        seal = archive.comment.decode()
    whole = path.read_bytes()
    assert seal == "sha256:" + hashlib.sha256(whole[: -len(seal)]).hexdigest()
    assert resume().history == state["history"]


def test_one_flipped_bit_anywhere_in_a_checkpoint_is_refused(checkpoint):
    path, resume = checkpoint
    whole = path.read_bytes()
    read = partial(read_checkpoint, path, torch.device("cpu"))
    rng = np.random.default_rng(0)
    places = [*range(60), *rng.integers(0, len(whole), 300), *range(len(whole) - 200, len(whole))]
    for place in map(int, places):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(WeightsError, match=r"run\.pt' cannot be resumed .*--overwrite"):
            read()
    with pytest.raises(WeightsError, match=r"cannot be resumed .*copy it again .*leave resume out"):
        resume()
    for size in (0, 1, 21, 22, 70, 71, 93, 1000, len(whole) - 71, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(WeightsError, match=r"run\.pt' cannot be resumed"):
            read()
    path.write_bytes(whole)
    assert read()["epoch"] == 1


def test_a_run_that_began_before_steps_were_fused_goes_on_without(checkpoint):
    path, resume = checkpoint
    state = torch.load(path, weights_only=True)
    assert all(group["fused"] for group in state["optimizer"]["param_groups"])
    for group in state["optimizer"]["param_groups"]:
        group["fused"] = None
    write_checkpoint(path, state)
    assert resume().history == state["history"]


def test_a_checkpoint_of_an_older_version_is_resumed_with_a_warning(checkpoint):
    path, resume = checkpoint
    state = torch.load(path, weights_only=True)
    torch.save(state, path)
    with pytest.warns(HsmambaWarning, match=r"run\.pt' carries no checksum"):
        assert resume().history == state["history"]
    whole = path.read_bytes()
    place = whole.index(next(iter(state["model"].values())).numpy().tobytes())
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
    with pytest.raises(WeightsError, match="is not what was written"):
        resume()


@pytest.mark.parametrize("held", [[1, 2], {"model": 1}, {"settings": 3, "split": ""}])
def test_what_is_no_checkpoint_of_finetune_is_refused(checkpoint, held):
    path, resume = checkpoint
    write_checkpoint(path, held)
    with pytest.raises(WeightsError, match=r"checkpoint of finetune.*leave resume out"):
        resume()


def test_a_log_that_a_killed_run_left_behind_is_written_by_the_resumed_one(checkpoint, tmp_path):
    _, resume = checkpoint
    result = resume(log=tmp_path / "log.csv")
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 1 + len(result.history) == 2


def _set(*place):
    *outer, last, value = place

    def change(state):
        for key in outer:
            state = state[key]
        state[last] = value(state[last]) if callable(value) else value

    return change


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        _set("epoch", 2),
        _set("epoch", True),
        _set("history", []),
        _set("history", 0, "loss", "x"),
        _set("best", "score", (1.0,)),
        _set("best", "epoch", 7),
        _set("best", "state", {}),
        _set("best", "state", "head.bias", lambda x: x * torch.nan),
        _set("model", "head.bias", lambda x: x[None]),
        _set("model", "head.bias", lambda x: x.to(torch.complex64)),
        _set("model", "head.bias", [1]),
        _set("optimizer", "param_groups", 0, "lr", "0.1"),
        _set("optimizer", "param_groups", 0, "betas", (0.5, 0.5)),
        _set("optimizer", "param_groups", []),
        _set("optimizer", "state", 0, "exp_avg", lambda x: x * torch.inf),
        _set("optimizer", "state", 0, "exp_avg", lambda x: x[..., None]),
        _set("optimizer", "state", 0, "step", "3"),
    ],
)
def test_a_state_that_no_run_leaves_is_refused(checkpoint, change):
    path, resume = checkpoint
    state = torch.load(path, weights_only=True)
    change(state)
    write_checkpoint(path, state)
    with pytest.raises(WeightsError, match=r"no checkpoint of finetune with this MD2FMamba .*leave resume out"):
        resume()
