"""Official checkpoints of MambaHSI: their configuration and their names in ours."""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor, nn

from hsmamba.models.official.shared import count, merge_config, rename

# Tensors that every official state has, and none of another network.
MARKS = {"mambahsi": ("patch_embedding.0.weight", "mamba.0.weights", "cls_head.3.weight")}

# Patterns of the official names -> ours, applied in this order.
_OFFICIAL_NAMES = {
    r"^patch_embedding\.": "embed.",
    r"^mamba\.(\d+)\.weights$": r"encoders.\1.mix",
    r"^mamba\.(\d+)\.spa_mamba\.": r"encoders.\1.spatial.",
    r"^mamba\.(\d+)\.spe_mamba\.": r"encoders.\1.spectral.",
    r"\.proj\.": ".norm.",
    r"\.conv1d\.": ".conv.",
    r"\.(x|dt)_proj\.(weight|bias)$": r".ssm.\1_proj_\2",
    r"\.mamba\.(A_log|D)$": r".mamba.ssm.\1",
    r"^cls_head\.3\.": "head.",
    r"^cls_head\.": "neck.",
}
_ALIASES = {"in_channels": "in_chans", "hidden_dim": "dim", "token_num": "tokens", "group_num": "groups"}


def official_args(state_dict: dict[str, Tensor], config: dict[str, Any]) -> dict[str, Any]:
    """Translate the official configuration.

    `config`: in_channels, num_classes, hidden_dim, token_num, group_num. No tensor tells the groups of the norms, which
    are 4 in the release.
    """
    spatial, spectral = "mamba.0.spa_mamba.mamba", "mamba.0.spe_mamba.mamba"
    dim = state_dict["patch_embedding.0.weight"].shape[0]
    read_off = {
        "in_chans": state_dict["patch_embedding.0.weight"].shape[1],
        "num_classes": state_dict["cls_head.3.weight"].shape[0],
        "dim": dim,
        "depth": count({_half(key): value for key, value in state_dict.items()}, "mamba.{}.weights"),
        "tokens": dim // state_dict[f"{spectral}.out_proj.weight"].shape[0],
        "groups": 4,
        "neck_dim": state_dict["cls_head.0.weight"].shape[0],
        "d_state": state_dict[f"{spatial}.A_log"].shape[1],
        "d_conv": state_dict[f"{spatial}.conv1d.weight"].shape[2],
        "expand": state_dict[f"{spatial}.A_log"].shape[0] // dim,
    }
    return merge_config("mambahsi", read_off, config, aliases=_ALIASES)


def _half(key: str) -> str:
    """Number the encoders one after the other: the official numbers count the pooling between them."""
    return re.sub(r"^mamba\.(\d+)\.", lambda found: f"mamba.{int(found[1]) // 2}.", key)


def checkpoint_filter_fn(state_dict: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Rename the official state to ours."""
    if "patch_embedding.0.weight" not in state_dict:
        return state_dict
    shapes = {key: value.shape for key, value in model.state_dict().items()}
    state: dict[str, Tensor] = {}
    for key, value in rename({_half(key): value for key, value in state_dict.items()}, _OFFICIAL_NAMES).items():
        same_size = key in shapes and shapes[key].numel() == value.numel()
        state[key] = value.reshape(shapes[key]) if same_size else value
    return state
