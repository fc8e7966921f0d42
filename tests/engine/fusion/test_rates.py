"""Layers that see many bands learn slower, so that a network of hundreds of bands stays alive."""

import re

import pytest
import torch

import hsmamba
from hsmamba.data import upsample
from hsmamba.data.pairs import FusionPairs, simulated_pair, training_image
from hsmamba.data.sensors import get_sensor
from hsmamba.engine.fusion.rates import lr_scales
from hsmamba.errors import TrainingError
from hsmamba.metrics.fusion import psnr
from tests.engine.fusion.toys import make

BANDS = 200


@pytest.fixture(scope="module")
def many():
    """Bands that rise and fall together, as those of a spectrometer do, and their mean as PAN."""
    generator = torch.Generator().manual_seed(0)
    ground = upsample(torch.rand(1, 3, 8, 8, generator=generator), 4)[0].clamp(0, 1)
    mix = torch.rand(BANDS, 3, generator=generator)
    gt = torch.einsum("kc,chw->khw", mix, ground) / 3
    images = ("toy", gt, gt.mean(0, keepdim=True))
    sensor = get_sensor("generic")
    made = training_image(*images, ratio=2, sensor=sensor), simulated_pair(*images, ratio=2, sensor=sensor)
    return FusionPairs("toy", 2, sensor, 1.0, train=made[:1], val=made[1:])


def rsanet():
    torch.manual_seed(0)
    return hsmamba.create_model("rsanet", in_chans=BANDS, scale=2, dim=8, depth=1, recursions=2)


def test_factors_are_those_of_the_inputs():
    scales = lr_scales(rsanet(), 8)
    assert scales == {"head.weight": pytest.approx(9 / 201), "head.taps.0.qkv.weight": pytest.approx(9 / 201)}
    assert lr_scales(make(in_chans=8), 8) == {}
    toy = rsanet()
    toy.architecture = ""  # of one's own
    assert lr_scales(toy, 8) == {}


def train(many, **options):
    settings = {"epochs": 3, "steps": 25, "batch_size": 2, "crop": 16, "progress": False}
    return hsmamba.finetune(rsanet(), many, **settings | options)


def test_a_network_of_hundreds_of_bands_moves(many):
    exp = psnr(many.val[0].gt[None], many.val[0].ms_up[None], data_range=1.0)
    assert train(many, lr=1e-2).validation["val_psnr"] > float(exp) + 1.5


def test_a_network_that_dies_is_refused_and_lives_as_the_error_says(many):
    with pytest.raises(TrainingError, match=r"RSANet has had no gradient left.*it is 0\.01, try 0\.001") as caught:
        train(many, lr=1e-2, lr_bands=BANDS)
    lower = float(re.search(r"try ([\d.e-]+)\)", str(caught.value)).group(1))
    history = train(many, lr=lower, lr_bands=BANDS).history
    assert history[-1]["val_psnr"] > history[0]["val_psnr"]
