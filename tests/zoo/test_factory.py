"""Models by name: creation, listings, the errors of each."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from torch import nn

import hsmamba
from hsmamba.errors import HashMismatchError, UnknownModelError, WeightsError
from hsmamba.models import registry
from hsmamba.zoo import factory, manifest
from tests.zoo.samples import SMALL


def test_arguments_that_are_none_are_dropped():
    model = hsmamba.create_model("md2f_mamba", num_classes=None, in_chans=8, dim=None)
    assert (model.num_classes, model.in_chans, model.num_features) == (9, 8, 64)
    assert model.training
    assert model.model_args == {"num_classes": 9, "in_chans": 8, "patch_size": 13}


def test_dtype_and_device():
    model = hsmamba.create_model("md2f_mamba", dtype=torch.float64, device="meta")
    assert {(p.dtype, p.device.type) for p in model.parameters()} == {(torch.float64, "meta")}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("md2f_mamb", "did you mean md2f_mamba"),
        ("completely different", "list_models"),
        ("./weights/model", r"'local-dir:\./weights/model'.*'hf-hub:\./weights/model'"),
        ("owner/repo", r"'local-dir:owner/repo'.*'hf-hub:owner/repo'"),
        ("md2f_mamba.nowhere", "no pretrained weights named 'md2f_mamba.nowhere'"),
    ],
)
def test_unknown_names_are_answered_with_what_was_meant(name, text):
    with pytest.raises(UnknownModelError, match=text):
        hsmamba.create_model(name, pretrained=True)


def test_a_local_folder_comes_back_bit_for_bit_with_its_transform(model_folder):
    model = hsmamba.create_model(f"local-dir:{model_folder}")
    assert not model.training
    assert model.class_names == ("a", "b", "c", "d")
    torch.manual_seed(0)
    want = hsmamba.create_model("md2f_mamba", **SMALL).eval()
    x = torch.randn(2, 6, 7, 7)
    assert torch.equal(model(x), want(x))
    assert model.transform(np.zeros((3, 9))).shape == (3, 6)


def test_names_with_tags(record):
    model = hsmamba.create_model("md2f_mamba.test", pretrained=True)
    assert model.num_classes == 4
    assert model.record["source"] == "md2f_mamba.test"
    assert (model.pretrained_cfg["architecture"], model.pretrained_cfg["tag"]) == ("md2f_mamba", "test")
    shaped = hsmamba.create_model("md2f_mamba.test")
    assert (shaped.num_classes, shaped.training) == (4, True)
    assert not torch.equal(shaped.head.weight, model.head.weight)
    assert hsmamba.list_pretrained() == ["md2f_mamba.test"]
    assert hsmamba.is_model("md2f_mamba.test")
    assert not hsmamba.is_model("md2f_mamba.other")


def test_every_architecture_with_weights_declares_which_is_its_default():
    by_architecture = {}
    for record in manifest.load_manifest().values():
        by_architecture.setdefault(record.architecture, set()).add(record.tag)
    defaults = {name: known.cfg.default_tag for name, known in registry().items() if known.cfg.default_tag}
    assert defaults.keys() == by_architecture.keys()
    assert all(tag in by_architecture[name] for name, tag in defaults.items())


def test_the_bare_name_says_which_weight_it_gives(caplog):
    with caplog.at_level(logging.WARNING):
        model = hsmamba.create_model("le_mamba", pretrained=True)
    assert [r.message for r in caplog.records] == [
        "le_mamba with pretrained=True is its default weight le_mamba.cave_x8: 31 bands, a guide of 3 channels, "
        "ratio 8; trained on CAVE"
    ]
    assert model.sizes == {"in_chans": 31, "guide_chans": 3, "scale": 8}
    assert hsmamba.create_model("le_mamba", dim=4).sizes == {"in_chans": 8, "guide_chans": 1, "scale": 4}
    with pytest.raises(UnknownModelError, match="mim_v1 has no default weight"):
        hsmamba.create_model("mim_v1", pretrained=True)


def test_other_classes_reinitialise_the_head_alone(record, caplog):
    base = hsmamba.create_model("md2f_mamba.test", pretrained=True).state_dict()
    with caplog.at_level(logging.WARNING):
        model = hsmamba.create_model("md2f_mamba.test", pretrained=True, num_classes=7)
    assert [r.message for r in caplog.records] == [
        "md2f_mamba.test: re-initialised head, of other sizes than the weight's (num_classes)"
    ]
    kept = {key for key, value in model.state_dict().items() if key in base and torch.equal(value, base[key])}
    assert base.keys() - kept == {"head.weight", "head.bias"}
    assert model.class_names == ()
    assert model.transform is not None


def test_no_classes_removes_the_head_and_keeps_the_rest(record):
    model = hsmamba.create_model("md2f_mamba.test", pretrained=True, num_classes=0)
    assert model(torch.zeros(1, 6, 7, 7)).shape == (1, 16)
    base = hsmamba.create_model("md2f_mamba.test", pretrained=True).state_dict()
    assert all(torch.equal(value, base[key]) for key, value in model.state_dict().items())


def test_other_bands_reinitialise_what_sees_them_and_leave_the_transform_out(record, caplog):
    with caplog.at_level(logging.WARNING):
        model = hsmamba.create_model("md2f_mamba.test", pretrained=True, in_chans=5)
    assert "re-initialised init_extractor.conv2d.0," in caplog.text
    assert "left its transform out" in caplog.text
    assert model.transform is None
    base = hsmamba.create_model("md2f_mamba.test", pretrained=True)
    assert torch.equal(model.head.weight, base.head.weight)


def test_checkpoint_path_alone_must_fit_and_with_pretrained_must_be_the_record_file(record, model_folder, tmp_path):
    path = model_folder.parent / record.name / "model.safetensors"
    model = hsmamba.create_model("md2f_mamba", checkpoint_path=path, **SMALL)
    want = hsmamba.create_model("md2f_mamba.test", pretrained=True)
    assert torch.equal(model.head.weight, want.head.weight)
    with pytest.raises(WeightsError, match="of another shape"):
        hsmamba.create_model("md2f_mamba", checkpoint_path=path)
    assert hsmamba.create_model("md2f_mamba.test", pretrained=True, checkpoint_path=path).transform is not None
    torch.manual_seed(9)
    other = hsmamba.save_pretrained(hsmamba.create_model("md2f_mamba", **SMALL), tmp_path / "other")
    with pytest.raises(HashMismatchError, match=record.sha256):
        hsmamba.create_model("md2f_mamba.test", pretrained=True, checkpoint_path=other / "model.safetensors")
    with pytest.raises(WeightsError, match="local-dir:"):
        hsmamba.create_model("md2f_mamba", checkpoint_path=other)


def test_timm_creates_pretrained_models_too(record):
    import timm

    model = timm.create_model("md2f_mamba.test", pretrained=True)
    assert torch.equal(model.head.weight, hsmamba.create_model("md2f_mamba.test", pretrained=True).head.weight)


def test_listing_with_wildcards_and_natural_order(monkeypatch):
    entry = hsmamba.models.entry("md2f_mamba")
    names = ["net10", "net9", "md2f_mamba", "other"]
    monkeypatch.setattr(factory.models, "registry", lambda: dict.fromkeys(names, entry))
    assert hsmamba.list_models() == ["md2f_mamba", "net9", "net10", "other"]
    assert hsmamba.list_models("net*") == ["net9", "net10"]
    assert hsmamba.list_models(["net9", "o*"]) == ["net9", "other"]
    assert hsmamba.list_models(exclude="net*") == ["md2f_mamba", "other"]
    assert hsmamba.list_models(task="fusion") == []
    assert hsmamba.list_models(module="md2f_mamba", exclude=["other", "net10"]) == ["md2f_mamba", "net9"]


def test_a_network_of_ones_own_code_comes_back_from_its_folder(tmp_path, monkeypatch):
    class Local(nn.Module):
        aux_chans, patch_size = 0, 3

        def __init__(self, in_chans: int = 4, num_classes: int = 2) -> None:
            super().__init__()
            self.in_chans, self.num_classes = in_chans, num_classes
            self.head = nn.Linear(in_chans, num_classes)

        def forward(self, hsi, aux=None):
            return self.head(hsi.mean((2, 3)))

    def local_test_net(**kwargs: Unknown) -> Local:  # noqa: F821 - annotations need not mean anything here
        return Local(**kwargs)

    entries = hsmamba.models._registry._ENTRIES
    monkeypatch.setattr(hsmamba.models._registry, "_ENTRIES", dict(entries))
    hsmamba.register_model(local_test_net)
    for args in ({}, {"in_chans": 7, "num_classes": 5}):
        model = hsmamba.create_model("local_test_net", **args)
        place = hsmamba.save_pretrained(model, tmp_path / str(len(args)))
        assert torch.equal(hsmamba.create_model(f"local-dir:{place}").head.weight, model.head.weight)
    with pytest.raises(TypeError, match=r"'widht'\. It takes|'widht'"):
        hsmamba.create_model("local_test_net", widht=3)
    assert "classes" not in str(hsmamba.model_info("rsanet"))
    monkeypatch.undo()
    with pytest.raises(UnknownModelError, match="import the code that registers it"):
        hsmamba.create_model(f"local-dir:{place}")


def test_a_name_of_timm_is_not_taken():
    def resnet18(**kwargs):
        raise AssertionError

    with pytest.raises(ValueError, match="timm has a model named 'resnet18'"):
        hsmamba.register_model(resnet18)
