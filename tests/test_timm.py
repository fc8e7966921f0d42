"""What docs/timm.md says of timm and our names."""

import pytest
import timm
import torch
from timm.models import group_parameters
from timm.optim import create_optimizer_v2
from timm.utils import ModelEmaV3

import hsmamba
import hsmamba.models  # registers our names

SIZES = {"num_classes": 3, "in_chans": 8, "patch_size": 7}


def test_timm_makes_our_networks():
    model = timm.create_model("md2f_mamba", **SIZES)
    assert model(torch.zeros(2, 8, 7, 7)).shape == (2, 3)
    assert timm.create_model("rsanet", in_chans=4, scale=2).in_chans == 4
    with pytest.raises(TypeError, match=r"It takes: .*in_chans"):
        timm.create_model("mim", drop_path_rate=0.1)
    with pytest.raises(TypeError, match="features_only"):
        timm.create_model("mim", features_only=True)
    assert not hasattr(model, "forward_intermediates")


def test_timm_makes_our_weights():
    model = timm.create_model("md2f_mamba.indian_pines", pretrained=True)
    assert model.transform is not None and len(model.class_names) == 16
    assert {"mean", "num_classes"} <= set(model.pretrained_cfg) & set(model.default_cfg)
    assert timm.is_model("md2f_mamba") and "mim_v3" in timm.list_models("mim*")
    assert not [name for name in timm.list_models("mim*", pretrained=True) if name.startswith("mim")]


def test_timm_reads_our_tensors_and_leaves_folders_to_us(tmp_path):
    model = hsmamba.create_model("md2f_mamba", **SIZES)
    folder = hsmamba.save_pretrained(model, tmp_path / "mine")
    other = timm.create_model("md2f_mamba", checkpoint_path=str(folder / "model.safetensors"), **SIZES)
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in model.state_dict().items())
    for pretrained in (False, True):  # it gave the zoo's weight for the folder's
        with pytest.raises(ValueError, match=r'hsmamba\.create_model\("local-dir:'):
            timm.create_model(f"local-dir:{folder}", pretrained=pretrained)


def test_timm_trains_our_networks():
    model = timm.create_model("md2f_mamba", **SIZES)
    rates = {
        group["lr_scale"] for group in create_optimizer_v2(model, opt="adamw", lr=1e-3, layer_decay=0.8).param_groups
    }
    assert len(rates) > 2 and max(rates) == 1
    assert len(group_parameters(model, model.group_matcher())) > 2
    assert isinstance(ModelEmaV3(model).module, type(model))
    with pytest.raises(ValueError, match="no blocks to compute again"):
        model.set_grad_checkpointing()
    timm.create_model("le_mamba").set_grad_checkpointing()
    features = timm.create_model("md2f_mamba", **{**SIZES, "num_classes": 0})(torch.zeros(2, 8, 7, 7))
    assert features.shape == (2, model.num_features)
