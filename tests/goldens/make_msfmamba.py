"""Make the small golden of msfmamba: outputs, taps and gradients of the oracle in float64, stored as float32.

Run from the repository's root: python -m tests.goldens.make_msfmamba
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.oracles.msfmamba import msfmamba, random_state

CONFIG = {
    "num_classes": 3,
    "pca_num": 11,
    "window_size": 7,
    "x_channels": 2,
    "num_layers": 1,
    "d_state": 3,
    "expand": 0.125,
}
TAPS = ("l0_MBh_convT_k0", "l0_MBh_ms2d", "l0_MBh", "l0_SpBh", "l0_FSS_attention1", "l0_FSS.hsi")
GRADS = (
    "layers.0.MBh.self_attention.x_proj_weight",
    "layers.0.MBh.self_attention.A_logs",
    "layers.0.MBx.self_attention.conv_transpose.bias",
    "layers.0.SpBh.self_attention.dt_projs_bias",
    "layers.0.FSSBlock.attention1.Ds",
    "layers.0.FSSBlock.in_proj1.weight",
    "layers.0.hsi_conv.0.weight",
)

state = random_state(**CONFIG, seed=5)
for name in GRADS:
    state[name].requires_grad_()
gen = torch.Generator().manual_seed(6)
hsi = torch.randn(2, 1, 11, 7, 7, generator=gen, dtype=torch.float64)
x = torch.randn(2, 2, 7, 7, generator=gen, dtype=torch.float64)
feat, logits, taps = msfmamba(hsi, x, state)
logits.square().mean().backward()
tensors = {f"state/{key}": value.detach() for key, value in state.items()}
tensors |= {"input/hsi": hsi, "input/x": x, "output/feat": feat, "output/logits": logits}
tensors |= {f"tap/{i:02d}_{name}": taps[name] for i, name in enumerate(TAPS)}
tensors |= {f"grad/{name}": state[name].grad for name in GRADS}
tensors = {key: value.detach().float().contiguous() for key, value in tensors.items()}
save_file(tensors, Path(__file__).parent / "msfmamba__tiny.safetensors", metadata={"config": json.dumps(CONFIG)})
