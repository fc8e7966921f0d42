"""RSANet: the official numbers, the equations at any size, the official size."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import hsmamba
from hsmamba.bench.transcriptions.rsanet import RELEASED, random_state, rsanet, rsanet_shapes
from hsmamba.models import entry
from hsmamba.models.official.rsanet import checkpoint_filter_fn
from tests.goldens.reader import Golden, each_golden

PLACES = {
    "head_sa0": "head.taps.0",
    "head_sa1": "head.taps.2",
    "head_weights": "head.taps",
    "head_rsam": "head",
    "rb1_rsam1": "blocks.0.conv1",
    "rb1": "blocks.0",
    "tail": "tail",
}


@each_golden("rsanet")
def test_golden_output_taps_and_gradients(path):
    golden = Golden(path)
    blocks = {f"rb{i + 1}": f"blocks.{i}" for i in range(golden.config["n_blocks"])}
    golden.check(golden.run(PLACES | blocks))


@settings(max_examples=12)
@given(
    n_bands=st.integers(1, 4),
    n_pan=st.integers(1, 3),
    width=st.integers(1, 5),
    n_blocks=st.integers(0, 2),
    n_recursions=st.integers(1, 3),
    kernel_att=st.sampled_from([3, 5, 7]),
    kernel_and_heads=st.sampled_from([(3, 1), (3, 3), (3, 9), (5, 5), (1, 1)]),
    size=st.tuples(st.integers(4, 9), st.integers(4, 9)),
    seed=st.integers(0, 99),
)
def test_it_agrees_with_its_equations_at_any_size(kernel_and_heads, size, seed, **cfg):
    cfg |= {"kernel_conv": kernel_and_heads[0], "heads": kernel_and_heads[1]}
    state = random_state(rsanet_shapes(**cfg), seed)
    # The window alone cannot be read off the tensors.
    model = hsmamba.load_official("rsanet", state, kernel_att=cfg["kernel_att"]).double().eval()
    model.load_state_dict(checkpoint_filter_fn(state, model))  # in float64
    pan, lms = (torch.rand(2, c, *size, dtype=torch.float64) for c in (cfg["n_pan"], cfg["n_bands"]))
    torch.testing.assert_close(model(None, pan, lms), rsanet(pan, lms, state, cfg), rtol=1e-9, atol=1e-9)


def test_the_official_size_is_ours_and_what_has_no_influence():
    shapes = rsanet_shapes(**RELEASED)
    assert len(shapes) == 328
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == 96_827
    unused = sum(torch.Size(shape).numel() for key, shape in shapes.items() if "dep_conv" in key)
    cancelling = sum(torch.Size(shape).numel() for key, shape in shapes.items() if key.endswith("conv_p.bias"))
    assert (unused, cancelling) == (23_328, 96)
    assert sum(p.numel() for p in entry("rsanet").entry_point().parameters()) == 96_827 - unused - cancelling
