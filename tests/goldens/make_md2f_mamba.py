"""Make the small golden of md2f_mamba_ref: outputs of the oracle in float64, stored as float32.

Run from the repository's root: python -m tests.goldens.make_md2f_mamba
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.oracles.md2f_mamba import article_logits, article_state

CONFIG = {"bands": 5, "patch": 5, "n_classes": 3, "hidden": 6, "expand": 2, "k_square": 3, "k_hor": 5, "k_ver": 3}

state = article_state(**CONFIG, seed=3)
state["classifier.2.weight"] /= 100  # logits of about 1, so that the absolute tolerance means something
wanted = ("hsm_gfe.phi", "hsm_gfe.omega", "ms_lfem.pos_enc.enc", "init_extractor.conv3d.0.weight", "mdconv.pw.weight")
for name in wanted:
    state[name].requires_grad_()
x = torch.randn(3, 5, 5, 5, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
logits = article_logits(x, state)
logits.square().mean().backward()
tensors = {f"state/{key}": value.detach().float() for key, value in state.items()}
tensors |= {"input/x": x.float(), "output/logits": logits.detach().float()}
tensors |= {f"grad/{key}": state[key].grad.float() for key in wanted}
save_file(tensors, Path(__file__).parent / "md2f_mamba_ref__tiny.safetensors", metadata={"config": json.dumps(CONFIG)})
