"""What every fusion network promises, and its variants for sensors."""

import pytest
import torch

import hsmamba
from hsmamba.errors import SceneError
from hsmamba.layers.fusion import pad_sides
from hsmamba.models import entry, registry
from hsmamba.ops.resampling import upsample

FUSION = sorted(name for name, known in registry().items() if known.cfg.task == "fusion")
ARCHITECTURES = [name for name in FUSION if f".{name}" in entry(name).module]
SENSORS = {  # in_chans, guide_chans, scale
    "wv3": (8, 1, 4),
    "qb": (4, 1, 4),
    "gf2": (4, 1, 4),
    "cave_x4": (31, 3, 4),
    "cave_x8": (31, 3, 8),
    "s1s2": (13, 2, 4),
    "small": (8, 1, 4),
    "base": (8, 1, 4),
}
SMALL = {
    "cf2n": {"dim": 8, "depth": 2},
    "le_mamba": {"dim": 4},
    "mmapp": {"dim": 4, "depth": 1},
    "ramsf": {"dim": 8, "align_dim": 4, "mlp_dims": (8, 8)},
    "rsanet": {"dim": 4, "depth": 1},
}
# (multiple, least side) of the guide's grid, as the specifications have it
SIDES = {"cf2n": (2, 4), "le_mamba": (16, 1), "mmapp": (4, 16), "ramsf": (4, 4), "rsanet": (1, 4)}


def small(name, **kwargs):
    torch.manual_seed(0)
    return hsmamba.create_model(name, in_chans=3, guide_chans=2, **SMALL[name], **kwargs).eval()


def images(scale, height, width, batch=2):
    gen = torch.Generator().manual_seed(1)
    ms = torch.rand(batch, 3, height, width, generator=gen)
    return ms, torch.rand(batch, 2, scale * height, scale * width, generator=gen)


@pytest.mark.parametrize("name", FUSION)
def test_variants_have_the_sizes_of_their_sensors(name):
    architecture = next(a for a in ARCHITECTURES if name.startswith(a))
    model = hsmamba.create_model(name)
    bands, chans, scale = SENSORS[name[len(architecture) + 1 :] or "wv3"]
    assert (model.in_chans, model.guide_chans, model.scale) == (bands, chans, scale)
    assert model.no_weight_decay() <= dict(model.named_parameters()).keys()
    model = model.eval()
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
