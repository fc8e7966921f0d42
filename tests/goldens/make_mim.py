"""Make the small goldens of mim_v1, v2 and v3: logits and gradients of the oracle in float64, stored as float32.

Run from the repository's root: python -m tests.goldens.make_mim
"""

import json
import re
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.oracles.mim import mim_v1, mim_v2, mim_v3, state_v1, state_v2, state_v3

SIZES = {"channels": 4, "num_classes": 3, "image_size": 3, "patch_size": 1, "dim": 3}
V1, V2, V3 = "mim_1.T_mamba.mamba.layers.0.", "mim_3.T_mamba.", "mim_1.T_mamba1.vim."
CASES = {
    "1": (
        lambda: state_v1(**SIZES, depth=1, seed=1),
        lambda x, state: mim_v1(x, state, 1),
        {"depth": 1, "emb_dropout": 0.1},
        [V1 + name for name in ("pro.weight", "mamba.A_log_f", "mamba.D_b", "mamba.x_proj_b.bias", "mamba.token_wV_f")]
        + ["k_weights", "mim_1.T_mamba.pos_embedding"],
    ),
    "2": (
        lambda: state_v2(**SIZES | {"dim": 6}, seed=2),
        lambda x, state: mim_v2(x, state, 1),
        {"dim": 6, "depth": 1, "emb_dropout": 0.0},
        [
            V2 + name
            for name in ("U1", "vim1.ssm.A_log", "vim2.ssm.deltaBC_layer.weight", "tokenfuser.Z.bias", "in_proj_z.bias")
        ]
        + ["embed.weight", "mim_4.pro.weight"],
    ),
    "3": (
        lambda: state_v3(**SIZES, depth=2, seed=3),
        lambda x, state: mim_v3(x, state, 2, 1),
        {"depth": 2, "emb_dropout": 0.0},
        [V3 + name for name in ("forward_ssm.A_log", "backward_ssm.dt_proj_layer.bias", "proj1.weight", "norm.bias")]
        + ["to_patch_embedding.2.weight", "k_weights"],
    ),
}

for variant, (make_state, network, more, wanted) in CASES.items():
    state = make_state()
    for name in wanted:
        state[name].requires_grad_()
    generator = torch.Generator().manual_seed(int(variant))
    x = torch.randn(2, 4, 3, 3, generator=generator, dtype=torch.float64)
    logits = network(x, state)
    logits.square().mean().backward()
    # Of the hundreds of tokenizers that are never used one stands for all.
    kept = {key: value.detach() for key, value in state.items() if not re.search(r"tokenizers\.[1-9]", key)}
    tensors = {f"state/{key}": value for key, value in kept.items()}
    tensors |= {"input/x": x[:, None], "output/logits": logits.detach()}
    tensors |= {f"grad/{name}": state[name].grad for name in wanted}
    tensors = {key: value.float().clone().contiguous() for key, value in tensors.items()}
    path = Path(__file__).parent / f"mim_v{variant}__tiny.safetensors"
    save_file(tensors, path, metadata={"config": json.dumps(SIZES | more | {"variant": variant})})
