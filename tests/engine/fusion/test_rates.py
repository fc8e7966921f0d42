"""Layers that see many bands learn slower, so that a network of hundreds of bands stays alive."""

import pytest

from hsmamba.engine.fusion.rates import lr_scales
from hsmamba.engine.fusion.tuned import Correction, Levels
from hsmamba.metrics.fusion import psnr
from tests.engine.fusion.toys import BANDS, make, many_bands, train_on_many, wide


def test_factors_are_those_of_the_inputs():
    scales = lr_scales(wide(), 8)
    assert scales == {
        "head.weight": pytest.approx(9 / (BANDS + 1)), "head.taps.0.qkv.weight": pytest.approx(9 / (BANDS + 1))
    }  # fmt: skip
    assert lr_scales(make(in_chans=8), 8) == {}
    toy = wide()
    toy.architecture = ""  # of one's own
    assert lr_scales(toy, 8) == {}


def test_the_network_of_a_correction_learns_as_slowly_as_by_itself():
    levels = Levels.kept(BANDS), Levels.kept(1)
    found = lr_scales(Correction(wide(), *levels), 8)
    assert found == {f"network.{name}": factor for name, factor in lr_scales(wide(), 8).items()} and found


def test_a_network_of_hundreds_of_bands_moves():
    pair = many_bands().val[0]
    exp = psnr(pair.gt[None], pair.ms_up[None], data_range=1.0)
    assert train_on_many(lr=1e-2).validation["val_psnr"] > float(exp) + 1.5
