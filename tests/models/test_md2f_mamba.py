"""MD2F-Mamba: the article's numbers, the paper's size, the equations of the paper's variant."""

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import hsmamba
from hsmamba.data import Patches
from hsmamba.models import entry, example_inputs
from hsmamba.models.md2f_mamba import HiddenStateMixer, cross_similarity_fusion
from hsmamba.models.official.md2f_mamba import checkpoint_filter_fn
from tests.goldens.reader import Golden, each_golden
from tests.oracles.md2f_mamba import article_logits, article_state

PLACES = {
    "init_extractor": "init_extractor",
    "mdconv": "mdconv",
    "lfem_shared": "ms_lfem.stem",
    "ms_lfem": "ms_lfem",
    "gfe_normed": "hsm_gfe.norm",
    "gfe_refined": "hsm_gfe.refine",
    "gfe_context": "hsm_gfe.state_proj:input",
    "hsm_gfe": "hsm_gfe",
}


@each_golden("md2f_mamba*")
def test_golden_outputs_taps_and_gradients(path):
    golden = Golden(path)
    features = golden.model.forward_features(**golden.inputs)
    seen = golden.run(PLACES)
    assert (seen["logits"] - golden.parts["output"]["logits"]).abs().max() < 1e-5
    golden.check(seen | {"csff": features})


@settings(max_examples=12)
@given(
    bands=st.integers(1, 6),
    patch=st.integers(1, 6),
    n_classes=st.integers(1, 4),
    hidden=st.integers(1, 9),
    expand=st.integers(1, 3),
    kernels=st.tuples(*[st.sampled_from([1, 3, 5])] * 3),
    seed=st.integers(0, 99),
)
def test_the_article_network_agrees_with_its_equations_at_any_size(
    bands, patch, n_classes, hidden, expand, kernels, seed
):
    state = article_state(bands, patch, n_classes, hidden, expand, *kernels, seed=seed)
    # Nothing but the tensors is needed: their shapes tell the configuration.
    model = hsmamba.load_official("md2f_mamba_ref", state).double().eval()
    x = torch.randn(2, bands, patch, patch, dtype=torch.float64)
    model.load_state_dict(checkpoint_filter_fn(state, model))
    torch.testing.assert_close(model(x), article_logits(x, state), rtol=1e-9, atol=1e-9)


def test_half_of_the_split_projection_of_the_article_never_reaches_the_output():
    model = entry("md2f_mamba_ref").entry_point()
    model(*example_inputs(model)).sum().backward()
    dead = (model.hsm_gfe.split_proj.bias.grad == 0).sum()
    assert dead == 3 * (2 - 1) * 64


def test_the_hidden_state_mixer_follows_its_equations():
    torch.manual_seed(0)
    mixer = HiddenStateMixer(dim=6, d_state=4, expand=1.5, side=5).double()
    for p in mixer.parameters():
        nn.init.normal_(p, std=0.5)
    f = torch.randn(2, 6, 5, 5, dtype=torch.float64)
    n = F.layer_norm((f + mixer.pos_embed).permute(0, 2, 3, 1), (6,), mixer.norm.weight, mixer.norm.bias)
    grid = n.permute(0, 3, 1, 2)
    t = F.conv2d(F.conv2d(grid, mixer.in_proj.weight, mixer.in_proj.bias), mixer.refine.weight, padding=1, groups=12)
    theta, lam, psi = t.reshape(2, 3, 4, 25).unbind(1)
    attention = lam.exp() / lam.exp().sum(-1, keepdim=True)
    states = torch.einsum("bcl,bsl->bcs", grid.flatten(2), attention * theta)
    hz = torch.einsum("ec,bcs->bes", mixer.state_proj.weight[..., 0], states) + mixer.state_proj.bias[:, None]
    h, z = hz[:, :9], hz[:, 9:]
    y = h * (z * torch.sigmoid(z) + mixer.phi)
    y = torch.einsum("ce,bes->bcs", mixer.out_proj.weight[..., 0], y) + mixer.out_proj.bias[:, None]
    want = torch.einsum("bcs,bsl->bcl", y, psi).reshape(2, 6, 5, 5)
    torch.testing.assert_close(mixer(f), want)


def test_identical_branches_have_the_similarity_one_and_opposite_ones_cancel_to_zero():
    x = torch.rand(2, 8, 3, 3) + 0.1
    torch.testing.assert_close(cross_similarity_fusion(x, x), 2 * x)
    torch.testing.assert_close(cross_similarity_fusion(x, -x), torch.zeros_like(x))
    assert cross_similarity_fusion(torch.zeros(1, 4, 2, 2), torch.ones(1, 4, 2, 2)).isfinite().all()


def test_maps_of_a_scene_are_those_of_its_patches_at_every_place():
    torch.manual_seed(0)
    model = hsmamba.create_model("md2f_mamba", in_chans=5, patch_size=7, dim=8, num_classes=3).eval()
    image = torch.randn(1, 5, 12, 14)
    with torch.no_grad():
        (whole,) = model.scene_maps(image)
        patches = Patches.within(whole[0], 5, model.shared_places)
        for row, column in ((0, 0), (3, 4), (5, 7)):
            (patch,) = model.shared_maps(image[..., row : row + 7, column : column + 7])
            found = patches([row * patches.shape[1] + column])
            torch.testing.assert_close(found, patch, rtol=1e-5, atol=1e-5)
    wide = hsmamba.create_model("md2f_mamba", in_chans=5, patch_size=9, dim=8, kernel_sizes=(3, 5, 3))
    assert (model.shared_places, wide.shared_places) == (9, 1)
