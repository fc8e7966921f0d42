"""The contract: what every network declares, by timm's names where it has such, and what is refused."""

import copy
import pickle
import re

import pytest
import torch
from timm.models import group_parameters
from timm.optim import create_optimizer_v2
from torch import nn

import hsmamba
from hsmamba.data import Compose
from hsmamba.errors import SceneError
from hsmamba.models import (
    Classifier,
    FusionNetwork,
    as_classifier,
    as_fusion_network,
    as_network,
    entry,
    example_inputs,
)
from hsmamba.ops.resampling import upsample
from tests.models.samples import NAMES, tiny


@pytest.mark.parametrize("name", NAMES)
def test_what_a_network_carries_is_declared(name):
    model = tiny(name)
    kind = FusionNetwork if entry(name).cfg.task == "fusion" else Classifier
    assert isinstance(model, kind)
    assert model.sizes.items() <= {**model.model_args, "aux_chans": model.model_args.get("aux_chans", 0)}.items()
    assert (model.architecture, model.transform, model.record, model.class_names) == (name, None, None, ())
    assert model.no_weight_decay() <= dict(model.named_parameters()).keys()
    model.transform = Compose()
    assert pickle.loads(pickle.dumps(model)).transform.steps == ()


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_grouped_by_depth_for_layer_wise_learning_rates(name):
    model = tiny(name)
    groups = group_parameters(model, model.group_matcher(), reverse=True)
    assert groups.keys() == dict(model.named_parameters()).keys()
    if all(key.startswith("head.") for key in groups):
        return  # a linear model
    assert len(set(groups.values())) > 2
    if isinstance(model, Classifier):
        last = {key for key, depth in groups.items() if depth == max(groups.values())}
        assert last == {key for key in groups if re.match(r"(members\.\d+\.)?head\.", key)} != set()
    else:
        matched = [key for key, depth in groups.items() if depth == max(groups.values())]
        assert len({key.partition(".")[0] for key in matched}) <= 2, matched
    optimizer = create_optimizer_v2(model, opt="adamw", lr=1.0, layer_decay=0.5)
    scales = {group["lr_scale"] for group in optimizer.param_groups}
    assert max(scales) == 1.0 and len(scales) > 2


@pytest.mark.parametrize("name", NAMES)
def test_checkpointing_gives_the_same_gradients_or_is_refused(name):
    model = tiny(name)
    try:
        model.set_grad_checkpointing()
    except ValueError as error:
        assert "gradient checkpointing is not implemented" in str(error)
        model.set_grad_checkpointing(False)
        return
    inputs = example_inputs(model, 2)
    gradients = []
    for enable in (True, False):
        model.set_grad_checkpointing(enable)
        model.zero_grad()
        torch.manual_seed(0)
        model(*inputs).square().mean().backward()
        gradients.append([p.grad for p in model.parameters()])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


def test_timm_reads_its_own_names():
    model = tiny("md2f_mamba", num_classes=5)
    assert (model.head_hidden_size, model.num_features) == (16, 16)
    cfg = model.pretrained_cfg
    assert model.default_cfg == cfg
    assert (cfg["num_classes"], cfg["input_size"], cfg["classifier"]) == (5, (8, 7, 7), "head")
    assert model.get_submodule(cfg["classifier"]) is model.get_classifier()
    trained = hsmamba.create_model("rsanet.ikonos", pretrained=True)
    assert (trained.pretrained_cfg["architecture"], trained.pretrained_cfg["tag"]) == ("rsanet", "ikonos")
    assert trained.record.items() <= trained.pretrained_cfg.items()


def test_the_other_task_is_refused():
    with pytest.raises(TypeError, match=r"RSANet is a fusion network.*hsmamba\.fuse"):
        as_classifier(tiny("rsanet"))
    with pytest.raises(TypeError, match=r"MD2FMamba is a patch classifier.*hsmamba\.classify"):
        as_fusion_network(tiny("md2f_mamba"))


def test_a_module_of_ones_own_is_taken_by_its_attributes():
    class Own(nn.Module):
        in_chans, aux_chans, num_classes, patch_size = 3, 0, 2, 5

    own = Own()
    assert as_classifier(own) is own
    assert (own.transform, own.record, own.class_names, own.architecture) == (None, None, (), "")
    assert copy.deepcopy(own).model_args == {}  # as an average of the weights is kept
    own.transform = Compose()
    assert as_network(own).transform is not None
    with pytest.raises(TypeError, match=r"Linear is no patch classifier.*lacks in_chans, num_classes.*forward\(hsi"):
        as_classifier(nn.Linear(2, 2))
    with pytest.raises(TypeError, match=r"Own is no fusion network.*lacks guide_chans, scale"):
        as_fusion_network(own)


def test_a_compiled_network_is_taken_as_what_it_is():
    model = tiny("md2f_mamba")
    compiled = as_classifier(torch.compile(model, backend="eager"))
    compiled.transform = Compose()
    assert (compiled.patch_size, compiled.transform is model.transform) == (7, True)


def test_inputs_of_a_classifier_that_do_not_fit_are_named():
    one, two = tiny("md2f_mamba"), tiny("msfmamba")
    with pytest.raises(ValueError, match=r"hsi is \(2, 8, 7, 6\); this model takes \(B, 8, 7, 7\)"):
        one(torch.zeros(2, 8, 7, 6))
    with pytest.raises(ValueError, match="MD2FMamba has one input"):
        one(torch.zeros(2, 8, 7, 7), torch.zeros(2, 1, 7, 7))
    with pytest.raises(ValueError, match=r"aux is missing.*\(B, 1, 7, 7\)"):
        two(torch.zeros(2, 16, 7, 7))
    with pytest.raises(ValueError, match=r"aux is \(1, 1, 7, 7\); beside hsi \(2, 16, 7, 7\) it must be \(2, 1,"):
        two(torch.zeros(2, 16, 7, 7), torch.zeros(1, 1, 7, 7))


NETWORK = FusionNetwork(in_chans=4, guide_chans=1, scale=2)
MS, GUIDE, UP = torch.rand(2, 4, 3, 5), torch.rand(2, 1, 6, 10), torch.rand(2, 4, 6, 10)


def test_the_up_sampled_image_is_the_given_one_or_made():
    assert NETWORK.up_sampled(MS, GUIDE, UP) is UP
    assert NETWORK.up_sampled(None, GUIDE, UP) is UP
    assert torch.equal(NETWORK.up_sampled(MS, GUIDE, None), upsample(MS, 2))


@pytest.mark.parametrize(
    ("ms", "guide", "ms_up", "text"),
    [
        (None, GUIDE, None, "neither ms nor ms_up"),
        (MS[:, :3], GUIDE, None, r"ms is \(2, 3, 3, 5\).*\(B, 4, h, w\)"),
        (MS, UP, None, r"guide is \(2, 4, 6, 10\).*\(B, 1, H, W\)"),
        (MS, GUIDE[..., :9], None, r"\(2, 4, 3, 5\).*\(2, 1, 6, 9\).*ratio 2.*\(2, 1, 6, 10\)"),
        (MS[:1], GUIDE, None, r"\(1, 4, 3, 5\) and the guide \(2, 1, 6, 10\)"),
        (None, GUIDE, UP[:, :, :5], r"ms_up is \(2, 4, 5, 10\) and the guide \(2, 1, 6, 10\)"),
        (MS[0], GUIDE, None, r"ms is \(4, 3, 5\)"),
        (MS, GUIDE, UP[..., :9], "ms_up is"),
    ],
)
def test_images_that_do_not_fit_are_named(ms, guide, ms_up, text):
    with pytest.raises(SceneError, match=text):
        NETWORK.up_sampled(ms, guide, ms_up)
