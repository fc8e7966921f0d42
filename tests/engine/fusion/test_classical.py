"""Classical methods on images of any size: parts are those of the whole image, whatever their size."""

import numpy as np
import pytest
import torch

from hsmamba.baselines import BASELINES, OF_PAN_ALONE
from hsmamba.baselines.regression import Scatter
from hsmamba.data.degrade import upsample
from hsmamba.data.sensors import get_sensor
from hsmamba.engine.fusion import classical
from hsmamba.engine.fusion.classical import methods_for, sharpen_whole
from hsmamba.engine.fusion.classical_job import prepare_classical
from hsmamba.engine.fusion.images import Image, Images

GENERIC = get_sensor("generic")


def made(height, width, ratio, channels, bands=4):
    """A pair whose guide explains much of MS, in counts."""
    random = np.random.default_rng(7)
    ms = 300 + 90 * random.random((height, width, bands)).cumsum(0).cumsum(1) ** 0.3 + 20 * random.random((bands,))
    up = upsample(torch.from_numpy(ms).permute(2, 0, 1)[None], ratio)[0].permute(1, 2, 0).numpy()
    guide = np.stack([2 * up[..., i % bands] + 50 * i for i in range(channels)], axis=-1)
    return ms, guide + 9 * random.random(guide.shape)


def sharpened(method, images, **options):
    """The rows that come, put together; each is where the one before ended."""
    rows, done = [], []
    sharpen_whole(method, images, lambda top, part: rows.append((top, part.clone())), done.append, **options)
    first = rows[0][0]
    assert [top - first for top, _ in rows] == np.cumsum([0, *(part.shape[1] for _, part in rows)])[:-1].tolist()
    return torch.cat([part for _, part in rows], dim=1), len(rows), sum(done)


@pytest.mark.parametrize("ratio, channels", [(2, 1), (3, 1), (4, 1), (4, 3)])
@pytest.mark.parametrize("name", BASELINES)
def test_parts_have_the_statistics_of_the_whole_image(name, ratio, channels, monkeypatch):
    if channels > 1 and name in OF_PAN_ALONE:
        pytest.skip("takes PAN alone")
    monkeypatch.setattr(classical, "TILE", 40)
    ms, guide = made(70, 61, ratio, channels)
    images = Images(Image(ms), Image(guide), None, ratio, fill=False)
    method = methods_for(channels, ratio, GENERIC, wrap=False)[name]
    whole, count, pixels = sharpened(method, images)
    assert count == 1 and pixels == 70 * 61 * ratio**2
    tensors = [torch.from_numpy(x).permute(2, 0, 1)[None] for x in (ms, guide)]
    want = BASELINES[name](*tensors, ratio=ratio, sensor=GENERIC, wrap=False)[0]
    torch.testing.assert_close(whole, want, rtol=1e-10, atol=0)
    parts, count, pixels = sharpened(method, images, most=1)
    assert count > 1 and pixels == 70 * 61 * ratio**2 and parts.dtype == torch.float64
    torch.testing.assert_close(parts, whole, rtol=1e-9, atol=1e-7)


def test_a_part_of_an_image_can_be_asked_for(monkeypatch):
    monkeypatch.setattr(classical, "TILE", 40)
    ms, guide = made(70, 61, 4, 1)
    images = Images(Image(ms), Image(guide), None, 4, fill=False)
    method = methods_for(1, 4, GENERIC)["GSA"]
    whole = sharpened(method, images, most=1)[0]
    below, _, _ = sharpened(method, images, most=1, start=150)
    assert 130 <= below.shape[1] < 180 and torch.equal(below, whole[:, -below.shape[1] :])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["EXP", "GSA", "MTF-GLP-FS"])
def test_a_large_image_is_made_consistent_part_by_part(name, monkeypatch):
    ms, guide = made(64, 40, 4, 1)
    options = {"sensor": "QB", "consistent": True, "progress": False}

    def ran():
        rows = []
        prepare_classical(name, ms, guide, **options).run(lambda _, part: rows.append(part.copy()))
        return np.concatenate(rows), len(rows)

    whole, calls = ran()
    monkeypatch.setattr(classical, "TILE", 96)
    monkeypatch.setattr(sharpen_whole, "__kwdefaults__", {"start": 0, "most": 1})
    parts, more_calls = ran()
    plain = upsample(torch.from_numpy(ms).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()
    moved = np.abs(whole - plain).mean()
    assert more_calls > calls
    assert np.abs(parts - whole).mean() < 0.1 * moved  # the correction may be fitted to other pixels


def test_scatter_of_parts_adds_up_to_that_of_the_whole():
    values = 1e6 + torch.randn(2, 3, 20, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    whole = Scatter.of(values)
    first, second = Scatter.of(values[..., :7]), Scatter.of(values[..., 7:])
    total = first + second
    assert total.count == whole.count == 600
    torch.testing.assert_close(total.mean, values.mean(dim=(2, 3)))
    flat = values.flatten(2)
    torch.testing.assert_close(
        total.products, torch.stack([x.cov(correction=0) for x in flat]) * 600, rtol=1e-6, atol=1e-6
    )
    torch.testing.assert_close(total.products, whole.products, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(total.size, flat.square().mean(dim=2).sqrt())
