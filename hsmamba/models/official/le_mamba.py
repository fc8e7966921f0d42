"""Official checkpoints of LE-Mamba (Efficient-MIF): their configuration and their names in ours."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from hsmamba.models.official.shared import count, merge_config, rename

# Tensors that every official state has, and none of another network.
MARKS = {"le_mamba": ("intro.weight", "lemm_encoders.0.mods.0.mamba.op.Ds", "middle_blks.mods.0.mamba.op.Ds")}

_OFFICIAL_NAMES = {
    r"^intro\.": "stem.",
    r"^ending\.": "head.",
    r"^lemm_encoders\.(\d+)\.mods\.": r"encoder.\1.blocks.",
    r"^middle_blks\.mods\.": "middle.blocks.",
    r"^lemm_downs\.(\d+)\.1\.": r"downs.\1.",
    r"^lemm_ups\.(\d+)\.1\.": r"decoder.\1.up.",
    r"^skip_scales\.(\d+)$": r"decoder.\1.skip_scale",
    r"^lemm_decoders\.(\d+)\.mods\.0\.": r"decoder.\1.fuse.",
    r"\.enhanced_factor$": ".local_scale",
    r"\.intro_conv\.": ".guide_proj.",
    r"\.mamba_inner_shared\.": ".local_branch.",
    r"\.mamba\.": ".global_branch.",
    r"_branch\.norm\.": "_branch.scan_norm.",
    r"\.norm2\.": ".mlp_norm.",
    r"\.op\.norm\.body\.": ".op.conv_norm.",
    r"\.op\.conv2d\.": ".op.conv.",
    r"\.op\.x_proj_weight$": ".op.ssm.x_proj_weight",
    r"\.op\.dt_projs_(weight|bias)$": r".op.ssm.dt_proj_\1",
    r"\.op\.A_logs$": ".op.ssm.A_log",
    r"\.op\.Ds$": ".op.ssm.D",
    r"\.op\.ssm_state_weight1$": ".op.sharing.of_previous",
    r"\.op\.ssm_state_weight2$": ".op.sharing.of_skip",
    r"\.op\.xs_gate_weight$": ".op.sharing.gate",
    r"\.op\.ssm_gate_ratio$": ".op.sharing.rho",
    r"\.op\.": ".scan.",
}

# Arguments of the official constructor, as its YAML has them, and those that say nothing of the released networks.
_ALIASES = {
    "img_channel": "ms_channels",
    "condition_channel": "guide_channels",
    "out_channel": "out_channels",
    "ssm_enc_blk_nums": "enc_depths",
    "middle_blk_nums": "mid_depth",
    "ssm_dec_blk_nums": "dec_depths",
    "ssm_chan_upscale": "widen",
    "ssm_ratios": "expand",
    "window_sizes": "windows",
    "ssm_enc_d_states": "enc_d_state",
    "ssm_dec_d_states": "dec_d_state",
    "ssm_enc_convs": "enc_kernel",
    "ssm_dec_convs": "dec_kernel",
    "drop_path_rate": "drop_path",
    "upscale": "scale",
}
_UNUSED = ("naf_enc_blk_nums", "naf_dec_blk_nums", "naf_chan_upscale", "if_abs_pos", "if_rope", "patch_merge")


def official_args(state_dict: dict[str, Tensor], config: dict[str, Any]) -> dict[str, Any]:
    """Translate the official configuration.

    `config`: ms_channels, guide_channels, out_channels, width, enc_depths, mid_depth, dec_depths, widen, expand,
    windows, enc_d_state, dec_d_state, enc_kernel, dec_kernel, drop_path, scale. The tensors do not tell windows (8
    where there is a local branch), drop_path (0.1) and scale (4). Or the names of the official constructor
    (img_channel, ssm_enc_blk_nums, ...), as its YAML has them.

    Raises:
        ValueError: An output of other bands than the input.
    """
    cfg = merge_config("le_mamba", _read_off(state_dict), config, aliases=_ALIASES, unused=_UNUSED)
    if cfg["out_channels"] != cfg["ms_channels"]:
        raise ValueError(
            f"LE-Mamba adds its input to its output: out_channels must be ms_channels, got {cfg['out_channels']} and "
            f"{cfg['ms_channels']}"
        )
    names = ("enc_depths", "dec_depths", "widen", "expand", "windows", "enc_d_state", "dec_d_state")
    return {
        "in_chans": cfg["ms_channels"],
        "guide_chans": cfg["guide_channels"],
        "scale": cfg["scale"],
        "dim": cfg["width"],
        "mid_depth": cfg["mid_depth"],
        **{name: _tuples(cfg[name]) for name in names},
        "enc_kernels": _tuples(cfg["enc_kernel"]),
        "dec_kernels": _tuples(cfg["dec_kernel"]),
        "drop_path_rate": cfg["drop_path"],
    }


def _tuples(x: Any) -> Any:
    return tuple(_tuples(item) for item in x) if isinstance(x, (list, tuple)) else x


def _read_off(state: dict[str, Tensor]) -> dict[str, Any]:
    width, bands = state["intro.weight"].shape[:2]
    levels = count(state, "lemm_downs.{}.1.weight")
    encoders = [f"lemm_encoders.{level}.mods.0." for level in range(levels)]
    decoders = [f"lemm_decoders.{level}.mods.1." for level in range(levels)]

    def pair(block: str, tensor: str, axis: int) -> tuple[int | None, int]:
        local = state.get(f"{block}mamba_inner_shared.op.{tensor}")
        return None if local is None else local.shape[axis], state[f"{block}mamba.op.{tensor}"].shape[axis]

    def ratio(name: str) -> int:
        out, chans = state[name].shape[:2]
        return out // chans

    return {
        "ms_channels": bands,
        "guide_channels": state[f"{encoders[0]}intro_conv.0.weight"].shape[1],
        "out_channels": bands,
        "width": width,
        "enc_depths": [count(state, f"lemm_encoders.{level}.mods.{{}}.mamba.op.Ds") for level in range(levels)],
        "mid_depth": count(state, "middle_blks.mods.{}.mamba.op.Ds"),
        "dec_depths": [count(state, f"lemm_decoders.{j}.mods.{{}}.mamba.op.Ds") for j in reversed(range(levels))],
        "widen": [ratio(f"lemm_downs.{level}.1.weight") for level in range(levels)],
        "expand": [ratio(f"{block}mamba.op.in_proj.weight") // 2 for block in encoders],
        "windows": [8 if f"{block}enhanced_factor" in state else None for block in encoders],
        "enc_d_state": [pair(block, "A_logs", 1) for block in encoders],
        "dec_d_state": [pair(block, "A_logs", 1) for block in decoders],
        "enc_kernel": [pair(block, "conv2d.weight", 2) for block in encoders],
        "dec_kernel": [pair(block, "conv2d.weight", 2) for block in decoders],
        "drop_path": 0.1,
        "scale": 4,
    }


def checkpoint_filter_fn(state_dict: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Translate the official state to ours."""
    if "intro.weight" not in state_dict:
        return state_dict
    blocks = {
        rf"^lemm_decoders\.{j}\.mods\.{i + 1}\.": f"decoder.{j}.blocks.{i}."
        for j in range(count(state_dict, "lemm_downs.{}.1.weight"))
        for i in range(count(state_dict, f"lemm_decoders.{j}.mods.{{}}.mamba.op.Ds"))
    }
    shapes = {key: value.shape for key, value in model.state_dict().items()}
    state = {}
    for key, value in rename(state_dict, blocks | _OFFICIAL_NAMES).items():
        same_size = key in shapes and shapes[key].numel() == value.numel()
        state[key] = value.reshape(shapes[key]) if same_size else value
    return state
