"""SSFTT: the official numbers, the equations at any size, what differs from the official program."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import hsmamba
from hsmamba.models import entry, example_inputs
from hsmamba.models.official.ssftt import checkpoint_filter_fn
from tests.goldens.reader import Golden, assert_close, each_golden
from tests.oracles.ssftt import random_state, ssftt

PLACES = {"features": "extractor", "tokens": "tokenizer"}


@each_golden("ssftt")
def test_golden_output_taps_and_gradients(path):
    golden = Golden(path)
    golden.check(golden.run(PLACES))


@settings(max_examples=12)
@given(
    bands=st.integers(3, 6),
    side=st.integers(5, 8),
    classes=st.integers(1, 4),
    tokens=st.integers(1, 5),
    heads_and_dim=st.sampled_from([(1, 3), (2, 4), (4, 8), (3, 6)]),
    mlp_dim=st.integers(1, 5),
    depth=st.integers(1, 2),
    filters=st.integers(1, 3),
    scale_by=st.sampled_from(["head", "width"]),
    seed=st.integers(0, 99),
)
def test_it_agrees_with_its_equations_at_any_size(
    bands, side, classes, tokens, heads_and_dim, mlp_dim, depth, filters, scale_by, seed
):
    heads, dim = heads_and_dim
    state = random_state(bands, classes, tokens, dim, mlp_dim, depth, filters, seed)
    model = entry("ssftt").entry_point(
        in_chans=bands, num_classes=classes, patch_size=side, dim=dim, filters=filters, num_tokens=tokens,
        depth=depth, num_heads=heads, mlp_dim=mlp_dim, scale_by=scale_by,
    ).double().eval()  # fmt: skip
    model.load_state_dict(checkpoint_filter_fn(state, model))
    x = torch.randn(2, bands, side, side, dtype=torch.float64)
    torch.testing.assert_close(model(x), ssftt(x, state, heads, scale_by)[0], rtol=1e-9, atol=1e-9)


def test_gradients_of_single_precision_are_those_of_double():
    torch.manual_seed(0)
    model = hsmamba.create_model("ssftt", proj_drop_rate=0.0).eval()
    (hsi,) = example_inputs(model, 4)
    gradients = []
    for dtype in (torch.float32, torch.float64):
        model.to(dtype).zero_grad()
        model(hsi.to(dtype)).square().mean().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    for (name, _), single, double in zip(model.named_parameters(), *gradients, strict=True):
        assert_close(single.double(), double, 1e-4, name)


def test_the_tensors_of_a_checkpoint_tell_its_sizes():
    state = random_state(30, 9, 4, 64, 8, 1)
    model = hsmamba.load_official("ssftt", state)
    given = (model.in_chans, model.num_classes, model.patch_size, model.blocks[0].attn.num_heads)
    assert given == (30, 9, 13, 8)
    assert hsmamba.load_official("ssftt", state, heads=4, patch_size=9).patch_size == 9
    short = {key.replace("net.0", "nn1").replace("net.3", "nn2"): value for key, value in state.items()}
    again = hsmamba.load_official("ssftt", short).state_dict()
    assert all(torch.equal(again[key], value) for key, value in model.state_dict().items())


def test_the_official_division_differs_from_the_usual_one_by_the_root_of_the_heads():
    state = random_state(5, 3, 2, 8, 4, 1, 2)
    x = torch.randn(2, 5, 7, 7, dtype=torch.float64)
    by_width, by_head = (ssftt(x, state, 4, scale_by)[0] for scale_by in ("width", "head"))
    assert not torch.allclose(by_width, by_head)
    half = {key: value.clone() for key, value in state.items()}
    for kind in ("weight", "bias"):
        half[f"transformer.layers.0.0.fn.fn.to_qkv.{kind}"][:8] /= 2  # the queries
    torch.testing.assert_close(by_width, ssftt(x, half, 4, "head")[0])


def test_a_patch_shares_its_maps_with_the_scene():
    model = hsmamba.create_model("ssftt", in_chans=4, patch_size=7, dim=8, filters=2).eval()
    scene = torch.randn(1, 4, 12, 15)
    (whole,) = model.shared_maps(scene)
    assert whole.shape[2:] == (8, 11)
    (patch,) = model.shared_maps(scene[..., 3:10, 5:12])
    torch.testing.assert_close(patch, whole[..., 3:6, 5:8])


@pytest.mark.parametrize(("bands", "side"), [(3, 5), (200, 5)])
def test_the_smallest_patches_and_all_bands_work(bands, side):
    model = hsmamba.create_model("ssftt", in_chans=bands, patch_size=side, dim=8, filters=1)
    assert model(torch.randn(2, bands, side, side)).shape == (2, 16)
