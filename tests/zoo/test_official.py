"""Reading official checkpoints: where training programs put the state, and what else such files hold."""

import pytest
import torch

import hsmamba
from hsmamba.errors import WeightsError
from hsmamba.zoo.official import read_official
from tests.oracles import le_mamba, msfmamba

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


def test_an_entry_of_the_releases_yaml_is_a_configuration():
    """MSFMamba's dataset_info.yaml and LE-Mamba's configuration, as their authors write them."""
    sizes = {"num_classes": 3, "pca_num": 12, "window_size": 7, "x_channels": 2, "num_layers": 1, "d_state": 4}
    state = msfmamba.random_state(**sizes, expand=0.75)
    entry = {
        **{"hsi_channel_num": 180, "slar_channel_num": 2, "info": ["a.mat"], "keys": ["a"], "image_h": 332},
        **{"pca_num": 12, "num_classes": 3, "embed_dim": 256, "num_heads": 8, "window_size": 7, "d_state": 4},
        **{"expand": 0.75, "num_layer": 1},
    }
    model = hsmamba.load_official("msfmamba", state, **entry)
    assert model.sizes == {"in_chans": 12, "num_classes": 3, "patch_size": 7, "aux_chans": 2}
    with pytest.raises(TypeError, match="given num_layer and num_layers, which are the same"):
        hsmamba.load_official("msfmamba", state, num_layer=1, num_layers=1)
    with pytest.raises(TypeError, match=r"no configuration num_layerz; there are: .*num_layers, .*num_layer"):
        hsmamba.load_official("msfmamba", state, num_layerz=1)

    state = le_mamba.random_state(le_mamba.le_mamba_shapes(le_mamba.TINY), seed=0)
    theirs = {
        **{"img_channel": "ms_channels", "condition_channel": "guide_channels", "out_channel": "out_channels"},
        **{"ssm_enc_blk_nums": "enc_depths", "middle_blk_nums": "mid_depth", "ssm_dec_blk_nums": "dec_depths"},
        **{"ssm_chan_upscale": "widen", "ssm_ratios": "expand", "window_sizes": "windows", "width": "width"},
        **{"ssm_enc_d_states": "enc_d_state", "ssm_dec_d_states": "dec_d_state", "upscale": "scale"},
        **{"ssm_enc_convs": "enc_kernel", "ssm_dec_convs": "dec_kernel", "drop_path_rate": "drop_path"},
    }
    entry = {key: le_mamba.TINY[ours] for key, ours in theirs.items() if ours in le_mamba.TINY}
    entry |= {"naf_enc_blk_nums": [], "if_abs_pos": False, "if_rope": False, "patch_merge": True}
    ours = hsmamba.load_official("le_mamba", state, **le_mamba.TINY)
    assert hsmamba.load_official("le_mamba", state, **entry).model_args == ours.model_args
