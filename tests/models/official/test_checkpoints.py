"""Official checkpoints: they load as they are and from DataParallel; what does not fit is listed."""

import importlib.util

import pytest
import torch
from safetensors import safe_open

import hsmamba
from hsmamba.bench.transcriptions import mmapp, ramsf, rsanet
from hsmamba.errors import WeightsError
from hsmamba.models import entry
from hsmamba.zoo.official import architecture_of, official_marks
from tests.conftest import golden_files
from tests.models.samples import NAMES, tiny
from tests.oracles import le_mamba, mambahsi, md2f_mamba, mim, msdcnn, msfmamba, pannet, plain, ssftt

RANDOM = rsanet.random_state
STATES = {  # by architecture: a small official state, a tensor of it and what the error calls it
    "md2f_mamba_ref": (lambda: md2f_mamba.article_state(5, 5, 3, 4, 2, 3, 3, 3), ("hsm_gfe.phi", r"hsm_gfe\.phi")),
    "mim_v3": (lambda: mim.state_v3(3, 4, 3, 1, 8, 2), ("backward_ssm.A_log", r"vim\.ssm\.A_log")),
    "msfmamba": (
        lambda: msfmamba.random_state(3, 10, 5, 1, 1, 2, 0.25),
        ("layers.0.MBx.self_attention.DWconv2.weight", r"layers\.0\.aux_spatial\.mixer\.coarse_conv\.weight"),
    ),
    "mambahsi": (
        lambda: mambahsi.random_state(3, 2, 8),
        ("mamba.2.spa_mamba.mamba.A_log", r"encoders\.1\.spatial\.mamba\.ssm\.A_log"),
    ),
    "le_mamba": (
        lambda: RANDOM(le_mamba.le_mamba_shapes(le_mamba.TINY), 0),
        ("encoders.0.mods.1.mamba.op.xs_gate_weight", r"encoder\.0\.blocks\.1\.global_branch\.scan\.sharing\.gate"),
    ),
    "mmapp": (
        lambda: RANDOM(mmapp.mmapp_shapes(**mmapp.RELEASED | {"width": 2, "n_bands": 2, "n_fusion_blocks": 1}), 0),
        ("F2.0.RB1.conv1.attention1.2.fc.weight", r"levels\.1\.blocks\.0\.conv1\.taps\.2\.mix"),
    ),
    "msdcnn": (
        lambda: plain.random_state(msdcnn.msdcnn_shapes(dims=(6, 3), shallow_dims=(4, 3)), 0),
        ("conv2_3.weight", r"block1\.scales\.2\.weight"),
    ),
    "pannet": (
        lambda: plain.random_state(pannet.pannet_shapes(channel=4), 0),
        ("res2.conv20.weight", r"blocks\.1\.conv1\.weight"),
    ),
    "ramsf": (
        lambda: RANDOM(ramsf.ramsf_shapes(**ramsf.RELEASED | {"feat_dim": 4, "mlp_dim": [3]}), 0),
        ("DE_HH_HH.conv0.bias", r"detail\.mix_block\.conv1\.bias"),
    ),
    "rsanet": (
        lambda: RANDOM(rsanet.rsanet_shapes(**rsanet.RELEASED), 0),
        ("RB2.conv1.attention1.2.conv2.weight", r"blocks\.1\.conv1\.taps\.2\.qkv\.weight"),
    ),
    "ssftt": (
        lambda: ssftt.random_state(5, 3, 4, 8, 4, 1),
        ("transformer.layers.0.0.fn.fn.to_qkv.bias", r"blocks\.0\.attn\.qkv\.bias"),
    ),
}


@pytest.mark.parametrize("arch", STATES)
def test_a_checkpoint_loads_as_it_is_and_from_data_parallel(arch):
    state = STATES[arch][0]()
    wrapped = {f"module.{key}": value for key, value in state.items()}
    model, again = (hsmamba.load_official(arch, s).state_dict() for s in (state, wrapped))
    assert model.keys() == again.keys() and all(torch.equal(model[key], again[key]) for key in model)


@pytest.mark.parametrize("arch", STATES)
def test_the_names_tell_whose_checkpoint_it_is(arch):
    state = STATES[arch][0]()
    assert architecture_of(state) == (arch, True)
    assert architecture_of({f"module.{key}": value for key, value in state.items()}) == (arch, True)
    marks = official_marks()
    assert [name for name, names in marks.items() if set(names) <= state.keys()] == [arch]
    assert {*STATES, "mim_v1", "mim_v2"} == {*marks}


@pytest.mark.parametrize("path", golden_files("*__*.safetensors"), ids=lambda path: path.stem)
def test_the_names_of_the_goldens_tell_their_networks(path):
    with safe_open(path, "pt") as file:
        names = {key.removeprefix("state/") for key in file.keys() if key.startswith("state/")}  # noqa: SIM118
    if not names:
        pytest.skip("a golden without a state")
    expected = path.stem.partition("__")[0].replace("verbatim", "ref")
    assert [arch for arch, marks in official_marks().items() if names.issuperset(marks)] == [expected]


@pytest.mark.parametrize("arch", STATES)
def test_tensors_that_do_not_fit_are_listed(arch):
    state, (official, ours) = STATES[arch][0](), STATES[arch][1]
    missing = {key: value for key, value in state.items() if official not in key}
    for held, told in (
        (missing, f"missing: {ours}"),
        (state | {"extra": torch.zeros(1)}, "unexpected: extra"),
        ({"w": torch.zeros(1)}, "another model"),
    ):
        with pytest.raises(WeightsError, match=told):
            hsmamba.load_official(arch, held)
    with pytest.raises(TypeError, match="no configuration widht"):
        hsmamba.load_official(arch, state, widht=3)


@pytest.mark.parametrize(
    ("arch", "config", "error", "told"),
    [
        (
            *("md2f_mamba_ref", {"n_classes": 7}, WeightsError),
            r"of another shape: head\.weight \(3, 4\) instead of \(7, 4\)",
        ),
        ("msfmamba", {"num_classes": 9}, WeightsError, r"head\.weight \(3, 720\) instead of \(9, 720\)"),
        ("msfmamba", {"dataset": "Berlin"}, TypeError, "no configuration dataset"),
        ("mim_v3", {"variant": "2"}, ValueError, "is one of version 3"),
        ("le_mamba", {"out_channels": 3}, ValueError, "out_channels must be ms_channels"),
        ("mmapp", {"scale_ratio": 8}, ValueError, "scale_ratio=4 alone"),
        ("ramsf", {"scale_ratio": 8}, ValueError, "scale_ratio=8 and n_stages=2"),
    ],
)
def test_a_configuration_of_another_network_is_refused(arch, config, error, told):
    with pytest.raises(error, match=told):
        hsmamba.load_official(arch, STATES[arch][0](), **config)


def test_there_are_none_of_a_reconstruction():
    with pytest.raises(WeightsError, match="no official checkpoints"):
        hsmamba.load_official("cf2n", {})


def official(name):
    return entry(name).module.replace("models", "models.official")


@pytest.mark.parametrize("name", [name for name in NAMES if importlib.util.find_spec(official(name))])
def test_a_state_with_our_names_passes_the_filter_unchanged(name):
    module = importlib.import_module(official(name))
    model = tiny(name)
    assert module.checkpoint_filter_fn(model.state_dict(), model).keys() == model.state_dict().keys()
