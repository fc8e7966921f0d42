"""MMAPP: the official numbers, the equations at any size, the official size, its loss."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import hsmamba
from hsmamba.bench.transcriptions.mmapp import RELEASED, mmapp, mmapp_shapes
from hsmamba.bench.transcriptions.rsanet import random_state
from hsmamba.errors import SceneError
from hsmamba.models import entry
from hsmamba.models.mmapp import MMAPP, MMAPPOutputs, mmapp_loss
from hsmamba.models.official.mmapp import checkpoint_filter_fn
from hsmamba.ops.resampling import upsample
from tests.goldens.reader import Golden, each_golden

PLACES = {
    "pan_head": "pan_stages.0.conv",
    "pan_d2": "pan_stages.0.side",
    "pan_d4": "pan_stages.1.side",
    "ms_head": "ms_stages.0.conv",
    "ms_u2": "ms_stages.0.side",
    "head_acmix0": "head.0.taps.0",
    "head_afm": "head.0",
    "f1": "levels.0.blocks",
    "f2": "levels.1.blocks",
    "conv_f3": "to_bands",
}


@each_golden("mmapp")
def test_golden_outputs_taps_and_gradients(path):
    golden = Golden(path)
    seen = golden.run(PLACES)
    outputs = golden.model.train()(**golden.inputs)
    assert torch.equal(outputs.sharp, seen["out"])
    golden.check(seen | {"out_d4": outputs.sides[0], "out_d2": outputs.sides[1], "ms_u4": outputs.ms_up})


@settings(max_examples=6)
@given(
    n_bands=st.integers(1, 3),
    n_pan=st.integers(1, 3),
    width=st.integers(1, 4),
    n_fusion_blocks=st.integers(1, 2),
    kernel_att=st.sampled_from([3, 5, 7]),
    heads=st.sampled_from([1, 3, 9]),
    size=st.tuples(st.integers(4, 6), st.integers(4, 6)),
    seed=st.integers(0, 99),
)
def test_it_agrees_with_its_equations_at_any_size(size, seed, **cfg):
    cfg |= {"kernel_conv": 3, "scale_ratio": 4}
    state = random_state(mmapp_shapes(**cfg), seed)
    # The window alone cannot be read off the tensors.
    model = hsmamba.load_official("mmapp", state, kernel_att=cfg["kernel_att"]).double()
    model.load_state_dict(checkpoint_filter_fn(state, model))  # in float64
    ms = torch.rand(2, cfg["n_bands"], *size, dtype=torch.float64)
    pan = torch.rand(2, cfg["n_pan"], *(4 * side for side in size), dtype=torch.float64)
    outputs = model(ms, pan)
    got = (*outputs.sides, outputs.sharp, outputs.ms_up)
    torch.testing.assert_close(got, mmapp(ms, pan, state, cfg), rtol=1e-7, atol=1e-8)


def test_the_official_size_is_ours_and_what_has_no_influence():
    shapes = mmapp_shapes(**RELEASED)
    sizes = {key: torch.Size(shape).numel() for key, shape in shapes.items()}
    assert len(shapes) == 1544
    assert sum(sizes.values()) == 951_591
    used = {key: size for key, size in sizes.items() if not key.startswith("F3.")}
    assert sum(used.values()) == 816_621
    cancelling = sum(size for key, size in used.items() if key.endswith("conv_p.bias"))
    assert sum(p.numel() for p in entry("mmapp").entry_point().parameters()) == 816_621 - cancelling


@pytest.mark.parametrize("scale", [2, 8])
def test_other_ratios_have_a_level_for_each_doubling(scale):
    model = MMAPP(in_chans=2, scale=scale, dim=3, depth=1)
    outputs = model(torch.rand(1, 2, 4, 5), torch.rand(1, 1, 4 * scale, 5 * scale))
    assert outputs.sharp.shape == outputs.ms_up.shape == (1, 2, 4 * scale, 5 * scale)
    sides = [tuple(side.shape[2:]) for side in outputs.sides]
    assert sides == [(4 << i, 5 << i) for i in range(scale.bit_length() - 1)]


def test_small_images_are_padded_and_every_output_is_cropped():
    model = MMAPP(in_chans=2, dim=3, depth=1)
    outputs = model(torch.rand(1, 2, 3, 5), torch.rand(1, 1, 12, 20))
    shapes = [tuple(x.shape[2:]) for x in (*outputs.sides, outputs.sharp, outputs.ms_up)]
    assert shapes == [(3, 5), (6, 10), (12, 20), (12, 20)]


def test_the_loss_is_that_of_the_release_at_ratio_4():
    gt, lms = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16)
    outputs = MMAPPOutputs(torch.rand(2, 3, 16, 16), (torch.rand(2, 3, 4, 4), torch.rand(2, 3, 8, 8)), lms + 1)

    def reduced(side):
        return F.interpolate(gt, (side, side), mode="bicubic", align_corners=True)

    want = 0.2 * (outputs.sides[0] - reduced(4)).abs().mean() + 0.3 * (outputs.sides[1] - reduced(8)).abs().mean()
    want = want + 0.5 * (outputs.sharp - gt).abs().mean() + 0.01
    torch.testing.assert_close(mmapp_loss(outputs, gt, lms), want)


def test_the_coarse_image_cannot_be_left_out():
    with pytest.raises(SceneError, match="pass it as ms"):
        MMAPP(in_chans=2, dim=3, depth=1)(None, torch.rand(1, 1, 16, 16), torch.rand(1, 2, 16, 16))


def test_a_residual_network_starts_as_the_up_sampled_image_and_learns_from_dark_ones():
    torch.manual_seed(0)
    model = MMAPP(in_chans=2, dim=3, depth=1, residual=True)
    ms, pan = 0.02 * torch.rand(1, 2, 8, 8), 0.02 * torch.rand(1, 1, 32, 32)
    up = torch.rand(1, 2, 32, 32)
    sharp = model(ms, pan, up).sharp
    assert torch.equal(sharp, up)
    sharp.sum().backward()
    assert model.tail[2].weight.grad.abs().max() > 0.1


def test_the_residual_adds_the_up_sampled_image():
    plain, residual = (MMAPP(in_chans=2, dim=3, depth=1, residual=option).eval() for option in (False, True))
    residual.load_state_dict(plain.state_dict())
    ms, guide = torch.rand(1, 2, 5, 6), torch.rand(1, 1, 20, 24)
    ms_up = torch.rand(1, 2, 20, 24)
    torch.testing.assert_close(residual(ms, guide, ms_up), plain(ms, guide) + ms_up)
    torch.testing.assert_close(residual(ms, guide), plain(ms, guide) + upsample(ms, 4))
    assert torch.equal(residual.train()(ms, guide, ms_up).ms_up, plain.train()(ms, guide, ms_up).ms_up)
