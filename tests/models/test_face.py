"""The Hub mixin's names on networks, and what they show in notebooks."""

import numpy as np
import pytest
import torch

import hsmamba
from hsmamba.models.md2f_mamba import MD2FMamba
from hsmamba.models.rsanet import RSANet


def test_a_network_is_saved_and_loaded_by_the_names_of_the_hubs_mixin(tmp_path):
    model = hsmamba.create_model("rsanet", in_chans=4, dim=4, depth=1, recursions=1)
    folder = model.save_pretrained(tmp_path / "model", license="MIT")
    for name in (folder, f"local-dir:{folder}"):
        again = RSANet.from_pretrained(str(name))
        assert not again.training and again.in_chans == 4
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    with pytest.raises(TypeError, match="call RSANet"):
        MD2FMamba.from_pretrained(str(folder))


def test_a_weight_of_the_zoo_and_the_hub_are_asked(monkeypatch):
    assert MD2FMamba.from_pretrained("md2f_mamba.indian_pines").num_classes == 16
    asked = []

    def create(name, pretrained, **options):
        asked.append((name, pretrained, options))
        return hsmamba.models.entry("rsanet").entry_point()

    monkeypatch.setattr(hsmamba, "create_model", create)
    RSANet.from_pretrained("owner/repo", revision="abc", in_chans=3)
    assert asked == [("hf-hub:owner/repo@abc", True, {"in_chans": 3})]


def test_push_to_hub_is_the_packages(monkeypatch):
    calls = []
    monkeypatch.setattr(hsmamba, "push_to_hub", lambda model, repo, **options: calls.append((repo, options)) or "name")
    assert hsmamba.create_model("rsanet").push_to_hub("owner/repo", private=True) == "name"
    assert calls == [("owner/repo", {"private": True})]


def test_notebooks_show_a_table():
    model = hsmamba.create_model("md2f_mamba.indian_pines", pretrained=True)
    text = model._repr_html_()
    assert "96,462" in text and "Indian Pines" in text and "MNF" in text and "200 to 40 bands" in text


def test_what_scenes_reports_and_results_show_in_notebooks():
    scene = hsmamba.load_scene("muufl_crop")
    assert "data:image/png;base64," in scene._repr_html_() and "yellow curb (46)" in scene._repr_html_()
    report = hsmamba.engine.ClassificationReport.from_labels(np.array([1, 2, 2]), np.array([1, 1, 2]), ("<a", "b"))
    assert "&lt;" in report._repr_html_() and "<table>" in report._repr_html_()
    result = hsmamba.engine.TrainingResult([{"epoch": k, "loss": 1 / k} for k in (1, 2, 3)], 3, None)
    assert "<polyline" in result._repr_html_() and "loss 0.3333 to 1" in result._repr_html_()
