"""What every fusion network promises, at the sizes of the sensors."""

import pytest
import torch

import hsmamba
from hsmamba.errors import SceneError
from hsmamba.layers.fusion import pad_sides
from hsmamba.models import entry, registry
from hsmamba.ops.resampling import upsample

ARCHITECTURES = [name for name, known in registry().items() if known.cfg.task == "fusion" and "_mamba_" not in name]
# (multiple, least side) of the guide's grid, as the specifications have it
SIDES = {"cf2n": (2, 4), "le_mamba": (4, 1), "mmapp": (4, 16), "ramsf": (4, 4), "rsanet": (1, 4)}


def small(name, **kwargs):
    torch.manual_seed(0)
    sizes = {**entry(name).cfg.tiny, "in_chans": 3, "guide_chans": 2, "scale": 4}
    return hsmamba.create_model(name, **sizes | kwargs).eval()


def images(scale, height, width, batch=2):
    gen = torch.Generator().manual_seed(1)
    ms = torch.rand(batch, 3, height, width, generator=gen)
    return ms, torch.rand(batch, 2, scale * height, scale * width, generator=gen)


SENSORS = {  # in_chans, guide_chans, scale
    "WorldView-3": (8, 1, 4),
    "QuickBird, GaoFen-2": (4, 1, 4),
    "CAVE at ratio 4": (31, 3, 4),
    "CAVE at ratio 8": (31, 3, 8),
    "Sentinel-2 guided by Sentinel-1": (13, 2, 4),
}


@pytest.mark.parametrize("sizes", SENSORS.values(), ids=SENSORS)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_sensors_are_sizes(name, sizes):
    bands, chans, scale = sizes
    model = small(name, in_chans=bands, guide_chans=chans, scale=scale)
    with torch.inference_mode():
        fused = model(torch.rand(1, bands, 4, 4), torch.rand(1, chans, 4 * scale, 4 * scale))
    assert fused.shape == (1, bands, 4 * scale, 4 * scale)
    assert fused.isfinite().all()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_up_sampled_image_is_made_where_it_is_not_given(name):
    model = small(name)
    ms, guide = images(4, 5, 4)
    torch.testing.assert_close(model(ms, guide), model(ms, guide, upsample(ms, 4)))


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("side", [(3, 5), (1, 4)])
def test_sides_that_do_not_fit_are_padded_by_reflection_and_cropped(name, side):
    model = small(name)
    multiple, least = SIDES[name]
    ms, guide = images(4, *side)
    ms_up = upsample(ms, 4)
    padded_ms = pad_sides(ms, max(1, multiple // 4), -(-least // 4))
    want = model(padded_ms, pad_sides(guide, multiple, least), pad_sides(ms_up, multiple, least))
    got = model(ms, guide, ms_up)
    assert got.shape == ms_up.shape
    torch.testing.assert_close(got, want[..., : 4 * side[0], : 4 * side[1]])


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_inputs_that_do_not_fit_are_named(name):
    model = small(name)
    ms, guide = images(4, 4, 4)
    with pytest.raises(SceneError, match=r"\(2, 3, 4, 4\).*\(2, 2, 16, 12\).*ratio 4"):
        model(ms, guide[..., :12])
    with pytest.raises(SceneError, match=r"\(2, 2, 4, 4\).*\(B, 3, h, w\)"):
        model(ms[:, :2], guide)
    with pytest.raises(SceneError, match="ms"):
        model(None, guide)
