"""Samples of bands of several images, and the training on them."""

from dataclasses import replace

import pytest
import torch

import hsmamba
from hsmamba.baselines.regression import up_with_border
from hsmamba.data import wald_pairs
from hsmamba.data.pairs import GivenImage
from hsmamba.engine.fusion.train import FusionSettings
from hsmamba.engine.multisensor.train import Several, train_several
from hsmamba.engine.training import Keeping
from hsmamba.errors import SceneError
from hsmamba.models.bandwise import Bandwise
from tests.engine.fusion.toys import images, same


@pytest.fixture(scope="module")
def pairs():
    return {
        name: wald_pairs(*images(64, 64, bands), sensor="generic", maximum=2047, val=0, test=0, name=name)
        for name, bands in (("few", 3), ("many", 20))
    }


@pytest.fixture(scope="module")
def several(pairs):
    return Several.of(pairs, 3, 0)


def test_samples_are_versions_of_a_few_bands(several):
    assert [len(versions) for versions in several.samples.values()] == [3, 3]
    for name, bands in (("few", 3), ("many", 16)):
        for sample in several.samples[name]:
            height, width = sample.missing.shape[1:]
            assert sample.shown.shape == (bands, 9, height, width)
            assert sample.own.shape == (bands, 6) and sample.pull.shape == (bands, 6, 6)
            assert height == width and 45 < height <= 64
            fine = sample.shown[:, Bandwise.FINE].std(dim=(1, 2))
            torch.testing.assert_close(fine, torch.ones(bands))


def test_what_is_missing_is_the_truth_less_the_up_sampled_image(pairs, several):
    (pair,), sample = pairs["few"].unturned(), several.samples["few"][0]
    lacks = pair.gt - up_with_border(pair.ms[None], pairs["few"].ratio)[0]
    for band in range(3):
        ratio = lacks[band].norm() / sample.missing[band].norm()
        torch.testing.assert_close(sample.missing[band] * ratio, lacks[band], rtol=1e-3, atol=1e-5)


def test_the_versions_of_an_image_do_not_depend_on_the_others(pairs, several):
    alone = Several.of({"many": pairs["many"]}, 3, 0)
    for one, two in zip(alone.samples["many"], several.samples["many"], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert several.without("few").fingerprint == alone.fingerprint != several.fingerprint
    assert several.without(None).samples.keys() == several.samples.keys()


def network():
    torch.manual_seed(0)
    return hsmamba.create_model("bandwise", dim=8, dilations=(1,))


def test_a_network_learns_and_the_same_each_time(several):
    settings = FusionSettings(epochs=4, steps=20, batch_size=16, lr=3e-3, warmup_epochs=0)
    first, second = network(), network()
    result = train_several(first, several, settings, keeping=Keeping(progress=False))
    assert float((first.usual.detach() - 1 / 6).abs().max()) > 0.01
    assert result.history[-1]["loss"] < 0.95 * result.history[0]["loss"]
    assert result.validation is None and not first.training and first.transform is None
    train_several(second, several, settings, keeping=Keeping(progress=False))
    assert same(first, second)


def test_crops_are_no_larger_than_the_smallest_image(several):
    settings = FusionSettings(epochs=1, steps=1, batch_size=2, crop=500)
    train_several(network(), several, settings, keeping=Keeping(progress=False))


def test_coarse_images_of_others_are_refused(pairs):
    (pair,) = pairs["few"].unturned()
    given = GivenImage("given", pair.gt, pair.ms, pair.ms_up, pair.guide)
    with pytest.raises(SceneError, match="train on pairs of wald_pairs"):
        Several.of({"given": replace(pairs["few"], train=(given,))}, 1, 0)
