"""RAMSF: the official numbers, the equations at any size, the official size, tiles, SAR-optical fusion."""

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import hsmamba
import hsmamba.models.ramsf as module
from hsmamba.bench.transcriptions.ramsf import RELEASED, ramsf, ramsf_shapes
from hsmamba.bench.transcriptions.rsanet import random_state
from hsmamba.layers.fusion import pad_sides
from hsmamba.models import entry
from hsmamba.models.official.ramsf import checkpoint_filter_fn
from hsmamba.models.ramsf import RAMSF
from tests.goldens.reader import Golden, each_golden

PLACES = {
    "pan_stem": "detail.guide_stem",
    "pan_rb": "detail.guide_block",
    "lms_rb": "detail.ms_block",
    "f_hl": "detail.hl_block",
    "f_hp": "detail.high_block",
    "detail": "detail",
    "hr_spa": "spatial_encoder",
    "lr_spe": "spectral_encoder",
    "align1": "align.0",
}


@each_golden("ramsf")
def test_golden_output_taps_and_gradients(path):
    golden = Golden(path)
    seen = golden.run(PLACES)
    golden.check(seen | {"guide_half": F.max_pool2d(seen["hr_spa"], 2)})


@settings(max_examples=12)
@given(
    n_bands=st.integers(1, 3),
    n_guide=st.integers(1, 3),
    n_stages=st.integers(1, 3),
    feat_dim=st.sampled_from([4, 8]),
    align_dim=st.integers(2, 4),
    mlp_dim=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    size=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    seed=st.integers(0, 99),
)
def test_it_agrees_with_its_equations_at_any_size(size, seed, **cfg):
    scale = 2 ** cfg["n_stages"]
    state = random_state(ramsf_shapes(scale_ratio=scale, **cfg), seed)
    # Nothing but the tensors is needed: their shapes tell the configuration.
    model = hsmamba.load_official("ramsf", state).double().eval()
    model.load_state_dict(checkpoint_filter_fn(state, model))  # in float64
    ms = torch.rand(2, cfg["n_bands"], *size, dtype=torch.float64)
    pan, lms = (torch.rand(2, c, *(scale * s for s in size)).double() for c in (cfg["n_guide"], cfg["n_bands"]))
    torch.testing.assert_close(model(ms, pan, lms), ramsf(pan, lms, ms, state, cfg), rtol=1e-9, atol=1e-9)


def test_the_size_is_the_official_one():
    shapes = ramsf_shapes(**RELEASED)
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == 666_350
    assert sum(p.numel() for p in entry("ramsf").entry_point().parameters()) == 666_350


def small(**kwargs):
    torch.manual_seed(0)
    return RAMSF(in_chans=3, guide_chans=2, dim=4, align_dim=3, mlp_dims=(6, 5), **kwargs)


def test_tiles_and_checkpoints_change_nothing(monkeypatch):
    model = small().double()
    ms, guide = torch.rand(2, 3, 5, 4, dtype=torch.float64), torch.rand(2, 2, 20, 16, dtype=torch.float64)
    whole = model(ms, guide)
    gradients = torch.autograd.grad(whole.square().mean(), model.parameters())
    monkeypatch.setattr(module, "_MIN_IMAGES", 1)
    monkeypatch.setattr(module, "_TILE_PIXELS", 8)  # two coarse rows of the first stage, one of the second
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        tiled = model(ms, guide)
        torch.testing.assert_close(tiled, whole)
        torch.testing.assert_close(torch.autograd.grad(tiled.square().mean(), model.parameters()), gradients)


def test_an_image_on_the_guides_grid_alone_is_enough():
    model = small().eval()
    ms_up, guide = torch.rand(1, 3, 9, 14), torch.rand(1, 2, 9, 14)
    got = model(None, guide, ms_up)
    padded = pad_sides(ms_up, 4)
    want = model(F.avg_pool2d(padded, 4), pad_sides(guide, 4), padded)
    assert got.shape == (1, 3, 9, 14)
    torch.testing.assert_close(got, want[..., :9, :14])
