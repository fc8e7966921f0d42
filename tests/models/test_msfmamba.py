"""MSFMamba: the official network's numbers at any size, its parameter counts, and what it says of wrong inputs."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import hsmamba
from hsmamba.layers.scan_order import CROSS
from hsmamba.models import example_inputs
from hsmamba.models.msfmamba import MSFMamba, dense_transposed
from hsmamba.models.official.msfmamba import checkpoint_filter_fn, official_args
from hsmamba.ops import inference
from tests.goldens.reader import Golden, each_golden
from tests.oracles.msfmamba import msfmamba, random_state

PLACES = {  # of a layer
    "hsi_conv": "hsi_conv",
    "x_conv": "aux_conv",
    "MBh_ms2d": "hsi_spatial.mixer",
    "MBh": "hsi_spatial",
    "SpBh": "hsi_spectral",
    "MBx": "aux_spatial",
    "FSS_attention1": "fusion.aux.cross_scan",
    "FSS.hsi": "fusion",
    "FSS.x": "fusion:1",
    "coarse": "hsi_spatial.mixer.coarse_conv",
}


@each_golden("msfmamba")
def test_golden_outputs_taps_and_gradients(path):
    golden = Golden(path)
    model, layers = golden.model, golden.model.layers
    seen = golden.run({f"l{i}_{tap}": f"layers.{i}.{at}" for i in range(len(layers)) for tap, at in PLACES.items()})
    seen["feat"] = model.forward_features(**golden.inputs)
    # Layers that somebody looks into are torch's own: the same to rounding.
    torch.testing.assert_close(model.forward_head(seen["feat"]), seen["logits"], rtol=1e-5, atol=1e-5)
    for i, layer in enumerate(layers):
        for tap in ("MBh", "SpBh", "FSS.hsi"):
            seen[f"l{i}_{tap}"] = seen[f"l{i}_{tap}"].reshape(seen[f"l{i}_hsi_conv"].shape)
        # Ours upsamples both coarse scans at once; the tap is the first alone.
        mixer = layer.hsi_spatial.mixer
        apart = mixer.coarse_ssm(seen[f"l{i}_coarse"].unsqueeze(1), orders=CROSS[2:])
        seen[f"l{i}_MBh_convT_k0"] = mixer.upsample(apart[:, 0])
    golden.check(seen)


@settings(max_examples=8)
@given(
    classes=st.integers(1, 4),
    bands=st.integers(2, 4),
    half_side=st.integers(1, 3),
    chans=st.integers(1, 3),
    layers=st.integers(1, 3),
    d_state=st.integers(1, 4),
    expand=st.sampled_from([0.12, 0.15, 0.2, 1 / 3]),
    seed=st.integers(0, 99),
)
def test_it_agrees_with_its_equations_at_any_size(classes, bands, half_side, chans, layers, d_state, expand, seed):
    pca_num = bands + sum((8, 6, 4)[:layers])
    window_size = 2 * (half_side + layers) + 1
    state = random_state(classes, pca_num, window_size, chans, layers, d_state, expand, seed)
    # Nothing but the tensors is needed: their shapes tell the configuration.
    model = hsmamba.load_official("msfmamba", state).double().eval()
    model.load_state_dict(checkpoint_filter_fn(state, model))
    hsi = torch.randn(2, pca_num, window_size, window_size, dtype=torch.float64)
    aux = torch.randn(2, chans, window_size, window_size, dtype=torch.float64)
    inputs = hsi.requires_grad_(), aux.requires_grad_()
    feat, want, _ = msfmamba(hsi[:, None], aux, state)
    torch.testing.assert_close(model.forward_features(hsi, aux), feat, rtol=1e-8, atol=1e-8)
    logits = model(hsi, aux)
    torch.testing.assert_close(logits, want, rtol=1e-8, atol=1e-8)
    gradients = (torch.autograd.grad(output.square().mean(), inputs) for output in (logits, want))
    for got, true in zip(*gradients, strict=True):
        torch.testing.assert_close(got, true, rtol=1e-6, atol=1e-7 * true.abs().max().item())


@given(
    expand=st.sampled_from([0.1, 0.25, 0.3, 1 / 3, 0.5, 0.6, 0.7, 0.75, 0.9, 1.0, 1.5, 2.0]),
    pca_num=st.integers(9, 40),
    side=st.sampled_from([5, 7, 9, 11, 13]),
)
def test_the_expansion_is_read_off_the_widths(expand, pca_num, side):
    widths = {
        "MBh.self_attention.": 8 * (pca_num - 8),
        "MBx.self_attention.": 64,
        "SpBh.self_attention.": (side - 2) ** 2,
    }
    state = {
        f"layers.0.{name}in_proj.weight": torch.empty(2 * int(expand * width), width, device="meta")
        for name, width in widths.items()
    }
    rest = {
        "fusionlinear_fusion.weight": (2, 9),
        "layers.0.MBh.ln_1.weight": (8 * (pca_num - 8),),
        "layers.0.SpBh.ln_1.weight": ((side - 2) ** 2,),
        "layers.0.sar_conv.0.weight": (64, 3, 3, 3),
        "layers.0.SpBh.self_attention.A_logs": (10, 5),
    }
    state |= {name: torch.empty(shape, device="meta") for name, shape in rest.items()}
    args = official_args(state, {})
    got = args.pop("expand")
    assert [int(got * width) for width in widths.values()] == [int(expand * width) for width in widths.values()]
    want = {"in_chans": pca_num, "num_classes": 2, "patch_size": side, "aux_chans": 3, "depth": 1, "d_state": 5}
    assert args == want


def test_a_training_step_moves_both_sources():
    torch.manual_seed(0)
    model = MSFMamba(10, 3, 7, 2, d_state=2)
    hsi, aux = torch.randn(4, 10, 7, 7, requires_grad=True), torch.randn(4, 2, 7, 7, requires_grad=True)
    torch.nn.functional.cross_entropy(model(hsi, aux), torch.tensor([0, 1, 2, 0])).backward()
    assert hsi.grad.any()
    assert aux.grad.any()


def test_no_samples_give_no_logits():
    model = MSFMamba(10, 3, 5, 2, d_state=2).eval()
    assert model(torch.zeros(0, 10, 5, 5), torch.zeros(0, 2, 5, 5)).shape == (0, 3)


@pytest.mark.parametrize("sides", [(1, 1), (2, 2), (3, 4)])
def test_a_transposed_convolution_is_a_matrix(sides):
    conv = torch.nn.ConvTranspose2d(3, 3, 5, stride=2, padding=2, bias=False)
    small = torch.randn(2, 3, *sides)
    wanted = conv(small).permute(0, 2, 3, 1).flatten(1)
    got = small.permute(0, 2, 3, 1).flatten(1) @ dense_transposed(conv.weight, *sides).T
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
    slope = torch.randn_like(wanted)
    of_got, of_wanted = (torch.autograd.grad(y, conv.weight, slope)[0] for y in (got, wanted))
    torch.testing.assert_close(of_got, of_wanted, rtol=1e-5, atol=1e-5)
    taps = torch.rand(2, 2, 5, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda w: dense_transposed(w, *sides), (taps,))
    assert torch.autograd.gradgradcheck(lambda w: dense_transposed(w.square(), *sides), (taps,))


@pytest.mark.parametrize("patch_size", [5, 9])  # whose coarse maps are small, and not
def test_a_step_has_the_gradients_of_the_plain_network_in_double_precision(patch_size):
    torch.manual_seed(0)
    model = MSFMamba(12, 4, patch_size, d_state=3)
    inputs = example_inputs(model, 3)
    model(*inputs).square().sum().backward()
    got = {name: x.grad.double() for name, x in model.named_parameters()}
    model.zero_grad()
    model.double()(*(x.double() for x in inputs)).square().sum().backward()
    for name, x in model.named_parameters():
        torch.testing.assert_close(
            got[name], x.grad, rtol=0, atol=1e-4 * max(1e-2, float(x.grad.abs().max())), msg=name
        )


def test_the_kernels_of_inference_give_the_numbers_of_the_plain_network():
    torch.manual_seed(0)
    for arguments in ({"patch_size": 5}, {"patch_size": 9, "depth": 2, "in_chans": 17}):
        model = MSFMamba(**{"in_chans": 12, "num_classes": 4, **arguments}).eval()
        inputs = example_inputs(model, 3)
        with torch.no_grad():
            got = model(*inputs)
            with inference.plain():
                wanted = model(*inputs)
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-5 * float(wanted.abs().max()))
