"""Reading official checkpoints: where training programs put the state, and what else such files hold."""

import pytest
import torch

from hsmamba.errors import WeightsError
from hsmamba.zoo.official import read_official

STATE = {"conv.weight": torch.ones(2, 2), "conv.bias": torch.zeros(2)}
OTHER = {"conv.weight": torch.full((2, 2), 9.0)}


@pytest.mark.parametrize(
    "held",
    [
        STATE,
        {"state_dict": STATE, "epoch": 3},
        {"ema_model": STATE, "online_model": OTHER},
        {"online_model": OTHER, "ema_model": STATE, "model": OTHER},
        {"net": {"params_ema": STATE, "params": OTHER}},
        {"model": {"state_dict": STATE}},
    ],
    ids=["bare", "state_dict", "ema_model", "ema_model first", "nested", "twice nested"],
)
def test_the_state_is_found_in_its_nest_and_averaged_weights_come_first(held, tmp_path):
    torch.save(held, tmp_path / "official.pth")
    state = read_official(tmp_path / "official.pth")
    assert {key: value.sum().item() for key, value in state.items()} == {"conv.weight": 4.0, "conv.bias": 0.0}


def test_a_nest_that_lies_in_itself_ends(tmp_path):
    held = {}
    held["model"] = held
    torch.save(held, tmp_path / "official.pth")
    with pytest.raises(WeightsError, match="'model'"):
        read_official(tmp_path / "official.pth")


@pytest.mark.parametrize(
    ("held", "found"),
    [
        ({"epoch": 3, "weights_of_mine": {"conv.weight": torch.ones(1)}}, "'epoch', 'weights_of_mine'"),
        ([torch.ones(1)], "list"),
        ({}, "nothing"),
        ({"state_dict": {}}, "'state_dict'"),
    ],
)
def test_other_files_are_refused_with_what_they_hold(held, found, tmp_path):
    torch.save(held, tmp_path / "official.pth")
    with pytest.raises(WeightsError, match=f"{found}.*ema_model.*load_official"):
        read_official(tmp_path / "official.pth")
