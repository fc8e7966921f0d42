"""MSDCNN: the toolbox's numbers, both variants' equations at any size, the image that may be added."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import hsmamba
from hsmamba.models import entry, example_inputs
from hsmamba.models.official.msdcnn import checkpoint_filter_fn
from tests.goldens.reader import Golden, assert_close, each_golden
from tests.oracles.msdcnn import msdcnn, msdcnn_shapes
from tests.oracles.plain import random_state

PLACES = {"deep": "tail", "shallow": "shallow", "block1": "block1"}


@each_golden("msdcnn")
def test_golden_output_taps_and_gradients(path):
    golden = Golden(path)
    golden.check(golden.run(PLACES))


@settings(max_examples=12)
@given(
    spectral_num=st.integers(1, 4),
    pan_num=st.integers(1, 3),
    dims=st.tuples(st.sampled_from([3, 6]), st.sampled_from([3, 6])),
    shallow_dims=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    variant=st.sampled_from(["paper", "dlpan"]),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    seed=st.integers(0, 99),
)
def test_it_agrees_with_its_equations_at_any_size(variant, size, seed, **cfg):
    state = random_state(msdcnn_shapes(**cfg), seed)
    # The variant alone, and the ratio, which changes nothing here, cannot be read off the tensors.
    model = hsmamba.load_official("msdcnn", state, variant=variant, ratio=3).double().eval()
    assert (model.variant, model.scale) == (variant, 3)
    model.load_state_dict(checkpoint_filter_fn(state, model))  # in float64
    pan, lms = (torch.rand(2, c, *size, dtype=torch.float64) for c in (cfg["pan_num"], cfg["spectral_num"]))
    torch.testing.assert_close(model(None, pan, lms), msdcnn(pan, lms, state, variant)[0], rtol=1e-9, atol=1e-9)


def test_the_size_is_that_of_the_toolbox():
    count = sum(torch.Size(shape).numel() for shape in msdcnn_shapes().values())
    assert sum(p.numel() for p in entry("msdcnn").entry_point().parameters()) == count == 228_556


def test_a_checkpoint_of_the_toolbox_is_of_its_variant_unless_it_is_told():
    state = random_state(msdcnn_shapes(dims=(6, 3), shallow_dims=(4, 3)), 0)
    inputs = torch.randn(1, 8, 12, 12), torch.randn(1, 1, 48, 48)
    toolbox, paper = (hsmamba.load_official("msdcnn", state, **more) for more in ({}, {"variant": "paper"}))
    assert toolbox(*inputs).min() == 0 > paper(*inputs).min()


def test_gradients_of_single_precision_are_those_of_double():
    torch.manual_seed(0)
    model = hsmamba.create_model("msdcnn")
    inputs = example_inputs(model, 1)
    gradients = []
    for dtype in (torch.float32, torch.float64):
        model.to(dtype).zero_grad()
        model(*(x.to(dtype) for x in inputs)).square().mean().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    for (name, _), single, double in zip(model.named_parameters(), *gradients, strict=True):
        assert_close(single.double(), double, 1e-4, name)


def test_a_correction_begins_near_the_up_sampled_image():
    torch.manual_seed(0)
    model = hsmamba.create_model("msdcnn", in_chans=4, residual=True)
    ms_up, guide = torch.rand(1, 4, 16, 16), torch.rand(1, 1, 16, 16)
    assert (model(None, guide, ms_up) - ms_up).abs().mean() < 0.05
    plain = hsmamba.create_model("msdcnn", in_chans=4)
    plain.load_state_dict(model.state_dict())
    torch.testing.assert_close(plain(None, guide, ms_up) + ms_up, model(None, guide, ms_up))
