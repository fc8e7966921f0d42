"""How sharp MS is beside the guide: what is put in comes out, whatever else differs."""

import re

import numpy as np
import pytest
import torch

from hsmamba.data.degrade import filter_bands, gaussian_kernel
from hsmamba.data.sensors import get_sensor
from hsmamba.engine import Adapt
from hsmamba.engine.fusion.heldout import cut_parts
from hsmamba.engine.fusion.images import Image, Images
from hsmamba.engine.fusion.job import prepare_fusion
from hsmamba.engine.fusion.sharpness import blur_of, relative_mtf
from tests.engine.fusion.toys import images, make


def noise(channels, side=96, seed=0):
    return torch.rand(1, channels, side, side, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("ratio", [2, 3, 4])
@pytest.mark.parametrize("gain", [0.2, 0.35, 0.7, 0.999])
def test_a_blur_comes_out_again(gain, ratio):
    guide = noise(2)
    mixed = torch.einsum("cg,bghw->bchw", torch.tensor([[1.0, 0.2], [-3.0, 5.0], [0.0, 1.0]]).double(), guide)
    ms = 100 + filter_bands(mixed, gaussian_kernel(gain)) + 0.1 * noise(3, seed=1)
    parts = [(ms[0, :, rows], guide[0, :, rows]) for rows in (slice(0, 50), slice(50, 96))]
    assert relative_mtf(parts, ratio) == gain


def test_nothing_to_tell_by_is_no_error():
    flat = torch.ones(3, 16, 16)
    assert 0.1 <= relative_mtf([(flat, flat[:1])], 4) <= 0.999


def test_the_guide_is_blurred_half_of_the_way_and_no_further_than_the_table_says():
    sensor = get_sensor("generic")  # 0.3
    assert blur_of(0.49, sensor, 4) == pytest.approx(0.7)
    assert blur_of(0.1, sensor, 4) == pytest.approx(0.3**0.5)
    assert blur_of(0.999, sensor, 4) == pytest.approx(0.9995, abs=1e-4)


def test_an_ms_as_sharp_as_the_guide_is_back_projected_once():
    ms, pan = images(48, 64)
    pair = Images(Image(ms / 2047), Image(pan[..., None] / 2047), None, 4, fill=False)
    parts = cut_parts(pair, get_sensor("generic"), 0)
    assert f"an MTF of {parts.sharpness:.2g} beside the guide" in parts.words
    values = np.random.default_rng(0).uniform(500, 1500, (48, 64))
    sharp, blocks = values[..., None] * np.array([1.0, 0.7, 0.5, 0.3]), np.kron(values, np.ones((4, 4)))
    job = prepare_fusion(make(), sharp, blocks, maximum=2047, progress=False, adapt=Adapt(steps=0))
    names = [name for name in job.adaptation.report.figures if "back" in name]
    assert len(names) == 4 and all(re.search(r", 1 x back-projected( in proportion)?$", name) for name in names)
