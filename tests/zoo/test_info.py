"""What is known of a model by its name."""

import json

import pytest

import hsmamba
from hsmamba.models import example_inputs
from hsmamba.ops import cpu
from hsmamba.zoo.info import count_macs
from tests.models.samples import tiny


def test_model_info(record):
    info = hsmamba.model_info("md2f_mamba")
    assert (info.params, info.macs, info.inputs) == (92_167, 8_302_888, {"hsi": (30, 13, 13)})
    assert info.tags.keys() == {"test"}
    assert json.loads(info.to_json())["task"] == "classification"
    assert "92,167" in str(info)
    tagged = hsmamba.model_info("md2f_mamba.test")
    assert (tagged.bands, tagged.classes, tagged.num_classes) == (9, ("a", "b", "c", "d"), 4)


@pytest.mark.parametrize("name", ["le_mamba", "cf2n", "mim_v3", "msfmamba"])
def test_kernels_hide_no_operations(name, monkeypatch):
    model = tiny(name)
    found = count_macs(model, example_inputs(model, 1))
    monkeypatch.setattr(cpu, "load", lambda: "no library")
    assert found == count_macs(model, example_inputs(model, 1)) > 0
