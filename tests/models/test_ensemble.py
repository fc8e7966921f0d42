"""The ensemble: the mean of its members' probabilities, each on its part of the patch."""

import pytest
import torch

import hsmamba
from hsmamba.errors import UnknownModelError
from hsmamba.models import entry, example_inputs
from hsmamba.models.ensemble import Ensemble

MD2F = {"architecture": "md2f_mamba", "model_args": {"in_chans": 6, "patch_size": 5, "dim": 8, "d_state": 2}}
MSF = {"architecture": "msfmamba", "model_args": {**entry("msfmamba").cfg.tiny, "patch_size": 9}}


def members(*given, **kwargs):
    torch.manual_seed(0)
    return Ensemble(members=given, num_classes=3, **kwargs).eval()


def test_the_logits_are_the_log_of_the_weighted_mean():
    even = {**MD2F, "model_args": {**MD2F["model_args"], "patch_size": 6}}
    model = members(even, MSF, weights=(1, 3))
    assert (model.in_chans, model.patch_size, model.aux_chans) == (16, 9, 1)
    hsi, aux = example_inputs(model)
    one, two = model.members
    # The pixel is at index 4 of 9 and at 3 of 6.
    want = 0.25 * one(hsi[:, :6, 1:7, 1:7]).softmax(1) + 0.75 * two(hsi, aux).softmax(1)
    torch.testing.assert_close(model(hsi, aux).exp(), want)
    torch.testing.assert_close(model(hsi, aux).softmax(1), want)


def test_equal_weights_are_the_default():
    model = members(MD2F, MD2F)
    (hsi,) = example_inputs(model)
    want = sum(member(hsi).softmax(1) for member in model.members) / 2
    torch.testing.assert_close(model(hsi).exp(), want)
    assert not torch.equal(*(member(hsi) for member in model.members))


def test_a_sure_member_leaves_finite_logits():
    model = members(MD2F, MD2F)
    for member in model.members:
        torch.nn.init.constant_(member.head.weight, 0)
        member.head.bias.data = torch.tensor([0.0, 1e4, -1e4])
    got = model(*example_inputs(model))
    assert got.isfinite().all() and got.argmax(1).eq(1).all()


def test_outputs_for_training_alone_are_left_out():
    model = members({"architecture": "mim_paper", "model_args": {**entry("mim_paper").cfg.tiny}}).train()
    hsi, *_ = example_inputs(model, 4)
    assert not isinstance(model.members[0](hsi), torch.Tensor)
    assert model(hsi).shape == (4, 3)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"members": ()}, "one positive number for each"),
        ({"members": (MD2F, MD2F), "weights": (1,)}, r"weights are \(1,\) for 2 members"),
        ({"members": (MD2F,), "weights": (0,)}, "one positive number for each"),
        ({"members": (MD2F,), "weights": (float("nan"),)}, "one positive number for each"),
        ({"members": ("md2f_mamba",)}, r"a member is 'md2f_mamba'; expected \{'architecture'"),
        ({"members": ({**MD2F, "weight": 2},)}, "expected {'architecture'"),
        (
            {"members": ({"architecture": "md2f_mamba", "model_args": {"num_classes": 3}},)},
            "num_classes beside members",
        ),
        ({"members": ({"architecture": "ensemble"},)}, "'ensemble'; members are single classifiers"),
        ({"members": ({"architecture": "rsanet"},)}, "'rsanet'; members are single classifiers"),
        ({"members": (MD2F,), "in_chans": 7}, "in_chans is 7, and the members take up to 6; leave in_chans out"),
        ({"members": (MD2F,), "patch_size": 3}, "patch_size is 3, and the members take up to 5"),
        ({"members": (MD2F,), "aux_chans": 1}, "aux_chans is 1, and the members take up to 0"),
    ],
)
def test_what_is_no_ensemble_is_refused(given, text):
    with pytest.raises(ValueError, match=text):
        hsmamba.create_model("ensemble", **given)


def test_an_unknown_member_is_named():
    with pytest.raises(UnknownModelError, match="no architecture named 'md3f'"):
        hsmamba.create_model("ensemble", members=[{"architecture": "md3f"}])


def test_inputs_that_do_not_fit_are_told_of_the_whole():
    with pytest.raises(ValueError, match=r"this model takes \(B, 6, 5, 5\)"):
        members(MD2F)(torch.zeros(1, 7, 5, 5))
