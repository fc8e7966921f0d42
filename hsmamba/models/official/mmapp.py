"""Official checkpoints of MMAPP (RSMIF project): their configuration and their names in ours."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from hsmamba.models.official.shared import count, merge_attention, merge_config, rename

# Tensors that every official state has, and none of another network.
MARKS = {"mmapp": ("pb.head_conv.weight", "mb.head_conv.weight", "F1.0.RB1.conv1.weight")}

_OFFICIAL_NAMES = {
    r"^pb\.head_conv\.": "pan_stages.0.conv.",
    r"^pb\.mid_conv\.": "pan_stages.1.conv.",
    r"^mb\.head_conv\.": "ms_stages.0.conv.",
    r"^mb\.mid_conv\.": "ms_stages.1.conv.",
    r"^pb\.E1\.0\.SpaRB1\.": "pan_stages.0.block.",
    r"^pb\.E2\.0\.SpaRB1\.": "pan_stages.1.block.",
    r"^mb\.E1\.0\.SpeRB1\.": "ms_stages.0.block.",
    r"^mb\.E2\.0\.SpeRB1\.": "ms_stages.1.block.",
    r"^pb\.conv_d2_out\.": "pan_stages.0.side.",
    r"^pb\.conv_d4_out\.": "pan_stages.1.side.",
    r"^mb\.conv_u2_out\.": "ms_stages.0.side.",
    r"^mb\.conv_u4_out\.": "ms_stages.1.side.",
    r"^mb\.up1\.conv_up1\.": "ms_stages.0.resample.0.conv.",
    r"^mb\.up2\.conv_up1\.": "ms_stages.1.resample.0.conv.",
    r"^conv_f1\.": "levels.0.side.",
    r"^conv_f2\.": "levels.1.side.",
    r"^conv_f3\.": "to_bands.",
    r"^up1\.conv_up1\.": "levels.0.up.conv.",
    r"^up2\.conv_up1\.": "levels.1.up.conv.",
    r"^head_conv\.": "head.0.",
    r"^head_relu\.": "head.1.",
    r"^tail_conv\.": "tail.",
    r"\.attention1\.": ".taps.",
    r"\.attention2\.": ".image_taps.",
    r"\.attention3\.": ".bias.",
    r"\.fc\.weight$": ".mix",
    r"\.dep_conv\.weight$": ".conv",
}


def official_args(state_dict: dict[str, Tensor], config: dict[str, Any]) -> dict[str, Any]:
    """Translate the official configuration.

    `config`: n_bands, n_pan, width, scale_ratio, n_fusion_blocks, kernel_att, kernel_conv, heads. The tensors do not
    tell kernel_att (default 7).

    Raises:
        ValueError: A ratio that the official network does not have.
    """
    dim, pan_chans, kernel, _ = state_dict["pb.head_conv.weight"].shape
    read_off = {
        "n_bands": state_dict["mb.head_conv.weight"].shape[1],
        "n_pan": pan_chans,
        "width": dim,
        "scale_ratio": 4,
        "n_fusion_blocks": count(state_dict, "F1.0.RB{}.conv1.weight"),
        "kernel_att": 7,
        "kernel_conv": kernel,
        "heads": kernel**2 // state_dict["head_conv.attention1.0.conv_p.weight"].shape[0],
    }
    cfg = merge_config("mmapp", read_off, config)
    if cfg["scale_ratio"] != 4:
        raise ValueError(f"the official MMAPP has scale_ratio=4 alone, got {cfg['scale_ratio']}")
    return {
        "in_chans": cfg["n_bands"],
        "guide_chans": cfg["n_pan"],
        "scale": cfg["scale_ratio"],
        "dim": cfg["width"],
        "depth": cfg["n_fusion_blocks"],
        "kernel_size": cfg["kernel_conv"],
        "num_heads": cfg["heads"],
        "window_size": cfg["kernel_att"],
    }


def checkpoint_filter_fn(state_dict: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Translate the official state to ours."""
    if "pb.head_conv.weight" not in state_dict:
        return state_dict
    state = {key: value for key, value in merge_attention(state_dict).items() if not key.startswith("F3.")}
    state = {key: value.flatten(1) if key.endswith(".fc.weight") else value for key, value in state.items()}
    blocks = {
        rf"^F{level + 1}\.0\.RB{i + 1}\.": f"levels.{level}.blocks.{i}."
        for level in range(2)
        for i in range(count(state, f"F{level + 1}.0.RB{{}}.conv1.weight"))
    }
    return rename(state, _OFFICIAL_NAMES | blocks)
