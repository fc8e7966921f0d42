"""Official checkpoints of RSANet (RSMIF project): their configuration and their names in ours."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from hsmamba.models.official.shared import count, merge_attention, merge_config, rename

# Tensors that every official state has, and none of another network.
MARKS = {"rsanet": ("head_conv.0.weight", "RB1.conv1.weight", "tail_conv.weight")}

_OFFICIAL_NAMES = {
    r"^head_conv\.0\.": "head.",
    r"^tail_conv\.": "tail.",
    r"\.attention1\.": ".taps.",
    r"\.rate1$": ".rate",
}


def official_args(state_dict: dict[str, Tensor], config: dict[str, Any]) -> dict[str, Any]:
    """Translate the official configuration.

    `config`: n_bands, n_pan, width, n_blocks, n_recursions, kernel_att, kernel_conv, heads, scale_ratio. The tensors do
    not tell kernel_att (default 7) and scale_ratio (4).
    """
    dim, chans, kernel, _ = state_dict["head_conv.0.weight"].shape
    bands = state_dict["tail_conv.weight"].shape[0]
    recursions = sum(f"head_conv.0.attention1.{2 * i}.rate1" in state_dict for i in range(len(state_dict)))
    read_off = {
        "n_bands": bands,
        "n_pan": chans - bands,
        "width": dim,
        "n_blocks": count(state_dict, "RB{}.conv1.weight"),
        "n_recursions": recursions,
        "kernel_att": 7,
        "kernel_conv": kernel,
        "heads": kernel**2 // state_dict["head_conv.0.attention1.0.conv_p.weight"].shape[0],
        "scale_ratio": 4,
    }
    cfg = merge_config("rsanet", read_off, config)
    return {
        "in_chans": cfg["n_bands"],
        "guide_chans": cfg["n_pan"],
        "scale": cfg["scale_ratio"],
        "dim": cfg["width"],
        "depth": cfg["n_blocks"],
        "recursions": cfg["n_recursions"],
        "kernel_size": cfg["kernel_conv"],
        "num_heads": cfg["heads"],
        "window_size": cfg["kernel_att"],
    }


def checkpoint_filter_fn(state_dict: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Translate the official state to ours."""
    if "head_conv.0.weight" not in state_dict:
        return state_dict
    state = {key: value for key, value in merge_attention(state_dict).items() if not key.endswith("dep_conv.weight")}
    blocks = {rf"^RB{i + 1}\.": f"blocks.{i}." for i in range(count(state_dict, "RB{}.conv1.weight"))}
    return rename(state, _OFFICIAL_NAMES | blocks)
