"""PanNet: the numbers of DLPan-Toolbox's network, the equations at any size, high-pass images alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import hsmamba
from hsmamba.models import entry, example_inputs
from hsmamba.models.official.pannet import checkpoint_filter_fn
from hsmamba.ops.resampling import upsample
from tests.goldens.reader import Golden, assert_close, each_golden
from tests.oracles.pannet import pannet, pannet_shapes
from tests.oracles.plain import random_state


@each_golden("pannet")
def test_golden_output_taps_and_gradients(path):
    golden = Golden(path)
    seen = golden.run({"up": "up", "head": "head"})
    golden.check(seen | {"start": seen["head"].relu()})


@settings(max_examples=12)
@given(
    spectral_num=st.integers(1, 4),
    pan_num=st.integers(1, 3),
    channel=st.integers(1, 5),
    num_res=st.integers(0, 2),
    ratio=st.sampled_from([2, 3, 4, 5, 8]),
    box=st.sampled_from([3, 5, 7]),
    size=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    seed=st.integers(0, 99),
)
def test_it_agrees_with_its_equations_at_any_size(box, size, seed, **cfg):
    ratio = cfg["ratio"]
    state = random_state(pannet_shapes(**cfg), seed)
    # The box alone cannot be read off the tensors.
    model = hsmamba.load_official("pannet", state, box=box).double().eval()
    model.load_state_dict(checkpoint_filter_fn(state, model))  # in float64
    ms = torch.rand(2, cfg["spectral_num"], *size, dtype=torch.float64)
    pan, lms = (torch.rand(2, c, *(ratio * s for s in size)).double() for c in (cfg["pan_num"], cfg["spectral_num"]))
    torch.testing.assert_close(model(ms, pan, lms), pannet(ms, pan, lms, state, ratio, box)[0], rtol=1e-9, atol=1e-9)


def test_the_size_is_that_of_the_toolbox():
    shapes = pannet_shapes()
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == 83_024
    assert sum(p.numel() for p in entry("pannet").entry_point().parameters()) == 83_024


def test_blocks_that_a_checkpoint_holds_twice_are_taken_once():
    state = random_state(pannet_shapes(channel=4), 0)
    twice = state | {
        key.replace(f"res{i + 1}.", f"backbone.{i}."): value
        for i in range(4)
        for key, value in state.items()
        if key.startswith(f"res{i + 1}.")
    }
    assert len(twice) == len(state) + 16
    models = [hsmamba.load_official("pannet", x).state_dict() for x in (state, twice)]
    assert all(torch.equal(models[0][key], models[1][key]) for key in models[0])


def test_gradients_of_single_precision_are_those_of_double():
    torch.manual_seed(0)
    model = hsmamba.create_model("pannet")
    inputs = example_inputs(model, 2)
    gradients = []
    for dtype in (torch.float32, torch.float64):
        model.to(dtype).zero_grad()
        model(*(x.to(dtype) for x in inputs)).square().mean().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    for (name, _), single, double in zip(model.named_parameters(), *gradients, strict=True):
        assert_close(single.double(), double, 1e-4, name)


def test_a_constant_more_in_an_image_changes_the_result_by_it_alone():
    model = hsmamba.create_model("pannet", in_chans=3, dim=8).double()
    ms, guide = torch.rand(1, 3, 4, 5).double(), torch.rand(1, 1, 16, 20).double()
    ms_up = upsample(ms, 4)
    sharp = model(ms, guide, ms_up)
    torch.testing.assert_close(model(ms, guide + 5, ms_up), sharp)
    torch.testing.assert_close(model(ms + 0.3, guide, ms_up + 0.3), sharp + 0.3)


def test_without_the_coarse_image_block_means_take_its_place():
    model = hsmamba.create_model("pannet", in_chans=3, dim=8)
    ms_up, guide = torch.rand(1, 3, 8, 12), torch.rand(1, 1, 8, 12)
    means = torch.nn.functional.avg_pool2d(ms_up, 4)
    torch.testing.assert_close(model(None, guide, ms_up), model(means, guide, ms_up))


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_the_initial_detail_is_about_as_large_as_what_the_images_hold(scale):
    torch.manual_seed(0)
    model = hsmamba.create_model("pannet", scale=scale)
    ms, guide = torch.rand(2, 8, 8, 8), torch.rand(2, 1, 8 * scale, 8 * scale)
    detail = model(ms, guide, torch.zeros(2, 8, 8 * scale, 8 * scale))
    assert 0.1 < detail.std() < 10
