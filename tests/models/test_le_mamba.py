"""LE-Mamba: the official numbers, the equations for other structures, the official sizes, states without gradient."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import hsmamba
from hsmamba.layers.fusion import pad_sides
from hsmamba.models.le_mamba import LEMamba, LEVMBlock
from hsmamba.models.official.le_mamba import checkpoint_filter_fn
from tests.goldens.reader import Golden, each_golden
from tests.oracles.le_mamba import TINY, le_mamba, le_mamba_shapes, random_state

PLACES = {
    "intro": "stem",
    "enc0_block0_out": "encoder.0.blocks.0",
    "down0_out": "downs.0",
    "mid_out": "middle",
    "dec0_fused": "decoder.0.fuse",
    "dec0_block0_out": "decoder.0.blocks.0",
    "dec_last_out": "decoder.2",
    "residual": "head",
}
SMALL = {
    "dim": 6,
    "enc_depths": (1, 2),
    "dec_depths": (2, 1),
    "widen": (2, 1),
    "expand": (1, 2),
    "windows": (4, None),
    "enc_d_state": ((2, 3), (None, 3)),
    "dec_d_state": ((None, 3), (2, 3)),
    "enc_kernels": ((3, 5), (None, 3)),
    "dec_kernels": ((None, 3), (3, 5)),
}


@each_golden("le_mamba")
def test_golden_output_taps_and_gradients(path):
    golden = Golden(path)
    whole_map = golden.model.encoder[0].blocks[0].global_branch
    inside = {}
    hook = whole_map.register_forward_hook(lambda _, args, out: inside.update(x=args[0], state=out[1]))
    seen = golden.run(PLACES)
    hook.remove()
    seen["down0_out"] = seen["down0_out"].movedim(1, -1)
    golden.check(
        seen | {"enc0_block0_after_local": inside["x"], "enc0_block0_global_state": inside["state"].flatten(1, 2)}
    )


def structure(draw_pair, levels, **cfg):
    """A configuration of `levels` levels in the official vocabulary."""
    encoder, decoder = ([draw_pair() for _ in range(levels)] for _ in range(2))
    return (
        TINY
        | cfg
        | {
            "out_channels": cfg["ms_channels"],
            "enc_d_state": [x[0] for x in encoder],
            "enc_kernel": [x[1] for x in encoder],
            "dec_d_state": [x[0] for x in decoder],
            "dec_kernel": [x[1] for x in decoder],
            "windows": [2] * levels,
        }
    )


@settings(max_examples=10)
@given(data=st.data(), levels=st.integers(1, 2), seed=st.integers(0, 99))
def test_it_agrees_with_its_equations_whatever_the_structure(data, levels, seed):
    d_state = data.draw(st.integers(1, 3))
    local = st.sampled_from([(None, None), (2, None), (None, 3), (2, 3), (3, 5)])

    def pair():
        n, kernel = data.draw(local)
        return [n, d_state], [kernel, data.draw(st.sampled_from([1, 3, 5]))]

    def numbers(low, high):
        return data.draw(st.lists(st.integers(low, high), min_size=levels, max_size=levels))

    cfg = structure(
        pair,
        levels,
        ms_channels=data.draw(st.integers(1, 3)),
        guide_channels=data.draw(st.integers(1, 2)),
        width=data.draw(st.sampled_from([3, 4, 17])),
        enc_depths=numbers(1, 2),
        mid_depth=data.draw(st.integers(0, 2)),
        dec_depths=numbers(1, 2),
        widen=numbers(1, 2),
        expand=numbers(1, 2),
    )
    state = random_state(le_mamba_shapes(cfg), seed)
    model = hsmamba.load_official("le_mamba", state, **cfg).double().eval()
    model.load_state_dict(checkpoint_filter_fn(state, model))  # in float64
    sides = (model.multiple, 2 * model.multiple)
    pan, lms = (torch.rand(2, c, *sides).double() for c in (cfg["guide_channels"], cfg["ms_channels"]))
    torch.testing.assert_close(model(None, pan, lms), le_mamba(pan, lms, state, cfg), rtol=1e-7, atol=1e-7)


def test_the_configuration_is_read_off_the_tensors():
    state = random_state(le_mamba_shapes(TINY), seed=0)
    assert sum(x.numel() for x in state.values()) == 743_464
    model = hsmamba.load_official("le_mamba", {f"module.{key}": value for key, value in state.items()})
    again = hsmamba.load_official("le_mamba", state, **TINY)
    pairs = zip(model.named_parameters(), again.named_parameters(), strict=True)
    assert all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)
    assert model.model_args == again.model_args


def test_no_gradient_flows_through_shared_states():
    torch.manual_seed(0)
    model = LEMamba(in_chans=2, **SMALL)
    seen = []
    block = model.encoder[1].blocks[0].global_branch
    block.register_forward_hook(lambda _module, _args, out: seen.append(out[1]))
    ms, guide = torch.rand(1, 2, 4, 4), torch.rand(1, 1, 16, 16)
    before = model.eval()(ms, guide)
    assert not seen[0].requires_grad
    # And yet the state matters: the next block of the level reads it.
    block.register_forward_hook(lambda _module, _args, out: (out[0], out[1] + 1))
    assert (model(ms, guide) - before).abs().max() > 1e-4


def test_stochastic_depth_rises_through_encoder_bottom_and_decoder():
    model = LEMamba()
    rates = [m.global_branch.drop_path.drop_prob for m in model.modules() if isinstance(m, LEVMBlock)]
    assert rates == pytest.approx([0.0125 * i for i in range(9)])


def test_sides_are_padded_to_the_largest_window():
    torch.manual_seed(0)
    model = LEMamba(in_chans=2, **(SMALL | {"windows": (4, 6), "enc_d_state": ((2, 3), (2, 3)), "mid_depth": 1})).eval()
    assert model.multiple == 4  # the second level has no local kernel
    model = LEMamba(in_chans=2, **(SMALL | {"windows": (6, 4)})).eval()
    assert model.multiple == 12
    ms_up, guide = torch.rand(1, 2, 13, 25), torch.rand(1, 1, 13, 25)
    want = model(None, pad_sides(guide, 12), pad_sides(ms_up, 12))[..., :13, :25]
    torch.testing.assert_close(model(None, guide, ms_up), want)
