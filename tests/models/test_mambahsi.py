"""MambaHSI: its equations at any size, and what is true of a network of whole images alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import hsmamba
from hsmamba.models.mambahsi import MambaHSI
from hsmamba.models.official.mambahsi import checkpoint_filter_fn
from tests.goldens.reader import Golden, each_golden
from tests.models.samples import tiny
from tests.oracles.mambahsi import mambahsi, random_state


@each_golden("mambahsi")
def test_golden_outputs_taps_and_gradients(path):
    golden = Golden(path)
    golden.check(golden.run({f"encoder{i}": f"encoders.{i}" for i in range(len(golden.model.encoders))}))


@settings(max_examples=10)
@given(
    bands=st.integers(1, 3),
    classes=st.integers(1, 4),
    sizes=st.sampled_from([(4, 2, 2), (6, 3, 2), (8, 2, 4), (4, 4, 1), (20, 1, 2)]),  # dim, tokens, groups
    depth=st.integers(1, 3),
    height=st.integers(4, 9),
    width=st.integers(4, 9),
    d_state=st.integers(1, 3),
    d_conv=st.integers(1, 4),
    expand=st.integers(1, 2),
    seed=st.integers(0, 99),
)
def test_it_agrees_with_its_equations_at_any_size(
    bands, classes, sizes, depth, height, width, d_state, d_conv, expand, seed
):
    dim, tokens, groups = sizes
    state = random_state(bands, classes, dim, tokens, depth, 2 * groups, d_state, d_conv, expand, seed)
    # The tensors tell the configuration but for the groups of the norms.
    model = hsmamba.load_official("mambahsi", state, group_num=groups).double().eval()
    model.load_state_dict(checkpoint_filter_fn(state, model))
    image = torch.randn(2, bands, height, width, dtype=torch.float64, requires_grad=True)
    taps = {}
    want = mambahsi(image, state, groups, tokens, taps)
    got = model(image)
    torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-8)
    gradients = [torch.autograd.grad(output.square().mean(), image)[0] for output in (got, want)]
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-7 * gradients[1].abs().max().item())


def test_every_pixel_before_has_a_say_in_every_one_behind():
    model = tiny("mambahsi").double().eval()
    image = torch.randn(1, 6, 12, 12, dtype=torch.float64, requires_grad=True)
    (reach,) = torch.autograd.grad(model(image)[0, :, 11, 11].sum(), image)
    assert (reach[0].abs().sum(0) > 0).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 2), (5, 7), (16, 4)])
def test_images_of_any_size_get_logits_for_each_pixel(size):
    model = tiny("mambahsi", num_classes=5).eval()
    assert model(torch.randn(2, 6, *size)).shape == (2, 5, *size)
    assert model(torch.zeros(0, 6, *size)).shape == (0, 5, *size)


def test_small_images_are_continued_by_their_last_row_and_column():
    model = tiny("mambahsi").eval()
    image = torch.randn(1, 6, 3, 2)
    continued = torch.nn.functional.pad(image, (0, 2, 0, 1), mode="replicate")
    torch.testing.assert_close(model(image), model(continued)[..., :3, :2])


def test_inputs_that_do_not_fit_are_named():
    model = tiny("mambahsi")
    with pytest.raises(ValueError, match=r"hsi is \(2, 5, 8, 8\); this model takes \(B, 6, H, W\)"):
        model(torch.zeros(2, 5, 8, 8))
    with pytest.raises(ValueError, match="MambaHSI has one input"):
        model(torch.zeros(2, 6, 8, 8), torch.zeros(2, 1, 8, 8))


def test_it_has_no_patch_size():
    model = tiny("mambahsi")
    assert model.patch_size is None and "patch_size" not in {**model.sizes, **model.model_args}
    assert model.pretrained_cfg["input_size"] == (6, 1024, 1024)
    with pytest.raises(TypeError, match=r"mambahsi: .*patch_size.*It takes: .*tokens"):
        hsmamba.create_model("mambahsi", patch_size=7)


def test_a_step_of_training_moves_both_blocks_of_every_encoder():
    torch.manual_seed(0)
    model = MambaHSI(4, 3, dim=8, neck_dim=8, d_state=2)
    before = {name: p.clone() for name, p in model.named_parameters()}
    target = torch.full((1, 9, 9), -1)
    target[0, 2, 3], target[0, 7, 7] = 1, 2
    torch.nn.functional.cross_entropy(model(torch.randn(1, 4, 9, 9)), target, ignore_index=-1).backward()
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    assert not [name for name, p in model.named_parameters() if torch.equal(p, before[name])]
