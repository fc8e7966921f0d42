"""Make the small goldens of the fusion networks: outputs of the transcriptions in float64, stored as float32.

Run from the repository's root: python -m tests.goldens.make_fusion [ARCHITECTURE ...]
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from hsmamba.bench.transcriptions import mmapp, ramsf, rsanet
from hsmamba.bench.transcriptions.rsanet import random_state
from tests.oracles import le_mamba as le_mamba_oracle


def rand(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def make_rsanet():
    config = {
        "n_bands": 3,
        "n_pan": 2,
        "width": 4,
        "n_blocks": 1,
        "n_recursions": 2,
        "kernel_att": 5,
        "kernel_conv": 3,
        "heads": 3,
    }
    state = random_state(rsanet.rsanet_shapes(**config), seed=1)
    inputs = {"pan": rand(2, 2, 6, 9), "lms": rand(2, 3, 6, 9)}
    wanted = ("head_conv.0.weight", "RB1.conv1.attention1.0.conv_p.weight", "tail_conv.attention1.2.conv2.weight")

    def run(state):
        return {"sr": rsanet.rsanet(*inputs.values(), state, config)}

    return config, state, inputs, wanted, run


def make_mmapp():
    config = {
        "n_bands": 2,
        "n_pan": 1,
        "width": 3,
        "scale_ratio": 4,
        "n_fusion_blocks": 1,
        "kernel_att": 7,
        "kernel_conv": 3,
        "heads": 3,
    }
    state = random_state(mmapp.mmapp_shapes(**config), seed=2)
    inputs = {"ms": rand(2, 2, 4, 5), "pan": rand(2, 1, 16, 20)}
    wanted = ("F2.0.RB1.conv1.attention1.0.fc.weight", "mb.conv_u2_out.weight", "tail_conv.0.attention1.2.conv2.bias")

    def run(state):
        out_d4, out_d2, out, ms_u4 = mmapp.mmapp(*inputs.values(), state, config)
        return {"out": out, "out_d2": out_d2, "out_d4": out_d4, "ms_u4": ms_u4}

    return config, state, inputs, wanted, run


def make_ramsf():
    config = {
        "n_bands": 3,
        "n_guide": 2,
        "scale_ratio": 4,
        "n_stages": 2,
        "feat_dim": 8,
        "align_dim": 5,
        "mlp_dim": [9, 6],
    }
    state = random_state(ramsf.ramsf_shapes(**config), seed=3)
    inputs = {"pan": rand(2, 2, 12, 20), "lms": rand(2, 3, 12, 20), "ms": rand(2, 3, 3, 5)}
    wanted = ("imnet_64.layers.0.weight", "imnet_128.layers.4.bias", "DE_LH.conv1.weight", "blk_8_32.1.weight")

    def run(state):
        return {"sr": ramsf.ramsf(*inputs.values(), state, config)}

    return config, state, inputs, wanted, run


def make_le_mamba():
    config = {
        "ms_channels": 3,
        "guide_channels": 2,
        "out_channels": 3,
        "width": 5,
        "enc_depths": [2, 1, 1],
        "mid_depth": 1,
        "dec_depths": [2, 1, 1],
        "widen": [1, 2, 1],
        "expand": [2, 1, 1],
        "windows": [4, None, None],
        "enc_d_state": [[2, 3], [None, 3], [None, 3]],
        "dec_d_state": [[None, 3], [None, 3], [2, 3]],
        "enc_kernel": [[3, 5], [None, 3], [None, 3]],
        "dec_kernel": [[None, 3], [None, 3], [3, 5]],
        "drop_path": 0.1,
        "scale": 4,
    }
    state = random_state(le_mamba_oracle.le_mamba_shapes(config), seed=4)
    inputs = {"pan": rand(1, 2, 8, 16), "lms": rand(1, 3, 8, 16), "ms": rand(1, 3, 2, 4)}
    owner, sharer = "lemm_decoders.2.mods.1.mamba.op", "lemm_decoders.2.mods.2.mamba.op"
    wanted = (f"{owner}.ssm_state_weight2", f"{sharer}.xs_gate_weight", "lemm_encoders.0.mods.0.mamba.op.A_logs")

    def run(state):
        return {"sr": le_mamba_oracle.le_mamba(inputs["pan"], inputs["lms"], state, config)}

    return config, state, inputs, wanted, run


MAKERS = {"le_mamba": make_le_mamba, "mmapp": make_mmapp, "ramsf": make_ramsf, "rsanet": make_rsanet}

for arch in sys.argv[1:] or MAKERS:
    config, state, inputs, wanted, run = MAKERS[arch]()
    for name in wanted:
        state[name].requires_grad_()
    outputs = run(state)
    next(iter(outputs.values())).square().mean().backward()
    tensors = {f"state/{key}": value.detach() for key, value in state.items()}
    tensors |= {f"input/{key}": value for key, value in inputs.items()}
    tensors |= {f"output/{key}": value.detach() for key, value in outputs.items()}
    tensors |= {f"grad/{key}": state[key].grad for key in wanted}
    path = Path(__file__).parent / f"{arch}__tiny.safetensors"
    save_file(
        {key: x.float().contiguous() for key, x in tensors.items()}, path, metadata={"config": json.dumps(config)}
    )
