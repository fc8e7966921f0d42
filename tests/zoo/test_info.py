"""What is known of a model by its name."""

from __future__ import annotations

import json

import hsmamba


def test_model_info(record):
    info = hsmamba.model_info("md2f_mamba")
    assert (info.params, info.macs, info.inputs) == (92_167, 8_302_888, {"hsi": (30, 13, 13)})
    assert info.tags.keys() == {"test"}
    assert json.loads(info.to_json())["task"] == "classification"
    assert "92,167" in str(info)
    tagged = hsmamba.model_info("md2f_mamba.test")
    assert (tagged.bands, tagged.classes, tagged.num_classes) == (9, ("a", "b", "c", "d"), 4)
