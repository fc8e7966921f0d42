"""Computations that a GPU is told as a whole; what needs one is left out where there is none."""

import logging

import numpy as np
import pytest
import torch

import hsmamba
from hsmamba.data import wald_pairs
from hsmamba.engine.captured import Captured, can_be_captured
from tests.engine.fusion.toys import images

ON_A_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_it_computes_as_before_and_says_why(caplog):
    calls = []

    def run(x, pair, name):
        calls.append(name)
        return {"sum": x + pair[0]}

    captured = Captured(run, torch.device("cpu"))
    with caplog.at_level(logging.WARNING, "hsmamba"):
        found = [captured(torch.full((2,), float(i)), (torch.ones(2),), "a")["sum"][0].item() for i in range(6)]
    assert found == [1, 2, 3, 4, 5, 6]
    assert calls == ["a"] * 6
    assert len(caplog.records) == 1


def test_networks_of_the_zoo_alone_on_a_gpu_alone():
    model = hsmamba.create_model("rsanet")
    assert can_be_captured(model, torch.device("cuda"))
    assert not can_be_captured(model, torch.device("cpu"))
    assert not can_be_captured(torch.nn.Linear(2, 2), torch.device("cuda"))


@ON_A_GPU
def test_a_graph_gives_what_its_computation_gives():
    weight = torch.randn(5, 5, device="cuda")
    captured = Captured(lambda x: (x @ weight).sin(), torch.device("cuda"))
    for i in range(8):
        for rows in (3, 4) if i % 2 else (3,):
            x = torch.randn(rows, 5, device="cuda")
            assert torch.equal(captured(x), (x @ weight).sin())


def losses(train, whole, monkeypatch):
    """Losses of a training run that is told to the GPU as a whole, or kernel by kernel."""
    with monkeypatch.context() as patch:
        if not whole:
            patch.setattr("hsmamba.engine.training.can_be_captured", lambda *_: False)
        return [record["loss"] for record in train().history]


@ON_A_GPU
def test_a_classifier_learns_the_same_launched_as_a_whole(make_model, scene, split, transform, monkeypatch):
    def train():
        model = make_model(drop_rate=0.2)
        options = {"epochs": 4, "batch_size": 16, "transform": transform, "device": "cuda", "progress": False}
        return hsmamba.finetune(model, scene, split, **options)

    found = [losses(train, whole, monkeypatch) for whole in (True, False)]
    np.testing.assert_allclose(*found, rtol=1e-3)


@ON_A_GPU
@pytest.mark.parametrize("name", ["rsanet", "mmapp", "le_mamba", "ramsf", "cf2n"])
def test_a_fusion_network_learns_the_same_launched_as_a_whole(name, monkeypatch):
    pairs = wald_pairs(*images(), sensor="QB", val=0.125, test=0.375, name="toy")

    def train():
        torch.manual_seed(0)
        sizes = {"in_chans": pairs.in_chans, "guide_chans": pairs.guide_chans, "scale": pairs.ratio}
        model = hsmamba.create_model(name, **sizes)
        return hsmamba.finetune(model, pairs, epochs=2, steps=6, device="cuda", progress=False)

    found = [losses(train, whole, monkeypatch) for whole in (True, False)]
    np.testing.assert_allclose(*found, rtol=1e-2)
