"""MD2F-Mamba: the article's numbers, the paper's size, the equations of the paper's variant."""

import json

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from torch import nn

import hsmamba
from hsmamba.errors import WeightsError
from hsmamba.models import entry, example_inputs
from hsmamba.models.md2f_mamba import (
    HiddenStateMixer,
    MD2FMamba,
    cross_similarity_fusion,
)
from hsmamba.models.official.md2f_mamba import checkpoint_filter_fn
from hsmamba.zoo.info import count_macs
from tests.conftest import ROOT, SHARED
from tests.oracles.md2f_mamba import article_logits, article_state

OWN = sorted((ROOT / "tests" / "goldens").glob("md2f_mamba*.safetensors"))
SHARED = sorted((SHARED / "goldens").glob("md2f_mamba*.safetensors"))
TAPS = {
    "01_init_extractor": ("init_extractor", "output"),
    "02_mdconv": ("mdconv", "output"),
    "03_lfem_shared": ("ms_lfem.stem", "output"),
    "04_ms_lfem": ("ms_lfem", "output"),
    "05_gfe_normed": ("hsm_gfe.norm", "output"),
    "06_gfe_refined": ("hsm_gfe.refine", "output"),
    "07_gfe_context": ("hsm_gfe.state_proj", "input"),
    "08_hsm_gfe": ("hsm_gfe", "output"),
}


def _read(path):
    with safe_open(path, "pt") as file:
        config = json.loads(file.metadata()["config"])
        parts = {}
        for key in file.keys():  # noqa: SIM118 - not a dict
            kind, name = key.split("/", 1)
            parts.setdefault(kind, {})[name] = file.get_tensor(key)
    return config, parts


@pytest.mark.parametrize("path", OWN + SHARED, ids=lambda path: path.stem)
def test_golden_outputs_and_taps(path):
    config, parts = _read(path)
    model = hsmamba.load_official("md2f_mamba_ref", parts["state"], **config).eval()
    seen = {}

    def watch(tap, end):
        def hook(_module, args, output):
            seen[tap] = output if end == "output" else args[0]

        return hook

    for tap, (name, end) in TAPS.items():
        model.get_submodule(name).register_forward_hook(watch(tap, end))
    seen["09_csff"] = model.forward_features(parts["input"]["x"])
    logits = model(parts["input"]["x"])
    assert (logits - parts["output"]["logits"]).abs().max() < 1e-5
    for tap, want in parts.get("tap", {}).items():
        assert seen[tap].shape == want.shape
        # The context (tap 07) reaches 70, where float32 itself resolves 8e-6: the tolerance scales above 1.
        assert (seen[tap] - want).abs().max() < 1e-5 * max(1.0, float(want.abs().max())), tap


@pytest.mark.parametrize("path", [p for p in OWN + SHARED if "grad" in _read(p)[1]], ids=lambda path: path.stem)
def test_golden_gradients_of_the_mean_squared_logit(path):
    config, parts = _read(path)
    model = hsmamba.load_official("md2f_mamba_ref", parts["state"], **config).eval()
    model(parts["input"]["x"]).square().mean().backward()
    ours = checkpoint_filter_fn(parts["state"], model)
    names = dict(zip(parts["state"], ours, strict=True))  # official name -> ours, in the order of the state
    for official, want in parts["grad"].items():
        got = model.get_parameter(names[official]).grad
        assert (got.reshape(want.shape) - want).abs().max() <= 1e-4 * want.abs().max(), official


@settings(max_examples=12, deadline=None)
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


@pytest.mark.parametrize(
    ("name", "kwargs", "params", "macs"),
    [
        ("md2f_mamba", {}, 92_167, 8_302_888),
        ("md2f_mamba", {"patch_size": 11}, 91_911, 5_720_808),
        ("md2f_mamba", {"num_classes": 15}, 92_557, None),
        ("md2f_mamba", {"num_classes": 16}, 92_622, None),
        ("md2f_mamba_ref", {}, 222_770, 39_351_888),
        ("md2f_mamba_ref", {"patch_size": 11}, None, 28_175_184),
    ],
)
def test_size_and_cost_are_those_of_the_specification(name, kwargs, params, macs):
    model = entry(name).entry_point(**kwargs)
    if params is not None:
        assert sum(p.numel() for p in model.parameters()) == params
    if macs is not None:
        assert count_macs(model, example_inputs(model, 1)) == macs


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


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        ({"in_chans": 2}, "in_chans >= 3"),
        ({"patch_size": 2}, "patch_size >= 3"),
        ({"dim": 30}, "divisible by 4"),
        ({"kernel_sizes": (3, 4, 3)}, "odd"),
        ({"variant": "v2"}, "'paper' or 'article'"),
        ({"variant": "article", "product": "verbatim"}, "dim == patch_size"),
        ({"variant": "article", "product": "x"}, "'repaired' or 'verbatim'"),
    ],
)
def test_sizes_that_do_not_go_together_are_refused(kwargs, text):
    with pytest.raises(ValueError, match=text):
        MD2FMamba(**kwargs)


def test_wrong_inputs_are_named():
    model = MD2FMamba()
    with pytest.raises(ValueError, match=r"\(2, 20, 13, 13\).*\(B, 30, 13, 13\)"):
        model(torch.zeros(2, 20, 13, 13))
    with pytest.raises(ValueError, match="one input"):
        model(torch.zeros(2, 30, 13, 13), torch.zeros(2, 1, 13, 13))


def test_official_checkpoints_that_do_not_fit_are_listed():
    state = article_state(5, 5, 3, 4, 2, 3, 3, 3)
    with pytest.raises(TypeError, match="no configuration widht"):
        hsmamba.load_official("md2f_mamba_ref", state, widht=3)
    missing = {key: value for key, value in state.items() if key != "hsm_gfe.phi"}
    with pytest.raises(WeightsError, match=r"missing: hsm_gfe\.phi"):
        hsmamba.load_official("md2f_mamba_ref", missing)
    with pytest.raises(WeightsError, match=r"unexpected: extra"):
        hsmamba.load_official("md2f_mamba_ref", state | {"extra": torch.zeros(1)})
    with pytest.raises(WeightsError, match=r"of another shape: head\.weight \(3, 4\) instead of \(7, 4\)"):
        hsmamba.load_official("md2f_mamba_ref", state, n_classes=7)
    with pytest.raises(WeightsError, match="another model"):
        hsmamba.load_official("md2f_mamba_ref", {"w": torch.zeros(1)})
