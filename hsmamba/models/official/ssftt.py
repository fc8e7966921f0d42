"""Official checkpoints of SSFTT (github zgr6010/HSI_SSFTT): their configuration and their names in ours."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from hsmamba.models.official.shared import count, merge_config, rename

# Tensors that every official state has, and none of another network.
MARKS = {"ssftt": ("conv3d_features.0.weight", "token_wA", "token_wV", "nn1.weight")}

_OFFICIAL_NAMES = {
    r"^conv3d_features\.": "extractor.conv3d.",
    r"^conv2d_features\.": "extractor.conv2d.",
    r"^token_wA$": "tokenizer.assign",
    r"^token_wV$": "tokenizer.value",
    r"^pos_embedding$": "pos_embed",
    r"^nn1\.": "head.",
    # Block i: attention and linear layers, each in a residual of a normalised function; copies of the program differ in
    # the names of the linear layers.
    r"^transformer\.layers\.(\d+)\.0\.fn\.norm\.": r"blocks.\1.norm1.",
    r"^transformer\.layers\.(\d+)\.0\.fn\.fn\.to_qkv\.": r"blocks.\1.attn.qkv.",
    r"^transformer\.layers\.(\d+)\.0\.fn\.fn\.nn1\.": r"blocks.\1.attn.proj.",
    r"^transformer\.layers\.(\d+)\.1\.fn\.norm\.": r"blocks.\1.norm2.",
    r"^transformer\.layers\.(\d+)\.1\.fn\.fn\.(?:net\.0|nn1)\.": r"blocks.\1.fc1.",
    r"^transformer\.layers\.(\d+)\.1\.fn\.fn\.(?:net\.3|nn2)\.": r"blocks.\1.fc2.",
}


def official_args(state_dict: dict[str, Tensor], config: dict[str, Any]) -> dict[str, Any]:
    """Translate the official configuration.

    `config`: in_chans, num_classes, patch_size, num_tokens, dim, depth, heads, mlp_dim, dropout. The tensors do not
    tell heads (default 8), patch_size (13) and dropout (0.1).
    """
    dim, merged, *_ = state_dict["conv2d_features.0.weight"].shape
    filters = state_dict["conv3d_features.0.weight"].shape[0]
    read_off = {
        "in_chans": merged // filters + 2,
        "num_classes": state_dict["nn1.weight"].shape[0],
        "patch_size": 13,
        "num_tokens": state_dict["token_wA"].shape[1],
        "dim": dim,
        "depth": count(state_dict, "transformer.layers.{}.0.fn.norm.weight"),
        "heads": 8,
        "mlp_dim": rename(state_dict, _OFFICIAL_NAMES)["blocks.0.fc1.weight"].shape[0],
        "dropout": 0.1,
    }
    cfg = merge_config("ssftt", read_off, config)
    own = {"heads": "num_heads", "dropout": "proj_drop_rate"}
    return {own.get(key, key): value for key, value in cfg.items()} | {"filters": filters, "scale_by": "width"}


def checkpoint_filter_fn(state_dict: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Translate the official state to ours."""
    if "token_wA" not in state_dict:
        return state_dict
    state = rename(state_dict, _OFFICIAL_NAMES)
    for name in ("tokenizer.assign", "tokenizer.value"):
        if name in state:
            state[name] = state[name].squeeze(0)
    return state
