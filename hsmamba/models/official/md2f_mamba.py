"""Checkpoints of MD2F-Mamba as a third-party article lists it: its configuration and its names in ours."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from hsmamba.models.official.shared import merge_config

# Tensors that every state of the article has, and none of another network.
MARKS = {"md2f_mamba_ref": ("init_extractor.conv2d.0.weight", "ms_lfem.pos_enc.enc", "classifier.2.weight")}

# Names of the article's listing -> ours, by prefix; `.op` is a wrapper of the listing.
_OFFICIAL_NAMES = {
    "mdconv.dw_sq": "mdconv.square",
    "mdconv.dw_hor": "mdconv.horizontal",
    "mdconv.dw_ver": "mdconv.vertical",
    "mdconv.pw": "mdconv.mix.0",
    "mdconv.bn": "mdconv.mix.1",
    "ms_lfem.pos_enc.enc": "ms_lfem.pos_embed",
    "ms_lfem.conv1x1_init.op": "ms_lfem.stem",
    "ms_lfem.b0": "ms_lfem.branch0",
    "ms_lfem.b1_h.op": "ms_lfem.branch1.0",
    "ms_lfem.b1_v.op": "ms_lfem.branch1.1",
    "ms_lfem.b2_v.op": "ms_lfem.branch2.0",
    "ms_lfem.b2_h.op": "ms_lfem.branch2.1",
    "ms_lfem.b3_conv_init.op": "ms_lfem.branch3",
    "ms_lfem.b3_gelu_conv": "ms_lfem.gate",
    "ms_lfem.out_proj.0": "ms_lfem.mix",
    "hsm_gfe.pos_enc.enc": "hsm_gfe.pos_embed",
    "hsm_gfe.layer_norm": "hsm_gfe.norm",
    "hsm_gfe.dw_refine": "hsm_gfe.refine",
    "hsm_gfe.gate_proj": "hsm_gfe.state_proj",
    "classifier.2": "head",
}


def official_args(state_dict: dict[str, Tensor], config: dict[str, Any]) -> dict[str, Any]:
    """Translate the official configuration.

    `config`: bands, patch, n_classes, hidden, expand, k_square, k_hor, k_ver, product.
    """
    dim = state_dict["mdconv.pw.weight"].shape[0]
    read_off = {
        "bands": state_dict["init_extractor.conv2d.0.weight"].shape[1] // 8,
        "patch": state_dict["ms_lfem.pos_enc.enc"].shape[2],
        "n_classes": state_dict["classifier.2.weight"].shape[0],
        "hidden": dim,
        "expand": state_dict["hsm_gfe.expand_conv.weight"].shape[0] / dim,
        "k_square": state_dict["mdconv.dw_sq.weight"].shape[2],
        "k_hor": state_dict["mdconv.dw_hor.weight"].shape[3],
        "k_ver": state_dict["mdconv.dw_ver.weight"].shape[2],
        "product": "repaired",
    }
    cfg = merge_config("md2f_mamba_ref", read_off, config)
    return {
        "in_chans": cfg["bands"],
        "patch_size": cfg["patch"],
        "num_classes": cfg["n_classes"],
        "dim": cfg["hidden"],
        "expand": cfg["expand"],
        "kernel_sizes": (cfg["k_square"], cfg["k_hor"], cfg["k_ver"]),
        "product": cfg["product"],
    }


def checkpoint_filter_fn(state_dict: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Rename the state of the article's listing to ours."""
    if "classifier.2.weight" not in state_dict:
        return state_dict
    shapes = {key: value.shape for key, value in model.state_dict().items()}
    state = {}
    for key, value in state_dict.items():
        for theirs, ours in _OFFICIAL_NAMES.items():
            if key == theirs or key.startswith(theirs + "."):
                key = ours + key[len(theirs) :]
                break
        same_size = key in shapes and shapes[key].numel() == value.numel()
        state[key] = value.reshape(shapes[key]) if same_size else value
    return state
