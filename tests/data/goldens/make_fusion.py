"""Make the small goldens of the fusion networks: outputs of the oracles in float64, stored as float32.

Run from the repository's root: PYTHONPATH=tests/models python tests/data/goldens/make_fusion.py [ARCHITECTURE ...]
"""

import json
import sys
from pathlib import Path

import mmapp_oracle
import ramsf_oracle
import rsanet_oracle
import torch
from rsanet_oracle import random_state
from safetensors.torch import save_file


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
    state = random_state(rsanet_oracle.rsanet_shapes(**config), seed=1)
    inputs = {"pan": rand(2, 2, 6, 9), "lms": rand(2, 3, 6, 9)}
    wanted = ("head_conv.0.weight", "RB1.conv1.attention1.0.conv_p.weight", "tail_conv.attention1.2.conv2.weight")

    def run(state):
        return {"sr": rsanet_oracle.rsanet(*inputs.values(), state, config)}

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
    state = random_state(mmapp_oracle.mmapp_shapes(**config), seed=2)
    inputs = {"ms": rand(2, 2, 4, 5), "pan": rand(2, 1, 16, 20)}
    wanted = ("F2.0.RB1.conv1.attention1.0.fc.weight", "mb.conv_u2_out.weight", "tail_conv.0.attention1.2.conv2.bias")

    def run(state):
        out_d4, out_d2, out, ms_u4 = mmapp_oracle.mmapp(*inputs.values(), state, config)
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
    state = random_state(ramsf_oracle.ramsf_shapes(**config), seed=3)
    inputs = {"pan": rand(2, 2, 12, 20), "lms": rand(2, 3, 12, 20), "ms": rand(2, 3, 3, 5)}
    wanted = ("imnet_64.layers.0.weight", "imnet_128.layers.4.bias", "DE_LH.conv1.weight", "blk_8_32.1.weight")

    def run(state):
        return {"sr": ramsf_oracle.ramsf(*inputs.values(), state, config)}

    return config, state, inputs, wanted, run


MAKERS = {"ramsf": make_ramsf, "mmapp": make_mmapp, "rsanet": make_rsanet}

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
