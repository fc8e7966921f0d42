"""Reading checkpoints, official and one's own: where programs put the state, and what else such files hold."""

import itertools
import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import hsmamba
from hsmamba.data import Scene, random_split
from hsmamba.errors import HsmambaError, WeightsError
from hsmamba.zoo.files import load_tensors
from hsmamba.zoo.official import architecture_of, read_nested, read_official, unwrapped
from tests.models.samples import tiny
from tests.oracles import le_mamba, msfmamba
from tests.oracles.md2f_mamba import article_state
from tests.zoo.samples import SMALL, same

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


def test_where_the_state_lies_is_told(tmp_path):
    torch.save({"net": {"params_ema": STATE}}, tmp_path / "official.pth")
    assert read_nested(tmp_path / "official.pth")[1] == ("net", "params_ema")
    torch.save(STATE, tmp_path / "official.pth")
    assert read_nested(tmp_path / "official.pth")[1] == ()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["md2f_mamba", "msfmamba", "le_mamba", "cf2n"])
def test_the_names_of_a_state_of_ours_tell_its_network(name):
    assert architecture_of(tiny(name).state_dict()) == (name, False)


def test_a_state_of_another_network_is_named_with_what_it_holds():
    with pytest.raises(
        WeightsError, match=r"2 tensors with 6 numbers, among them conv\.weight, conv\.bias: these are the"
    ):
        architecture_of(STATE)


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


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model.", "module._orig_mod.", "model.module."])
def test_names_that_wrappers_lengthen_are_ours(prefix, tmp_path):
    torch.manual_seed(0)
    model = hsmamba.create_model("md2f_mamba", **SMALL)
    torch.save({f"{prefix}{key}": value for key, value in model.state_dict().items()}, tmp_path / "own.pth")
    loaded = hsmamba.create_model("md2f_mamba", checkpoint_path=tmp_path / "own.pth", **SMALL)
    assert same(loaded.state_dict(), model.state_dict())
    assert not loaded.training
    converted = hsmamba.load_official("md2f_mamba", read_official(tmp_path / "own.pth"))
    assert same(converted.state_dict(), model.state_dict())
    assert converted.model_args.items() >= SMALL.items()


def test_averaged_and_partly_compiled_networks_are_read(tmp_path):
    model = hsmamba.create_model("md2f_mamba", **SMALL)
    torch.save(torch.optim.swa_utils.AveragedModel(model).state_dict(), tmp_path / "own.pth")
    loaded = hsmamba.create_model("md2f_mamba", checkpoint_path=tmp_path / "own.pth", **SMALL)
    assert same(loaded.state_dict(), model.state_dict())
    partly = {key.replace("mdconv.", "mdconv._orig_mod."): value for key, value in model.state_dict().items()}
    torch.save(partly | {"oa": np.float64(0.9), "epoch": 3}, tmp_path / "own.pth")
    loaded = hsmamba.create_model("md2f_mamba", checkpoint_path=tmp_path / "own.pth", **SMALL)
    assert same(loaded.state_dict(), model.state_dict())


def test_names_that_begin_like_a_wrappers_are_kept_where_the_network_has_them():
    state = {"model.weight": torch.ones(1)}
    assert unwrapped(state, known={"model.weight"}) == state
    assert unwrapped(state) == {"weight": torch.ones(1)}
    assert unwrapped({}) == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["md2f_mamba", "mim", "msfmamba", "cf2n", "rsanet", "ramsf"])
def test_a_state_of_ours_becomes_a_network_as_the_error_says(name):
    model, config = tiny(name), {}
    for _ in range(2):  # what no tensor tells is asked for, once for all arguments and once for those
        try:
            again = hsmamba.load_official(name, model.state_dict(), **config)
            break
        except WeightsError as error:
            asked = json.loads(re.search(r"--config '(.*)'", str(error))[1])
            assert asked.keys().isdisjoint(config)
            config |= {key: model.model_args.get(key, default) for key, default in asked.items()}
    assert same(again.state_dict(), model.state_dict())
    assert again.sizes == model.sizes


def test_a_checkpoint_of_finetune_gives_its_best_weights(tmp_path):
    torch.manual_seed(0)
    model = hsmamba.create_model("md2f_mamba", **SMALL | {"num_classes": 2})
    cube = np.random.default_rng(0).normal(size=(8, 8, 6)).astype("float32")
    labels = np.repeat([1, 2], 32).reshape(8, 8)
    split = random_split(labels, count=8)
    path = tmp_path / "checkpoint.pt"
    hsmamba.finetune(
        model, Scene(cube, labels), split, epochs=2, ema_decay=0.5, warmup_epochs=0, checkpoint=path, progress=False
    )
    assert same(read_official(path), model.state_dict())
    loaded = hsmamba.create_model("md2f_mamba", checkpoint_path=path, **SMALL | {"num_classes": 2})
    assert same(loaded.state_dict(), model.state_dict())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"head.bias": torch.tensor([0.0, torch.nan, 0.0, torch.inf])}, r"not finite: head\.bias \(2 of 4 numbers\)"),
        ({"head.bias": torch.full((4,), 1e300, dtype=torch.float64)}, r"not finite: head\.bias \(4 of 4"),
        ({"head.bias": torch.zeros(4, dtype=torch.int64)}, r"of another type: head\.bias torch.int64 instead of"),
        ({"head.bias": torch.zeros(4, dtype=torch.complex64)}, r"head\.bias torch.complex64 instead of torch.float32"),
        ({"mdconv.mix.1.num_batches_tracked": torch.tensor(0.5)}, r"num_batches_tracked torch.float32 instead of"),
        ({"head.bias": torch.zeros(1).expand(4)}, "no plain tensor"),
        ({"head.bias": torch.zeros(4).to_sparse()}, "no plain tensor|cannot be read"),
        ({"head.bias": [1, 2]}, "'head.bias' of type list"),
        ({7: torch.zeros(4)}, "7 of type Tensor"),
    ],
)
def test_weights_that_are_no_finite_numbers_are_refused_by_name(change, told, tmp_path):
    state = hsmamba.create_model("md2f_mamba", **SMALL).state_dict()
    torch.save(dict(state) | change, tmp_path / "own.pth")
    with pytest.raises(WeightsError, match=told):
        hsmamba.create_model("md2f_mamba", checkpoint_path=tmp_path / "own.pth", **SMALL)
    with pytest.raises(WeightsError, match=told):
        hsmamba.load_official("md2f_mamba", read_official(tmp_path / "own.pth"))


def test_half_precision_and_whole_counters_are_taken(tmp_path):
    model = hsmamba.create_model("md2f_mamba", **SMALL)
    torch.save({key: value.double() for key, value in model.state_dict().items()}, tmp_path / "own.pth")
    loaded = hsmamba.create_model("md2f_mamba", checkpoint_path=tmp_path / "own.pth", **SMALL)
    assert same(loaded.state_dict(), model.state_dict())


def test_official_tensors_of_impossible_shapes_build_nothing():
    shape = (10**12, 0)
    state = article_state(4, 5, 3, 6, 2, 3, 3, 3)
    values = itertools.cycle((torch.empty(shape), torch.tensor(0.5), torch.zeros(0), torch.full((1,) * 6, 0.5)))
    for key, value in zip(sorted(state.keys() - {"ms_lfem.delta"}), values, strict=False):  # one number, of any shape
        with pytest.raises(HsmambaError):
            hsmamba.load_official("md2f_mamba_ref", state | {key: value})


def test_the_name_of_a_file_does_not_say_its_format(tmp_path):
    model = hsmamba.create_model("md2f_mamba", **SMALL)
    save_file(model.state_dict(), tmp_path / "own.pth")
    assert same(read_official(tmp_path / "own.pth"), model.state_dict())
    torch.save(model.state_dict(), tmp_path / "mine.safetensors")
    for read in (load_tensors, read_official):
        with pytest.raises(WeightsError, match=r"rename it to mine\.pth"):
            read(tmp_path / "mine.safetensors")
    (tmp_path / "mine.safetensors").rename(tmp_path / "mine.pth")
    assert same(read_official(tmp_path / "mine.pth"), model.state_dict())
